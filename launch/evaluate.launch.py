"""Plays a bag to the node itself, records what it says, and writes the report of `hand-pose evaluate`.

    ros2 launch hand_pose_ros evaluate.launch.py bag:=/data/hand.mcap image:=/camera/color/image_raw out:=/data/report

Here the middleware and this machine's speed count too: frames may be dropped, and two runs may differ. For results that
are the same each time, and faster than real time, use `hand-pose evaluate --bag` without ROS.
"""
import signal
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (DeclareLaunchArgument, EmitEvent, ExecuteProcess, IncludeLaunchDescription, OpaqueFunction,
                            RegisterEventHandler, TimerAction)
from launch.event_handlers import OnProcessExit, OnProcessIO
from launch.events import Shutdown, matches_action
from launch.events.process import SignalProcess
from launch.launch_description_sources import PythonLaunchDescriptionSource

from hand_pose_ros.ros.launch_arguments import refuse_unknown

ARGUMENTS = {
    "bag": ("", "the bag to play: .mcap, .db3 or a rosbag2 folder"),
    "out": ("evaluation", "new folder for the recording, the results and the report"),
    "image": ("", "base image topic of the bag; empty: as in the config file, there /image_raw"),
    "config": ("replay", "config file of the node"),
    "runtime": ("", "auto, tensorrt, cuda, onnxruntime, cpu, ...: the parameter runtime; empty: as in the config file"),
    "rate": ("1.0", "speed of playing; below 1 on a machine that is slower than the recording"),
    "start_within": ("120.0", "seconds that the node gets to load its networks; the bag starts when they are, or then"),
    "options": ("", "more options of hand-pose evaluate, e.g. '--fail-if \"recall < 0.9\"'"),
}
NODE_ARGUMENTS = ("image", "config", "runtime")
"""Arguments that are passed on to hand_pose.launch.py."""
HANDS = "/hand_pose/hands"
RECORDED = "^(?!/hand_pose/(debug_image|markers|hands_raw)|/of_the_bag/).*"
"""All topics but those that the node makes only for who listens: they would take time from what is measured."""
TAKEN = (HANDS, *(f"/hand_pose/{name}" for name in ("hands_raw", "markers", "debug_image")))
"""Topics of this run: what the bag has on them, of an earlier one, is played beside, and scored as nobody's hands. Not
/clock: the player's own would go there, too."""
LOADED = "networks loaded"
"""What the node logs when it can take images."""
SETTLE_S = 2.0
"""Time for the node to subscribe before the bag starts, and for the last hands to be recorded after it has ended."""


def generate_launch_description():
    """The declared arguments, and the processes that follow from them."""
    arguments = [DeclareLaunchArgument(name, default_value=default, description=description)
                 for name, (default, description) in ARGUMENTS.items()]
    return LaunchDescription([*arguments, OpaqueFunction(function=processes)])


def processes(context):
    """Node and recorder; the player when the node is ready; the report when the recorder has closed its file."""
    given = {name: context.launch_configurations[name] for name in ARGUMENTS}
    share = get_package_share_directory("hand_pose_ros")
    refuse_unknown("evaluate.launch.py", share, ARGUMENTS)
    play_command, record_command, report_command = commands(given)
    recording = Path(record_command[-1])
    if recording.exists():                              # ros2 bag would refuse, and the report be of the earlier run
        raise ValueError(f"{recording} exists already; give a new folder with out:=, or remove that one")
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(Path(share, "launch", "hand_pose.launch.py"))),
        launch_arguments=[*((name, given[name]) for name in NODE_ARGUMENTS), ("use_sim_time", "true")])
    record = ExecuteProcess(cmd=record_command, output="screen")
    play = ExecuteProcess(cmd=play_command, output="screen")
    report = ExecuteProcess(cmd=report_command, output="screen")
    started, played = [], []

    def start(_):
        """The player, the first time that this is asked for."""
        if started:
            return []
        started.append(True)
        return [TimerAction(period=SETTLE_S, actions=[play])]

    def start_if_loaded(event):
        return start(None) if LOADED in event.text.decode(errors="replace") else []

    def after_playing(event, _):
        played.append(event.returncode)
        return [TimerAction(period=SETTLE_S, actions=[stop_recording])]

    def after_recording(event, _):
        if not played:                                  # a raised error is all that makes ros2 launch return 1
            raise RuntimeError(f"the recorder ended with {event.returncode} before the bag was played: no report")
        return [report]

    def after_report(event, _):
        if played[0] or event.returncode:
            raise RuntimeError(f"ros2 bag play ended with {played[0]}, hand-pose evaluate with {event.returncode}")
        return [EmitEvent(event=Shutdown(reason="evaluation done"))]

    def before_playing(event, _):
        if not played and event.action not in (record, play, report) and not context.is_shutdown:
            raise RuntimeError(f"the node ended with {event.returncode} before the bag was played to its end: see "
                               "above")
        return []

    stop_recording = EmitEvent(event=SignalProcess(signal_number=signal.SIGINT, process_matcher=matches_action(record)))
    return [
        node, record,
        RegisterEventHandler(OnProcessIO(on_stdout=start_if_loaded, on_stderr=start_if_loaded)),
        TimerAction(period=float(given["start_within"]), actions=[OpaqueFunction(function=start)]),
        RegisterEventHandler(OnProcessExit(on_exit=before_playing)),
        RegisterEventHandler(OnProcessExit(target_action=play, on_exit=after_playing)),
        RegisterEventHandler(OnProcessExit(target_action=record, on_exit=after_recording)),
        RegisterEventHandler(OnProcessExit(target_action=report, on_exit=after_report)),
    ]


def commands(given):
    """Command lines of player, recorder and report."""
    import shlex

    if not given["bag"]:
        raise ValueError("bag:= is empty; give the bag to play, e.g. bag:=/data/hand.mcap")
    recording = str(Path(given["out"]) / "recorded")
    return (["ros2", "bag", "play", given["bag"], "--clock", "100", "--rate", given["rate"], "--remap",
             *(f"{topic}:=/of_the_bag{topic}" for topic in TAKEN)],
            ["ros2", "bag", "record", "--regex", RECORDED, "--storage", "mcap", "--output", recording],
            ["python3", "-m", "hand_pose_ros", "evaluate", "--bag", recording, "--recorded", HANDS,
             "--out", given["out"], *(["--image-topic", "/" + given["image"].lstrip("/")] if given["image"] else []),
             *shlex.split(given["options"])])
