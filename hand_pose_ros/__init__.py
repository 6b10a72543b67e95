"""Hands seen by an external RGB camera: 21 joints in 2D and 3D for ROS 2. Start reading at pipeline.py."""
from pkgutil import extend_path

# The generated message package has the same name; joining the two lets the source tree be used in place.
__path__ = extend_path(__path__, __name__)
__version__ = "0.1.0"
