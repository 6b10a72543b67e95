"""Launch file, parameter files, layouts and the packages they need. launch is not on PyPI: there the file is read,
where it is installed it runs; test_launch_lines.py says what comes out of it."""
from __future__ import annotations

import ast
import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from hand_pose_ros.config import check_value
from hand_pose_ros.ros.parameters import all_settings
from test_imports import ROS_MODULES

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch" / "hand_pose.launch.py"
SETTINGS = {setting.name: setting for setting in all_settings()}
CONFIGS = sorted((ROOT / "config").glob("*.yaml"))
OUR_TOPICS = {"/hand_pose/hands", "/hand_pose/hands_raw", "/hand_pose/markers", "/hand_pose/debug_image",
              "/hand_pose/debug_image/compressed", "/diagnostics"}


def tree():
    return ast.parse(LAUNCH.read_text())


def constant(name):
    """The value of a table of the launch file."""
    return next(ast.literal_eval(node.value) for node in tree().body
                if isinstance(node, ast.Assign) and node.targets[0].id == name)


def functions(*names):
    """Functions of the launch file that need nothing of launch."""
    chosen = [node for node in tree().body if isinstance(node, ast.FunctionDef) and node.name in names]
    scope = {"Path": Path}
    exec(compile(ast.Module(chosen, []), str(LAUNCH), "exec"), scope)
    return [scope[name] for name in names]


def test_every_argument_is_described_and_used():
    arguments = constant("ARGUMENTS")
    assert set(arguments) >= {"image", "camera_info", "config", "runtime", "namespace", "cameras", "fuse",
                              "use_sim_time", "rviz", "autostart", "log_level"}
    assert all(len(description) > 10 for _, description in arguments.values())
    used = set(re.findall(r'given\["(\w+)"\]', LAUNCH.read_text()))
    used |= set(constant("SETTINGS")) | set(constant("SWITCHES"))
    assert used == set(arguments)


def test_arguments_set_parameters_that_exist():
    for parameter in constant("SETTINGS").values():
        assert isinstance(SETTINGS[parameter].default, str)


def test_config_argument_finds_our_files_and_paths_and_refuses_others(tmp_path):
    (config_file,) = functions("config_file")
    assert config_file("webcam", ROOT) == ROOT / "config" / "webcam.yaml"
    own = tmp_path / "own.yaml"
    own.write_text("")
    assert config_file(str(own), ROOT) == own
    with pytest.raises(FileNotFoundError, match="realsense"):
        config_file("nothing", ROOT)


@pytest.mark.parametrize("arguments, names", [
    ({}, ["hand_pose"]), ({"rviz": "true"}, ["hand_pose", "rviz2"]),
    ({"cameras": "/cam_left,/cam_right"}, ["hand_pose", "hand_pose"]),
    ({"cameras": "/cam_left,/cam_right", "fuse": "true"}, ["hand_pose", "hand_pose", "hand_pose_fusion"])])
def test_launch_runs_where_it_is_installed(arguments, names, monkeypatch):
    """The description is made and its function called with real launch objects; without launch, its imports."""
    if find_spec("launch_ros") is None:
        imported = {node.module for node in ast.walk(tree()) if isinstance(node, ast.ImportFrom)}
        assert imported == {"pathlib", "ament_index_python.packages", "launch", "launch.actions", "launch_ros.actions",
                            "launch_ros.parameter_descriptions", "hand_pose_ros.ros.environment",
                            "hand_pose_ros.ros.launch_arguments", "hand_pose_ros.ros.parameters"}
        return
    from launch import LaunchContext
    monkeypatch.setattr("ament_index_python.packages.get_package_prefix", lambda package: "/opt/ros")
    scope = {}
    exec(compile(LAUNCH.read_text(), str(LAUNCH), "exec"), scope)
    context = LaunchContext()
    context.launch_configurations.update({name: default for name, (default, _) in scope["ARGUMENTS"].items()})
    context.launch_configurations.update(arguments)
    actions = scope["nodes"](context)
    assert [action.node_package for action in actions if hasattr(action, "node_package")].count("hand_pose_ros") == \
        len(names) - names.count("rviz2")
    assert scope["generate_launch_description"]().entities


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_parameter_files_hold_settings_with_good_values(path):
    """Values must already have the parameter's type: ROS does not turn 60 into 60.0."""
    content = yaml.safe_load(path.read_text())
    assert list(content) == ["/**"]
    for name, value in content["/**"]["ros__parameters"].items():
        if name != "use_sim_time":
            assert check_value(SETTINGS[name], value) == value and type(value) is type(SETTINGS[name].default), name


def test_layouts_show_topics_that_the_node_sends():
    rviz = yaml.safe_load((ROOT / "config" / "rviz" / "hand_pose.rviz").read_text())
    topics = [display["Topic"]["Value"] for display in rviz["Visualization Manager"]["Displays"] if "Topic" in display]
    foxglove = (ROOT / "config" / "foxglove" / "hand_pose.json").read_text()
    json.loads(foxglove)
    topics += [match.partition(".")[0] for match in re.findall(r'"(/[a-z_/]+(?:\.\w+)?)"', foxglove)]
    assert len(topics) > 5 and set(topics) <= OUR_TOPICS
    fields = (ROOT / "msg" / "HandPose21Array.msg").read_text()
    for field in re.findall(r'"/hand_pose/hands\.(\w+)"', foxglove):
        assert re.search(rf"\b{field}\b", fields)


def test_fastdds_profile_is_well_formed_and_generous():
    text = (ROOT / "config" / "fastdds.xml").read_text()
    root = ElementTree.fromstring(text)
    sizes = [int(node.text) for node in root.iter() if node.tag.endswith("segment_size")]
    assert sizes == [64 * 2**20]


def test_package_xml_names_every_ros_package_that_is_imported():
    """rosdep installs what stands there and nothing else; a name in quotes is imported by importlib."""
    sources = [*(ROOT / "hand_pose_ros").rglob("*.py"), *(ROOT / "launch").glob("*.py")]
    named = depends("depend", "exec_depend")
    assert "rviz2" in named                                                   # rviz:=true starts it
    for paths, optional in ((sources, {"control_msgs"}), ((ROOT / "test").rglob("*.py"), {"control_msgs"})):
        text = "\n".join(path.read_text() for path in paths)
        used = {module for module in ROS_MODULES
                if re.search(rf"^\s*(from|import) {module}\b|[\"']{module}\.(msg|srv|action)[\"']", text, re.M)}
        assert {"std_srvs", "trajectory_msgs", "rcl_interfaces", "sensor_msgs"} <= used
        assert used - optional <= named
        named |= depends("test_depend")


def test_colcon_test_has_what_the_tests_of_core_and_ros_import():
    """At the top of a file, where a missing module takes all its tests along."""
    keys = {"numpy": "python3-numpy", "cv2": "python3-opencv", "yaml": "python3-yaml", "pytest": "python3-pytest",
            "hypothesis": "python3-hypothesis", "scipy": "python3-scipy"}
    keyless = {"safetensors"}                                 # requirements/core.txt; the node itself needs it
    files = [*(ROOT / "test" / "core").glob("*.py"), *(ROOT / "test" / "ros").glob("*.py")]
    ours = {"hand_pose_ros"} | {path.stem for path in (ROOT / "test").rglob("*.py")}
    found = set()
    for path in files:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.partition(".")[0])
    others = found - set(sys.stdlib_module_names) - ROS_MODULES - ours - keyless
    assert {"hypothesis", "scipy"} <= others
    assert {keys[module] for module in others} <= depends("depend", "exec_depend", "test_depend")


def test_the_webcam_file_says_itself_how_to_calibrate():
    text = (ROOT / "config" / "webcam.yaml").read_text()
    assert "cameracalibrator" in text and "camera_info_url" in text and "README" not in text


def depends(*kinds):
    """Packages and rosdep keys of package.xml."""
    root = ElementTree.parse(ROOT / "package.xml").getroot()
    return {node.text for kind in kinds for node in root.findall(kind)}
