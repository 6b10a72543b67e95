"""Which processes the launch files start: nodes, names, namespaces, topics, parameters and command lines.

launch is not on PyPI, so stand-ins with the signatures of the real classes record what is made; what ROS makes of it is
asked of rclpy.
"""
from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from xml.etree import ElementTree

import pytest
import rclpy
import yaml

from hand_pose_ros.errors import ConfigError
from hand_pose_ros.ros import fusion_node, sim_robot

ROOT = Path(__file__).parents[2]
WINDOW = ROOT / "config" / "rviz" / "hand_pose.rviz"
DEPENDS = {node.text for node in ElementTree.parse(ROOT / "package.xml").getroot() if node.tag.endswith("depend")}
NAMES = {
    "launch": ["LaunchDescription"],
    "launch.actions": ["DeclareLaunchArgument", "EmitEvent", "ExecuteProcess", "IncludeLaunchDescription",
                       "OpaqueFunction", "PopLaunchConfigurations", "PushLaunchConfigurations", "RegisterEventHandler",
                       "SetEnvironmentVariable", "TimerAction"],
    "launch.event_handlers": ["OnProcessExit", "OnProcessIO"], "launch.events": ["Shutdown", "matches_action"],
    "launch.events.process": ["SignalProcess"], "launch.launch_description_sources": ["PythonLaunchDescriptionSource"],
    "launch_ros": [], "launch_ros.actions": [], "launch_ros.parameter_descriptions": [],
    "ament_index_python": [], "ament_index_python.packages": [],
}


class Node:
    """launch_ros.actions.Node: what it takes, and the command line that it makes."""

    def __init__(self, *, package, executable, name, namespace="", parameters=(), remappings=(), arguments=(),
                 output="log"):
        self.package, self.executable, self.name, self.namespace = package, executable, name, namespace
        self.parameters, self.remappings, self.arguments = list(parameters), list(remappings), list(arguments)
        assert all(isinstance(argument, str) for argument in self.arguments)

    def line(self):
        renamed = [("__node", self.name), ("__ns", "/" + self.namespace.strip("/")), *self.remappings]
        return [*self.arguments, "--ros-args", *(word for a, b in renamed for word in ("-r", f"{a}:={b}"))]

    def topics(self, *names):
        """What ROS makes of topic names inside the process, and the full name of its node."""
        context = rclpy.Context()
        rclpy.init(args=self.line(), context=context)
        try:
            node = rclpy.create_node("other", context=context, enable_rosout=False, start_parameter_services=False)
            found = [node.get_fully_qualified_name(), *(node.resolve_topic_name(name) for name in names)]
            node.destroy_node()
        finally:
            context.try_shutdown()
        return found


def made(kind):
    return lambda *args, **kwargs: SimpleNamespace(kind=kind, args=args, **kwargs)


@pytest.fixture
def launch(monkeypatch):
    """A function launch(file, pushed="", **arguments) -> (actions, the file's names); pushed: the namespace that a
    launch file round it has pushed."""
    modules = {name: ModuleType(name) for name in NAMES}
    for name, inside in NAMES.items():
        vars(modules[name]).update({one: made(one) for one in inside})
        monkeypatch.setitem(sys.modules, name, modules[name])
    modules["launch_ros.actions"].Node = Node
    modules["launch_ros.parameter_descriptions"].ParameterValue = lambda value, value_type: value_type(value)
    ament = modules["ament_index_python.packages"]
    ament.get_package_share_directory = lambda package: str(ROOT)
    ament.get_package_prefix, ament.PackageNotFoundError = lambda package: "/opt/ros", KeyError

    def start(file, pushed="", **arguments):
        scope = {}
        path = ROOT / "launch" / f"{file}.launch.py"
        exec(compile(path.read_text(), str(path), "exec"), scope)
        described = scope["generate_launch_description"]().args[0]
        declared = {action.args[0]: action.default_value for action in described if hasattr(action, "default_value")}
        assert set(arguments) <= set(declared)
        (run,) = [action.function for action in described if action.kind == "OpaqueFunction"]
        return run(SimpleNamespace(launch_configurations=declared | arguments | (
            {"ros_namespace": pushed} if pushed else {}), is_shutdown=False)), scope
    return start


@pytest.fixture
def nodes(launch):
    """A function nodes(file, **arguments) -> the nodes started."""
    def start(file, **arguments):
        found = [action for action in launch(file, **arguments)[0] if isinstance(action, Node)]
        assert {node.package for node in found} <= DEPENDS | {"hand_pose_ros"}
        return found
    return start


def windows(found):
    return [node for node in found if node.executable == "rviz2"]


def test_one_camera_is_one_node_with_the_config_file_and_what_was_given(nodes, monkeypatch):
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "mine")
    (node,) = nodes("hand_pose")
    assert (node.package, node.executable) == ("hand_pose_ros", "hand_pose_node")
    assert node.topics("image_raw") == ["/hand_pose", "/image_raw"]
    assert node.parameters == [str(ROOT / "config" / "webcam.yaml"), {}] and node.remappings == []
    (node,) = nodes("hand_pose", image="/camera/image", camera_info="info", depth="d", runtime="cpu", config="replay",
                    namespace="left", use_sim_time="false", autostart="false", log_level="debug",
                    hand_calibration_file="/anna.json", image_is_rectified="true")
    assert node.topics("image_raw") == ["/left/hand_pose", "/left/image_raw"]
    assert node.parameters == [str(ROOT / "config" / "replay.yaml"), {
        "image_topic": "/camera/image", "camera_info_topic": "info", "depth_topic": "d", "runtime": "cpu",
        "use_sim_time": False, "autostart": False, "hand_calibration_file": "/anna.json", "image_is_rectified": True}]
    assert node.arguments[-2:] == ["--log-level", "debug"]


@pytest.mark.parametrize("file, called, said", [
    ("teleop", "hand_pose_ros teleop.launch.py dryrun:=true", "dryrun:=true is no argument.*mean dry_run:="),
    ("teleop", "hand_pose_ros teleop.launch.py gripper_takeover:=at_once",
     "parameter.*hand-pose teleop --ros-args -p gripper_takeover:=at_once"),
    ("hand_pose", "hand_pose_ros hand_pose.launch.py image:=/eye max_hands:=1",
     "hand-pose run --ros-args -p max_hands:=1"),
    ("hand_pose", f"{ROOT}/launch/hand_pose.launch.py qqqq:=1", "--show-args"),
    ("evaluate", "hand_pose_ros evaluate.launch.py --debug bags:=x", "mean bag:="),
    ("hand_pose", "hand_pose_ros hand_pose.launch.py image:=/eye --noninteractive", ""),
    # What another launch file is called with is its own business.
    ("hand_pose", "my_robot bringup.launch.py max_hands:=1 imag:=x", ""),
    ("hand_pose", "my_robot hand_pose.launch.py max_hands:=1", ""),
    ("hand_pose", "hand_pose_ros evaluate.launch.py bag:=x", ""),
])
def test_what_launch_would_ignore_without_a_word_is_refused(launch, monkeypatch, tmp_path, file, called, said):
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", *called.split()])
    given = {"bag": "x", "out": str(tmp_path / "new")} if file == "evaluate" else {}
    if said:
        with pytest.raises(ValueError, match=said):
            launch(file, **given)
    else:
        launch(file, **given)


@pytest.mark.parametrize("file", ["hand_pose", "teleop"])
def test_a_launch_file_that_includes_several_gets_none_of_their_defaults(launch, file):
    """launch keeps what an included file declares: "config" of one would be that of the next."""
    described = launch(file)[1]["generate_launch_description"]().args[0]
    kinds = [action.kind for action in described]
    assert kinds[0] == "PushLaunchConfigurations" and kinds[-2:] == ["OpaqueFunction", "PopLaunchConfigurations"]
    assert set(kinds[1:-2]) == {"DeclareLaunchArgument"}


def test_an_empty_config_of_a_file_round_it_is_the_default(nodes):
    (node,) = nodes("hand_pose", config="")
    assert Path(node.parameters[0]).name == "webcam.yaml"


def test_what_launch_takes_itself_is_not_refused(launch, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", "hand_pose_ros", "hand_pose.launch.py", "sigterm_timeout:=20"])
    assert launch("hand_pose")


def test_the_fast_dds_profile_is_set_first_unless_the_user_has_one(launch, monkeypatch):
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert [getattr(action, "kind", "Node") for action in launch("hand_pose")[0]] == ["SetEnvironmentVariable", "Node"]
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "mine")
    assert len(launch("hand_pose")[0]) == 1


def test_several_cameras_are_nodes_that_read_below_their_namespaces(nodes):
    left, right = nodes("hand_pose", cameras=" /cam_left, cam_right,", image="image_raw")
    assert left.topics("image_raw") == ["/cam_left/hand_pose", "/cam_left/image_raw"]
    assert right.topics("image_raw") == ["/cam_right/hand_pose", "/cam_right/image_raw"]
    assert left.parameters == right.parameters == [str(ROOT / "config" / "webcam.yaml"), {"image_topic": "image_raw"}]


RELATIVE = {"image": "image_raw", "camera_info": "camera_info", "depth": "depth"}


@pytest.mark.parametrize("arguments, said", [
    ({"image": "/abs/image"}, ["image:=/abs/image", "relative", "image:=image_raw", "namespace:="]),
    ({"config": "realsense"}, ["image_topic: /camera/camera/color/image_raw of config:=realsense", "camera_info_topic:",
                               "depth_topic:"]),
    ({"config": "realsense", "image": "image_raw"}, ["camera_info_topic:", "depth_topic:"]),
    ({**RELATIVE, "depth": "/abs/depth"}, ["depth:=/abs/depth"]),
    ({**RELATIVE, "camera_info": "/abs/info"}, ["camera_info:=/abs/info"]),
    ({"cameras": "/cam_left,cam_left"}, ["twice"]),
    ({"namespace": "robot"}, ["namespace:=robot", "no effect", "whole namespaces"])])
def test_several_cameras_on_one_stream_are_refused_with_the_remedy(launch, arguments, said):
    with pytest.raises(ValueError) as error:
        launch("hand_pose", **{"cameras": "/cam_left,/cam_right"} | arguments)
    assert all(text in str(error.value) for text in [*said, "cameras:=/cam_left"]), error.value


@pytest.mark.parametrize("arguments", [
    {"cameras": "/cam_left", "config": "realsense"}, {"cameras": "/a,/b", "config": "realsense", **RELATIVE},
    {"cameras": "/a,/b", "config": "replay"}, {"namespace": "a", "image": "/abs/image"}])
def test_cameras_of_their_own_are_not_refused(nodes, arguments):
    assert len(nodes("hand_pose", **arguments)) == 1 + arguments.get("cameras", "").count(",")


def test_a_file_with_a_section_for_each_camera_counts_as_ros_reads_it(nodes, tmp_path):
    """Absolute topics are fine where every camera has its own; sections match as they do in rclpy."""
    file = tmp_path / "two.yaml"
    file.write_text("".join(f"{key}: {{ros__parameters: {{image_topic: /topic{n}}}}}\n"
                            for n, key in enumerate(["/**", "/a/hand_pose", "/**/b/hand_pose"])))
    assert len(nodes("hand_pose", cameras="/a,/b", config=str(file))) == 2
    with pytest.raises(ValueError, match="image_topic: /topic2 of config"):
        nodes("hand_pose", cameras="/x/b,/y/b", config=str(file))
    file.write_text("/a/hand_pose: {ros__parameters: {image_topic: /b/image}}\n"
                    "/b/hand_pose: {ros__parameters: {image_topic: image}}\n")
    with pytest.raises(ValueError, match="image_topic: /b/image"):
        nodes("hand_pose", cameras="/a,/b", config=str(file))
    file.write_text("")
    assert len(nodes("hand_pose", cameras="/a,/b", config=str(file))) == 2


@pytest.mark.parametrize("namespace", ["/a", "/x/b", "/"])
def test_sections_of_a_parameter_file_match_as_in_rclpy(launch, tmp_path, namespace):
    file = tmp_path / "some.yaml"
    keys = ["/a/hand_pose", "/**", "/*/hand_pose", "/**/b/hand_pose", "hand_pose", "a/hand_pose", "/a",
            "/*/b/hand_pose", "x:\n b:\n  hand_pose"]
    file.write_text("".join(f"{key}: {{ros__parameters: {{last: {n}, seen{n}: true}}}}\n"
                            for n, key in enumerate(keys)))
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "-r", f"__ns:={namespace}", "--params-file", str(file)], context=context)
    node = rclpy.create_node("hand_pose", context=context, automatically_declare_parameters_from_overrides=True)
    truth = {name: value.value for name, value in node.get_parameters_by_prefix("").items()
             if name.startswith(("last", "seen"))}
    node.destroy_node()
    context.try_shutdown()
    assert launch("hand_pose")[1]["file_settings"](file, namespace) == truth


@pytest.mark.parametrize("file, argument", [
    ("hand_pose", "use_sim_time"), ("hand_pose", "autostart"), ("hand_pose", "rviz"), ("hand_pose", "fuse"),
    ("teleop", "dry_run"), ("teleop", "use_sim_time"), ("teleop", "sim"), ("teleop", "rviz")])
def test_a_switch_that_is_neither_on_nor_off_is_refused(launch, file, argument):
    """dry_run:=ture must not drive the robot."""
    for text in ("ture", "flase", "2", "tru e", " "):
        with pytest.raises(ValueError, match=f"{argument}:={text} "):
            launch(file, **{argument: text})
    cameras = {"cameras": "/a,/b"} if argument == "fuse" else {}
    lines = {text: [vars(action) for action in launch(file, **cameras, **{argument: text})[0]]
             for text in ("true", "True", "1", "yes", " ON ", "false", "FALSE", "0", "no", "off")}
    for text, line in lines.items():
        assert line == lines["true" if text.strip() in ("true", "True", "1", "yes", "ON") else "false"]
    assert lines["true"] != lines["false"]


def test_a_teleoperation_does_not_start_on_a_config_file_that_says_nothing_to_it(nodes, tmp_path):
    file = tmp_path / "own.yaml"
    with pytest.raises(FileNotFoundError, match=f"config:={file}"):
        nodes("teleop", config=str(file))
    with pytest.raises(FileNotFoundError, match=f"config:={tmp_path}"):
        nodes("teleop", config=str(tmp_path))
    for key, given, starts in (
            ("teleop", {}, True), ("/**", {"namespace": "left"}, True), ("hand_pose", {}, False),
            ("/left/teleop", {"namespace": "left"}, True), ("/left/teleop", {}, False),
            ("/robot/left/teleop", {"namespace": "left", "pushed": "/robot"}, True),
            ("/left/teleop", {"namespace": "left", "pushed": "/robot"}, False),
            ("/left/teleop", {"namespace": "/left", "pushed": "/robot"}, True)):
        file.write_text(f"{key}: {{ros__parameters: {{dry_run: true}}}}\n")
        if starts:
            assert nodes("teleop", config=str(file), **given)[0].parameters == [str(file), {}]
        else:
            with pytest.raises(ConfigError, match="no parameters for the node"):
                nodes("teleop", config=str(file), **given)


def test_fusion_gets_the_hands_of_all_cameras_in_their_order(nodes):
    *cameras, fusion = nodes("hand_pose", cameras=" /cam_right/, cam_left,/x/cam", fuse="true", log_level="debug")
    assert len(cameras) == 3 and (fusion.package, fusion.executable) == ("hand_pose_ros", "fusion_node")
    (parameters,) = fusion.parameters
    assert parameters == {"use_sim_time": False, "hands_topics":
                          "/cam_right/hand_pose/hands,cam_left/hand_pose/hands,/x/cam/hand_pose/hands"}
    name, *topics = fusion.topics(*parameters["hands_topics"].split(","))
    assert name == "/hand_pose_fusion"
    assert topics == [camera.topics("~/hands")[1] for camera in cameras]
    assert fusion.arguments[-2:] == ["--log-level", "debug"]
    assert {setting.name for setting in fusion_node.SETTINGS} >= set(parameters) - {"use_sim_time"}
    assert (ROOT / "hand_pose_ros" / "ros" / f"{fusion.executable}.py").is_file()       # CMakeLists.txt installs *_node
    for arguments, simulated in (({"use_sim_time": "true"}, True), ({"config": "replay"}, True),
                                 ({"config": "replay", "use_sim_time": "false"}, False)):
        fusion = nodes("hand_pose", cameras="/a,/b", fuse="true", **arguments)[-1]
        assert fusion.parameters[0]["use_sim_time"] is simulated
    assert not [node for node in nodes("hand_pose", cameras="/a,/b") if node.executable == "fusion_node"]
    given = nodes("hand_pose", cameras="/a,/b", fuse="true", extrinsics_file="/x.json")[-1].parameters[0]
    assert given["extrinsics_file"] == "/x.json"
    with pytest.raises(ValueError, match="extrinsics_file:=/x.json has no effect"):
        nodes("hand_pose", cameras="/a,/b", extrinsics_file="/x.json")


def test_fusion_takes_its_own_section_of_the_config_file_and_no_other(nodes, tmp_path):
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump({
        "/**": {"ros__parameters": {"tf_prefix": "cameras_", "image_topic": "image_raw"}},
        "/hand_pose_fusion": {"ros__parameters": {"wait_s": 0.1, "extrinsics_file": "/e.json"}}}))
    *_, fusing = nodes("hand_pose", cameras="/cl,/cr", fuse="true", config=str(file))
    (parameters,) = fusing.parameters
    assert parameters == {"wait_s": 0.1, "extrinsics_file": "/e.json", "use_sim_time": False,
                          "hands_topics": "/cl/hand_pose/hands,/cr/hand_pose/hands"}
    *_, fusing = nodes("hand_pose", cameras="/cl,/cr", fuse="true", config=str(file), extrinsics_file="/mine.json")
    assert fusing.parameters[0]["extrinsics_file"] == "/mine.json"


def test_sections_are_found_below_a_pushed_namespace(nodes, tmp_path):
    file = tmp_path / "two.yaml"
    of_camera = {name: {"use_sim_time": True, "image_topic": topic} for name, topic in (("cl", "/a"), ("cr", "/b"))}
    file.write_text(yaml.safe_dump({f"/robot/{name}/hand_pose": {"ros__parameters": said}
                                    for name, said in of_camera.items()}))
    found = nodes("hand_pose", pushed="robot", cameras="cl,cr", fuse="true", rviz="true", config=str(file))
    clocks = [node.parameters[0]["use_sim_time"] for node in found if node.name in ("hand_pose_fusion", "rviz2")]
    assert clocks == [True] * 3
    same = file.with_name("same.yaml")
    same.write_text(file.read_text().replace("/b", "/a"))
    with pytest.raises(ValueError, match="would all read the same camera: image_topic: /a"):
        nodes("hand_pose", pushed="robot", cameras="cl,cr", config=str(same))


@pytest.mark.parametrize("arguments", [{}, {"cameras": "/cam_left"}, {"namespace": "cam_left"}])
def test_fusion_of_less_than_two_cameras_is_refused(launch, arguments):
    with pytest.raises(ValueError, match="fuse:=true needs two cameras"):
        launch("hand_pose", fuse="true", **arguments)


def displayed(path):
    displays = yaml.safe_load(path.read_text())["Visualization Manager"]["Displays"]
    return [display["Topic"]["Value"] for display in displays if "Topic" in display]


@pytest.mark.parametrize("arguments, namespaces", [
    ({}, ["/"]), ({"namespace": "left"}, ["/left/"]), ({"cameras": "/a,b"}, ["/a/", "/b/"])])
def test_rviz_shows_the_topics_of_its_camera(nodes, arguments, namespaces):
    assert displayed(WINDOW) == ["/hand_pose/markers", "/hand_pose/debug_image"]
    found = windows(nodes("hand_pose", rviz="true", **arguments))
    assert [window.topics(*displayed(WINDOW)) for window in found] == [
        [f"{path}rviz2", f"{path}hand_pose/markers", f"{path}hand_pose/debug_image"] for path in namespaces]
    assert windows(nodes("hand_pose", **arguments)) == []


@pytest.mark.parametrize("arguments, frames", [
    ({}, [None]), ({"config": "realsense"}, ["camera_color_optical_frame"]),
    ({"config": "realsense", "fixed_frame": "mine"}, ["mine"]), ({"cameras": "/a,/b"}, [None, None]),
    ({"cameras": "/a,/b", "fixed_frame": "left_optical, right_optical"}, ["left_optical", "right_optical"]),
    ({"cameras": "/a,/b", "fixed_frame": "world"}, ["world", "world"])])
def test_rviz_gets_the_camera_s_frame(nodes, arguments, frames):
    found = windows(nodes("hand_pose", rviz="true", **arguments))
    assert [window.arguments for window in found] == [
        ["-d", str(WINDOW), *(["-f", frame] if frame else [])] for frame in frames]


def test_frames_for_another_number_of_cameras_are_refused(launch):
    with pytest.raises(ValueError, match="fixed_frame:=a,b,c names 3 frames for 2 cameras"):
        launch("hand_pose", rviz="true", cameras="/a,/b", fixed_frame="a,b,c")


def test_the_default_frame_is_the_one_that_the_help_names(launch):
    frame = yaml.safe_load(WINDOW.read_text())["Visualization Manager"]["Global Options"]["Fixed Frame"]
    text = launch("hand_pose")[1]["ARGUMENTS"]["fixed_frame"][1]
    assert text.endswith(f"camera_color_optical_frame with config:=realsense, else {frame}")


@pytest.mark.parametrize("arguments, simulated", [
    ({}, False), ({"use_sim_time": "true"}, True), ({"config": "replay"}, True),
    ({"config": "replay", "use_sim_time": "false"}, False)])
def test_rviz_is_on_the_clock_of_the_node(nodes, arguments, simulated):
    (window,) = windows(nodes("hand_pose", rviz="true", **arguments))
    assert window.parameters == [{"use_sim_time": simulated}]


@pytest.mark.parametrize("file", ["hand_pose", "teleop"])
def test_rviz_that_is_not_there_is_said_before_a_node_is_started(launch, monkeypatch, file):
    """Launch finds out after it has started the others, and leaves them running."""
    def missing(package):
        raise KeyError(package)

    monkeypatch.setattr(sys.modules["ament_index_python.packages"], "get_package_prefix", missing)
    with pytest.raises(ValueError, match="rviz2 is not installed: apt install ros-"):
        launch(file, rviz="true")
    assert launch(file)


def test_rviz_of_the_teleoperation_follows_its_names_frame_and_clock(nodes):
    view = ROOT / "config" / "rviz" / "teleop.rviz"
    topics = displayed(view)
    (window,) = windows(nodes("teleop", rviz="true"))
    assert window.topics(*topics)[1:] == topics == [
        "/teleop/preview", "/teleop/target_pose", "/hand_pose/markers", "/hand_pose/debug_image"]
    assert window.arguments == ["-d", str(view)] and window.parameters == [{"use_sim_time": False}]
    teleop, window = nodes("teleop", rviz="true", namespace="arm", hands="/cam/hand_pose/hands", base_frame="base",
                           use_sim_time="true")
    assert teleop.topics("~/preview") == ["/arm/teleop", "/arm/teleop/preview"]
    assert window.topics(*topics) == ["/arm/rviz2", "/arm/teleop/preview", "/arm/teleop/target_pose",
                                      "/cam/hand_pose/markers", "/cam/hand_pose/debug_image"]
    assert window.arguments == ["-d", str(view), "-f", "base"] and window.parameters == [{"use_sim_time": True}]


def test_rviz_follows_the_hands_that_the_config_file_names(nodes, tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("teleop: {ros__parameters: {hands_topic: /cam_left/hand_pose/hands}}")
    (window,) = windows(nodes("teleop", rviz="true", config=str(file)))
    assert window.topics("/hand_pose/markers")[1] == "/cam_left/hand_pose/markers"


def test_evaluation_starts_the_bag_once_and_reports_after_the_recording(launch):
    actions, scope = launch("evaluate", bag="/data/a.mcap", out="there", rate="0.5", image="/cam/image",
                            options="--fail-if 'recall < 0.9'")
    included, record, on_text, at_last, any_end, after_play, after_record, after_report = actions
    declared = launch("hand_pose")[1]["ARGUMENTS"]
    assert dict(included.launch_arguments) == {"image": "/cam/image", "config": "replay", "runtime": "",
                                               "use_sim_time": "true"}
    assert {name for name, _ in included.launch_arguments} <= set(declared)
    assert record.cmd[:3] == ["ros2", "bag", "record"] and record.cmd[-2:] == ["--output", "there/recorded"]
    assert {"ros2bag", "rosbag2_storage_mcap"} <= DEPENDS            # ros2 bag, --storage mcap
    (handler,) = on_text.args
    assert handler.on_stdout(SimpleNamespace(text=b"loading")) == []
    (started,) = handler.on_stderr(SimpleNamespace(text=b"[hand_pose]: networks loaded"))
    (play,) = started.actions
    assert play.cmd[:9] == ["ros2", "bag", "play", "/data/a.mcap", "--clock", "100", "--rate", "0.5", "--remap"]
    # Hands of an earlier run are not scored as this one's; the clock that --clock makes has its name.
    assert "/hand_pose/hands:=/of_the_bag/hand_pose/hands" in play.cmd[9:]
    assert not [rule for rule in play.cmd[9:] if rule.startswith("/clock")]
    ends = any_end.args[0].on_exit
    assert ends(SimpleNamespace(action=record, returncode=1), None) == []
    with pytest.raises(RuntimeError, match="the node ended with 1 before the bag was played to its end"):
        ends(SimpleNamespace(action=object(), returncode=1), None)
    assert handler.on_stdout(SimpleNamespace(text=b"networks loaded")) == []
    assert at_last.actions[0].function(None) == [] and at_last.period == 120.0
    assert after_play.args[0].target_action is play and after_record.args[0].target_action is record
    ended = [SimpleNamespace(returncode=code) for code in (0, 1)]
    with pytest.raises(RuntimeError, match="before the bag was played"):        # of an earlier run's file, no report
        after_record.args[0].on_exit(ended[1], None)
    (stop,) = after_play.args[0].on_exit(ended[0], None)[0].actions
    assert ends(SimpleNamespace(action=object(), returncode=0), None) == []     # after the bag, any end will do
    assert stop.kind == "EmitEvent"
    (report,) = after_record.args[0].on_exit(ended[0], None)
    assert report.cmd[-8:] == ["--recorded", "/hand_pose/hands", "--out", "there", "--image-topic", "/cam/image",
                               "--fail-if", "recall < 0.9"]
    assert after_report.args[0].target_action is report
    relative = launch("evaluate", bag="a.mcap", image="cam/image")[1]["commands"]
    given = {name: default for name, (default, _) in scope["ARGUMENTS"].items()} | {"bag": "a", "image": "cam/image"}
    assert "/cam/image" in relative(given)[2]                                   # as bags name topics
    assert after_report.args[0].on_exit(ended[0], None)[0].kind == "EmitEvent"
    with pytest.raises(RuntimeError, match="evaluate with 1"):                  # all that makes ros2 launch fail
        after_report.args[0].on_exit(ended[1], None)
    with pytest.raises(ValueError, match="bag:= is empty"):
        launch("evaluate")


@pytest.mark.parametrize("given, said", [
    ({}, {"teleop": "/teleop", "gripper_topic": "/teleop/gripper", "arm_input": "pose",
          "gripper_input": "joint_state"}),
    ({"arm": "twist", "gripper": "float64", "namespace": "left", "gripper_joint": "finger", "tool_frame": "flange"},
     {"teleop": "/left/teleop", "gripper_topic": "/left/teleop/gripper", "arm_input": "twist",
      "gripper_input": "float64", "gripper_joint": "finger", "tool_frame": "flange"}),
    ({"gripper_topic": "gripper/command", "namespace": "left", "gripper": "none"},
     {"gripper_topic": "/left/gripper/command", "gripper_input": "joint_state"}),
    ({"gripper_topic": "/gripper/command"}, {"gripper_topic": "/gripper/command"}),
    ({"config": "arm_output: twist"}, {"arm_input": "twist", "use_sim_time": False}),
    ({"config": "use_sim_time: true"}, {"use_sim_time": True})])
def test_the_simulated_robot_follows_what_the_teleoperation_sends(nodes, tmp_path, given, said):
    if "config" in given:
        file = tmp_path / "own.yaml"
        file.write_text(f"teleop:\n  ros__parameters:\n    {given['config']}\n")
        given = {"config": str(file)}
    _, robot = nodes("teleop", sim="true", **given)
    (parameters,) = robot.parameters
    assert robot.executable == "sim_robot" and said.items() <= parameters.items()
    assert set(parameters) - {"use_sim_time"} <= {setting.name for setting in sim_robot.SETTINGS}


def test_a_gripper_that_the_simulated_robot_has_not_is_refused(launch):
    with pytest.raises(ValueError, match="gripper:=gripper_action.*joint_state, float64"):
        launch("teleop", sim="true", gripper="gripper_action")
    (taken,) = [setting.choices for setting in sim_robot.SETTINGS if setting.name == "gripper_input"]
    assert launch("teleop")[1]["SIM_GRIPPERS"] == taken


def test_what_the_node_makes_for_listeners_only_is_not_recorded(launch):
    pattern = launch("evaluate", bag="a.mcap")[1]["RECORDED"]
    topics = {"/hand_pose/hands": True, "/hand_pose/hands_raw": False, "/hand_pose/markers": False, "/tf": True,
              "/of_the_bag/hand_pose/hands": False,
              "/hand_pose/debug_image": False, "/hand_pose/debug_image/compressed": False, "/camera/image_raw": True}
    assert {topic: bool(re.search(pattern, topic)) for topic in topics} == topics


def test_a_folder_with_an_earlier_recording_is_refused(launch, tmp_path):
    (tmp_path / "recorded").mkdir()
    with pytest.raises(ValueError, match="recorded exists already"):
        launch("evaluate", bag="a.mcap", out=str(tmp_path))
