"""The gripper's command in the words of each kind of controller: plain topics, a trajectory, or one of two actions."""
from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..errors import ConfigError

GOAL_PERIOD_S = 0.2
SMALLEST_CHANGE = 0.01
"""An action goal is sent at most so often, and only if the opening has changed by this share of the gripper's range:
each goal replaces the one before, so that a controller that is flooded with them never gets to move, and servers keep
those that are over (Humble's for 15 minutes, ros2/rcl#1012) and tell of all of them with every change."""
SETTLED_S, SETTLED_CHANGE = 1.0, 1e-3
"""After this time without a goal so small a change counts too, so that the gripper ends where it was sent."""
RETRY_S = 1.0
"""A goal that was refused is sent again after this time."""
TRAJECTORY_S = 0.1
"""A trajectory's single point is to be reached after this time."""

TYPES = {
    "joint_state": ("sensor_msgs.msg", "JointState"),
    "float64": ("std_msgs.msg", "Float64"),
    "float64_multi_array": ("std_msgs.msg", "Float64MultiArray"),
    "joint_trajectory": ("trajectory_msgs.msg", "JointTrajectory"),
    "parallel_gripper_action": ("control_msgs.action", "ParallelGripperCommand"),
    "gripper_action": ("control_msgs.action", "GripperCommand"),
}
"""gripper_output: (module, type)"""


def load(kind: str) -> Any:
    """The message or action type of an output. Raises ConfigError, naming package and remedy, if it is missing."""
    module, name = TYPES[kind]
    package = module.partition(".")[0]
    try:
        return getattr(import_module(module), name)
    except ImportError:
        reason = f"the package {package} is not installed"
    except AttributeError:
        reason = f"the installed {package} has no {name} (ParallelGripperCommand came with control_msgs 4.5, in 2024)"
    others = ", ".join(other for other, (where, _) in TYPES.items() if not where.startswith(package))
    raise ConfigError(f"gripper_output is {kind}, but {reason}; install it (apt install "
                      f"ros-$ROS_DISTRO-{package.replace('_', '-')}) or choose one of: {others}")


def fill(kind: str, message: Any, joint: str, position: float, effort: float, stamp: Any, new_point: Callable[[], Any]
         ) -> Any:
    """Fill an empty message (or action goal) of a kind with one command and return it."""
    position, effort = float(position), float(effort)
    if kind == "float64":
        message.data = position
    elif kind == "float64_multi_array":
        message.data = [position]
    elif kind == "joint_state":
        message.header.stamp = stamp
        message.name, message.position, message.effort = [joint], [position], [effort]
    elif kind == "joint_trajectory":                    # header.stamp stays 0: start at once
        point = new_point()
        point.positions = [position]
        point.time_from_start.nanosec = int(TRAJECTORY_S * 1e9)
        message.joint_names, message.points = [joint], [point]
    elif kind == "parallel_gripper_action":
        message.command.name, message.command.position, message.command.effort = [joint], [position], [effort]
    else:
        message.command.position, message.command.max_effort = position, effort
    return message


class TopicOutput:
    """Publishes each command."""

    def __init__(self, node: Any, kind: str, topic: str) -> None:
        self._node, self._kind, self._type = node, kind, load(kind)
        self._publisher = node.create_publisher(self._type, topic, 10)
        self._point = getattr(import_module("trajectory_msgs.msg"), "JointTrajectoryPoint") \
            if kind == "joint_trajectory" else None

    def send(self, joint: str, position: float, effort: float, span: float) -> str:
        """Send one command. Returns why it could not be sent, or ''."""
        stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(fill(self._kind, self._type(), joint, position, effort, stamp, self._point))
        return ""

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics that it publishes."""
        return (self._publisher.topic_name,)

    def settle(self, low: float, high: float) -> None:
        """Nothing is owed: each command was sent."""

    def stop(self) -> None:
        """Nothing to take back: a position controller holds the last position."""


class ActionOutput:
    """Sends goals, each replacing the one before, and cancels the last one when told to stop."""

    topics = ()

    def __init__(self, node: Any, kind: str, name: str, client_type: Any = None) -> None:
        if client_type is None:
            from rclpy.action import ActionClient as client_type
        self._kind, self._type, self._name = kind, load(kind), name
        self._client = client_type(node, self._type, name)
        self._sent: float | None = None
        self._wish: tuple[str, float, float, float] | None = None     # the last command, sent or not: send's arguments
        self._sent_s = 0.0                                      # when that was
        self._handle: Any = None
        self._number = self._accepted_last = self._stopped = 0  # of goals: the last sent, accepted, and before a stop
        self._refused_s: float | None = None                    # when a goal was last refused

    def send(self, joint: str, position: float, effort: float, span: float) -> str:
        """Send one goal if it differs from the last, which was not just now. Returns why it could not be sent, or
        ''."""
        self._wish = joint, position, effort, span
        if not self._client.server_is_ready():
            self._sent = None
            return f"no action server answers on {self._name}; start the gripper's controller or set gripper_topic"
        if self._refused_s is not None:
            if time.monotonic() - self._refused_s < RETRY_S:
                return f"the action server on {self._name} refuses goals; is its controller active?"
            self._refused_s = None
        if self._sent is None or self._due(abs(position - self._sent), abs(span)):
            self._send_goal(joint, position, effort)
        return ""

    def settle(self, low: float, high: float) -> None:
        """Commands have ended: send the last one if it was held back, since the gripper shall be where it says. low,
        high: what may be sent now."""
        if self._wish is None or self._sent is None:
            return
        joint, position, effort, span = self._wish
        position = min(max(position, low), high)
        if abs(position - self._sent) >= SETTLED_CHANGE * abs(span) and self._client.server_is_ready():
            self._send_goal(joint, position, effort)

    def _send_goal(self, joint: str, position: float, effort: float) -> None:
        self._sent, self._sent_s, self._number = position, time.monotonic(), self._number + 1
        goal = fill(self._kind, self._type.Goal(), joint, position, effort, None, None)
        number = self._number
        self._client.send_goal_async(goal).add_done_callback(lambda done: self._accepted(done, number))

    def _due(self, change: float, span: float) -> bool:
        since_s = time.monotonic() - self._sent_s
        return since_s >= GOAL_PERIOD_S and change >= SMALLEST_CHANGE * span \
            or since_s >= SETTLED_S and change >= SETTLED_CHANGE * span

    def _accepted(self, done: Any, number: int) -> None:
        handle = done.result()
        if not handle.accepted:
            if number == self._number > self._stopped:
                self._sent, self._refused_s = None, time.monotonic()
        elif number <= self._stopped:                           # stopped while the goal was on its way
            handle.cancel_goal_async()
        elif number > self._accepted_last:                      # also where a later one is refused
            self._handle, self._accepted_last = handle, number

    def stop(self) -> None:
        """Cancel the goal that is being carried out, so that the gripper stays where it is."""
        if self._handle is not None:
            self._handle.cancel_goal_async()
        self._sent, self._wish, self._handle, self._stopped = None, None, None, self._number


def make(node: Any, kind: str, topic: str) -> TopicOutput | ActionOutput | None:
    """The output of a kind, None for 'none'. Raises ConfigError if its package is missing."""
    if kind == "none":
        return None
    return (ActionOutput if kind.endswith("_action") else TopicOutput)(node, kind, topic)
