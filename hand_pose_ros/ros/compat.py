"""What an ordinary ROS install has and the PyPI wheels have not: the real thing where present, else a stand-in.

Each stand-in does exactly what this package uses and nothing more. The events executor and the QoS event classes moved
or appeared between Humble, Jazzy and Kilted; they are found here too, so that no other file asks for a ROS version.
"""
from __future__ import annotations

from typing import Any, Callable

import numpy as np

from .. import messages
from ..errors import DataError
from ..frames import rotation_of_quaternion
from ..transform_tree import TransformTree


def transform_broadcaster(node: Any) -> Any:
    """tf2_ros.TransformBroadcaster, or a publisher of the same message on the same topic with the same QoS.

    The result has ``sendTransform(list of TransformStamped)`` and its publisher ``pub_tf``.
    """
    try:
        from tf2_ros import TransformBroadcaster
    except ImportError:
        return _TransformBroadcaster(node)
    return TransformBroadcaster(node)


class _TransformBroadcaster:
    def __init__(self, node: Any) -> None:
        from rclpy.qos import QoSProfile
        from tf2_msgs.msg import TFMessage
        self._message_type = TFMessage
        self.pub_tf = node.create_publisher(TFMessage, "/tf", QoSProfile(depth=100))

    def sendTransform(self, transforms: list) -> None:   # noqa: N802 (the name is tf2_ros')
        self.pub_tf.publish(self._message_type(transforms=transforms))


def transform_lookup(node: Any) -> Callable[[str, str, int], tuple[np.ndarray, np.ndarray, int]]:
    """A function lookup(target, source, stamp_ns) -> (R_target_source (3, 3), t_target_source (3,) m, its stamp [ns]).

    stamp_ns 0 asks for the newest; the stamp given back is 0 where no transform on the way moves. Over tf2_ros where it
    is installed, else over transform_tree.py. It never waits, and raises DataError with the reason if the transform is
    not known at that time.
    """
    try:
        import tf2_ros
    except ImportError:
        tree = _TransformListener(node).tree
        jumps = _on_time_jump(node, tree.clear)

        def look_up(target: str, source: str, stamp_ns: int) -> tuple[np.ndarray, np.ndarray, int]:
            assert jumps is not None                     # it lives as long as the function
            return *tree.lookup(target, source, stamp_ns), stamp_ns or tree.newest_ns(target, source)

        return look_up
    from rclpy.time import Time
    buffer = tf2_ros.Buffer()
    listener, jumps = tf2_ros.TransformListener(buffer, node), _on_time_jump(node, buffer.clear)

    def lookup(target: str, source: str, stamp_ns: int) -> tuple[np.ndarray, np.ndarray, int]:
        assert listener is not None and jumps is not None       # they live as long as the function
        try:
            found = buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns))
        except tf2_ros.TransformException as error:
            raise DataError(str(error)) from error
        return *frames_of(found.transform), messages.stamp_ns(found.header)

    return lookup


def _on_time_jump(node: Any, action: Callable[[], None]) -> Any:
    """Runs ``action`` when the node's clock goes back or is switched: what was known belongs to another time."""
    from rclpy.clock import JumpThreshold
    from rclpy.duration import Duration
    threshold = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True)
    return node.get_clock().create_jump_callback(threshold, post_callback=lambda jump: action())


class _TransformListener:
    def __init__(self, node: Any) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from tf2_msgs.msg import TFMessage
        self.tree = TransformTree()
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(TFMessage, "/tf", lambda message: self._add(message, False), QoSProfile(depth=100))
        node.create_subscription(TFMessage, "/tf_static", lambda message: self._add(message, True), latched)

    def _add(self, message: Any, static: bool) -> None:
        for transform in message.transforms:
            rotation, translation = frames_of(transform.transform)
            self.tree.add(transform.header.frame_id, transform.child_frame_id, rotation, translation,
                          messages.stamp_ns(transform.header), static)


def frames_of(transform: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and translation (3,) m of a geometry_msgs/Transform; NaN where its quaternion is not one."""
    q, t = transform.rotation, transform.translation
    return rotation_of_quaternion(np.array([q.x, q.y, q.z, q.w])), np.array([t.x, t.y, t.z])


def approximate_synchronizer(queue_size: int, slop_s: float, callback: Callable[[Any, Any], None]
                             ) -> tuple[Callable[[Any], None], Callable[[Any], None]]:
    """message_filters.ApproximateTimeSynchronizer over two streams, or a stand-in with the same pairing rule.

    Returns two functions that take the messages of the first and the second stream, or anything else with a header;
    callback(first, second) runs for each pair whose stamps differ by no more than slop_s. Subscriptions stay with the
    caller, who chooses their QoS.
    """
    try:
        from message_filters import ApproximateTimeSynchronizer, SimpleFilter
    except ImportError:
        pairs = _Pairs(queue_size, slop_s, callback)
        return pairs.first, pairs.second
    first, second = SimpleFilter(), SimpleFilter()
    # It wants less than its slop: equal stamps would never pair at 0.
    synchronizer = ApproximateTimeSynchronizer(fs=[first, second], queue_size=queue_size, slop=slop_s + 1e-9)
    synchronizer.registerCallback(callback)
    return first.signalMessage, second.signalMessage


class _Pairs:
    """Like message_filters: each stream keeps the queue_size messages with the highest stamps, however old they are; so
    after stamps went back nothing new is kept until a new one is made."""

    def __init__(self, queue_size: int, slop_s: float, callback: Callable[[Any, Any], None]) -> None:
        self._waiting: tuple[list, list] = ([], [])
        self._queue_size, self._slop_ns, self._callback = queue_size, int(slop_s * 1e9), callback

    def first(self, message: Any) -> None:
        self._add(0, message)

    def second(self, message: Any) -> None:
        self._add(1, message)

    def _add(self, stream: int, message: Any) -> None:
        stamp, others = messages.stamp_ns(message.header), self._waiting[1 - stream]
        nearest = min(others, key=lambda other: abs(messages.stamp_ns(other.header) - stamp), default=None)
        if nearest is None or abs(messages.stamp_ns(nearest.header) - stamp) > self._slop_ns:
            waiting = self._waiting[stream]
            waiting.append(message)
            if len(waiting) > self._queue_size:
                waiting.remove(min(waiting, key=lambda one: messages.stamp_ns(one.header)))
            return
        others.remove(nearest)
        self._callback(*((message, nearest) if stream == 0 else (nearest, message)))


def cv_bridge() -> Any | None:
    """A cv_bridge.CvBridge, or None where it is not installed or does not load (it fails with OpenCV 5)."""
    try:
        from cv_bridge import CvBridge
        return CvBridge()
    except Exception:                # a broken binary module raises more than ImportError
        return None


def subscription_events(incompatible_qos: Callable[[Any], None] | None = None) -> Any:
    """Event callbacks for a subscription that may be destroyed before its node; in rclpy.qos_event on Humble, later in
    rclpy.event_handler.

    None at all, not even rclpy's own, for an EventsExecutor: it may crash over an event of a subscription that is gone
    (ros2/rclpy issue 1644). So who subscribes looks at what the publishers offer, too (``qos.mismatches``).
    """
    try:
        from rclpy.event_handler import SubscriptionEventCallbacks
    except ImportError:
        from rclpy.qos_event import SubscriptionEventCallbacks
    if incompatible_qos is None or _events_executor() is not None:
        return SubscriptionEventCallbacks(use_default_callbacks=False)
    return SubscriptionEventCallbacks(incompatible_qos=incompatible_qos, use_default_callbacks=False)


def executor() -> Any:
    """rclpy's EventsExecutor where it exists (half the CPU time per frame; Jazzy since rclpy 7.1.4, Kilted), else
    SingleThreadedExecutor."""
    from rclpy.executors import SingleThreadedExecutor
    return (_events_executor() or SingleThreadedExecutor)()


def _events_executor() -> Any | None:
    try:
        from rclpy.experimental import EventsExecutor
        return EventsExecutor
    except ImportError:
        return None


def present() -> dict[str, bool]:
    """Which of the optional ROS packages are importable, for diagnostics and `hand-pose doctor`."""
    from importlib.util import find_spec
    names = ("tf2_ros", "message_filters", "cv_bridge", "diagnostic_msgs")
    return {name: find_spec(name) is not None for name in names}
