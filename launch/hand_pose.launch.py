"""Starts one node per camera.

    ros2 launch hand_pose_ros hand_pose.launch.py image:=/camera/image_raw
    ros2 launch hand_pose_ros hand_pose.launch.py config:=realsense rviz:=true
    ros2 launch hand_pose_ros hand_pose.launch.py cameras:=/cam_left,/cam_right image:=image_raw

Stop it with SIGINT (Ctrl-C; systemd: KillSignal=SIGINT): a SIGTERM to ros2 launch leaves its nodes running.
"""
import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from hand_pose_ros.ros.environment import FASTDDS_PROFILE, PROFILE_VARIABLES, profile_variable

ARGUMENTS = {
    "image": ("", "base image topic; relative names are below each camera's namespace; empty: as in the config file"),
    "camera_info": ("", "camera_info topic; empty: as in the config file, there empty means beside the image topic"),
    "depth": ("", "depth image registered to the colour image; empty: as in the config file"),
    "config": ("webcam", "webcam, realsense, replay, or the path of a YAML file of parameters"),
    "runtime": ("", "auto, tensorrt, cuda, onnxruntime, cpu, ...: the parameter runtime; empty: as in the config file"),
    "namespace": ("", "namespace of the node, for one camera"),
    "cameras": ("", "several cameras: their namespaces, separated by commas, e.g. /cam_left,/cam_right"),
    "use_sim_time": ("", "true for bags that are played with --clock; empty: as in the config file"),
    "autostart": ("", "true: configure and activate at once; false: wait for a lifecycle manager; empty: as in the "
                      "config file"),
    "rviz": ("false", "start RViz with config/rviz/hand_pose.rviz"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
}
SETTINGS = {"image": "image_topic", "camera_info": "camera_info_topic", "depth": "depth_topic", "runtime": "runtime"}
"""Arguments that are parameters of type string."""


def generate_launch_description():
    """The declared arguments, and the nodes that follow from them."""
    arguments = [DeclareLaunchArgument(name, default_value=default, description=description)
                 for name, (default, description) in ARGUMENTS.items()]
    return LaunchDescription([*arguments, OpaqueFunction(function=nodes)])


def nodes(context):
    """One node per camera, and RViz if asked for."""
    given = {name: context.launch_configurations[name] for name in ARGUMENTS}
    share = Path(get_package_share_directory("hand_pose_ros"))
    namespaces = [name.strip() for name in given["cameras"].split(",") if name.strip()] or [given["namespace"]]
    parameters = [str(config_file(given["config"], share)), own_parameters(given)]
    actions = [
        Node(package="hand_pose_ros", executable="hand_pose_node", name="hand_pose", namespace=namespace,
             output="screen", parameters=parameters, arguments=["--ros-args", "--log-level", given["log_level"]])
        for namespace in namespaces]
    if is_true(given["rviz"]):
        actions.append(Node(package="rviz2", executable="rviz2", name="rviz2", output="log",
                            arguments=["-d", str(share / "config" / "rviz" / "hand_pose.rviz")]))
    if not any(name in os.environ for name in PROFILE_VARIABLES):
        actions.insert(0, SetEnvironmentVariable(profile_variable(), str(share / "config" / FASTDDS_PROFILE)))
    return actions


def config_file(name, share):
    """The parameter file of that name in this package, or the file at that path; ROS would only warn."""
    for candidate in (share / "config" / f"{name}.yaml", Path(name)):
        if candidate.is_file():
            return candidate
    known = ", ".join(sorted(path.stem for path in (share / "config").glob("*.yaml")))
    raise FileNotFoundError(f"config:={name} is neither a file nor one of {known}")


def own_parameters(given):
    """Parameters that were given as arguments; they overrule the config file."""
    own = {parameter: ParameterValue(given[name], value_type=str)
           for name, parameter in SETTINGS.items() if given[name]}
    own.update({name: is_true(given[name]) for name in ("autostart", "use_sim_time") if given[name]})
    return own


def is_true(text):
    """Launch arguments are text."""
    return text.strip().lower() in ("true", "1", "yes", "on")
