"""One camera as the node sees it: which topics, with which QoS, the newest image, and the lens that belongs to it."""
from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from .. import camera, messages
from ..errors import FrameError
from ..types import Camera
from . import compat, qos
from .diagnostics import ERROR, LATE_S, Monitor
from .newest import Newest

DEPTH_PATIENCE_S = 0.5
"""Without a depth image for this long, colour images are used alone as they come; and neither waits longer."""
GONE_S = 1.0
"""A camera without publishers and images for this long is gone, and its calibration with it."""
REMEMBERED = 64
"""Images of each stream whose stamp and time of arrival are known when their partner comes; at 120 Hz those of
DEPTH_PATIENCE_S. Only as long as they may be used do they hold their pixels."""
LAG_DECAY, LAG_MARGIN = 0.7, 1.2
"""How much of the longest lag of depth behind its colour image is remembered with each pair, and how many times that an
image waits for its depth."""


@dataclass(frozen=True, eq=False)
class Arrival:
    """One image message with what came along and when."""

    image: Any                                      # sensor_msgs Image or CompressedImage
    depth: Any | None                               # sensor_msgs Image
    received_ns: int                                # ROS clock
    received_s: float                               # the same instant, monotonic


@dataclass(eq=False)
class _Waiting:
    """A message as the synchroniser knows it. It keeps many of these, so what nobody waits for is taken out of them."""

    header: Any
    message: Any | None                             # sensor_msgs Image or CompressedImage; None: no longer waited for
    came_ns: int                                    # ROS clock
    came_s: float                                   # the same instant, monotonic


class CameraInput:
    """Subscriptions of one camera. Callbacks fill ``slot``; ``refresh`` follows publishers that come and go."""

    def __init__(self, node: Any, monitor: Monitor, values: Callable[[], Any],
                 starved: Callable[[], bool] = lambda: False) -> None:
        """values: the settings as they are now. starved: whether this process gets too little processor time to be
        sure that nothing was sent."""
        self.slot: Newest[Arrival] = Newest()
        self._starved = starved
        self._node, self._monitor, self._read_values = node, monitor, values
        self._offered, self._since_s = False, time.monotonic()  # whether somebody publishes images, and since when
        self._first_image_s: float | None = None
        self._info: Any = None
        self._lens: tuple[tuple, Camera] | None = None  # what a CameraInfo said, and the camera made of it
        self._info_came = threading.Event()             # also set by destroy, to wake up who waits
        self._image: Any = None
        self._source = qos.ImageSource("", False, ())
        self._profile: Any = None
        self._aside: dict[str, tuple[Any, Any]] = {}    # camera_info, depth: subscription and its QoS
        self._to_pairs: tuple[Callable[[Any], None], Callable[[Any], None]] | None = None
        self._paired_s = -math.inf                      # when depth last came with its image
        self._expected_s = -math.inf                    # since when it has been waited for
        self._image_s: float | None = None              # when the last image came that could have depth
        self._apart_s: float | None = None              # by how much depth came too late (< 0: too early) for its image
        self._lag_s = DEPTH_PATIENCE_S                  # how long depth comes after its image, at most
        self._waiting: deque[_Waiting] = deque()        # images without depth so far
        self._depths: deque[_Waiting] = deque()         # the last depth images
        self._image_ns = -1                             # stamp of the last image of all
        self._pair_anew()
        try:
            self.refresh()
        except BaseException:
            self.destroy()
            raise

    @property
    def _values(self) -> Any:
        return self._read_values()

    def _pair_anew(self) -> None:
        """message_filters keeps the highest stamps: after time has gone back it would throw away all that is new."""
        values = self._values
        if values.depth_topic:
            self._to_pairs = compat.approximate_synchronizer(REMEMBERED, values.depth_slop_s, self._paired)
        self._image_ns, self._apart_s = -1, None
        self._lag_s = DEPTH_PATIENCE_S
        self._waiting.clear()
        self._depths.clear()

    def destroy(self) -> None:
        """Unsubscribe; who waits in lens() wakes up."""
        self._info_came.set()
        for subscription in (self._image, *(subscription for subscription, _ in self._aside.values())):
            if subscription is not None:
                self._node.destroy_subscription(subscription)
        self._aside = {}

    def patience_s(self) -> float:
        """How much longer than otherwise the first result may take: the worker waits for a camera_info."""
        return 0.0 if self._info_came.is_set() else self._values.camera_info_wait_s

    def clear_problems(self) -> None:
        """What has been said of this camera is over. Call when nobody works on its images any more."""
        for key in ("qos", "image source", "calibration", "depth source"):
            self._monitor.clear(key)

    def restart(self) -> None:
        """Time has jumped: what is waiting belongs to the past."""
        self.slot.clear()
        self._pair_anew()

    # ---------------------------------------------------------------------------------------------------- subscribing

    def refresh(self) -> None:
        """Subscribe to what is published now, in the way it is offered, and report what keeps images away."""
        values, node = self._values, self._node
        source = qos.image_source(node, node.resolve_topic_name(values.image_topic), values.image_transport)
        profile = qos.matching(source.publishers, values.image_reliability)
        moved = (source.topic, source.compressed) != (self._source.topic, self._source.compressed)
        if self._image is None or moved or (source.publishers and not qos.same(profile, self._profile)):
            if self._image is not None:
                node.destroy_subscription(self._image)
            self._image = node.create_subscription(
                CompressedImage if source.compressed else Image, source.topic, self._on_image, profile,
                event_callbacks=compat.subscription_events(self._on_incompatible_qos))
            self._profile = profile
            self._monitor.fact("image topic", f"{source.topic} ({'compressed' if source.compressed else 'raw'}, "
                                              f"{qos.describe(profile)})")
        self._source = source
        info_topic = self._info_topic(source.topic)
        self._refresh_aside("camera_info", CameraInfo, info_topic, self._on_camera_info)
        if (self._info is not None and not source.publishers and self._monitor.silence_s() > GONE_S
                and not node.get_publishers_info_by_topic(info_topic)):
            self._forget_lens()
        if values.depth_topic:
            self._refresh_aside("depth", Image, node.resolve_topic_name(values.depth_topic), self._on_depth)
        self._report()

    def _forget_lens(self) -> None:
        """The camera has gone: the next one on these topics may be another, whose calibration is waited for anew."""
        self._info = self._lens = self._first_image_s = None
        self._info_came.clear()

    def _refresh_aside(self, name: str, message_type: Any, topic: str, callback: Callable[[Any], None]) -> None:
        publishers = self._node.get_publishers_info_by_topic(topic)
        profile = qos.matching(publishers)
        if name in self._aside:
            subscription, current = self._aside[name]
            if subscription.topic_name == topic and (not publishers or qos.same(profile, current)):
                return
            self._node.destroy_subscription(subscription)
        self._aside[name] = self._node.create_subscription(message_type, topic, callback, profile,
                                                           event_callbacks=compat.subscription_events()), profile

    def _info_topic(self, image_topic: str) -> str:
        """camera_info lies beside the base image topic, as in image_transport, unless it is set."""
        if self._values.camera_info_topic:
            return self._node.resolve_topic_name(self._values.camera_info_topic)
        base = image_topic[: -len("/compressed")] if image_topic.endswith("/compressed") else image_topic
        return self._node.resolve_topic_name(base.rpartition("/")[0] + "/camera_info")

    def _report(self) -> None:
        source, monitor = self._source, self._monitor
        mismatches = qos.mismatches(source.topic, self._profile, source.publishers)
        monitor.state("qos", "; ".join(mismatches), ERROR)
        now = time.monotonic()
        if bool(source.publishers) != self._offered:
            self._offered, self._since_s = not self._offered, now
        if now - self._since_s < self._values.silence_warning_s:
            if source.publishers:                           # somebody does now; whether images come is soon known
                monitor.clear("image source")
            return
        if not source.publishers:
            monitor.problem("image source", f"nobody publishes images on {source.topic}; {self._remedy()}",
                            standing=True)
        elif monitor.silence_s() > self._values.silence_warning_s and not mismatches and self._starved():
            monitor.clear("image source")
            monitor.problem("processor", "no image arrives, but this node's own timer came more than "
                            f"{LATE_S:g} s late: it gets too little processor time to tell whether any is sent; stop "
                            "other programs (top), give the node priority (nice), or use a slower camera mode")
        elif monitor.silence_s() > self._values.silence_warning_s and not mismatches:
            names = ", ".join(sorted({qos.endpoint_name(publisher) for publisher in source.publishers}))
            monitor.problem("image source", f"{names} publishes {source.topic}, but no image arrives; check the "
                            "camera, the network and, for large images, config/fastdds.xml", standing=True)
        else:
            monitor.clear("image source")

    def _remedy(self) -> str:
        """What to do where nobody publishes the images that are waited for."""
        values, node = self._values, self._node
        other = qos.image_source(node, node.resolve_topic_name(values.image_topic), "auto")
        if other.publishers:
            return (f"{other.topic} ({'compressed' if other.compressed else 'raw'}) is published, but image_transport "
                    f"is {values.image_transport}: set it to auto")
        return ("start the camera driver, or name its topic: ros2 launch ... image:=/camera/image_raw, hand-pose run "
                "--image /camera/image_raw, or the parameter image_topic")

    def _on_incompatible_qos(self, event: Any) -> None:
        publishers = self._node.get_publishers_info_by_topic(self._source.topic)
        sentences = qos.mismatches(self._source.topic, self._profile, publishers)
        self._monitor.problem("qos", "; ".join(sentences) or (
            f"a publisher of {self._source.topic} offers less than this node asks for ({qos.describe(self._profile)}; "
            f"policy {event.last_policy_kind}); set image_reliability to auto"), ERROR, standing=True)

    # ------------------------------------------------------------------------------------------------------ callbacks

    def _on_image(self, message: Any) -> None:
        image = self._received(message)
        self._monitor.received()
        if self._first_image_s is None:
            self._first_image_s = image.came_s
        if self._to_pairs is None or not self._values.use_depth:
            if self._to_pairs is not None:
                _let_go(self._waiting, lambda one: True)
                self._expected_s = image.came_s         # patience begins when depth is wanted again
                self._monitor.clear("depth source")
            self._arrived(image, None)
            return
        stamp_ns = messages.stamp_ns(message.header)
        if not stamp_ns:
            self._monitor.problem("depth source", "colour is used without depth: its images have the stamp 0, so that "
                                  "nobody can tell which depth image belongs to them; set stamps in the driver",
                                  standing=True)
            self._arrived(image, None)
            return
        if stamp_ns < self._image_ns:
            self._pair_anew()
        self._image_ns = stamp_ns
        self._wait_anew_after_a_pause(image.came_s)
        self._waiting.append(image)
        self._to_pairs[0](image)
        if image.came_s - self._expected_s > DEPTH_PATIENCE_S:
            self._take_alone(image)
            self._report_depth()
        # Depth may come less often than colour: an image whose depth would have come by now goes without.
        patience_s = min(LAG_MARGIN * self._lag_s, DEPTH_PATIENCE_S)
        late = [one for one in self._waiting if image.came_s - one.came_s > patience_s]
        if late:
            self._take_alone(late[-1])

    def _received(self, message: Any) -> _Waiting:
        return _Waiting(message.header, message, self._node.get_clock().now().nanoseconds, time.monotonic())

    def _wait_anew_after_a_pause(self, now_s: float) -> None:
        """A camera that starts, or goes on after a pause, sends its first depth after its first image; but who had no
        depth before a pause, as a slow camera without any, is not waited for each time."""
        before_s, self._image_s = self._image_s, now_s
        if before_s is None or now_s - before_s > DEPTH_PATIENCE_S and before_s - self._paired_s <= DEPTH_PATIENCE_S:
            self._expected_s = now_s

    def _take_alone(self, image: _Waiting) -> None:
        self._arrived(image, None)
        self._forget_until(messages.stamp_ns(image.header))

    def _forget_until(self, stamp_ns: int) -> None:
        """No image up to this stamp waits any longer."""
        _let_go(self._waiting, lambda one: messages.stamp_ns(one.header) <= stamp_ns)

    def _on_depth(self, message: Any) -> None:
        depth = self._received(message)
        _let_go(self._depths, lambda one: depth.came_s - one.came_s > DEPTH_PATIENCE_S)
        self._depths.append(depth)
        self._to_pairs[1](depth)

    def _paired(self, image: _Waiting, depth: _Waiting) -> None:
        apart_s = depth.came_s - image.came_s
        if abs(apart_s) > DEPTH_PATIENCE_S:
            self._apart_s = apart_s
            return
        self._apart_s, self._paired_s = None, max(image.came_s, depth.came_s)
        self._expected_s = self._paired_s
        self._monitor.clear("depth source")
        # Also for an image that was not waited for: else the wait could never grow again.
        self._lag_s = max(LAG_DECAY * self._lag_s, apart_s)
        if image.message is not None:
            self._arrived(image, depth.message)
        depth.message = None
        self._forget_until(messages.stamp_ns(image.header))

    def _report_depth(self) -> None:
        topic = self._node.resolve_topic_name(self._values.depth_topic)
        types = {info.topic_type for info in self._node.get_publishers_info_by_topic(topic)}
        if not types:
            why = f"nobody publishes depth on {topic}; start it in the camera driver (RealSense: " \
                  "align_depth.enable), or set depth_topic to ''"
        elif qos.IMAGE_TYPE not in types:
            why = f"{topic} carries {', '.join(sorted(types))}, not {qos.IMAGE_TYPE}; set depth_topic to the raw " \
                  "depth images"
        elif self._apart_s is not None:
            late, other = ("depth", "colour") if self._apart_s > 0 else ("colour", "depth")
            why = f"{late} comes too late, {abs(self._apart_s):.1f} s after the {other} image of its stamp, which " \
                  f"waits {DEPTH_PATIENCE_S:g} s at most; let it come sooner (fewer or smaller images, no wireless " \
                  f"network, a faster registration of {topic} to colour), or set depth_topic to ''"
        else:
            why = f"no depth image on {topic} has a stamp within depth_slop_s ({self._values.depth_slop_s:g} s) of " \
                  f"one of the last {REMEMBERED} colour images; raise it, or synchronise the two streams in the driver"
        self._monitor.problem("depth source", f"colour is used without depth: {why}", standing=True)

    def _arrived(self, image: _Waiting, depth: Any | None) -> None:
        self.slot.put(Arrival(image.message, depth, image.came_ns, image.came_s))

    def _on_camera_info(self, message: Any) -> None:
        self._info = message
        self._info_came.set()

    # ----------------------------------------------------------------------------------------------------------- lens

    def lens(self, frame_id: str, width: int, height: int) -> Camera:
        """The camera of an image of this size: from CameraInfo, or assumed where that is missing or unusable.

        Waits for the first CameraInfo at most until camera_info_wait_s after the first image.
        """
        monitor, values = self._monitor, self._values
        if not frame_id:
            monitor.problem("frame", "images carry no frame_id, so there is no TF; set the camera's optical frame in "
                                     "its driver")
        guess = f"no places in metres, an assumed field of view of {values.assumed_hfov_deg:g} degrees"
        now_s = time.monotonic()
        first_s = self._first_image_s or now_s              # forgotten meanwhile if the camera has gone
        self._info_came.wait(max(0.0, first_s + values.camera_info_wait_s - now_s))
        info = self._info
        if info is None:
            topic = self._info_topic(self._source.topic)
            monitor.problem("calibration", f"no camera_info on {topic}: {guess}; publish a calibration, or name its "
                            "topic with camera_info_topic", standing=True)
            return camera.assumed(width, height, values.assumed_hfov_deg, frame_id)
        try:
            lens = self._lens_of(info, width, height)
        except FrameError as error:
            monitor.problem("calibration", f"{error}. Until then {guess}", ERROR, standing=True)
            return camera.assumed(width, height, values.assumed_hfov_deg, frame_id)
        if (lens.width, lens.height) != (int(info.width), int(info.height)) and not camera.has_part(info):
            monitor.problem("calibration", f"camera_info is for {info.width}x{info.height}, the image is "
                            f"{width}x{height}: it is scaled; calibrate at the size that is used", standing=True)
        elif info.header.frame_id and info.header.frame_id != frame_id:
            monitor.problem("calibration", f"camera_info names the frame '{info.header.frame_id}', the image "
                            f"'{frame_id}', which is used; check that camera_info_topic belongs to this image",
                            standing=True)
        elif camera.seems_rectified(self._source.topic, info) and not self._values.image_is_rectified:
            monitor.problem("calibration", f"{self._source.topic} is rectified by its name, but camera_info has a lens "
                            "distortion, which is taken out again: set image_is_rectified:=true, or take the raw "
                            "image", standing=True)
        else:
            monitor.clear("calibration")
        return replace(lens, frame_id=frame_id)

    def _lens_of(self, info: Any, width: int, height: int) -> Camera:
        """camera.from_camera_info, kept while the calibration, which comes with every image, says the same."""
        roi = info.roi
        said = (width, height, info.width, info.height, info.distortion_model, info.k.tobytes(), info.d.tobytes(),
                info.p.tobytes(), info.binning_x, info.binning_y, roi.x_offset, roi.y_offset, roi.width, roi.height)
        known = self._lens                                  # the executor's thread may forget it
        if known is None or known[0] != said:
            known = self._lens = said, camera.from_camera_info(info, width, height, self._values.image_is_rectified)
        return known[1]


def _let_go(waiting: deque[_Waiting], over: Callable[[_Waiting], bool]) -> None:
    """Those at the front that are over wait no longer; the synchroniser may remember them, but not their pixels."""
    while waiting and over(waiting[0]):
        waiting.popleft().message = None
