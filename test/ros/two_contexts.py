"""A node under test and one that talks to it: in one process, with DDS between them; every wait has a time limit."""
from __future__ import annotations

import time

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile

WAIT_S = 60.0
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class TwoContexts:
    """``tested``, a ``kind`` with these parameters, and ``rig``, a plain node, each in a context of its own.

    Use with ``with``. A test's own bench adds the rig's topics and, in ``said``, what to print of a wait in vain.
    """

    def __init__(self, kind, parameters: dict, rig_name: str, **more) -> None:
        self.contexts, self.nodes = (Context(), Context()), []
        for context in self.contexts:
            rclpy.init(context=context)
        self.executors = [SingleThreadedExecutor(context=context) for context in self.contexts]
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        try:
            self.tested = kind(context=self.contexts[0], parameter_overrides=overrides, use_global_arguments=False,
                               **more)
            self.nodes.append(self.tested)
            self.rig = Node(rig_name, context=self.contexts[1], use_global_arguments=False)
            self.nodes.append(self.rig)
        except BaseException:                               # a node that refuses its parameters is a test too
            self.close()
            raise
        for executor, node in zip(self.executors, self.nodes):
            executor.add_node(node)

    def close(self) -> None:
        for executor in self.executors:
            executor.shutdown()
        for node in self.nodes:
            node.destroy_node()
        for context in self.contexts:
            rclpy.shutdown(context=context)

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def said(self) -> object:
        """What helps to see why a wait was in vain."""
        return ""

    def spin(self, seconds: float) -> None:
        """Not less than a turn each 20 ms of it, so that what has arrived is taken though the machine stood still."""
        end_s, turns = time.monotonic() + seconds, 0
        while time.monotonic() < end_s or turns < 50 * seconds:
            for executor in self.executors:
                executor.spin_once(timeout_sec=0.002)
            turns += 1

    def until(self, condition, what: str, action=lambda: None):
        """The first true value of ``condition()``, with ``action()`` again and again until then."""
        end_s = time.monotonic() + WAIT_S
        while not (value := condition()):
            assert time.monotonic() < end_s, f"waited in vain for {what}; {self.said()}"
            action()
            self.spin(0.02)
        return value
