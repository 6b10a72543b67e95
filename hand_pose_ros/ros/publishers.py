"""Everything the node sends, made from one result: hands, TF, markers, debug image. Nothing else decides what is
sent."""
from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from geometry_msgs.msg import Point, TransformStamped
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from hand_pose_ros.msg import HandPose21, HandPose21Array

from .. import annotate, messages
from ..errors import ConfigError
from ..types import Camera, Hand
from . import compat, images, qos
from .markers import HandMarkers
from .transforms import ClashGuard, transform_messages

OLDEST_PLAUSIBLE_NS = 60_000_000_000
"""Images older than this come from a recording that is played without use_sim_time: their age says nothing."""
DEBUG_JPEG_QUALITY = 80


@dataclass(frozen=True)
class Latency:
    """When one image went through which door. Stamps are ROS time, marks are monotonic seconds."""

    stamp_ns: int                                   # header.stamp; 0 unknown
    received_ns: int                                # ROS clock at the callback
    received_s: float                               # the same instant, monotonic
    marks_s: dict[str, float]                       # decode, detect, pose, lift: end of the stage

    def age_at_receipt_ns(self) -> int | None:
        """From the stamp to the callback; None if the stamp is unknown, in the future or from another day."""
        age = self.received_ns - self.stamp_ns
        return age if self.stamp_ns and 0 <= age <= OLDEST_PLAUSIBLE_NS else None

    def since_stamp_ns(self, mark_s: float | None) -> int:
        """From the stamp to a mark; -1 unknown."""
        age = self.age_at_receipt_ns()
        if age is None or mark_s is None:
            return -1
        return age + int((mark_s - self.received_s) * 1e9)

    def durations_ms(self, published_s: float) -> dict[str, float]:
        """Stage -> its own duration [ms]; 'age at publication' is from the stamp, NaN if that is unknown."""
        out, previous = {}, self.received_s
        for name, mark_s in (*self.marks_s.items(), ("publish", published_s)):
            out["wait and decode" if name == "decode" else name] = (mark_s - previous) * 1e3
            previous = mark_s
        age_ns = self.since_stamp_ns(published_s)
        out["age at publication"] = age_ns / 1e6 if age_ns >= 0 else float("nan")
        return out


class Reused:
    """Messages that are filled anew for each image: making one takes longer than filling it.

    A message may be filled again once it has been published, since the middleware has copied it by then.
    """

    def __init__(self, kind: Any) -> None:
        self._kind, self._made, self._taken = kind, [], 0

    def restart(self) -> None:
        """All messages taken so far have been published."""
        self._taken = 0

    def __call__(self) -> Any:
        """The next one, with anything in its fields."""
        self._taken += 1
        if self._taken > len(self._made):
            self._made.append(self._kind())
        return self._made[self._taken - 1]


class Outputs:
    """The node's publishers. Made by configure, gone after cleanup."""

    def __init__(self, node: Any, prefix: str) -> None:
        create = node.create_lifecycle_publisher
        self._node, self._prefix = node, prefix
        made: list[Any] = []
        try:
            for kind, topic in ((HandPose21Array, "~/hands"), (HandPose21Array, "~/hands_raw"),
                                (MarkerArray, "~/markers")):
                made.append(qos.results_publisher(create, kind, topic))
        except ConfigError:                             # who configures again must not find two of each
            for publisher in made:
                node.destroy_lifecycle_publisher(publisher)
            raise
        self._hands, self._hands_raw, self._markers = made
        self._debug = create(Image, "~/debug_image", qos.DEBUG)
        self._debug_compressed = create(CompressedImage, "~/debug_image/compressed", qos.DEBUG)
        self._marker_maker = HandMarkers(MarkerArray, Marker, Point, ColorRGBA, prefix)
        self._transforms = compat.transform_broadcaster(node)
        self._hand_messages, self._transform_messages = Reused(HandPose21), Reused(TransformStamped)
        self.guard = ClashGuard(prefix)
        qos.warn_of_unused_overrides(node)

    def destroy(self) -> None:
        """Remove the publishers from the node."""
        for publisher in (self._hands, self._hands_raw, self._markers, self._debug, self._debug_compressed):
            self._node.destroy_lifecycle_publisher(publisher)
        self._node.destroy_publisher(self._transforms.pub_tf)

    def publish(self, header: Any, rgb: np.ndarray, result: Any, latency: Latency, dropped: int, camera: Camera,
                values: Any, engine: Any) -> None:
        """Send one result. header: the image's own; rgb: (H, W, 3), drawn upon only in a copy."""
        info = messages.ArrayInfo(
            model=engine.model, runtime=engine.runtime, detector_ran=result.detector_ran, dropped=dropped,
            metric=messages.is_metric(camera, result.hands),
            latency_receive_ns=latency.since_stamp_ns(latency.received_s),
            **{f"latency_{stage}_ns": latency.since_stamp_ns(latency.marks_s.get(stage))
               for stage in ("decode", "detect", "pose", "lift")})
        if values.publish_tf:
            self._send_transforms(header, result.hands)
        if values.publish_raw and self._hands_raw.get_subscription_count():
            self._hands_raw.publish(self._array(header, result.raw, replace(info, filtered=False), latency))
        self._hands.publish(self._array(header, result.hands, replace(info, filtered=True), latency))
        if self._markers.get_subscription_count():
            self._markers.publish(self._marker_maker.message(header, result.hands))
        if self._debug.get_subscription_count() or self._debug_compressed.get_subscription_count():
            self._send_debug(header, annotate.draw(rgb, result.hands, values.draw_labels))

    def _array(self, header: Any, hands: tuple[Hand, ...], info: messages.ArrayInfo, latency: Latency) -> Any:
        info = replace(info, latency_publish_ns=latency.since_stamp_ns(time.monotonic()))
        self._hand_messages.restart()
        return messages.fill_array(HandPose21Array(), hands, header, self._hand_messages, info)

    def _send_transforms(self, header: Any, hands: tuple[Hand, ...]) -> None:
        stamp_ns = messages.stamp_ns(header)
        if not stamp_ns or not header.frame_id:         # stamp 0 means "the latest" to tf2, and a frame needs a parent
            return
        self._transform_messages.restart()
        out = transform_messages(self._transform_messages, header, hands, self._prefix)
        for message in out:
            self.guard.sent(message.child_frame_id, stamp_ns)
        if out:
            self._transforms.sendTransform(out)

    def _send_debug(self, header: Any, rgb: np.ndarray) -> None:
        if self._debug.get_subscription_count():
            self._debug.publish(images.raw_message(Image, header, rgb))
        if self._debug_compressed.get_subscription_count():
            self._debug_compressed.publish(images.compressed_message(CompressedImage, header, rgb, DEBUG_JPEG_QUALITY))
