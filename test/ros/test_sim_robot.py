"""The simulated robot over DDS: it takes the teleoperation's commands, shows where it is, and halts without them."""
from __future__ import annotations

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray, String
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from two_contexts import LATCHED, TwoContexts

from hand_pose_ros import arm_model
from hand_pose_ros.errors import ConfigError
from hand_pose_ros.frames import quaternion
from hand_pose_ros.resources import folder
from hand_pose_ros.ros import gripper_outputs
from hand_pose_ros.ros.sim_robot import HALT_S, HOME, SimRobot

MODEL = arm_model.load(folder("config") / "sim" / "arm_gripper.urdf")
TYPES = {"joint_state": JointState, "float64": Float64, "float64_multi_array": Float64MultiArray,
         "joint_trajectory": JointTrajectory}


class Bench(TwoContexts):
    """The robot and somebody who commands it."""

    def __init__(self, **parameters):
        super().__init__(SimRobot, parameters, "commander")
        self.joints, self.frames, self.static, self.description = {}, {}, {}, []
        self.rig.create_subscription(JointState, "/joint_states",
                                     lambda m: self.joints.update(zip(m.name, m.position)), 10)
        for topic, seen, profile in (("/tf", self.frames, 10), ("/tf_static", self.static, LATCHED)):
            self.rig.create_subscription(TFMessage, topic, lambda m, seen=seen: seen.update(
                {t.child_frame_id: (t.header.frame_id, t.transform) for t in m.transforms}), profile)
        self.rig.create_subscription(String, "/robot_description", lambda m: self.description.append(m.data), LATCHED)

    def said(self):
        return f"joints: {self.joints}"

    def tool(self):
        return arm_model.links(MODEL, {joint.name: self.joints[joint.name] for joint in MODEL.moving})["tool0"]


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_the_gripper_takes_every_kind_of_topic_and_stays_within_its_range(kind):
    with Bench(gripper_input=kind) as b:
        send = b.rig.create_publisher(TYPES[kind], "/teleop/gripper", 10)

        def command(value):
            send.publish(gripper_outputs.fill(kind, TYPES[kind](), "gripper_joint", value, 1.0,
                                              b.rig.get_clock().now().to_msg(), JointTrajectoryPoint))
        b.until(lambda: abs(b.joints.get("gripper_joint", 9) - 0.02) < 1e-6, "the opening", lambda: command(0.02))
        assert b.joints["finger_left_joint"] == pytest.approx(0.01) and b.joints["finger_right_joint"] == \
            pytest.approx(-0.01)
        b.until(lambda: b.joints["gripper_joint"] == 0.0, "the end of the range", lambda: command(-1.0))
        b.until(lambda: b.joints["gripper_joint"] == 0.0, "no change", lambda: command(float("nan")))


def test_what_the_robot_reads_at_its_start_alone_is_not_changed_later():
    with Bench() as b:
        refused = b.tested.set_parameters([Parameter("gripper_joint", value="joint1")])[0]
    assert not refused.successful and "start it anew" in refused.reason


def test_the_arm_follows_a_pose_and_halts_when_commands_end():
    with Bench(arm_input="pose", camera_frame="camera", world_frame="world") as b:
        b.until(lambda: len(b.joints) == 9 and "finger_left" in b.frames and b.description
                and {"camera", "base_link", "tool0"} <= b.static.keys(), "the robot")
        assert b.joints["joint3"] == HOME["joint3"] and "<robot" in b.description[0]
        assert b.static["camera"][0] == "base_link" and b.static["base_link"][0] == "world"
        rotation, position = b.tool()
        goal, message = position + [0.0, 0.08, 0.05], PoseStamped()
        send = b.rig.create_publisher(PoseStamped, "/teleop/target_pose", 10)
        message.header.frame_id = "base_link"
        p, o = message.pose.position, message.pose.orientation
        p.x, p.y, p.z = (float(number) for number in goal)
        o.x, o.y, o.z, o.w = (float(number) for number in quaternion(rotation))
        b.until(lambda: np.linalg.norm(b.tool()[1] - goal) < 0.005, "the tool at its goal",
                lambda: send.publish(message))
        p.y -= 0.3
        send.publish(message)                            # one command, then silence
        b.spin(HALT_S)

        def stands():
            before = b.tool()[1]
            b.spin(0.3)
            return np.linalg.norm(b.tool()[1] - before) < 1e-9
        b.until(stands, "the arm to halt")
        rest = b.tool()[1]
        assert np.linalg.norm(rest - [p.x, p.y, p.z]) > 0.05


def test_the_arm_follows_a_twist():
    with Bench(arm_input="twist") as b:
        b.until(lambda: len(b.joints) == 9, "the robot")
        before, message = b.tool()[1], TwistStamped()
        message.header.frame_id, message.twist.linear.y = "base_link", 0.2
        send = b.rig.create_publisher(TwistStamped, "/teleop/target_twist", 10)
        b.until(lambda: b.tool()[1][1] - before[1] > 0.05, "the tool to move to +y", lambda: send.publish(message))
        moved = b.tool()[1] - before
        assert np.abs(moved[[0, 2]]).max() < 0.02


def test_the_arm_halts_when_the_clock_goes_back():
    """A bag that starts again: the last command then lies in the future, and nobody sends another."""
    with Bench(arm_input="twist") as b:
        b.until(lambda: len(b.joints) == 9, "the robot")
        robot, message = b.tested, TwistStamped()
        message.header.frame_id, message.twist.linear.y = "base_link", 0.2
        robot._on_twist(message)
        robot._now_s = lambda began=robot._now_s() - 60.0, before=robot._now_s: began + before() % 10.0
        b.spin(0.2)
        before = b.tool()[1]
        b.spin(0.5)
        np.testing.assert_allclose(b.tool()[1], before, atol=1e-6)


@pytest.mark.parametrize("frame", ["tool0", "world", ""])
def test_a_target_in_a_frame_that_is_not_the_bases_moves_nothing(frame):
    with Bench(arm_input="twist") as b:
        b.until(lambda: len(b.joints) == 9, "the robot")
        before, message = b.tool()[1], TwistStamped()
        message.header.frame_id, message.twist.linear.y = frame, 0.2
        for _ in range(10):
            b.tested._on_twist(message)
            b.spin(0.03)
        np.testing.assert_allclose(b.tool()[1], before, atol=1e-6)


def test_a_joint_that_the_robot_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="gripper_joint 'claw'.*choices: joint1"):
        with Bench(gripper_joint="claw"):
            pass
    with pytest.raises(ConfigError, match="tool_frame 'nosuch'.*tool0"):
        with Bench(tool_frame="nosuch"):
            pass
