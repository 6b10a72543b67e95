"""Starts the teleoperation beside a running hand pose node.

    ros2 launch hand_pose_ros teleop.launch.py                                    # gripper only, sensor_msgs/JointState
    ros2 launch hand_pose_ros teleop.launch.py gripper:=parallel_gripper_action gripper_topic:=/gripper/gripper_cmd \
        gripper_joint:=finger_joint                                              # as /joint_states calls it
    ros2 launch hand_pose_ros teleop.launch.py arm:=pose base_frame:=base_link tool_frame:=tool0
    ros2 launch hand_pose_ros teleop.launch.py sim:=true arm:=pose rviz:=true    # with the simulated robot

Stop it with SIGINT (Ctrl-C; systemd: KillSignal=SIGINT): a SIGTERM to ros2 launch leaves its nodes running.
"""
import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (DeclareLaunchArgument, OpaqueFunction, PopLaunchConfigurations,
                            PushLaunchConfigurations)
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from hand_pose_ros.ros.launch_arguments import is_true, refuse_unknown, rviz
from hand_pose_ros.ros.parameters import check_file, sections
from hand_pose_ros.teleop_settings import SETTINGS as PARAMETERS

ARGUMENTS = {
    "hands": ("", "HandPose21Array to steer by; empty: as in the config file, there /hand_pose/hands"),
    "gripper": ("", "joint_state, float64, float64_multi_array, joint_trajectory, parallel_gripper_action, "
                    "gripper_action, none"),
    "gripper_topic": ("", "topic or action name of the gripper's command"),
    "gripper_joint": ("", "name of the gripper's joint"),
    "arm": ("", "none, pose, twist or both"),
    "base_frame": ("", "frame of the arm's target"),
    "tool_frame": ("", "end effector in TF"),
    "clutch": ("", "gesture, other_hand or topic"),
    "config": ("", "path of a YAML file of parameters"),
    "dry_run": ("", "true: send nothing but the markers on ~/preview; empty: as in the config file, there false"),
    "namespace": ("", "namespace of the node"),
    "use_sim_time": ("", "true for bags that are played with --clock; empty: as in the config file, there false"),
    "sim": ("false", "start the simulated robot too"),
    "camera_frame": ("", "with sim: optical frame of a camera without TF, placed level before the robot"),
    "rviz": ("false", "start RViz with config/rviz/teleop.rviz; its fixed frame: base_frame:=, else base_link. Without "
                      "an arm nobody sends that one: give base_frame:= the camera's frame"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
}
SETTINGS = {"hands": "hands_topic", "gripper": "gripper_output", "gripper_topic": "gripper_topic",
            "gripper_joint": "gripper_joint", "arm": "arm_output", "base_frame": "base_frame",
            "tool_frame": "tool_frame", "clutch": "clutch"}
"""Arguments that are parameters of type string."""
SIM_GRIPPERS = ("joint_state", "float64", "float64_multi_array", "joint_trajectory")
"""What the simulated robot's gripper takes; it has no actions."""


def generate_launch_description():
    """The declared arguments, and the nodes that follow from them."""
    arguments = [DeclareLaunchArgument(name, default_value=default, description=description)
                 for name, (default, description) in ARGUMENTS.items()]
    # Pushed and popped: a launch file that includes this one and others must not hand its defaults on to them.
    return LaunchDescription([PushLaunchConfigurations(), *arguments, OpaqueFunction(function=nodes),
                              PopLaunchConfigurations()])


def nodes(context):
    """The teleoperation, and the simulated robot if asked for."""
    given = {name: context.launch_configurations[name] for name in ARGUMENTS}
    refuse_unknown("teleop.launch.py", get_package_share_directory("hand_pose_ros"), ARGUMENTS,
                   {setting.name for setting in PARAMETERS}, "teleop")
    check_config(given["config"], given["namespace"], context)
    own = own_parameters(given)
    known = from_file(given["config"], node_name(given["namespace"], context)) | {
        parameter: given[name] for name, parameter in SETTINGS.items() if given[name]}
    simulated_time = bool(own.get("use_sim_time", known.get("use_sim_time")))
    actions = [Node(package="hand_pose_ros", executable="teleop_node", name="teleop", namespace=given["namespace"],
                    output="screen", parameters=[*([given["config"]] if given["config"] else []), own],
                    arguments=["--ros-args", "--log-level", given["log_level"]])]
    if is_true("sim", given["sim"]):
        settings = sim_parameters(known, node_name(given["namespace"], context), given["camera_frame"])
        actions.append(Node(package="hand_pose_ros", executable="sim_robot", name="sim_robot", output="screen",
                            parameters=[{"use_sim_time": simulated_time, **{
                                name: ParameterValue(value, value_type=str) for name, value in settings.items()}}]))
    if is_true("rviz", given["rviz"]):
        actions.append(view(given, known.get("hands_topic", ""), simulated_time))
    return actions


def check_config(path, namespace, context):
    """Refuses a parameter file that is not there or says nothing to the node: the robot would move by the defaults."""
    if not path:
        return
    if not Path(path).is_file():
        raise FileNotFoundError(f"config:={path} is no file; give the path of a YAML file of parameters")
    check_file(path, "teleop", ["-r", f"__ns:={os.path.dirname(node_name(namespace, context))}"])


def node_name(namespace, context):
    """The full name of the teleoperation."""
    pushed = context.launch_configurations.get("ros_namespace", "")    # of a launch file that includes this one
    return os.path.join("/", pushed, namespace, "teleop")


def from_file(path, node):
    """What the parameter file says to the node."""
    values = {}
    for _, said in sections(path, node) if path else ():
        values.update(said)
    return values


def sim_parameters(known, node, camera_frame):
    """The simulated robot's parameters that make it follow what the teleoperation sends. known: what arguments and
    parameter file say of that. Raises ValueError for a gripper that it does not have."""
    gripper = known.get("gripper_output", "joint_state")
    if gripper not in (*SIM_GRIPPERS, "none"):
        raise ValueError(f"gripper:={gripper}: the simulated robot takes {', '.join(SIM_GRIPPERS)}; choose one of "
                         "them, or leave out sim:=true")
    topic = known.get("gripper_topic", "~/gripper")
    topic = node + topic[1:] if topic.startswith("~") else os.path.join(os.path.dirname(node), topic)
    return {"teleop": node, "gripper_topic": topic, "camera_frame": camera_frame,
            "gripper_input": "joint_state" if gripper == "none" else gripper,
            "arm_input": "twist" if known.get("arm_output") == "twist" else "pose",
            **{name: known[name] for name in ("gripper_joint", "tool_frame") if name in known}}


def own_parameters(given):
    """What the arguments say; what they leave open is the config file's, whose dry_run must not be taken back."""
    own = {parameter: ParameterValue(given[name], value_type=str)
           for name, parameter in SETTINGS.items() if given[name]}
    return own | {name: is_true(name, given[name]) for name in ("dry_run", "use_sim_time") if given[name]}


def view(given, hands, simulated_time):
    """RViz on the topics of this teleoperation and of the hand pose node that it listens to."""
    path = Path(get_package_share_directory("hand_pose_ros")) / "config" / "rviz" / "teleop.rviz"
    # The remapped names are relative: like those of the teleoperation, they are below the namespace given.
    topics = [("/teleop/preview", "teleop/preview"), ("/teleop/target_pose", "teleop/target_pose")]
    if hands:
        beside = hands[:hands.rfind("/") + 1]                         # the hand pose node's other topics
        topics += [(f"/hand_pose/{name}", beside + name) for name in ("markers", "debug_image")]
    return Node(package=rviz(), executable="rviz2", name="rviz2", namespace=given["namespace"], output="log",
                arguments=["-d", str(path), *(["-f", given["base_frame"]] if given["base_frame"] else [])],
                remappings=topics, parameters=[{"use_sim_time": simulated_time}])
