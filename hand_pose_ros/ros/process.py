"""A node as a process of its own: from rclpy.init to a clean end on SIGINT, SIGTERM or a closed terminal.

rclpy's own signal handlers shut the context down at once, and then whatever is loading, publishing or logging fails in
the middle. Here a signal interrupts the loading, but while callbacks run it only ends the loop, so that the node stops
with everything still working and can send its last words.
"""
from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.signals import SignalHandlerOptions

from ..errors import HandPoseError
from . import compat

SPIN_S = 0.2
"""A signal is seen after at most this long."""
ROS_REMEDY = ("look at the arguments after --ros-args and their files, at ROS_DOMAIN_ID (0 to 232) and "
              "RMW_IMPLEMENTATION, and whether the log folder can be written (ROS_LOG_DIR, else below HOME)")
ROS_ERRORS = (rclpy_implementation.RCLError, rclpy_implementation.UnknownROSArgsError)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Ending:
    """What a signal does: ``interrupts`` while the node is made and started, later it sets ``asked``."""

    def __init__(self) -> None:
        self.interrupts, self.asked = True, False

    def __call__(self, *_: Any) -> None:
        self.asked = True
        if self.interrupts:
            raise KeyboardInterrupt


def run(make: Callable[[], Any], name: str, args: Sequence[str] | None = None,
        start: Callable[[Any], bool] = lambda node: True) -> int:
    """Make a node that has stop(), start it and spin it until a signal comes.

    args: the command line with its ROS arguments (None: sys.argv). Returns the exit code: 0, or 1 if make raised
    HandPoseError, which is printed with ``name``, or if start returned False.
    """
    node, ending = None, _Ending()
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:       # nohup: it shall go on
            signal.signal(number, ending)
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = make()
        executor = compat.executor()
        executor.add_node(node)
        if not start(node):
            return 1
        ending.interrupts = False
        while rclpy.ok() and not ending.asked:
            try:
                executor.spin_once(timeout_sec=SPIN_S)
            # A lifecycle transition out of turn (Humble, Jazzy); an event of a subscription that is gone (Jazzy on).
            except (rclpy_implementation.RCLError, rclpy_implementation.InvalidHandle) as error:
                if not rclpy.ok():
                    break
                node.get_logger().error(f"a callback failed: {error}", throttle_duration_sec=1.0)
        return 0
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except HandPoseError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except ROS_ERRORS as error:
        print(f"{name}: ROS does not start: {error}\n{ROS_REMEDY}", file=sys.stderr)
        return 1
    finally:
        for number in SIGNALS:                              # a second signal must not interrupt the clean-up
            signal.signal(number, signal.SIG_IGN)
        if node is not None:
            try:
                node.stop()
            except HandPoseError as error:
                print(f"{name}: {error}", file=sys.stderr)
            node.destroy_node()
        rclpy.try_shutdown()
