"""``hand-pose sim-robot``: a robot without a robot. Takes the commands of the teleoperation, shows where it then is.

Kinematic: joints follow within their speeds. Publishes /joint_states, TF and /robot_description (RViz: RobotModel;
Foxglove: 3D panel). It halts as MoveIt Servo does: when commands stop coming for HALT_S.
"""
from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TransformStamped, TwistStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from .. import arm_model
from ..config import Setting
from ..errors import ConfigError
from ..frames import quaternion, rotation_of_quaternion
from ..resources import folder
from . import compat, gripper_outputs
from .parameters import Parameters

RATE_HZ = 100.0
HALT_S = 0.1
HOME = {"joint1": 0.0, "joint2": 0.5, "joint3": 1.4, "joint4": 0.0, "joint5": 1.2, "joint6": 0.0, "gripper_joint": 0.08}
CAMERA_ROTATION = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""A level camera that looks along the base's x."""

SETTINGS = (
    Setting("urdf", "", "URDF of the robot; empty: the arm that comes with this package."),
    Setting("teleop", "/teleop", "Name of the teleoperation node whose topics are followed."),
    Setting("gripper_topic", "", "Topic of the gripper's command; empty: gripper below the teleoperation's name."),
    Setting("gripper_input", "joint_state", "Kind of the gripper's command, see gripper_output of the teleoperation.",
            choices=("joint_state", "float64", "float64_multi_array", "joint_trajectory")),
    Setting("gripper_joint", "gripper_joint", "Joint that the gripper's command moves."),
    Setting("arm_input", "pose", "What the arm follows.", choices=("pose", "twist")),
    Setting("tool_frame", "tool0", "Link that follows."),
    Setting("camera_frame", "", "Send a static transform from the base to this camera frame: level, looking along x "
            "from 0.8 m above the base. Empty: the camera's place comes from elsewhere."),
    Setting("world_frame", "", "Send a static transform from this frame to the base, both at the same place. Empty: "
                               "none."),
)


class SimRobot(Node):
    """The robot."""

    def __init__(self, **node_options: Any) -> None:
        super().__init__("sim_robot", **node_options)
        self._values = Parameters(self, SETTINGS, lambda values: None).values
        values = self._values
        path = values.urdf or folder("config") / "sim" / "arm_gripper.urdf"
        self._model = arm_model.load(path)
        self._joints = {joint.name: HOME.get(joint.name, 0.0) for joint in self._model.moving}
        self._speeds = {joint.name: joint.velocity for joint in self._model.moving}
        self._limits = {joint.name: (joint.lower, joint.upper) for joint in self._model.moving}
        if values.gripper_joint not in self._joints:
            raise ConfigError(f"gripper_joint '{values.gripper_joint}' is not in {path}; choices: "
                              f"{', '.join(self._joints)}")
        links = {joint.child for joint in self._model.joints}
        if values.tool_frame not in links:
            raise ConfigError(f"tool_frame '{values.tool_frame}' is not in {path}; choices: {', '.join(sorted(links))}")
        self._arm = tuple(name for name in self._joints if name != values.gripper_joint)
        self._wish = self._joints[values.gripper_joint]
        self._target: Any = None
        self._commanded_s = float("-inf")
        self._base = self._model.joints[0].parent
        self._tf = compat.transform_broadcaster(self)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._states = self.create_publisher(JointState, "/joint_states", 10)
        self._description = self.create_publisher(String, "/robot_description", latched)
        with open(path, encoding="utf8") as file:
            self._description.publish(String(data=file.read()))
        self._static = self.create_publisher(TFMessage, "/tf_static", latched)
        self._publish_static(values)
        self.create_subscription(
            gripper_outputs.load(values.gripper_input), values.gripper_topic or f"{values.teleop}/gripper",
            self._on_gripper, 10)
        if values.arm_input == "pose":
            self.create_subscription(PoseStamped, f"{values.teleop}/target_pose", self._on_pose, 10)
        else:
            self.create_subscription(TwistStamped, f"{values.teleop}/target_twist", self._on_twist, 10)
        self.create_timer(1.0 / RATE_HZ, self._step)
        self._last_s = self._now_s()

    def _now_s(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _on_gripper(self, message: Any) -> None:
        kind, joint = self._values.gripper_input, self._values.gripper_joint
        if kind == "float64":
            value = message.data
        elif kind == "float64_multi_array":
            value = message.data[0] if message.data else np.nan
        elif kind == "joint_state":
            value = dict(zip(message.name, message.position)).get(joint, np.nan)
        else:
            positions = message.points[-1].positions if message.points else ()
            value = dict(zip(message.joint_names, positions)).get(joint, np.nan)
        if np.isfinite(value):
            self._wish = float(np.clip(value, *self._limits[joint]))

    def _is_mine(self, message: Any) -> bool:
        """Whether a target is in the base's frame, or in the one that stands there too."""
        frame = message.header.frame_id
        if frame and frame in (self._base, self._values.world_frame):
            return True
        self.get_logger().warning(f"a target in '{frame}' is not followed: this robot takes them in its base, "
                                  f"'{self._base}'; set base_frame of the teleoperation", throttle_duration_sec=2.0)
        return False

    def _on_pose(self, message: Any) -> None:
        if not self._is_mine(message):
            return
        p, q = message.pose.position, message.pose.orientation
        self._target = np.array([p.x, p.y, p.z]), rotation_of_quaternion(np.array([q.x, q.y, q.z, q.w]))
        self._commanded_s = self._now_s()

    def _on_twist(self, message: Any) -> None:
        if not self._is_mine(message):
            return
        linear, angular = message.twist.linear, message.twist.angular
        self._target = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
        self._commanded_s = self._now_s()

    def _step(self) -> None:
        now_s = self._now_s()
        dt = float(np.clip(now_s - self._last_s, 0.0, 0.05))
        self._last_s = now_s
        joint = self._values.gripper_joint
        most = self._speeds[joint] * dt
        self._joints[joint] += float(np.clip(self._wish - self._joints[joint], -most, most))
        if 0 <= now_s - self._commanded_s <= HALT_S and all(np.all(np.isfinite(part)) for part in self._target):
            if self._values.arm_input == "pose":
                self._joints = arm_model.follow_pose(self._model, self._joints, self._values.tool_frame, self._arm,
                                                     *self._target, dt)
            else:
                self._joints = arm_model.follow_twist(self._model, self._joints, self._values.tool_frame, self._arm,
                                                      self._target, dt)
        self._publish()

    def _publish(self) -> None:
        stamp = self.get_clock().now().to_msg()
        every = arm_model.positions(self._model, self._joints)
        message = JointState(name=list(every), position=[float(value) for value in every.values()])
        message.header.stamp = stamp
        self._states.publish(message)
        self._tf.sendTransform([_transform(stamp, joint.parent, joint.child, *arm_model.local(joint, every[joint.name]))
                                for joint in self._model.joints if joint.kind != "fixed"])

    def _publish_static(self, values: Any) -> None:
        """All static transforms in one message: a later one would replace them for those who join late."""
        stamp = self.get_clock().now().to_msg()
        sent = [_transform(stamp, joint.parent, joint.child, joint.rotation, joint.origin)
                for joint in self._model.joints if joint.kind == "fixed"]
        if values.camera_frame:
            sent.append(_transform(stamp, self._base, values.camera_frame, CAMERA_ROTATION, np.array([0.0, 0.0, 0.8])))
        if values.world_frame:
            sent.append(_transform(stamp, values.world_frame, self._base, np.eye(3), np.zeros(3)))
        self._static.publish(TFMessage(transforms=sent))

    def stop(self) -> None:
        """Nothing to undo."""


def _transform(stamp: Any, parent: str, child: str, rotation: np.ndarray, translation: np.ndarray) -> Any:
    message = TransformStamped()
    message.header.stamp, message.header.frame_id, message.child_frame_id = stamp, parent, child
    t, r = message.transform.translation, message.transform.rotation
    t.x, t.y, t.z = (float(value) for value in translation)
    r.x, r.y, r.z, r.w = (float(value) for value in quaternion(rotation))
    return message


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``hand-pose sim-robot``."""
    parser.add_argument("--ros-args", nargs=argparse.REMAINDER, default=[], help="everything after this goes to ROS")


def main(args: argparse.Namespace) -> int:
    """Run until Ctrl-C."""
    from . import process
    ros = sys.argv[sys.argv.index("--ros-args"):] if "--ros-args" in sys.argv else []
    return process.run(SimRobot, "sim_robot", ["sim_robot", *ros])
