"""The teleoperation node: hands in, commands for a gripper and an arm out. What is safe is decided in gripper.py."""
from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Point, Pose, PoseArray, PoseStamped, TwistStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, ColorRGBA, String
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import Marker, MarkerArray

from hand_pose_ros.msg import HandPose21Array

from .. import gripper, messages, retarget
from ..errors import DataError
from ..frames import quaternion
from ..gripper import Command, Observation, Phase, Target
from ..teleop_settings import SETTINGS, check, config_from, start_opening_m
from ..types import Hand
from . import compat, diagnostics, gripper_outputs, process, qos
from .diagnostics import ERROR, WARN, Monitor, log_of
from .parameters import Parameters, check_topic

NODE_NAME = "teleop"
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
EMERGENCY_PROFILES = (QoSProfile(depth=10), LATCHED, QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT))
"""A stop must be heard from any publisher: also if it was latched before this node began, or is sent as sensor data."""
JOINT_STATES = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Heard from every publisher; a message that is lost is followed by a newer one."""
STREAM, STREAM_GAP_S, STREAM_SILENT_S = 5, 0.35, 0.5
"""A ~/clutch that has once said true so often in a row, never further apart than the first time, is a dead man's switch
until it says false: silence for the second opens the clutch. One that is killed is still counted as a publisher for a
while (20 s)."""
CLOCK_STANDS_S = 0.5
"""A ROS clock that stands for longer (a bag that has ended, a paused simulation) ends the motion: nobody can tell any
more how old an image is."""
TOPICS = ("hands_topic", "gripper_topic", "joint_states_topic")
COLOURS = {Phase.IDLE: (0.6, 0.6, 0.6), Phase.FOLLOW: (0.1, 0.8, 0.2), Phase.HOLD: (1.0, 0.7, 0.0),
           Phase.STOP: (0.9, 0.1, 0.1)}


@dataclass
class Switches:
    """What topics and services have said so far."""

    clutch: bool | None = None                           # None: nobody has said anything, or who did has gone
    emergency: bool = False
    stop_seen: bool = False                              # a stop that no step has taken up yet
    reset: bool = False


class TeleopNode(Node):
    """Subscribes to the hands and calls the step for each message and on a timer."""

    def __init__(self, **node_options: Any) -> None:
        super().__init__(NODE_NAME, **node_options)
        self._log = log_of(self)
        self._monitor = Monitor(self._log)
        self._parameters_ = Parameters(self, SETTINGS, check_all)
        values = self._values
        self._arm = values.arm_output != "none"
        self._state: gripper.TeleopState | None = None
        self._switches = Switches()
        self._said = ""                                  # last reason that was logged, without its numbers
        self._published_state = ""
        self._moving = False                             # a command has been sent since the last stop
        self._stopped = False                            # the last step said stop
        self._measured: tuple[float, int] | None = None  # opening from joint_states_topic, and its stamp [ns]
        self._joints: tuple[str, ...] = ()               # what joint_states_topic speaks of
        self._clutch_heard_ns: int | None = None         # when ~/clutch last said true
        self._clutch_repeated = 0                        # how often in a row, up to STREAM without a longer gap
        self._clutch_senders: set[tuple] = set()         # who published it when it first did
        self._ticked = 0, time.monotonic()               # ROS time and when it last changed
        self._hands_frame = ""                           # of the last hands
        self._gripper = gripper_outputs.make(self, values.gripper_output, values.gripper_topic)
        with_pose = values.arm_output in ("pose", "both")
        self._pose = self.create_publisher(PoseStamped, "~/target_pose", 10) if with_pose else None
        self._twist = self.create_publisher(TwistStamped, "~/target_twist", 10) \
            if values.arm_output in ("twist", "both") else None
        self._preview = self.create_publisher(MarkerArray, "~/preview", 10)
        self._retarget = self.create_publisher(PoseArray, "~/retarget", 10)
        self._phase = self.create_publisher(String, "~/state", LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._lookup = compat.transform_lookup(self) if self._arm else None
        self._hands = self.create_subscription(HandPose21Array, values.hands_topic, self._on_hands, 5)
        self._clutch = self.create_subscription(Bool, "~/clutch", self._on_clutch, 10)
        for profile in EMERGENCY_PROFILES:
            self._emergency = self.create_subscription(Bool, "~/emergency_stop", self._on_emergency, profile,
                                                       event_callbacks=compat.subscription_events())
        self._joint_states = self.create_subscription(JointState, values.joint_states_topic, self._on_joint_states,
                                                      JOINT_STATES) if values.joint_states_topic else None
        self.create_service(SetBool, "~/set_clutch", self._serve_clutch)
        self.create_service(Trigger, "~/reset", self._serve_reset)
        steady = Clock(clock_type=ClockType.STEADY_TIME)             # goes on when /clock does not
        self.create_timer(1.0 / values.command_rate_hz, self._on_timer, clock=steady)
        self.create_timer(values.diagnostics_period_s, self._report, clock=steady)
        self._monitor.fact("gripper output", f"{values.gripper_output} on {values.gripper_topic}")
        self._monitor.fact("arm output", values.arm_output)

    @property
    def _values(self) -> Any:
        return self._parameters_.values

    # ------------------------------------------------------------------------------------------------------- inputs

    def _on_clutch(self, message: Any) -> None:
        self._switches.clutch = bool(message.data)
        now_ns, before_ns = self.get_clock().now().nanoseconds, self._clutch_heard_ns
        self._clutch_heard_ns = now_ns if message.data else None
        if message.data and before_ns is None:
            self._clutch_senders = self._senders()
        if not message.data or before_ns is None:
            self._clutch_repeated = 0
        elif self._clutch_repeated < STREAM:             # links slow down before they fail: what is known stays known
            goes_on = now_ns - before_ns <= STREAM_GAP_S * 1e9
            self._clutch_repeated = self._clutch_repeated + 1 if goes_on else 0

    def _senders(self) -> set[tuple]:
        """Who publishes ~/clutch now."""
        return {tuple(one.endpoint_gid) for one in self.get_publishers_info_by_topic(self._clutch.topic_name)}

    def _look_at_clutch(self, now_ns: int) -> None:
        """A clutch that a topic closed opens when nobody is there any more who could open it."""
        if self._clutch_heard_ns is None:
            return
        timeout_s = self._values.clutch_timeout_s or (STREAM_SILENT_S if self._clutch_repeated >= STREAM else 0.0)
        silent_s = (now_ns - self._clutch_heard_ns) * 1e-9
        senders = self._senders()
        if not senders or not self._clutch_senders <= senders:
            why = "who published it has gone"
        elif 0 < timeout_s < silent_s:
            why = f"it has been silent for {silent_s:.1f} s, longer than {timeout_s:g} s (clutch_timeout_s)"
        else:
            return
        self._switches.clutch, self._clutch_heard_ns = None, None
        self._monitor.problem("clutch", f"~/clutch said true, but {why}: the clutch opens; send false and true again")

    def _on_emergency(self, message: Any) -> None:
        self._switches.emergency = bool(message.data)
        if message.data:
            self._switches.stop_seen = True
            self._tick()                                 # at once, not at the next tick

    def _serve_clutch(self, request: Any, response: Any) -> Any:
        if self._values.clutch != "topic":
            response.success = False
            response.message = f"the clutch listens to '{self._values.clutch}'; start the node with clutch:=topic"
            return response
        self._clutch_heard_ns = None
        if request.data and (self._state is None or not self._state.closed):
            self._switches.clutch = False                # a call is an act of somebody, no level that was left over
            command = self._tick()
            if self._state is None or not self._state.armed:
                response.success, response.message = False, f"not yet: {command.withheld}; call again when that is over"
                return response
        self._switches.clutch = bool(request.data)
        response.success = True
        response.message = "clutch closes with the next usable hand" if request.data else "clutch open"
        return response

    def _serve_reset(self, request: Any, response: Any) -> Any:
        if self._switches.emergency:
            response.success = False
            response.message = "~/emergency_stop still says true; release it first"
            return response
        self._switches.reset = True
        command = self._tick()
        if self._state is None:
            response.success = False
            response.message = f"not yet: {command.withheld}; call again when that is mended"
            return response
        response.success, response.message = True, "emergency stop is over; the clutch is open"
        return response

    def _on_joint_states(self, message: Any) -> None:
        joint = self._values.gripper_joint
        stamp_ns = messages.stamp_ns(message.header)     # 0: the driver gives none
        for name, position in zip(message.name, message.position):
            if name == joint and np.isfinite(position):
                self._measured = float(position), stamp_ns or self.get_clock().now().nanoseconds
        self._joints = tuple(message.name)

    def _on_hands(self, message: Any) -> None:
        self._monitor.received()
        stamp_ns = messages.stamp_ns(message.header)
        try:
            hands, info = messages.read_array(message)
        except DataError as error:
            self._monitor.problem("hands", f"a message on {self._values.hands_topic} is not used: {error}")
            return
        guessed = messages.guessed_metres(hands, info)
        if guessed and self._arm and not self._values.accept_guessed_metres:
            self._monitor.problem("metres", f"the distances on {self._values.hands_topic} are a guess (its camera is "
                                  "not calibrated): no arm follows them; publish camera_info, or set "
                                  "accept_guessed_metres")
            hands = ()
        now_ns = self.get_clock().now().nanoseconds
        self._hands_frame = message.header.frame_id
        place = self._camera_place(message.header.frame_id, stamp_ns)
        command = self._step(Observation(stamp_ns, hands, *place), now_ns)
        after_ns = self.get_clock().now().nanoseconds
        self._monitor.published({"image stamp to hands": (now_ns - stamp_ns) / 1e6,
                                 "image stamp to command": (after_ns - stamp_ns) / 1e6,
                                 "hands to command": (after_ns - now_ns) / 1e6}, 0)
        if command.hand is not None and self._values.retarget and not self._values.dry_run:
            self._publish_retarget(message.header, command.hand)

    def _camera_place(self, camera_frame: str, stamp_ns: int) -> tuple[np.ndarray | None, np.ndarray]:
        """R_base_camera, None if it is not known, and t_base_camera at the image's stamp. Without an arm the camera's
        own axes serve: the opening does not depend on any frame."""
        if not self._arm:
            return np.eye(3), np.zeros(3)
        try:
            rotation, position, _ = self._lookup(self._values.base_frame, camera_frame, stamp_ns)
            return rotation, position
        except DataError as error:
            self._monitor.problem("camera transform", f"{error}; publish the camera's place in "
                                  f"{self._values.base_frame} (static transform), or set base_frame")
            return None, np.zeros(3)

    # --------------------------------------------------------------------------------------------------------- step

    def _tick(self) -> Command:
        return self._step(None, self.get_clock().now().nanoseconds)

    def _on_timer(self) -> None:
        """A step in ROS time, where that has moved on, and when it has stood still for too long."""
        now_ns = self.get_clock().now().nanoseconds
        if now_ns != self._ticked[0] or self._stands_s() > CLOCK_STANDS_S:
            self._step(None, now_ns)

    def _stands_s(self) -> float:
        """Seconds since ROS time was last seen to change."""
        return time.monotonic() - self._ticked[1]

    def _step(self, observation: Observation | None, now_ns: int) -> Command:
        values, switches = self._values, self._switches
        if now_ns != self._ticked[0]:
            self._ticked = now_ns, time.monotonic()
        self._look_at_clutch(now_ns)
        target, problem = self._tool_pose(now_ns)
        if (stands_s := self._stands_s()) > CLOCK_STANDS_S:
            problem = f"the ROS clock has stood still for {stands_s:.1f} s: does anybody publish /clock (use_sim_time)?"
        opening, unknown = self._opening(now_ns)
        problem = problem or self._two_sources()
        lost, problem = problem, problem or unknown
        if self._state is None and target is not None:
            self._state = gripper.start(target, start_opening_m(vars(values)))
        if self._state is None:
            command = Command(Phase.IDLE, withheld=problem)
        else:
            if problem and not self._state.closed:       # a clutch must not close from where the robot once was
                observation = None
            self._state = gripper.resync(self._state, target, opening)
            inputs = gripper.Inputs(switches.clutch, switches.emergency or switches.stop_seen, switches.reset, lost,
                                    target if self._pose is not None and not values.dry_run else None,
                                    target.position if self._twist is not None and target is not None else None)
            switches.stop_seen = False
            self._state, command = gripper.step(self._state, observation, now_ns, config_from(vars(values)), inputs)
            if problem and command.phase is Phase.IDLE and not command.withheld.startswith(gripper.OPENED):
                command = Command(Phase.IDLE, withheld=problem)
        switches.reset = False
        self._send(command)
        self._explain(command)
        return command

    def _two_sources(self) -> str:
        """Why hands of several nodes steer nothing: each numbers its own, so that two of them would be one track."""
        count = self.count_publishers(self._hands.topic_name)
        return "" if count < 2 else (f"{count} publish {self._values.hands_topic}, and each numbers its own hands: end "
                                     "all but one, or fuse their hands (docs/fusion.md); one that was killed is "
                                     "counted for 20 s")

    def _opening(self, now_ns: int) -> tuple[float | None, str]:
        """The gripper's opening as measured, None if it is not, and why that keeps the clutch open.

        Where nobody tells of any joint the gripper is taken to be at gripper_start_m, which diagnostics say."""
        values = self._values
        if self._gripper is None or not values.joint_states_topic:
            return None, ""
        if self._measured is not None:
            opening, heard_ns = self._measured
            age_s = (now_ns - heard_ns) * 1e-9
            if abs(age_s) <= values.tool_max_age_s:
                return opening, ""
            return None, (f"the gripper's opening on {values.joint_states_topic} is {age_s:.1f} s old; is the robot "
                          "still running, with the same clock? Empty joint_states_topic does without")
        if self._joints:
            return None, (f"{values.joint_states_topic} does not tell of the gripper's joint '{values.gripper_joint}', "
                          f"only of {', '.join(self._joints)}; set gripper_joint, or joint_states_topic to ''")
        if self.count_publishers(self._joint_states.topic_name):
            return None, (f"somebody publishes {values.joint_states_topic}, but nothing of it has arrived; is the "
                          "robot running? Empty joint_states_topic does without")
        self._monitor.problem("gripper opening", f"nothing on {values.joint_states_topic}: the gripper is taken to be "
                              f"at gripper_start_m ({start_opening_m(vars(values)):g}); set joint_states_topic, '' if "
                              "there is none")
        return None, ""

    def _tool_pose(self, now_ns: int) -> tuple[Target | None, str]:
        """Where the end effector is, or None and why that is not known. The camera's origin where there is no arm."""
        if not self._arm:
            return Target(np.zeros(3), np.eye(3)), ""
        values = self._values
        try:
            rotation, position, stamp_ns = self._lookup(values.base_frame, values.tool_frame, 0)
        except DataError as error:
            return None, f"the pose of the tool is not known: {error}; start the robot's TF or set tool_frame"
        if not (np.all(np.isfinite(rotation)) and np.all(np.isfinite(position))):
            return None, f"the transform to {values.tool_frame} is not finite"
        age_s = (now_ns - stamp_ns) * 1e-9
        if stamp_ns and abs(age_s) > values.tool_max_age_s:      # 0: nothing between base and tool moves
            return None, (f"the pose of the tool is {age_s:.1f} s old; is the robot's TF still sent, and do both use "
                          "the same clock (use_sim_time)?")
        return Target(position, rotation), ""

    # ------------------------------------------------------------------------------------------------------ outputs

    def _send(self, command: Command) -> None:
        values = self._values
        if command.target is not None and not values.dry_run:
            self._send_arm(command.target)
            if self._gripper is not None and command.gripper_m is not None:
                problem = self._gripper.send(values.gripper_joint, command.gripper_m, command.effort,
                                             values.gripper_open_m - values.gripper_closed_m)
                if problem:
                    self._monitor.problem("gripper", problem)
            self._moving = True
        elif self._moving:                               # once: an arm on twists must not coast until its timeout
            self._moving = False
            if self._gripper is not None and command.phase is not Phase.STOP:
                self._gripper.settle(*sorted((values.gripper_closed_m, values.gripper_open_m)))
            if self._twist is not None:
                self._twist.publish(self._twist_message(np.zeros(3), np.zeros(3)))
        stopped = command.phase is Phase.STOP
        if stopped and not self._stopped and self._gripper is not None:
            self._gripper.stop()                         # a goal may be under way although the clutch is open
        self._stopped = stopped
        self._publish_preview(command)

    def _send_arm(self, target: Target) -> None:
        if self._pose is not None:
            message = PoseStamped()
            message.header.stamp, message.header.frame_id = self.get_clock().now().to_msg(), self._values.base_frame
            message.pose = _pose(target)
            self._pose.publish(message)
        if self._twist is not None:
            self._twist.publish(self._twist_message(target.velocity, target.turn))

    def _twist_message(self, velocity: np.ndarray, turn: np.ndarray) -> Any:
        message = TwistStamped()
        message.header.stamp, message.header.frame_id = self.get_clock().now().to_msg(), self._values.base_frame
        for vector, numbers in ((message.twist.linear, velocity), (message.twist.angular, turn)):
            vector.x, vector.y, vector.z = (float(number) for number in numbers)
        return message

    def _publish_preview(self, command: Command) -> None:
        if self._state is None or self._preview.get_subscription_count() == 0:
            return
        values = self._values
        target = command.target or self._state.target
        span = values.gripper_open_m - values.gripper_closed_m
        share = float(np.clip((self._state.gripper_m - values.gripper_closed_m) / span, 0.0, 1.0))
        colour = ColorRGBA(**dict(zip("rgba", (*COLOURS[command.phase], 0.8))))
        ball, text, fingers = Marker(), Marker(), Marker()
        for number, (marker, kind) in enumerate(((ball, Marker.SPHERE), (text, Marker.TEXT_VIEW_FACING),
                                                 (fingers, Marker.LINE_LIST))):
            marker.header.frame_id = values.base_frame if self._arm else self._hands_frame
            marker.header.stamp = self.get_clock().now().to_msg()
            marker.ns, marker.id, marker.type, marker.action = "teleop", number, kind, Marker.ADD
            marker.pose, marker.color = _pose(target), colour
            marker.lifetime.sec = 1
        ball.scale.x = ball.scale.y = ball.scale.z = 0.03
        text.scale.z = 0.03
        text.pose.position.z += 0.08
        dry = "DRY RUN " if values.dry_run else ""
        text.text = f"{dry}{command.phase.value}, gripper {100 * share:.0f} % {command.withheld}"
        fingers.scale.x = 0.008
        for side in (-1.0, 1.0):                         # two fingers along the tool's z, apart along its y
            fingers.points += [Point(x=0.0, y=side * 0.05 * share, z=z) for z in (0.0, 0.06)]
        self._preview.publish(MarkerArray(markers=[ball, text, fingers]))

    def _publish_retarget(self, header: Any, hand: Hand) -> None:
        """All 21 joints, or nothing: a finger that is not seen must not move the robot's."""
        joints = retarget.operator_joints(hand.joints_rel_m, hand.is_right)
        problem = gripper.fault(hand, config_from(vars(self._values)), range(len(joints)))
        if problem or not np.all(np.isfinite(joints)):
            self._monitor.problem("retarget", "joints for the robot hand are withheld: "
                                              f"{problem or 'the palm is a line'}")
            return
        message = PoseArray(header=header)
        message.header.frame_id = f"hand_{'right' if hand.is_right else 'left'}_{hand.track_id}_mano"
        for x, y, z in joints.tolist():
            pose = Pose()
            pose.position.x, pose.position.y, pose.position.z = x, y, z
            message.poses.append(pose)
        self._retarget.publish(message)

    # ----------------------------------------------------------------------------------------------------- words

    def _explain(self, command: Command) -> None:
        """Log why commands are withheld, once per reason; the numbers in it may change without a new line."""
        plain = _plain(command.withheld)
        if plain != self._said:
            self._said = plain
            if command.withheld:
                self._log(WARN if command.phase is not Phase.IDLE else 0, f"command withheld: {command.withheld}"
                          if command.target is None else command.withheld)
            else:
                self._log(0, "commands go out")
        self._publish_state(command)
        self._monitor.fact("phase", command.phase.value)
        self._monitor.fact("withheld because", command.withheld or "nothing is withheld")
        self._monitor.fact("dry run", self._values.dry_run)
        self._monitor.state("emergency stop", "latched; release ~/emergency_stop and call ~/reset"
                            if command.phase is Phase.STOP else "", ERROR)

    def _publish_state(self, command: Command) -> None:
        state = command.phase.value + (f": {command.withheld}" if command.withheld else "")
        if _plain(state) != self._published_state:
            self._published_state = _plain(state)
            self._phase.publish(String(data=state))

    def _report(self) -> None:
        count = self.count_publishers(self._emergency.topic_name)
        self._monitor.state("emergency stop publishers", f"{count} publish ~/emergency_stop: the false of one releases "
                            "the true of another, and ~/reset is granted then; join them in one" if count > 1 else "")
        for topic in self._for_one():
            count = self.count_publishers(topic)
            self._monitor.state(f"publishers of {topic}", f"{count} publish {topic}: the last message of "
                                "either counts; end all but one" if count > 1 else "")
        for key, topic in (("hands' quality of service", self._hands.topic_name),
                           ("clutch's quality of service", self._clutch.topic_name)):
            self._monitor.state(key, qos.unheard(self, topic))
        silence_s = self._monitor.silence_s()
        if silence_s > 2.0:
            self._monitor.problem("silence", f"no hands on {self._values.hands_topic}; start the hand pose node or set "
                                  "hands_topic")
        self._diagnostics.publish(diagnostics.to_message(
            self._monitor.report(), self.get_fully_qualified_name(), "teleop", self.get_clock().now().to_msg()))

    def _for_one(self) -> list[str]:
        """Topics on which a second publisher would say something else."""
        commands = (self._pose, self._twist) if not self._values.dry_run else ()
        return [*([self._clutch.topic_name] if self._values.clutch == "topic" else []),
                *(publisher.topic_name for publisher in commands if publisher is not None),
                *(self._gripper.topics if self._gripper is not None else ())]

    def stop(self) -> None:
        """The last words: an arm is told to stand still, a gripper's goal is cancelled."""
        if not self.context.ok():
            return
        command = Command(Phase.STOP)
        if self._state is not None:
            now_ns = self.get_clock().now().nanoseconds
            measured = self._tool_pose(now_ns)[0] if self._pose is not None else None
            self._state, command = gripper.step(self._state, None, now_ns, config_from(vars(self._values)),
                                                gripper.Inputs(emergency_stop=True, measured=measured))
        command = replace(command, withheld="the node ends")
        self._send(command)
        self._publish_state(command)


def check_all(values: Mapping[str, Any]) -> None:
    """Raises ConfigError for settings that cannot work together, or a topic that is none."""
    check(values)
    for name in TOPICS:
        if values[name] or name == "hands_topic":
            check_topic(name, values[name])


def _plain(text: str) -> str:
    """The text without its numbers."""
    return re.sub(r"\d+(\.\d+)?", "#", text)


def _pose(target: Target) -> Any:
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = (float(number) for number in target.position)
    q = quaternion(target.rotation)
    pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = (float(number) for number in q)
    return pose


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM. Returns the exit code: 0, or 1 if it refused to start."""
    return process.run(TeleopNode, NODE_NAME, args)


if __name__ == "__main__":
    sys.exit(main())
