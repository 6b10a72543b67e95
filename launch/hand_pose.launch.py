"""Starts one node per camera, and if asked for one that fuses their hands.

    ros2 launch hand_pose_ros hand_pose.launch.py image:=/camera/image_raw
    ros2 launch hand_pose_ros hand_pose.launch.py config:=realsense rviz:=true
    ros2 launch hand_pose_ros hand_pose.launch.py cameras:=/cam_left,/cam_right image:=image_raw fuse:=true

Stop it with SIGINT (Ctrl-C; systemd: KillSignal=SIGINT): a SIGTERM to ros2 launch leaves its nodes running.
"""
import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (DeclareLaunchArgument, OpaqueFunction, PopLaunchConfigurations,
                            PushLaunchConfigurations, SetEnvironmentVariable)
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from hand_pose_ros.ros.environment import FASTDDS_PROFILE, profile_variable, wants_profile
from hand_pose_ros.ros.launch_arguments import is_true, listed, refuse_unknown, rviz
from hand_pose_ros.ros.parameters import all_settings, sections

ARGUMENTS = {
    "image": ("", "base image topic; relative names are below each camera's namespace; empty: as in the config file"),
    "camera_info": ("", "camera_info topic; empty: as in the config file, there empty means beside the image topic"),
    "depth": ("", "depth image registered to the colour image; empty: as in the config file"),
    "config": ("webcam", "webcam, realsense, replay, or the path of a YAML file of parameters"),
    "hand_calibration_file": ("", "file of hand-pose calibrate: the length of the hand; empty: as in the config file"),
    "image_is_rectified": ("", "true: the images have no lens distortion any more, whatever camera_info says; empty: "
                           "as in the config file"),
    "runtime": ("", "auto, tensorrt, cuda, onnxruntime, cpu, ...: the parameter runtime; empty: as in the config file"),
    "namespace": ("", "namespace of the node, for one camera"),
    "cameras": ("", "several cameras: their namespaces, separated by commas, e.g. /cam_left,/cam_right"),
    "fuse": ("false", "with cameras: fuse their hands, on /hand_pose_fusion/hands in the frame of the first"),
    "extrinsics_file": ("", "with fuse: file of hand-pose calibrate-cameras, where the cameras are; empty: TF"),
    "use_sim_time": ("", "true for bags that are played with --clock; empty: as in the config file"),
    "autostart": ("", "true: configure and activate at once; false: wait for a lifecycle manager; empty: as in the "
                      "config file"),
    "rviz": ("false", "start RViz with config/rviz/hand_pose.rviz, one for each camera"),
    "fixed_frame": ("", "with rviz: the frame_id of the camera's images, with several cameras one each, separated by "
                        "commas; empty: camera_color_optical_frame with config:=realsense, else camera_optical_frame"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
}
SETTINGS = {"image": "image_topic", "camera_info": "camera_info_topic", "depth": "depth_topic", "runtime": "runtime",
            "hand_calibration_file": "hand_calibration_file"}
"""Arguments that are parameters of type string."""
SWITCHES = ("image_is_rectified", "autostart", "use_sim_time")
"""Arguments that are parameters of type bool, of the same name."""
TOPICS = ("image", "camera_info", "depth")
"""Those of them that name a topic of one camera."""
FIXED_FRAMES = {"realsense": "camera_color_optical_frame"}
"""What RViz calls the camera where it is not camera_optical_frame, which stands in hand_pose.rviz."""
VIEWED = ("hand_pose/markers", "hand_pose/debug_image")
"""Topics of hand_pose.rviz, there below the root namespace."""


def generate_launch_description():
    """The declared arguments, and the nodes that follow from them."""
    arguments = [DeclareLaunchArgument(name, default_value=default, description=description)
                 for name, (default, description) in ARGUMENTS.items()]
    # Pushed and popped: a launch file that includes this one and others must not hand its defaults on to them.
    return LaunchDescription([PushLaunchConfigurations(), *arguments, OpaqueFunction(function=nodes),
                              PopLaunchConfigurations()])


def nodes(context):
    """One node per camera, and if asked for fusion and RViz."""
    given = {name: context.launch_configurations[name] for name in ARGUMENTS}
    share = Path(get_package_share_directory("hand_pose_ros"))
    refuse_unknown("hand_pose.launch.py", share, ARGUMENTS, {setting.name for setting in all_settings()}, "run")
    pushed = context.launch_configurations.get("ros_namespace", "")    # of a launch file that includes this one
    config = config_file(given["config"] or ARGUMENTS["config"][0], share)
    cameras = listed(given["cameras"])
    check_cameras(given, cameras, config, pushed)
    namespaces = cameras or [given["namespace"]]
    parameters = [str(config), own_parameters(given)]
    actions = [
        Node(package="hand_pose_ros", executable="hand_pose_node", name="hand_pose", namespace=namespace,
             output="screen", parameters=parameters, arguments=["--ros-args", "--log-level", given["log_level"]])
        for namespace in namespaces]
    if is_true("fuse", given["fuse"]):
        actions.append(fusion(given, cameras, config, pushed))
    elif given["extrinsics_file"]:
        raise ValueError(f"extrinsics_file:={given['extrinsics_file']} has no effect without fuse:=true")
    if is_true("rviz", given["rviz"]):
        actions += views(given, namespaces, config, share, pushed)
    if wants_profile():
        actions.insert(0, SetEnvironmentVariable(profile_variable(), str(share / "config" / FASTDDS_PROFILE)))
    return actions


def check_cameras(given, cameras, config, pushed):
    """Refuses cameras whose nodes would all read one camera: they would start, and no frame of TF would clash."""
    if not cameras:
        return
    if given["namespace"]:
        raise ValueError(f"namespace:={given['namespace']} is for one camera and has no effect beside "
                         f"cameras:={given['cameras']}; leave it out and give whole namespaces in cameras:=")
    paths = [os.path.join("/", pushed, camera).rstrip("/") for camera in cameras]
    if len(set(paths)) < len(paths):
        raise ValueError(f"cameras:={given['cameras']} names a camera twice; give every namespace once")
    shared = []
    for argument in TOPICS:
        parameter = SETTINGS[argument]
        # As ROS resolves them: a name with a leading '/' as it is, any other below its camera's namespace.
        topics = [os.path.join(path, given[argument] or file_settings(config, path).get(parameter, ""))
                  for path in paths]
        same = sorted({topic for topic in topics if topics.count(topic) > 1})
        shared += [f"{argument}:={topic}" if given[argument] else f"{parameter}: {topic} of config:={given['config']}"
                   for topic in same]
    if shared:
        raise ValueError(f"cameras:={given['cameras']} would all read the same camera: {', '.join(shared)}. "
                         "Give image:= (and camera_info:=, depth:=) relative to the cameras' namespaces, without the "
                         "leading '/', e.g. image:=image_raw; or start this launch file once per camera, each with "
                         "its own namespace:= and image:=")


def fusion(given, cameras, config, pushed):
    """The node that fuses the hands of all cameras; its topics are relative where the cameras' namespaces are."""
    if len(cameras) < 2:
        raise ValueError(f"fuse:={given['fuse']} needs two cameras or more, cameras:={given['cameras']} names "
                         f"{len(cameras)}; e.g. cameras:=/cam_left,/cam_right")
    topics = ",".join(f"{camera.rstrip('/')}/hand_pose/hands" for camera in cameras)
    own = {"hands_topics": ParameterValue(topics, value_type=str),
           "use_sim_time": on_sim_time(given, cameras[0], config, pushed)}
    if given["extrinsics_file"]:
        own["extrinsics_file"] = ParameterValue(given["extrinsics_file"], value_type=str)
    # Of its own section in the file; what one with * says, such as tf_prefix, is meant for the cameras' nodes.
    said = {}
    for key, values in sections(config, os.path.join("/", pushed, "hand_pose_fusion")):
        said.update(values if "*" not in key else {})
    return Node(package="hand_pose_ros", executable="fusion_node", name="hand_pose_fusion", namespace="",
                output="screen", parameters=[{**said, **own}],
                arguments=["--ros-args", "--log-level", given["log_level"]])


def views(given, namespaces, config, share, pushed):
    """One RViz per camera: it shows one fixed frame, and two cameras need not be connected in TF."""
    frames = listed(given["fixed_frame"]) or [FIXED_FRAMES.get(given["config"])]
    if len(frames) == 1:
        frames *= len(namespaces)
    if len(frames) != len(namespaces):
        raise ValueError(f"fixed_frame:={given['fixed_frame']} names {len(frames)} frames for {len(namespaces)} "
                         "cameras; give one for each, or one for all")
    arguments = ["-d", str(share / "config" / "rviz" / "hand_pose.rviz")]
    # The remapped names are relative: like those of the hand pose node, they are below the camera's namespace.
    return [Node(package=rviz(), executable="rviz2", name="rviz2", namespace=namespace, output="log",
                 arguments=arguments + (["-f", frame] if frame else []),
                 remappings=[("/" + topic, topic) for topic in VIEWED],
                 parameters=[{"use_sim_time": on_sim_time(given, namespace, config, pushed)}])
            for namespace, frame in zip(namespaces, frames)]


def on_sim_time(given, namespace, config, pushed):
    """Whether the hand pose node of this namespace is on simulated time: RViz must be too, or TF looks stale."""
    if given["use_sim_time"]:
        return is_true("use_sim_time", given["use_sim_time"])
    return bool(file_settings(config, os.path.join("/", pushed, namespace)).get("use_sim_time", False))


def file_settings(config, namespace):
    """Parameters that the file gives to the hand pose node of this namespace."""
    found = {}
    for _, values in sections(config, f"{namespace.rstrip('/')}/hand_pose"):
        found.update(values)
    return found


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
    own.update({name: is_true(name, given[name]) for name in SWITCHES if given[name]})
    return own
