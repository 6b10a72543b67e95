"""A camera made of a bag, a video, a folder or a webcam: a process of its own that publishes with fresh stamps.

python -m hand_pose_ros.ros.player SOURCE [--image-topic TOPIC] [--seconds S] [--listeners N] [--tf-listeners N]
    [--every-image] [--speed SPEED]
"""
from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.qos import DurabilityPolicy, QoSProfile

from hand_pose_ros.msg import HandPose21Array

from .. import messages
from ..errors import HandPoseError
from . import sources

SETTLE_S = 1.0
LISTENERS_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 5.0
TRANSFORMS_TIMEOUT_S = 10.0
RESULTS = "/hand_pose/hands"


class Player:
    """Publishes a source. Every message gets a stamp of today; truth keeps that of its image."""

    def __init__(self, node: Any, source: sources.Source) -> None:
        self._node, self._source = node, source
        self._publishers: dict[str, Any] = {}
        self._static: dict[str, Any] = {}                   # child frame: the newest static TransformStamped
        self._answered_ns = 0
        node.create_subscription(HandPose21Array, RESULTS, self._on_hands, 10)
        self.sent = 0

    def _on_hands(self, message: Any) -> None:
        self._answered_ns = messages.stamp_ns(message.header)

    def play(self, seconds: float, listeners: int, every_image: bool, speed: float = 1.0, tf_listeners: int = 0
             ) -> None:
        """Send everything: at its own speed or so many times that, or with every_image, each image after the answer to
        the last. The stamps of a bag or video have its own spacing, also where answers take longer: a hand that seems
        to move slower is another hand to a tracker, and results would depend on the machine."""
        timed = self._source.kind in ("bag", "video")
        camera = self._publisher(self._source.image_topic, self._source.image_type)
        for topic, message_type in self._source.others:
            self._publisher(topic, message_type)
        self._wait_for(lambda: camera.get_subscription_count() >= listeners, LISTENERS_TIMEOUT_S)
        if every_image or listeners > 1:             # whoever waits for results must hear the first one
            self._wait_for(lambda: self._node.count_publishers(RESULTS)
                           and self._node.count_subscribers(RESULTS) >= listeners, LISTENERS_TIMEOUT_S)
        started_s = None
        at_s, stamp_ns = None, 0
        for item in sources.items(self._source):
            if started_s is None and item.topic == "/tf_static":        # latched: known before the first image comes
                self._send(item)
                continue
            if started_s is None:                    # opening a bag takes its time: only now can its clock start
                self._settle(camera)
                self._transforms_heard(tf_listeners)
                started_s = time.monotonic() - item.at_s / speed
                started_ns = self._node.get_clock().now().nanoseconds - int(item.at_s / speed * 1e9)
            if seconds and item.at_s > seconds:
                return
            if timed:
                self._sleep_until(started_s + item.at_s / speed)
                stamp_ns = started_ns + int(item.at_s / speed * 1e9)
            elif item.at_s != at_s:                  # what belongs to one instant keeps one stamp
                stamp_ns = self._node.get_clock().now().nanoseconds
            at_s = item.at_s
            _stamp(item.message, stamp_ns)
            self._send(item)
            self.sent += item.is_image
            if every_image and item.is_image:
                self._wait_for(lambda: self._answered_ns >= stamp_ns, ANSWER_TIMEOUT_S)

    def _send(self, item: sources.Item) -> None:
        """Static transforms all with each message: who comes late gets the last messages only, and in a bag they are
        those of many nodes."""
        message = item.message
        if item.topic == "/tf_static":
            self._static.update((transform.child_frame_id, transform) for transform in message.transforms)
            message = type(message)(transforms=list(self._static.values()))
        self._publisher(item.topic, type(message)).publish(message)

    def _publisher(self, topic: str, message_type: Any) -> Any:
        if topic not in self._publishers:
            kept = DurabilityPolicy.TRANSIENT_LOCAL if topic == "/tf_static" else DurabilityPolicy.VOLATILE
            profile = QoSProfile(depth=10, durability=kept)
            self._publishers[topic] = self._node.create_publisher(message_type, topic, profile)
        return self._publishers[topic]

    def _transforms_heard(self, listeners: int) -> None:
        """Wait until so many listeners have the static transforms. Whom DDS finds late, or whose copy is lost on its
        way, gets them seconds after the first images, and does not know until then where the hands are."""
        static = self._publishers.get("/tf_static")
        if static is not None and listeners:
            self._wait_for(lambda: static.get_subscription_count() >= listeners, TRANSFORMS_TIMEOUT_S)
            if static.get_subscription_count() < listeners or \
                    not static.wait_for_all_acked(Duration(seconds=ANSWER_TIMEOUT_S)):
                print(f"player: fewer than {listeners} listen to /tf_static; the images go out all the same",
                      file=sys.stderr, flush=True)

    def _settle(self, camera: Any) -> None:
        """Wait until nobody has begun or ceased to listen to the images for SETTLE_S: the other topics are found a
        moment later, and a node listens anew once it has seen in which quality they are offered."""
        since_s = time.monotonic()
        count, end_s = camera.get_subscription_count(), since_s + LISTENERS_TIMEOUT_S
        while (now_s := time.monotonic()) < min(since_s + SETTLE_S, end_s):
            rclpy.spin_once(self._node, timeout_sec=0.02)
            if (heard := camera.get_subscription_count()) != count:
                count, since_s = heard, now_s

    def _wait_for(self, condition: Callable[[], bool], timeout_s: float) -> None:
        """Spin until the condition holds or the time is over."""
        end_s = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < end_s:
            rclpy.spin_once(self._node, timeout_sec=0.02)

    def _sleep_until(self, instant_s: float) -> None:
        while (left_s := instant_s - time.monotonic()) > 0:
            rclpy.spin_once(self._node, timeout_sec=min(left_s, 0.05))


def _stamp(message: Any, stamp_ns: int) -> None:
    if not hasattr(message, "header"):
        return
    for header in (message.header, *(hand.header for hand in getattr(message, "hands", ()))):
        header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)


def main(args: Sequence[str] | None = None) -> int:
    """Play one source and end. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="webcam[:N], video, folder of pictures, .mcap file or rosbag2 folder")
    parser.add_argument("--image-topic", help="camera of a bag that holds several")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after this much of the source (0: at its end)")
    parser.add_argument("--listeners", type=int, default=1, help="wait for so many subscribers of the images")
    parser.add_argument("--tf-listeners", type=int, default=0, help="wait for so many subscribers of /tf_static, too")
    parser.add_argument("--every-image", action="store_true", help="send each image after the answer to the last")
    parser.add_argument("--speed", type=float, default=1.0, help="so many times as fast, for bags and videos")
    options = parser.parse_args(args)
    node = None
    try:
        rclpy.init(args=[])
        node = rclpy.create_node("camera_player")
        player = Player(node, sources.find(options.source, options.image_topic))
        player.play(options.seconds, options.listeners, options.every_image, options.speed, options.tf_listeners)
        print(f"{player.sent} images sent")
        return 0
    except HandPoseError as error:
        print(f"player: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
