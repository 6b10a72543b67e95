"""What belongs to the teleoperation beside its code: launch file, views, documentation, robot model, sample bag.

launch is not on PyPI: where it is not installed, small stand-ins record what the launch file makes.
"""
from __future__ import annotations

import importlib
import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from hand_pose_ros import arm_model, bags, gestures, messages
from hand_pose_ros.config import markdown_table
from hand_pose_ros.gripper import TeleopConfig
from hand_pose_ros.ros import sim_robot, teleop_demo
from hand_pose_ros.teleop_settings import SETTINGS

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch" / "teleop.launch.py"
LAUNCH_INSTALLED = find_spec("launch_ros") is not None
URDF = ROOT / "config" / "sim" / "arm_gripper.urdf"
TOPICS = {"/teleop/preview", "/teleop/target_pose", "/teleop/gripper", "/teleop/state", "/robot_description",
          "/joint_states", "/diagnostics", "/hand_pose/markers", "/hand_pose/debug_image",
          "/hand_pose/debug_image/compressed"}


def stand_ins():
    """Modules with the names that the launch file imports; what is made remembers its arguments."""
    def made(*args, **kwargs):
        return SimpleNamespace(args=args, **kwargs)
    names = {"launch": ["LaunchDescription"],
             "launch.actions": ["DeclareLaunchArgument", "OpaqueFunction", "PopLaunchConfigurations",
                                "PushLaunchConfigurations"],
             "launch_ros": [], "launch_ros.actions": ["Node"], "launch_ros.parameter_descriptions": ["ParameterValue"],
             "ament_index_python": [], "ament_index_python.packages": []}
    modules = {name: ModuleType(name) for name in names}
    for name, inside in names.items():
        for one in inside:
            setattr(modules[name], one, made)
    modules["launch_ros.parameter_descriptions"].ParameterValue = lambda value, value_type: value_type(value)
    ament = modules["ament_index_python.packages"]
    ament.get_package_share_directory, ament.PackageNotFoundError = lambda package: f"/share/{package}", KeyError
    return modules


def launched(monkeypatch, **arguments):
    """The nodes that the launch file makes for some arguments: executable -> everything given to it, as text."""
    if not LAUNCH_INSTALLED:
        for name, module in stand_ins().items():
            monkeypatch.setitem(sys.modules, name, module)
    ament = importlib.import_module("ament_index_python.packages")
    monkeypatch.setattr(ament, "get_package_prefix", lambda package: "/opt/ros", raising=False)
    scope = {}
    exec(compile(LAUNCH.read_text(), str(LAUNCH), "exec"), scope)
    assert scope["generate_launch_description"]() is not None
    assert set(arguments) <= set(scope["ARGUMENTS"])
    given = {name: default for name, (default, _) in scope["ARGUMENTS"].items()} | arguments
    return {getattr(node, "executable", None) or node.node_executable: node
            for node in scope["nodes"](SimpleNamespace(launch_configurations=given))}, scope


def test_the_launch_file_starts_what_is_asked_for(monkeypatch):
    nodes, scope = launched(monkeypatch)
    assert set(nodes) == {"teleop_node"}
    assert set(scope["SETTINGS"].values()) <= {setting.name for setting in SETTINGS}
    assert all(len(description) > 10 for _, description in scope["ARGUMENTS"].values())
    nodes, _ = launched(monkeypatch, sim="true", rviz="true", arm="pose", camera_frame="cam", namespace="left")
    assert set(nodes) == {"teleop_node", "sim_robot", "rviz2"}
    if not LAUNCH_INSTALLED:
        assert nodes["teleop_node"].parameters == [{"arm_output": "pose"}]      # the rest is the config file's
        assert nodes["sim_robot"].parameters[0]["use_sim_time"] is False
        assert nodes["teleop_node"].namespace == "left"
        assert nodes["sim_robot"].parameters[0]["camera_frame"] == "cam"
        view = Path(nodes["rviz2"].arguments[1])
        assert (ROOT / view.relative_to("/share/hand_pose_ros")).is_file()


def test_the_launch_file_takes_no_switch_back_that_the_config_file_sets(monkeypatch):
    """An argument that is not given must not write dry_run: false over the file's true: the robot would move."""
    _, scope = launched(monkeypatch)
    nothing = dict.fromkeys(scope["ARGUMENTS"], "")
    for given, own in (({}, {}), ({"dry_run": "false"}, {"dry_run": False}),
                       ({"use_sim_time": "true"}, {"use_sim_time": True})):
        assert scope["own_parameters"](nothing | given) == own
    assert [scope["ARGUMENTS"][name][0] for name in ("dry_run", "use_sim_time")] == ["", ""]


def test_views_show_topics_that_are_sent():
    rviz = yaml.safe_load((ROOT / "config" / "rviz" / "teleop.rviz").read_text())
    displays = rviz["Visualization Manager"]["Displays"]
    topics = [d[key]["Value"] for d in displays for key in ("Topic", "Description Topic") if key in d]
    assert "/robot_description" in topics and len(topics) == 5
    text = (ROOT / "config" / "foxglove" / "teleop.json").read_text()
    layout = json.loads(text)
    topics += re.findall(r'"(/[a-z_/]+)', text)
    assert set(topics) == TOPICS
    model = arm_model.load(URDF)
    values = {joint.name: 0.0 for joint in model.moving}
    number = int(re.search(r"/joint_states\.position\[(\d+)\]", text)[1])
    assert list(arm_model.positions(model, values))[number] == "gripper_joint"
    panels = set(re.findall(r'"(\w+!\w+)"', json.dumps(layout["layout"])))
    assert panels == set(layout["configById"])


def test_the_documentation_has_the_settings_as_they_are():
    text = (ROOT / "docs" / "teleop.md").read_text()
    table = text[text.index("| parameter |"):]
    assert table.strip() == markdown_table(SETTINGS).strip()
    for name in gestures.GESTURES:
        assert f"`{name}`" in text
    for name in re.findall(r"`(\w+)(?:: |:=)[\w./-]+`", text):
        assert name in {setting.name for setting in (*SETTINGS, *sim_robot.SETTINGS)}, name


def test_the_robot_model_can_be_shown_without_further_files():
    root = ElementTree.parse(URDF).getroot()
    assert not root.findall(".//mesh")
    seen = [link for link in root.findall("link") if link.find("visual") is not None]
    assert len(seen) == 10 and sum(joint.get("type") == "revolute" for joint in root.findall("joint")) == 6


def test_the_sample_bag_shows_a_hand_that_works_the_clutch_and_pinches():
    """By its true hands: gesture open, then held for seconds, with openings over the whole range."""
    with bags.BagReader(ROOT.joinpath("test", *teleop_demo.SAMPLE_BAG[1].split("/"))) as reader:
        hands = [(stamp, messages.read_array(message)[0][0]) for stamp, message in sorted(reader.hands().items())]
        frame = next(iter(reader.frames())).frame
    assert frame.image.shape == (480, 640, 3) and frame.image.std() > 10
    shown = [gestures.shows(TeleopConfig().clutch_gesture, hand.joints_rel_m) for _, hand in hands]
    assert shown[0] is False and shown[-1] is False
    first, last = shown.index(True), len(shown) - shown[::-1].index(True)
    assert (hands[last - 1][0] - hands[first][0]) * 1e-9 > 5.0 and False not in shown[first:last]
    apertures = np.array([gestures.aperture(hand.joints_rel_m, hand.hand_length_m) for _, hand in hands[first:last]])
    assert apertures.min() < TeleopConfig().aperture_closed and apertures.max() > TeleopConfig().aperture_open


@pytest.mark.parametrize("name", ["allegro_right", "parallel_gripper"])
def test_retargeting_configurations_name_links_that_exist(name):
    settings = yaml.safe_load((ROOT / "config" / "retargeting" / f"{name}.yaml").read_text())["retargeting"]
    assert settings["low_pass_alpha"] == 1.0                 # a filter in frames would change with the rate
    if name == "parallel_gripper":
        links = {link.get("name") for link in ElementTree.parse(URDF).getroot().findall("link")}
        asked = [settings[f"target_{end}_link_names"][0] for end in ("origin", "task")] + [settings["wrist_link_name"]]
        assert set(asked) <= links and settings["urdf_path"] == URDF.name
