"""The teleoperation node over DDS: parameters and hands in, commands out, and what makes it keep silent."""
from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import PoseArray, PoseStamped, TransformStamped, TwistStamped
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64, Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from visualization_msgs.msg import MarkerArray

sys.path.append(str(Path(__file__).parents[1] / "core"))
import services  # noqa: E402
from test_gripper import R_BASE_CAMERA, hand  # noqa: E402
from two_contexts import LATCHED, WAIT_S, TwoContexts  # noqa: E402

from hand_pose_ros import messages  # noqa: E402
from hand_pose_ros.errors import ConfigError, DataError  # noqa: E402
from hand_pose_ros.frames import quaternion  # noqa: E402
from hand_pose_ros.msg import HandPose21, HandPose21Array  # noqa: E402
from hand_pose_ros.ros import gripper_outputs, teleop_node  # noqa: E402
from hand_pose_ros.ros.teleop_node import TeleopNode  # noqa: E402
from hand_pose_ros.teleop_settings import SETTINGS  # noqa: E402
from hand_pose_ros.types import JointState as JointState21  # noqa: E402

CAMERA = "camera_optical_frame"
TYPES = {"joint_state": JointState, "float64": Float64, "float64_multi_array": Float64MultiArray,
         "joint_trajectory": JointTrajectory}
VALUE = {"joint_state": lambda m: m.position[0], "float64": lambda m: m.data,
         "float64_multi_array": lambda m: m.data[0],
         "joint_trajectory": lambda m: m.points[0].positions[0]}


class Bench(TwoContexts):
    """The teleoperation, and an operator with a robot round it."""

    def __init__(self, clutch_topic="/teleop/clutch", **parameters):
        values = {"gripper_output": "float64", "clutch": "topic", "stale_s": 2.0, "command_rate_hz": 50.0,
                  "joint_states_topic": "", "gripper_start_m": 0.04, **parameters}
        super().__init__(TeleopNode, values, "operator", cli_args=["--ros-args", "-r", f"~/clutch:={clutch_topic}"])
        self.got, self.metric = {}, True
        for topic, kind in {"gripper": TYPES[values["gripper_output"]], "target_pose": PoseStamped,
                            "target_twist": TwistStamped, "preview": MarkerArray, "retarget": PoseArray}.items():
            self.got[topic] = []
            self.rig.create_subscription(kind, f"/teleop/{topic}", self.got[topic].append, 100)
        self.states = []
        self.rig.create_subscription(String, "/teleop/state", lambda m: self.states.append(m.data), LATCHED)
        self.hands = self.rig.create_publisher(HandPose21Array, "/hand_pose/hands", 10)
        self.clutch = self.rig.create_publisher(Bool, clutch_topic, 10)
        self.emergency = self.rig.create_publisher(Bool, "/teleop/emergency_stop", 10)
        self.static = self.rig.create_publisher(TFMessage, "/tf_static", LATCHED)
        self.until(lambda: self.hands.get_subscription_count() and self.clutch.get_subscription_count()
                   and self.emergency.get_subscription_count() and self.states, "discovery")

    def said(self):
        return self.states[-8:]

    def send(self, *hands, age_s=0.0, frame=CAMERA):
        message = HandPose21Array()
        stamp = self.rig.get_clock().now().nanoseconds - int(age_s * 1e9)
        message.header.frame_id = frame
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        self.hands.publish(messages.fill_array(message, hands, message.header, HandPose21,
                                                  messages.ArrayInfo(metric=self.metric)))
        return stamp

    def transforms(self, *frames):
        """(parent, child, R, t) as static transforms."""
        out = TFMessage()
        for parent, child, R, t in frames:
            transform = TransformStamped()
            transform.header.frame_id, transform.child_frame_id = parent, child
            v, r = transform.transform.translation, transform.transform.rotation
            v.x, v.y, v.z = map(float, t)
            r.x, r.y, r.z, r.w = map(float, quaternion(R))
            out.transforms.append(transform)
        self.static.publish(out)

    def engage(self, **kwargs):
        """Close the clutch by topic over a hand that is seen."""
        self.clutch.publish(Bool(data=False))
        self.send(hand(**kwargs))
        self.spin(0.1)
        self.clutch.publish(Bool(data=True))
        self.until(lambda: self.following(), "the clutch to close", lambda: self.send(hand(**kwargs)))

    def following(self):
        return bool(self.states) and self.states[-1] == "follow"

    def call(self, kind, name, request):
        return services.call(self.rig, self.until, kind, name, request)

    def commands(self):
        return sum(len(self.got[topic]) for topic in ("gripper", "target_pose", "target_twist"))

    def silent(self, seconds=0.25, action=lambda: None):
        """Nothing is sent for a while (after what is already on its way)."""
        before, patience_s = -1, time.monotonic() + WAIT_S
        while before != self.commands() and time.monotonic() < patience_s:
            before = self.commands()
            self.spin(0.3)
        before = self.commands()
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            action()
            self.spin(0.03)
        assert self.commands() == before, f"{self.commands() - before} commands although: {self.states[-1]}"


ARM = {"arm_output": "both", "tool_frame": "tool0", "base_frame": "base_link"}
ROBOT = (("base_link", CAMERA, R_BASE_CAMERA, (0, 0, 1)), ("base_link", "tool0", np.eye(3), (0.4, 0.0, 0.3)))


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_every_gripper_output_follows_the_hand(kind):
    with Bench(gripper_output=kind) as b:
        sent, send = [], b.tested._gripper.send

        def noted(joint, position, *rest):
            sent.append((time.monotonic(), position))
            return send(joint, position, *rest)
        b.tested._gripper.send = noted
        b.engage(opening=0.335)
        assert not b.got["target_pose"] and not b.got["target_twist"]        # no arm was asked for
        value = VALUE[kind]
        b.until(lambda: b.got["gripper"] and value(b.got["gripper"][-1]) > 0.079, "an open gripper",
                lambda: b.send(hand(opening=0.7)))
        b.until(lambda: value(b.got["gripper"][-1]) < 0.001, "a closed gripper", lambda: b.send(hand(opening=0.05)))
        seconds, positions = np.array(sent).T
        for k in range(len(sent) - 10):                                      # the rate limit, a late step allowed for
            assert abs(positions[k + 10] - positions[k]) <= 0.15 * (seconds[k + 10] - seconds[k] + 0.15)


def test_missing_control_msgs_is_named_with_the_remedy(monkeypatch):
    for name in ("control_msgs", "control_msgs.action"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"gripper_action.*control_msgs.*apt install.*float64"):
        with Bench(gripper_output="gripper_action"):
            pass


def test_arm_follows_from_where_the_tool_is_and_says_zero_once_when_lost():
    with Bench(hold_s=0.2, **ARM) as b:
        b.transforms(*ROBOT)
        b.until(lambda: b.states[-1].startswith("idle: clutch open"), "the tool's pose")
        b.engage()
        first = b.got["target_pose"][0]
        p = first.pose.position
        np.testing.assert_allclose([p.x, p.y, p.z], [0.4, 0.0, 0.3], atol=1e-3)
        assert first.header.frame_id == "base_link" and messages.stamp_ns(first.header) > 0
        b.until(lambda: b.got["target_pose"][-1].pose.position.x > 0.48, "the target 0.1 m ahead",
                lambda: b.send(hand((0.0, 0.0, 0.7))))
        speeds = [m.twist.linear.x for m in b.got["target_twist"]]
        assert 0 < max(speeds) <= 0.4 + 1e-9
        b.until(lambda: any(s.startswith("idle: operator lost") for s in b.states), "the loss", lambda: b.send())

        def resting():
            last = b.got["target_twist"][-1].twist
            linear, angular = last.linear, last.angular
            return (linear.x, linear.y, linear.z, angular.x, angular.y, angular.z) == (0,) * 6
        b.until(resting, "a twist of zero")
        b.silent(action=lambda: b.send(hand((0.0, 0.0, 0.7))))


@pytest.mark.parametrize("known", [(), ROBOT[1:], ROBOT[:1]], ids=["no TF", "no camera", "no tool"])
def test_nothing_is_computed_across_a_missing_transform(known):
    with Bench(**ARM) as b:
        b.transforms(*known)
        b.clutch.publish(Bool(data=False))
        b.spin(0.1)
        b.clutch.publish(Bool(data=True))
        b.silent(0.4, lambda: b.send(hand()))
        words = "tool" if ROBOT[1] not in known else "transform from the camera"
        b.until(lambda: words in " ".join(b.states), words, lambda: b.send(hand()))
        b.silent(action=lambda: b.send(hand()))


def test_emergency_stop_is_latched_until_reset_and_leaves_the_clutch_open():
    with Bench() as b:
        b.engage()
        b.emergency.publish(Bool(data=True))
        b.until(lambda: b.states[-1].startswith("stop"), "the stop", lambda: b.send(hand()))
        b.silent(action=lambda: b.send(hand()))
        assert not b.call(Trigger, "/teleop/reset", Trigger.Request()).success        # still pressed
        b.emergency.publish(Bool(data=False))
        b.silent(action=lambda: b.send(hand()))
        assert b.states[-1].startswith("stop")
        assert b.call(Trigger, "/teleop/reset", Trigger.Request()).success
        b.silent(action=lambda: b.send(hand()))                                       # the clutch topic still says true
        assert b.states[-1].startswith("idle")
        b.engage()


def test_emergency_stop_before_the_robot_is_known_counts_too():
    with Bench(**ARM) as b:
        b.emergency.publish(Bool(data=True))
        b.spin(0.1)
        b.emergency.publish(Bool(data=False))
        b.spin(0.1)
        b.transforms(*ROBOT)
        b.until(lambda: b.states[-1].startswith("stop"), "the stop")


def test_an_arm_on_twists_is_told_to_stand_still_when_the_node_ends():
    with Bench(**ARM) as b:
        b.transforms(*ROBOT)
        b.until(lambda: b.states[-1].startswith("idle: clutch open"), "the tool's pose")
        b.engage()
        twists, away = b.got["target_twist"], iter(np.arange(0.6, 5.0, 0.03))
        b.until(lambda: twists[-1].twist.linear.x > 0.2, "speed", lambda: b.send(hand((0.0, 0.0, next(away)))))
        poses = len(b.got["target_pose"])
        b.tested.stop()
        end_s = time.monotonic() + WAIT_S
        while (twists[-1].twist.linear.x or b.states[-1] == "follow") and time.monotonic() < end_s:
            # The node itself does nothing any more.
            b.executors[1].spin_once(timeout_sec=0.05)
        last = twists[-1].twist
        assert (last.linear.x, last.linear.y, last.linear.z, last.angular.x, last.angular.y, last.angular.z) == (0,) * 6
        assert b.states[-1] == "stop: the node ends"         # and nobody goes on reading that it follows
        stay = b.got["target_pose"][-1].pose.position        # where TF has the arm, not where it was sent
        assert len(b.got["target_pose"]) > poses
        np.testing.assert_allclose([stay.x, stay.y, stay.z], ROBOT[1][3], atol=1e-9)


def test_an_arm_on_twists_is_told_to_stand_still_at_an_emergency_stop():
    with Bench(**ARM) as b:
        b.transforms(*ROBOT)
        b.until(lambda: b.states[-1].startswith("idle: clutch open"), "the tool's pose")
        b.engage()
        twists = b.got["target_twist"]
        away = iter(np.arange(0.6, 5.0, 0.03))
        b.until(lambda: twists[-1].twist.linear.x > 0.2, "speed", lambda: b.send(hand((0.0, 0.0, next(away)))))
        b.emergency.publish(Bool(data=True))
        b.until(lambda: b.states[-1].startswith("stop"), "the stop")
        b.silent()
        last = twists[-1].twist
        assert (last.linear.x, last.linear.y, last.linear.z, last.angular.x, last.angular.y, last.angular.z) == (0,) * 6


@pytest.mark.parametrize("profile", [
    LATCHED, QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT), QoSProfile(depth=1)],
    ids=["latched before the node began", "sensor data", "usual"])
def test_an_emergency_stop_is_heard_from_any_publisher(profile):
    context = Context()
    rclpy.init(context=context)
    guard = Node("guard", context=context, use_global_arguments=False)
    try:
        button = guard.create_publisher(Bool, "/teleop/emergency_stop", profile)
        button.publish(Bool(data=True))                     # too early for all but the latched one
        with Bench() as b:
            def act():                                      # a single best-effort message may be lost
                if profile is not LATCHED:
                    button.publish(Bool(data=True))
                b.send(hand())
            b.until(lambda: b.states[-1].startswith("stop"), "the stop", act)
    finally:
        guard.destroy_node()
        rclpy.shutdown(context=context)


def test_a_tool_whose_tf_has_ended_is_nowhere():
    with Bench(tool_max_age_s=1.0, **ARM) as b:
        b.transforms(ROBOT[0])
        moving = b.rig.create_publisher(TFMessage, "/tf", 10)
        tool = TransformStamped()
        tool.header.frame_id, tool.child_frame_id = "base_link", "tool0"
        tool.transform.translation.x, tool.transform.rotation.w = 0.4, 1.0

        def send():
            tool.header.stamp = b.rig.get_clock().now().to_msg()
            moving.publish(TFMessage(transforms=[tool]))
        b.until(lambda: b.states[-1].startswith("idle: clutch open"), "the tool's pose", send)
        b.clutch.publish(Bool(data=False))
        b.until(lambda: "old" in b.states[-1], "the tool to grow old", lambda: b.send(hand()))
        b.clutch.publish(Bool(data=True))
        b.silent(1.5, lambda: b.send(hand()))
        assert "pose of the tool" in b.states[-1]
        b.until(b.following, "the clutch to close now", lambda: (send(), b.send(hand())))


def test_an_arm_that_stands_still_is_not_sent_further_and_stays_where_it_is():
    with Bench(max_following_error_m=0.1, **ARM) as b:
        b.transforms(*ROBOT)
        b.until(lambda: b.states[-1].startswith("idle: clutch open"), "the tool's pose")
        b.engage()
        x = iter((*np.linspace(0.0, 0.3, 60), *[0.3] * 4000))
        b.until(lambda: any("has it stopped" in state for state in b.states), "the clutch to open",
                lambda: b.send(hand((next(x), 0, 0.6))))
        b.silent()
        last = b.got["target_pose"][-1].pose.position
        np.testing.assert_allclose([last.x, last.y, last.z], ROBOT[1][3], atol=1e-9)
        assert not b.following() and b.got["target_twist"][-1].twist.linear.x == 0.0


def test_a_ros_clock_that_stops_ends_the_motion(monkeypatch):
    """As when the bag behind use_sim_time has ended: no stamp grows old any more."""
    monkeypatch.setattr(teleop_node, "CLOCK_STANDS_S", 2.5)          # of the thread that ticks here, too
    with Bench(use_sim_time=True, **ARM) as b:
        clock = b.rig.create_publisher(ClockMessage, "/clock", 10)
        beat = b.rig.create_timer(
            0.01, lambda: clock.publish(ClockMessage(clock=b.rig.get_clock().now().to_msg())))
        b.transforms(*ROBOT)
        b.until(lambda: b.states[-1].startswith("idle: clutch open"), "the tool's pose")
        b.engage()
        twists = b.got["target_twist"]
        away = iter(np.arange(0.6, 5.0, 0.03))
        b.until(lambda: twists[-1].twist.linear.x > 0.2, "speed", lambda: b.send(hand((0.0, 0.0, next(away)))))
        beat.cancel()
        b.until(lambda: "clock has stood still" in b.states[-1], "the words")
        b.silent()
        last = twists[-1].twist
        assert (last.linear.x, last.linear.y, last.linear.z, last.angular.x, last.angular.y, last.angular.z) == (0,) * 6


def test_the_hand_is_followed_in_the_base_frame():
    with Bench(**ARM) as b:
        b.transforms(*ROBOT)
        b.until(lambda: b.states[-1].startswith("idle: clutch open"), "the tool's pose")
        b.engage()
        at = [0.0]

        def drive():                                     # the camera goes by, and the hand before it goes along
            at[0] = min(at[0] + 0.002, 0.1)
            b.transforms(("base_link", CAMERA, R_BASE_CAMERA, (0, at[0], 1)))
            b.spin(0.02)
            b.send(hand())
        b.until(lambda: b.got["target_pose"][-1].pose.position.y > 0.08, "the hand's motion", drive)


def test_the_preview_is_in_a_frame_that_exists_without_an_arm():
    with Bench(dry_run=True) as b:
        b.engage()
        b.until(lambda: b.got["preview"] and b.got["preview"][-1].markers[0].header.frame_id == CAMERA,
                "markers in the camera's frame", lambda: b.send(hand()))


def test_dry_run_shows_and_sends_nothing():
    with Bench(dry_run=True, retarget=True, **ARM) as b:
        b.transforms(*ROBOT)
        b.until(lambda: b.states[-1].startswith("idle: clutch open"), "the tool's pose")
        b.engage()

        def told():
            texts = [marker.text for message in b.got["preview"] for marker in message.markers]
            return any("DRY RUN" in text and "follow" in text for text in texts)
        b.until(told, "markers of a hand that is followed", lambda: b.send(hand((0, 0, 0.65))))
        assert b.commands() == 0 and not b.got["retarget"]


def test_old_images_never_close_the_clutch():
    with Bench(stale_s=0.1) as b:
        b.clutch.publish(Bool(data=False))
        b.spin(0.05)
        b.clutch.publish(Bool(data=True))
        b.silent(0.4, lambda: b.send(hand(), age_s=0.3))
        b.until(lambda: "stale" in " ".join(b.states), "the words", lambda: b.send(hand(), age_s=0.3))


def test_clutch_service_closes_opens_and_refuses_when_a_gesture_decides():
    with Bench() as b:
        b.send(hand())
        b.spin(0.1)
        assert b.call(SetBool, "/teleop/set_clutch", SetBool.Request(data=True)).success
        b.until(b.following, "the clutch to close", lambda: b.send(hand()))
        assert b.call(SetBool, "/teleop/set_clutch", SetBool.Request(data=False)).success
        b.until(lambda: b.states[-1].startswith("idle"), "the clutch to open", lambda: b.send(hand()))
        b.silent(action=lambda: b.send(hand()))
    with Bench(clutch="gesture") as b:
        answer = b.call(SetBool, "/teleop/set_clutch", SetBool.Request(data=True))
        assert not answer.success and "clutch:=topic" in answer.message
        b.clutch.publish(Bool(data=True))
        b.silent(action=lambda: b.send(hand(curl=1.0)))


def test_closing_starts_from_the_measured_opening():
    with Bench(joint_states_topic="/joint_states", gripper_joint="g", tool_max_age_s=10.0,
               gripper_speed_m_s=0.02) as b:
        states = b.rig.create_publisher(JointState, "/joint_states", 10)
        b.until(lambda: b.tested._measured, "the opening",
                lambda: states.publish(JointState(name=["x", "g"], position=[1.0, 0.07])))
        states.publish(JointState(name=["x", "g"], position=[1.0, float("nan")]))        # says nothing of the opening
        b.spin(0.2)
        b.engage(opening=0.5)
        b.spin(0.2)
        assert not b.got["gripper"]                                          # closing the clutch leaves it alone
        b.until(lambda: b.got["gripper"], "a command", lambda: b.send(hand(opening=0.3)))
        assert 0.05 < b.got["gripper"][0].data <= 0.07                       # not from gripper_start_m = 0.04


def test_a_gripper_of_which_nobody_tells_is_taken_to_be_open_and_never_sent_further():
    with Bench(joint_states_topic="/joint_states", gripper_start_m=float("nan"), gripper_open_m=0.04,
               gripper_speed_m_s=0.02) as b:
        b.engage(opening=0.5)
        b.until(lambda: b.got["gripper"] and b.got["gripper"][-1].data < 0.02, "a command",
                lambda: b.send(hand(opening=0.2)))
        values = [message.data for message in b.got["gripper"]]
        assert 0.03 < values[0] and max(values) <= 0.04
        problem = {status.name: status.summary for status in b.tested._monitor.report()}["gripper opening"]
        assert "gripper_start_m (0.04)" in problem


@pytest.mark.parametrize("span", [{}, {"gripper_closed_m": 0.8, "gripper_open_m": 0.0}])
@pytest.mark.parametrize("start_m", [3.0, -0.01, float("inf")])
def test_a_start_outside_the_grippers_span_is_refused(span, start_m):
    with pytest.raises(ConfigError, match="gripper_start_m is .* from gripper_closed_m .* to gripper_open_m"):
        with Bench(gripper_start_m=start_m, **span):
            pass


def test_retargeting_joints_go_out_while_the_clutch_is_closed():
    with Bench(retarget=True) as b:
        b.send(hand())
        b.spin(0.1)
        assert not b.got["retarget"]
        b.engage()
        message = b.until(lambda: b.got["retarget"], "joints", lambda: b.send(hand()))[-1]
        assert len(message.poses) == 21 and message.header.frame_id == "hand_right_1_mano"
        wrist, middle = message.poses[0].position, message.poses[9].position
        assert (wrist.x, wrist.y, wrist.z) == (0, 0, 0) and middle.z > 0.08
        state = hand().state.copy()
        state[19] = JointState21.EXTRAPOLATED            # a finger that does not steer the gripper
        unknown = set()
        for _ in range(8):
            unknown.add(b.send(hand(state=state)))
            b.spin(0.05)
        last = b.send(hand())
        b.until(lambda: messages.stamp_ns(b.got["retarget"][-1].header) >= last, "joints again", lambda: b.send(hand()))
        assert b.following() and not unknown & {messages.stamp_ns(message.header) for message in b.got["retarget"]}


def test_reasons_are_logged_once_each(capfd):
    with Bench() as b:
        b.until(lambda: "no hand" in b.states[-1], "the words", b.send)
        for _ in range(10):
            b.send()
            b.spin(0.03)
    assert capfd.readouterr().err.count("command withheld: clutch open (no hand)") == 1


def test_parameters_are_described_and_checked():
    with Bench() as b:
        for setting in SETTINGS:
            described = b.tested.describe_parameter(setting.name)
            assert described.description.startswith(setting.help[:20]) and len(setting.help) > 10
        for name, value in (("speed_m_s", 99.0), ("axes", [1.0, 0.0]), ("aperture_closed", 0.9),
                            ("workspace_min_m", [2.0] * 3), ("gripper_open_m", 0.02)):     # below gripper_start_m
            assert not b.tested.set_parameters([Parameter(name, value=value)])[0].successful, name
        assert b.tested.set_parameters([Parameter("scale", value=0.5)])[0].successful
        for name, value in (("dry_run", True), ("gripper_takeover", "at_once")):
            refused = b.tested.set_parameters([Parameter(name, value=value)])[0]
            assert not refused.successful and "start it anew" in refused.reason and "lifecycle" not in refused.reason
            assert "takes effect at start" in b.tested.describe_parameter(name).additional_constraints
    with pytest.raises(ConfigError, match="hold_then_stop"):
        with Bench(lost_policy="open"):
            pass


def test_actions_get_goals_when_the_opening_changes_and_a_cancel_at_the_stop(monkeypatch):
    """control_msgs is not everywhere: its goals and an action client are stood in for here."""
    def goal():
        return SimpleNamespace(command=SimpleNamespace(name=[], position=0.0, effort=[], max_effort=0.0))
    sent, cancelled = [], []

    class Client:
        ready = accepts = True

        def __init__(self, *_):
            pass

        def server_is_ready(self):
            return self.ready

        def send_goal_async(self, message):
            sent.append(message)
            handle = SimpleNamespace(cancel_goal_async=lambda: cancelled.append(message), accepted=self.accepts)
            return SimpleNamespace(add_done_callback=lambda call: call(SimpleNamespace(result=lambda: handle)))

    now_s = [100.0]
    monkeypatch.setattr(gripper_outputs, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    monkeypatch.setattr(gripper_outputs, "RETRY_S", 60.0)
    monkeypatch.setattr(gripper_outputs, "load", lambda kind: SimpleNamespace(Goal=goal))
    output = gripper_outputs.ActionOutput(None, "parallel_gripper_action", "/g", Client)
    for value in (0.05, 0.05, 0.0504, 0.06):
        assert output.send("joint", value, 5.0, 0.08) == ""
        now_s[0] += 0.3
    assert [message.command.position for message in sent] == [[0.05], [0.06]] and sent[0].command.name == ["joint"]
    output.stop()
    assert cancelled == [sent[-1]]
    Client.accepts = False
    assert output.send("joint", 0.05, 5.0, 0.08) == ""
    assert "refuses goals" in output.send("joint", 0.05, 5.0, 0.08) and len(sent) == 3      # not at 60 Hz
    Client.accepts, gripper_outputs.RETRY_S = True, 0.0
    assert output.send("joint", 0.05, 5.0, 0.08) == "" and len(sent) == 4
    Client.ready = False
    assert "no action server" in output.send("joint", 0.05, 5.0, 0.08)
    old = gripper_outputs.fill("gripper_action", goal(), "joint", 0.03, 7.0, None, None)
    assert (old.command.position, old.command.max_effort) == (0.03, 7.0)


def test_a_stop_before_the_tools_pose_is_known_is_not_said_to_be_over():
    with Bench(**ARM) as b:
        b.until(lambda: b.states and "pose of the tool is not known" in b.states[-1], "a word of the tool")
        b.emergency.publish(Bool(data=True))
        b.spin(0.2)
        b.emergency.publish(Bool(data=False))
        b.spin(0.2)
        answer = b.call(Trigger, "/teleop/reset", Trigger.Request())
        assert not answer.success and "pose of the tool" in answer.message
        b.transforms(*ROBOT)
        b.until(lambda: b.states[-1].startswith("stop"), "the stop that nobody has ended")
        assert b.call(Trigger, "/teleop/reset", Trigger.Request()).success
        b.until(lambda: b.states[-1].startswith("idle"), "its end")


def test_two_that_send_the_emergency_stop_are_told_of():
    with Bench() as b:
        other = b.rig.create_publisher(Bool, "/teleop/emergency_stop", 10)
        b.until(lambda: b.tested._monitor.has("emergency stop publishers"), "a word of the second one")
        b.rig.destroy_publisher(other)
        b.until(lambda: not b.tested._monitor.has("emergency stop publishers"), "its end")


def test_an_action_server_is_not_flooded_and_gets_the_last_opening(monkeypatch):
    """Ten seconds at 60 Hz while fingers open and close: a server keeps every goal for minutes."""
    now_s, sent = [0.0], []

    def send_goal_async(goal):
        sent.append((now_s[0], goal.command.position[0]))
        return SimpleNamespace(add_done_callback=lambda call: None)

    client = SimpleNamespace(server_is_ready=lambda: True, send_goal_async=send_goal_async)
    goal = SimpleNamespace(Goal=lambda: SimpleNamespace(command=SimpleNamespace(name=[], position=0.0, effort=[])))
    monkeypatch.setattr(gripper_outputs, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    monkeypatch.setattr(gripper_outputs, "load", lambda kind: goal)
    output = gripper_outputs.ActionOutput(None, "parallel_gripper_action", "/g", lambda *_: client)
    for tick in range(720):
        now_s[0] = tick / 60
        opening = 0.04 + 0.04 * np.sin(2 * np.pi * min(now_s[0], 10.0) / 3.0)
        output.send("joint", opening, 5.0, 0.08)
        assert abs(sent[-1][1] - opening) < 0.02, "an action follows within a fifth of a second"
    assert len(sent) <= 5 * 10 + 2 and np.diff([at for at, _ in sent]).min() > 0.19
    assert sent[-1][1] == pytest.approx(opening, abs=8e-5)


def test_an_emergency_stop_cancels_the_grippers_goal_although_the_clutch_is_open():
    with Bench() as b:
        done, output = [], b.tested._gripper
        b.tested._gripper = SimpleNamespace(send=output.send, stop=lambda: done.append("stop"), topics=(),
                                            settle=lambda *_: None)
        b.engage()
        b.clutch.publish(Bool(data=False))
        b.until(lambda: b.states[-1].startswith("idle"), "an open clutch", lambda: b.send(hand()))
        assert not done                                      # an open clutch lets the gripper finish
        b.emergency.publish(Bool(data=True))
        b.until(lambda: b.states[-1].startswith("stop"), "the stop", lambda: b.send(hand()))
        b.spin(0.2)
        assert done == ["stop"]                              # once


def test_guessed_metres_move_no_arm_unless_asked():
    for accept in (False, True):
        with Bench(**ARM, accept_guessed_metres=accept) as b:
            b.metric = False
            b.transforms(*ROBOT)
            b.until(lambda: b.states[-1].startswith("idle: clutch open"), "the tool's pose")
            if accept:
                b.engage()
                continue
            b.clutch.publish(Bool(data=False))
            b.spin(0.1)
            b.clutch.publish(Bool(data=True))
            b.silent(0.6, lambda: b.send(hand()))
            b.until(lambda: "no hand" in b.states[-1], "the words", lambda: b.send(hand()))
            b.silent(action=lambda: b.send(hand()))


@pytest.mark.parametrize("topic", ["/teleop/clutch", "/joy/dead_man"])
def test_a_clutch_whose_publisher_is_gone_opens(topic):
    with Bench(clutch_topic=topic) as b:
        b.engage()
        for _ in range(5):
            b.send(hand())
            b.spin(0.05)
        assert b.following()
        b.rig.destroy_publisher(b.clutch)
        b.until(lambda: b.states[-1].startswith("idle"), "an open clutch", lambda: b.send(hand()))
        b.silent(action=lambda: b.send(hand()))


def test_a_clutch_that_is_not_repeated_opens_if_that_is_asked():
    with Bench(clutch_timeout_s=4.0) as b:
        b.engage()
        b.until(lambda: b.states[-1].startswith("idle"), "an open clutch", lambda: b.send(hand()))


def test_a_gripper_whose_opening_is_not_told_keeps_the_clutch_open():
    with Bench(joint_states_topic="/joint_states", gripper_joint="g") as b:
        states = b.rig.create_publisher(JointState, "/joint_states", 10)
        b.until(lambda: states.get_subscription_count(), "discovery")

        def tell(*names):
            states.publish(JointState(name=[*names], position=[0.07] * len(names)))
            b.send(hand())
        b.until(lambda: "'g', only of arm_1, finger" in b.states[-1], "the joint's name",
                lambda: tell("arm_1", "finger"))
        b.clutch.publish(Bool(data=False))
        b.spin(0.1)
        b.clutch.publish(Bool(data=True))
        b.silent(0.4, lambda: tell("arm_1", "finger"))
        b.until(b.following, "the clutch to close", lambda: tell("arm_1", "g"))
        b.clutch.publish(Bool(data=False))                   # and joint states that have ended are not believed either
        b.until(lambda: "s old; is the robot still running" in b.states[-1], "the age", lambda: b.send(hand()))


def test_joint_states_of_another_time_are_not_the_present():
    """A bag's or a republisher's: what counts is when the gripper was there, not when somebody said it."""
    with Bench(joint_states_topic="/joint_states") as b:
        states, message = b.rig.create_publisher(JointState, "/joint_states", 10), JointState()
        message.name, message.position, message.header.stamp.sec = ["gripper_joint"], [0.07], 1000
        b.until(lambda: "s old; is the robot still running" in b.states[-1], "the age",
                lambda: (states.publish(message), b.send(hand())))


def test_a_trajectory_point_is_to_be_reached_within_the_next_images():
    message = gripper_outputs.fill("joint_trajectory", JointTrajectory(), "g", 0.03, 5.0, None, JointTrajectoryPoint)
    at = message.points[0].time_from_start
    assert 0.05 <= at.sec + at.nanosec * 1e-9 <= 0.2


@pytest.fixture
def action(monkeypatch):
    """An action output whose server answers when it is told to: ``accept`` for all, ``answer`` for one goal. Its lists
    are of the goals' positions."""
    clock, sent, cancelled, waiting = [100.0], [], [], []

    def send_goal_async(goal):
        sent.append(goal.command.position)
        position = goal.command.position
        handle = SimpleNamespace(accepted=True, cancel_goal_async=lambda: cancelled.append(position))
        return SimpleNamespace(add_done_callback=lambda call: waiting.append((handle, call)))

    def answer(number, accepted):
        handle, call = waiting[number]
        handle.accepted = accepted
        call(SimpleNamespace(result=lambda: handle))

    def accept():
        for number in range(len(waiting)):
            answer(number, True)
        waiting.clear()

    goal = SimpleNamespace(Goal=lambda: SimpleNamespace(command=SimpleNamespace(position=0.0, max_effort=0.0)))
    client = SimpleNamespace(server_is_ready=lambda: True, send_goal_async=send_goal_async)
    monkeypatch.setattr(gripper_outputs, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(gripper_outputs, "load", lambda kind: goal)
    output = gripper_outputs.ActionOutput(None, "gripper_action", "/g", lambda *_: client)
    return SimpleNamespace(output=output, sent=sent, cancelled=cancelled, accept=accept, answer=answer,
                           clock=clock)


@pytest.mark.parametrize("span", [0.8, -0.8])
def test_a_hand_that_trembles_sends_no_goals_whichever_end_is_open(action, span):
    for k in range(300):
        action.clock[0] += 1 / 60
        action.output.send("joint", 0.3 + 0.0003 * (-1)**k, 5.0, span)
        action.accept()
    assert len(action.sent) == 1


def test_the_last_opening_is_sent_when_commands_end(action):
    """Goals are sent seldom; the object shall be gripped all the same."""
    for position in np.arange(0.08, -0.001, -0.0025):
        action.clock[0] += 1 / 60
        action.output.send("joint", float(position), 5.0, 0.08)
    assert action.sent[-1] > 0.01
    action.output.settle(0.005, 0.08)                                        # the span has been made smaller
    assert action.sent[-1] == 0.005
    action.output.settle(0.0, 0.08)
    assert action.sent[-1] == pytest.approx(position)
    action.output.settle(0.0, 0.08)
    assert len(action.sent) == len(set(action.sent))
    action.output.stop()
    action.output.settle(0.0, 0.08)
    assert action.sent[-1] == pytest.approx(position)


def test_a_goal_that_is_accepted_after_the_stop_is_cancelled(action):
    action.output.send("joint", 0.0, 5.0, 0.08)
    action.output.stop()
    action.accept()
    assert action.sent == action.cancelled == [0.0]


def test_a_tool_whose_tf_lies_in_the_future_is_not_believed():
    with Bench(tool_max_age_s=0.5, **ARM) as b:
        b.tested._lookup = lambda *_: (np.eye(3), np.zeros(3), b.rig.get_clock().now().nanoseconds + 30 * 10**9)
        b.until(lambda: "use_sim_time" in b.states[-1], "a word of the clocks", lambda: b.send(hand()))


def test_the_camera_is_where_it_was_when_the_image_was_taken():
    with Bench(**ARM) as b:
        asked = []

        def lookup(parent, child, stamp_ns):
            asked.append((child, stamp_ns))
            return np.eye(3) if child != CAMERA else R_BASE_CAMERA, np.zeros(3), 0
        b.tested._lookup = lookup
        stamps = set()
        b.until(lambda: any(child == CAMERA for child, _ in asked), "a look",
                lambda: stamps.add(b.send(hand(), age_s=0.3)))
        assert {stamp for child, stamp in asked if child == CAMERA} <= stamps


def test_an_emergency_stop_acts_in_its_own_callback():
    with Bench(**ARM) as b:
        b.transforms(*ROBOT)
        b.until(lambda: b.states[-1].startswith("idle: clutch open"), "the tool's pose")
        phases, send = [], b.tested._send
        b.tested._send = lambda command: (phases.append(command.phase.value), send(command))
        before = len(phases)
        b.tested._on_emergency(Bool(data=True))
        assert "stop" in phases[before:]


def test_an_opening_that_is_no_number_is_not_known():
    with Bench(joint_states_topic="/joint_states", gripper_joint="g") as b:
        b.tested._on_joint_states(JointState(name=["g"], position=[float("nan")]))
        opening, why = b.tested._opening(b.tested.get_clock().now().nanoseconds)
        assert opening is None and why


def test_the_step_is_told_where_the_tool_is_if_it_gets_speeds(monkeypatch):
    seen, step = [], teleop_node.gripper.step

    def spied(*args):
        seen.append(args[-1])
        return step(*args)

    monkeypatch.setattr(teleop_node.gripper, "step", spied)
    with Bench(arm_output="twist", tool_frame="tool0", base_frame="base_link") as b:
        b.transforms(*ROBOT)
        b.until(lambda: b.states[-1].startswith("idle: clutch open"), "the tool's pose")
        b.until(lambda: seen and seen[-1].tool is not None and np.allclose(seen[-1].tool, ROBOT[1][3]), "the tool")


def test_a_pedal_that_repeats_itself_opens_the_clutch_by_falling_silent():
    """As one that is killed, or that hangs: the middleware counts it as there for another 20 s."""
    with Bench() as b:
        b.engage()
        for _ in range(12):
            b.clutch.publish(Bool(data=True))
            b.send(hand())
            b.spin(0.05)
        assert b.following()
        b.until(lambda: not b.following(), "an open clutch", lambda: b.send(hand()))
        assert any("has been silent" in status.summary for status in b.tested._monitor.report())
        b.silent(action=lambda: b.send(hand()))
        b.silent(0.5, lambda: (b.clutch.publish(Bool(data=True)), b.send(hand())))      # nobody has let go since


def test_a_pedal_whose_link_has_slowed_down_is_still_one_that_repeats_itself():
    with Bench() as b:
        b.engage()
        for pause_s in (*[0.05] * 12, 0.42, 0.05):
            b.clutch.publish(Bool(data=True))
            b.send(hand())
            b.spin(pause_s)
        b.until(lambda: not b.following(), "an open clutch", lambda: b.send(hand()))
        assert any("has been silent" in status.summary for status in b.tested._monitor.report())


def test_a_pedal_that_was_held_before_the_node_began_has_not_been_pressed():
    with Bench() as b:
        b.silent(1.0, lambda: (b.clutch.publish(Bool(data=True)), b.send(hand())))
        assert "must say false" in b.states[-1]
        b.engage()


def test_hands_of_two_nodes_steer_nothing():
    """Each numbers its own from 1 on, so that both would be one track."""
    with Bench() as b:
        b.engage()
        other = b.rig.create_publisher(HandPose21Array, "/hand_pose/hands", 10)
        b.until(lambda: "2 publish /hand_pose/hands" in b.states[-1], "the reason", lambda: b.send(hand()))
        b.silent(action=lambda: b.send(hand()))
        b.rig.destroy_publisher(other)
        b.until(lambda: "2 publish" not in b.states[-1], "its end", lambda: b.send(hand()))


def test_two_that_command_the_same_are_told_of():
    with Bench(**ARM) as b:
        other = b.rig.create_publisher(PoseStamped, "/teleop/target_pose", 10)
        b.until(lambda: b.tested._monitor.has("publishers of /teleop/target_pose"), "a word of the second one")
        assert not b.tested._monitor.has("publishers of /teleop/target_twist")
        b.rig.destroy_publisher(other)
        b.until(lambda: not b.tested._monitor.has("publishers of /teleop/target_pose"), "its end")


def test_a_switch_that_says_it_once_keeps_the_clutch_closed():
    with Bench() as b:
        b.engage()
        end_s = time.monotonic() + 1.5
        while time.monotonic() < end_s:
            b.send(hand())
            b.spin(0.05)
        assert b.following()


def test_a_pedal_that_is_started_anew_has_not_been_pressed():
    with Bench() as b:
        b.engage()
        b.rig.destroy_publisher(b.clutch)
        b.clutch = b.rig.create_publisher(Bool, "/teleop/clutch", 10)        # at once: there is always somebody
        b.until(lambda: not b.following(), "an open clutch", lambda: b.send(hand()))
        b.silent(1.0, lambda: (b.clutch.publish(Bool(data=True)), b.send(hand())))


BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


def test_an_opening_that_is_told_as_sensor_data_is_heard():
    with Bench(joint_states_topic="/joint_states", gripper_start_m=0.08) as b:
        states = b.rig.create_publisher(JointState, "/joint_states", BEST_EFFORT)

        def tell(opening=0.3):
            states.publish(JointState(name=["gripper_joint"], position=[0.01]))
            b.send(hand(opening=opening))
        b.until(lambda: b.tested._measured is not None, "the opening", tell)
        b.clutch.publish(Bool(data=False))
        b.spin(0.1)
        b.clutch.publish(Bool(data=True))
        b.until(b.following, "the clutch to close", tell)
        openings = iter(0.3 - 0.002 * np.arange(4000).clip(0, 100))
        b.until(lambda: b.got["gripper"], "a command", lambda: tell(next(openings)))
        assert b.got["gripper"][0].data < 0.03                              # not 0.08, as guessed


def test_joint_states_that_are_published_and_have_not_come_keep_the_clutch_open():
    with Bench(joint_states_topic="/joint_states", gripper_start_m=0.08) as b:
        b.rig.create_publisher(JointState, "/joint_states", 10)
        b.until(lambda: "nothing of it has arrived" in b.states[-1], "the reason", lambda: b.send(hand()))
        b.clutch.publish(Bool(data=False))
        b.spin(0.1)
        b.clutch.publish(Bool(data=True))
        b.silent(0.6, lambda: b.send(hand()))


def test_hands_and_clutch_that_are_not_heard_are_told_of():
    with Bench() as b:
        b.rig.create_publisher(HandPose21Array, "/hand_pose/hands", BEST_EFFORT)
        b.rig.create_publisher(Bool, "/teleop/clutch", BEST_EFFORT)

        def told():
            b.tested._report()
            found = {status.name: status.summary for status in b.tested._monitor.report()}
            return all("BEST_EFFORT" in found.get(f"{whose} quality of service", "")
                       for whose in ("hands'", "clutch's"))
        b.until(told, "both")


def test_a_problem_has_the_numbers_of_now():
    with Bench(**ARM) as b:
        for frame, seconds in (("camera_1", "0.034"), ("camera_2", "25.000")):
            b.tested._lookup = lambda *_, words=f"TF frame {frame} is {seconds} s old": (_ for _ in ()).throw(
                DataError(words))
            b.tested._camera_place("camera", 10**9)
        found = {status.name: status.summary for status in b.tested._monitor.report()}
        assert "camera_2 is 25.000 s" in found["camera transform"]


@pytest.mark.parametrize("name", ["hands_topic", "gripper_topic", "joint_states_topic"])
def test_a_topic_that_is_none_is_refused_by_its_parameter(name):
    with pytest.raises(ConfigError, match=f"{name} is 'a b', which is no topic name"):
        with Bench(**{name: "a b"}):
            pass


def test_a_goal_that_is_accepted_after_the_next_was_sent_is_cancelled_by_a_stop(action):
    """The next one is refused, so that this is what the gripper carries out."""
    for position in (0.08, 0.04, 0.0):
        action.output.send("joint", position, 1.0, 0.08)
        action.clock[0] += 1.0
    action.answer(1, True)
    action.answer(2, False)
    action.output.stop()
    assert action.cancelled == [0.04]
    action.answer(0, True)                                                   # on its way since before the stop
    assert action.cancelled == [0.04, 0.08]


def test_parameters_can_be_set_to_what_they_are():
    """As ``ros2 param load`` does with a dumped file; gripper_start_m is NaN."""
    with Bench(gripper_start_m=float("nan")) as b:
        values = [b.tested.get_parameter(setting.name) for setting in SETTINGS]
        assert [result.reason for result in b.tested.set_parameters(values) if not result.successful] == []
