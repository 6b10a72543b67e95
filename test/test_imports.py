"""The import rule, read from the source: which room may import what, and that every third-party module is declared.

Rooms: the core is every module right below hand_pose_ros/; networks, runtimes, synthesis, training, evaluation, ros are
the folders.
"""
import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hand_pose_ros"
MODULES = sorted(PACKAGE.rglob("*.py"))

ROS_MODULES = {
    "ament_index_python", "action_msgs", "builtin_interfaces", "control_msgs", "cv_bridge", "diagnostic_msgs",
    "geometry_msgs", "launch", "launch_ros", "lifecycle_msgs", "message_filters", "rcl_interfaces", "rclpy",
    "rosgraph_msgs", "rosidl_runtime_py", "sensor_msgs", "std_msgs", "std_srvs", "tf2_msgs", "tf2_ros",
    "tf_transformations", "trajectory_msgs", "visualization_msgs",
}
OFFLINE_ROOMS = {"synthesis", "training", "evaluation"}
COMMANDS = {"predict", "demo", "benchmark", "doctor", "score", "train", "render", "evaluate", "labels"}
"""Command modules right below hand_pose_ros/ sit above all rooms and may import any of them (lazily)."""

DISTRIBUTIONS = {
    "cv2": "opencv-python-headless", "yaml": "PyYAML", "PIL": "pillow", "mpl_toolkits": "matplotlib",
}
"""Modules whose distribution has another name."""
OPTIONAL = {
    "backports": "a dependency of rosbags before Python 3.14",
    "compression": "the standard library from Python 3.14 on",
    "lz4": "a dependency of rosbags",
    "OpenEXR": "replaced by our own reader where absent",
    "torch_tensorrt": "an optional runtime, see the README",
    "tensorrt": "an optional runtime, see the README",
    "tensorrt_rtx": "an optional runtime, see the README",
    "pycuda": "an optional runtime, see the README",
    "ray": "an optional way to spread an evaluation",
    "mediapipe": "an outside check in its own environment",
    "dex_retargeting": "an optional output of teleoperation",
}


def imports(path):
    """(line, dotted name) of every import in the file, relative ones made absolute."""
    package = ("hand_pose_ros", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[:len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield node.lineno, module
            if module.split(".")[0] == "hand_pose_ros":
                for alias in node.names:            # `from hand_pose_ros import x` may name a room or a module
                    yield node.lineno, f"{module}.{alias.name}"


def room(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else "core"


def violations(path):
    here = room(path)
    for line, name in imports(path):
        top = name.split(".")[0]
        target = name.split(".")[1] if name.startswith("hand_pose_ros.") else ""
        if here != "ros" and (top in ROS_MODULES or target == "msg"):
            yield line, name, "only hand_pose_ros/ros/ imports rclpy and message packages"
        if here == "core" and top == "torch":
            yield line, name, "the core does not import torch"
        if path.stem in COMMANDS and here == "core":
            continue
        if here not in OFFLINE_ROOMS and target in OFFLINE_ROOMS:
            yield line, name, "the robot's code does not import synthesis, training or evaluation"
        if here in ("core", "networks", "runtimes") and target == "ros":
            yield line, name, "core, networks and runtimes do not know ROS"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_import_rule(path):
    found = [f"{path.relative_to(ROOT)}:{line} imports {name}: {rule}" for line, name, rule in violations(path)]
    assert not found, "\n".join(found)


def test_the_rule_sees_what_it_forbids(tmp_path, monkeypatch):
    """The check itself, on a planted file of each kind."""
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    planted = {
        "lift.py": "def f():\n    import torch\n", "crop.py": "from hand_pose_ros.msg import HandPose21\n",
        "runtimes/a.py": "from ..training import loss\n", "networks/b.py": "from hand_pose_ros import synthesis\n",
        "ros/c.py": "import hand_pose_ros.evaluation.report\n",
        "evaluation/d.py": "from sensor_msgs.msg import Image\n",
        "pipeline.py": "from .ros import node\n",
    }
    for name, text in planted.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        assert list(violations(path)), f"{name}: {text}"
    fine = {"ros/ok.py": "import rclpy\n", "training/ok.py": "import torch\nfrom ..networks import x\n"}
    for name, text in fine.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        assert not list(violations(path))


def test_core_loads_without_torch_and_ros():
    """The same at run time, so that an indirect import is seen too."""
    names = [f"hand_pose_ros.{path.stem}" for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")]
    script = (
        "import sys, importlib\n"
        f"for name in {sorted(ROS_MODULES | {'torch', 'hand_pose_ros.msg'})!r}: sys.modules[name] = None\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True,
                            env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert result.returncode == 0, result.stderr


def test_every_third_party_module_is_declared():
    declared = {
        line.split("#")[0].split(";")[0].split("==")[0].split("[")[0].strip().lower()
        for file in (ROOT / "requirements").glob("*.txt") for line in file.read_text("utf8").splitlines()
    }
    unknown = {}
    for path in MODULES:
        for line, name in imports(path):
            top = name.split(".")[0]
            if top in sys.stdlib_module_names or top in ROS_MODULES or top in OPTIONAL or top == "hand_pose_ros":
                continue
            if DISTRIBUTIONS.get(top, top).lower() not in declared:
                unknown.setdefault(top, f"{path.relative_to(ROOT)}:{line}")
    assert not unknown, f"add these to requirements/: {unknown}"
