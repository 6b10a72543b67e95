"""Settings of every test, made before anything imports rclpy; child processes inherit them.

They overrule the shell's own settings: a test must neither hear nor steer the robot in the next room.
"""
import os
import signal

# What a script starts with & begins with Ctrl-C ignored, and so do its children: tests that send it would wait in
# vain.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"                       # off by default, and a wrong length crashes
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"         # Jazzy and later
os.environ["ROS_LOCALHOST_ONLY"] = "1"                            # Humble
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)          # above 101, ports collide with Linux's own
os.environ.setdefault("OMP_NUM_THREADS", "1")                     # small arrays; many threads only cost time
