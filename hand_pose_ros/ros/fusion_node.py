"""The fusion node: hands of several cameras in, the same hands once, in metres, out. What is fused, and how, is decided
in fusion.py."""
from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Point, TransformStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from hand_pose_ros.msg import HandPose21, HandPose21Array

from .. import extrinsics, fusion, messages
from ..config import Setting
from ..errors import ConfigError, DataError
from ..fusion import FusionConfig
from . import compat, diagnostics, process, qos
from .diagnostics import ERROR, Monitor, log_of
from .launch_arguments import listed
from .markers import HandMarkers
from .parameters import Parameters, check_tf_prefix, check_topic
from .transforms import transform_messages

NODE_NAME = "hand_pose_fusion"
LEAD_S, LEAD_PERIODS, LONGEST_PERIOD_S = 0.3, 1.5, 2.0
"""While the first camera is silent for longer than this, and than so many times the shorter of the pauses between its
last three messages (at most the third), the images of the others set the pace."""
POLL_S = 0.005
"""How often a result that waits is looked at."""
RESTART_NS = 1_000_000_000
"""Results whose stamps lie further back than this are of a bag that starts again; nearer ones repeat what was sent."""
DISAGREE_M, SURPRISE = 0.025, 2.5
"""Medians of ``Combination.disagreement_m`` (11 mm with exact transforms, benchmarks/fusion.py) and of the surprise at
the hand's size above which the cameras' places are doubted."""
REMEMBERED = 60
"""Fused hands of which those medians are taken."""
SKEWED = 10
"""Results in a row without a camera that sends, but stamps of another time, until that is said."""

SETTINGS = (
    Setting("hands_topics", "", "HandPose21Array of two or more cameras, separated by commas, e.g. "
            "/cam_left/hand_pose/hands,/cam_right/hand_pose/hands. Results are in the first one's frame."),
    Setting("max_skew_s", 0.1, "Hands of a camera whose image is further than this from that of the first are not "
            "used.", "s", 0.001, 1.0, live=True),
    Setting("wait_s", 0.02, "How long a result waits for the other cameras' images of the same time, and for TF; 0: "
            "not at all, they are carried on from their last ones.", "s", 0.0, 0.5, live=True),
    Setting("extrinsics_sigma_m", 0.005, "How well the places of the cameras are known: standard deviation at the "
            "hand.", "m", 0.0, 0.2, live=True),
    Setting("extrinsics_file", "", "File of hand-pose calibrate-cameras: where the cameras are; its transforms are "
            "used instead of TF's. Empty: TF."),
    Setting("publish_tf", True, "Send TF frames of wrists and fingertips."),
    Setting("tf_prefix", "fused/", "Put before every TF frame name."),
    Setting("silence_warning_s", 2.0, "Time without hands of a camera after which diagnostics say so.", "s", 0.1,
            3600.0, live=True),
    Setting("diagnostics_period_s", 1.0, "Time between two reports on /diagnostics.", "s", 0.05, 60.0),
)


def check(values: Mapping[str, Any]) -> None:
    """Raises ConfigError if there are not two different topics, or one of them or the prefix is no name."""
    topics = listed(values["hands_topics"])
    if len(set(topics)) < 2 or len(set(topics)) < len(topics):
        raise ConfigError(f"hands_topics is '{values['hands_topics']}'; it must name two or more different topics, "
                          "separated by commas")
    for topic in topics:
        check_topic("hands_topics", topic)
    check_tf_prefix(values["tf_prefix"])


class FusionNode(Node):
    """Subscribes to the hands of every camera; each message of the leading one gives a result."""

    def __init__(self, **node_options: Any) -> None:
        super().__init__(NODE_NAME, **node_options)
        self._monitor = Monitor(log_of(self))
        self._parameters_ = Parameters(self, SETTINGS, check)
        values = self._values
        self._topics = [self.resolve_topic_name(topic) for topic in listed(values.hands_topics)]
        if len(set(self._topics)) < len(self._topics):
            raise ConfigError(f"hands_topics '{values.hands_topics}' name {self._topics[0]} twice here; give different "
                              "topics")
        self._measured = extrinsics.load(values.extrinsics_file) if values.extrinsics_file else {}
        self._state = fusion.FusionState()
        self._frames: dict[str, str] = {}                       # topic: frame_id of its camera
        self._heard_ns: dict[str, int] = {}                     # topic: when, steady clock
        self._gaps_ns: dict[str, tuple[int, int]] = {}          # topic: between its last three messages
        self._metric: dict[str, bool] = {}                      # topic: whether its metres are measured
        self._pending: deque[tuple[int, Any, int, messages.ArrayInfo]] = deque()
        # Since when each waits (steady clock), header, stamp and info: of the leader, for images of the others.
        self._sent_ns = 0                                       # stamp of the newest result
        self._repeated = 0                                      # results since that were not sent for theirs
        self._agreement: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)        # metres apart, surprise
        self._skewed: dict[str, int] = {}                       # topic: results without an image of their time
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._started_ns = self._steady.now().nanoseconds
        self._hands, self._markers = (
            qos.results_publisher(self.create_publisher, kind, topic)
            for kind, topic in ((HandPose21Array, "~/hands"), (MarkerArray, "~/markers")))
        qos.warn_of_unused_overrides(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._marker_maker = HandMarkers(MarkerArray, Marker, Point, ColorRGBA, values.tf_prefix)
        self._transforms = compat.transform_broadcaster(self) if values.publish_tf else None
        self._lookup = compat.transform_lookup(self)
        for topic in self._topics:
            self.create_subscription(HandPose21Array, topic, partial(self._on_hands, topic), 5)
        self.create_timer(values.diagnostics_period_s, self._report, clock=self._steady)
        self._patience = self.create_timer(POLL_S, self._send_ready, clock=self._steady)
        self._patience.cancel()
        self._monitor.fact("first camera", self._topics[0])

    @property
    def _values(self) -> Any:
        return self._parameters_.values

    # ------------------------------------------------------------------------------------------------------- fusing

    def _on_hands(self, topic: str, message: Any) -> None:
        now_ns = self._steady.now().nanoseconds
        self._monitor.received()
        try:
            hands, info = messages.read_array(message)
        except DataError as error:
            self._monitor.problem("hands", f"a message on {topic} is not used: {error}")
            return
        stamp_ns = messages.stamp_ns(message.header)
        if not stamp_ns:
            self._monitor.problem("stamp", f"{topic} has no time stamp (0) and is not used; make its camera's driver "
                                  "fill header.stamp")
            return
        last = fusion.newest(self._state, topic)
        if last is not None and stamp_ns == last.stamp_ns:
            return
        gap_ns = now_ns - self._heard_ns.get(topic, now_ns)
        self._gaps_ns[topic] = self._gaps_ns.get(topic, (gap_ns, gap_ns))[1], gap_ns
        self._heard_ns[topic], self._frames[topic] = now_ns, message.header.frame_id
        if messages.guessed_metres(hands, info):
            self._monitor.problem("metres", f"{topic}: its camera is not calibrated, so its rays are a guess and are "
                                  "not used; publish its camera_info")
            hands = ()
        elif messages.unplaced(hands, info):
            self._monitor.problem("metres", f"{topic}: its hands have no place in metres and are not used: its camera "
                                  "is not calibrated (publish its camera_info), or nothing tells their scale")
        self._metric[topic] = info.metric
        leads = topic == self._leader(topic, now_ns)
        if last is not None and stamp_ns < last.stamp_ns:
            self._send_ready(all_of_them=True)
        self._state = fusion.observe(self._state, topic, stamp_ns, hands)
        if leads:
            self._pending.append((now_ns, message.header, stamp_ns, info))
            self._patience.reset()
        self._send_ready()

    def _missing(self, stamp_ns: int, now_ns: int) -> bool:
        """Whether an image of this time is still to be expected of some camera."""
        return any(images[-1].stamp_ns < stamp_ns and now_ns - self._heard_ns[topic] <= LEAD_S * 1e9
                   for topic, images in self._state.cameras.items())

    def _send_ready(self, all_of_them: bool = False) -> None:
        """Sends, in their order, the results for which nothing is missing any more or that have waited long enough."""
        while self._pending:
            came_ns, header, stamp_ns, info = self._pending[0]
            now_ns = self._steady.now().nanoseconds
            poses, late = self._poses(stamp_ns)
            waits = now_ns - came_ns < self._values.wait_s * 1e9
            if waits and not all_of_them and (late or self._missing(stamp_ns, now_ns)):
                return
            self._pending.popleft()
            for topic, error in late.items():
                self._monitor.problem("extrinsics", f"{topic} is not used: {error}; its camera's place comes too late: "
                                      "raise wait_s, or send its transform more often")
            if self._sent_ns - RESTART_NS < stamp_ns <= self._sent_ns:
                self._repeated += 1
                if self._repeated >= SKEWED:
                    self._monitor.problem("stamp", f"{self._repeated} results in a row are of times that were sent "
                                          "already and are left out: did a clock go back, or does a bag start again "
                                          "that is shorter than a second?")
                continue
            self._sent_ns, self._repeated = stamp_ns, 0
            self._publish(header, stamp_ns, info, poses)
        self._patience.cancel()

    def _leader(self, topic: str, now_ns: int) -> str:
        """The first camera, or while it is silent the first of the others that is not. Nobody before the first one was
        heard, since the frame of the results is its."""
        if self._topics[0] not in self._frames:
            return ""
        def patience_ns(one: str) -> float:
            period_ns = min(*self._gaps_ns.get(one, (0, 0)), LONGEST_PERIOD_S * 1e9)          # one pause is no period
            return max(LEAD_S * 1e9, LEAD_PERIODS * period_ns)
        alive = [one for one in self._topics if now_ns - self._heard_ns.get(one, -10**18) <= patience_ns(one)]
        return alive[0] if alive else topic

    def _poses(self, stamp_ns: int) -> tuple[dict[str, fusion.Pose], dict[str, str]]:
        """Where the cameras are at that time, by topic, the first one at first; and why it is not known yet of some
        whose place TF tells of other times."""
        poses, late = {self._topics[0]: (np.eye(3), np.zeros(3))}, {}
        for topic in self._topics[1:]:
            try:
                pose = self._pose(topic, stamp_ns)
            except DataError as error:
                if self._has_place(topic):
                    if self._steady.now().nanoseconds - self._heard_ns[topic] <= LEAD_S * 1e9:      # else: it is silent
                        late[topic] = str(error)
                else:
                    self._monitor.problem("extrinsics", f"{topic} is not used: {error}; publish where its camera is "
                                          "(static transform), or measure it with hand-pose calibrate-cameras and set "
                                          "extrinsics_file", ERROR)
                continue
            if pose is not None:
                poses[topic] = pose
        return poses, late

    def _has_place(self, topic: str) -> bool:
        """Whether TF connects this camera with the first at any time."""
        try:
            self._lookup(self._frames[self._topics[0]], self._frames[topic], 0)
        except DataError:
            return False
        return True

    def _publish(self, header: Any, stamp_ns: int, info: messages.ArrayInfo, poses: Mapping[str, fusion.Pose]
                 ) -> None:
        values, first = self._values, self._topics[0]
        self._note_skew(poses, stamp_ns)
        config = FusionConfig(values.max_skew_s, values.extrinsics_sigma_m)
        try:
            self._state, fused = fusion.fuse(self._state, stamp_ns, poses, config)
        except np.linalg.LinAlgError as error:
            self._monitor.problem("hands", f"what the cameras say cannot be fused ({error}); no result for this image")
            return
        self._judge(fused)
        hands = tuple(one.hand for one in fused)
        header.frame_id = self._frames[first]
        now_ns = self.get_clock().now().nanoseconds
        age_ns = now_ns - stamp_ns
        info = replace(info, metric=any(self._metric.get(topic, False) for topic in poses),
                       runtime=f"fusion of {self._in_time(poses, stamp_ns)} cameras, {info.runtime}", dropped=0,
                       latency_publish_ns=age_ns if info.latency_receive_ns >= 0 and age_ns >= 0 else -1)
        self._hands.publish(messages.fill_array(HandPose21Array(), hands, header, HandPose21, info))
        if self._transforms is not None and stamp_ns and header.frame_id:
            transforms = transform_messages(TransformStamped, header, hands, values.tf_prefix)
            if transforms:
                self._transforms.sendTransform(transforms)
        if self._markers.get_subscription_count():
            self._markers.publish(self._marker_maker.message(header, hands))
        self._monitor.published({"age at publication": age_ns / 1e6}, 0)

    def _in_time(self, topics: Iterable[str], stamp_ns: int) -> int:
        """How many of these cameras have an image near enough to that time."""
        images = [fusion.nearest(self._state, topic, stamp_ns) for topic in topics]
        return sum(seen is not None and abs(seen.stamp_ns - stamp_ns) <= self._values.max_skew_s * 1e9
                   for seen in images)

    def _note_skew(self, poses: Mapping[str, fusion.Pose], stamp_ns: int) -> None:
        """A camera that sends, but whose images of another time are all that there is, would be left out, or for the
        most part, without a word."""
        now_ns, limit_ns = self._steady.now().nanoseconds, min(self._values.max_skew_s * 1e9, fusion.CARRIED_NS)
        for topic in poses:
            seen = fusion.nearest(self._state, topic, stamp_ns)
            if seen is None or now_ns - self._heard_ns[topic] > LEAD_S * 1e9 \
                    or abs(seen.stamp_ns - stamp_ns) <= limit_ns:
                self._skewed[topic] = 0
                continue
            self._skewed[topic] = self._skewed.get(topic, 0) + 1
            if self._skewed[topic] >= SKEWED:
                off_s = (seen.stamp_ns - stamp_ns) * 1e-9
                later = f"if its images arrive later than those of that camera, raise wait_s to {-off_s:.2f} and " \
                    "more; else " if off_s < 0 else ""
                self._monitor.problem("skew", f"{topic} is hardly used or not at all: its nearest image is "
                                      f"{off_s:+.3f} s from that of the leading camera (max_skew_s "
                                      f"{self._values.max_skew_s:g}); {later}synchronise the clocks (chrony, PTP) or "
                                      "use one use_sim_time for all")

    def _pose(self, topic: str, stamp_ns: int) -> fusion.Pose | None:
        """From this camera to the first at that time, None if it was not heard yet or its place cannot be used.
        Raises DataError if TF does not tell it at that time."""
        if topic not in self._frames:
            return None
        first, own = self._frames[self._topics[0]], self._frames[topic]
        if own == first or not own:
            self._monitor.problem("extrinsics", f"{topic} is not used: its frame_id is '{own}', that of the first "
                                  f"camera '{first}'; give every camera a frame_id of its own in its driver", ERROR)
            return None
        if self._values.extrinsics_file:
            pose = self._measured.get((first, own))
            if pose is None:
                self._monitor.problem("extrinsics", f"{topic} is not used: extrinsics_file does not tell where {own} "
                                      f"is relative to {first}; run hand-pose calibrate-cameras for it", ERROR)
            return pose
        rotation, translation, _ = self._lookup(first, own, stamp_ns)
        if not (np.isfinite(rotation).all() and np.isfinite(translation).all()):
            self._monitor.problem("extrinsics", f"{topic} is not used: the transform from {own} is not finite", ERROR)
            return None
        return rotation, translation

    # ------------------------------------------------------------------------------------------------------- health

    def _judge(self, fused: Sequence[fusion.FusedHand]) -> None:
        """Wrong extrinsics or clocks show in views that do not meet."""
        self._monitor.fact("hands seen by several cameras", str(sum(len(one.cameras) > 1 for one in fused)))
        together = [one for one in fused if len(one.cameras) > 1]
        self._agreement.extend((one.combination.disagreement_m, one.surprise) for one in together)
        if together and len(self._agreement) >= REMEMBERED // 2:
            apart_m, surprise = np.median(self._agreement, axis=0)
            if apart_m > DISAGREE_M:
                self._monitor.problem("agreement", f"the cameras' joints are {1e3 * apart_m:.0f} mm from the fused "
                                      "ones: check the transforms between the cameras, and that their clocks agree")
            if surprise > SURPRISE:
                length_m = together[0].hand.hand_length_m
                self._monitor.problem("size", f"together the cameras see a hand of {length_m:.3f} m, {surprise:.1f} "
                                      "standard deviations from what each assumes; if it is not such a hand, check the "
                                      "distance between the cameras")
        alone = [one for one in fused if len(one.cameras) == 1]
        for k, one in enumerate(alone):
            for other in alone[k + 1:]:
                if one.cameras != other.cameras and one.hand.is_right == other.hand.is_right:
                    distance = np.linalg.norm(one.hand.joints_m[0] - other.hand.joints_m[0])
                    self._monitor.problem("apart", f"{one.cameras[0]} and {other.cameras[0]} see a "
                                          f"{'right' if one.hand.is_right else 'left'} hand each, {distance:.2f} m "
                                          "apart; if it is the same one, check the transforms between the cameras")

    def _report(self) -> None:
        now_ns, limit_s = self._steady.now().nanoseconds, self._values.silence_warning_s
        silent = [topic for topic in self._topics
                  if now_ns - self._heard_ns.get(topic, self._started_ns) > limit_s * 1e9]
        until = "" if self._topics[0] in self._frames else "; nothing is sent before the first camera was heard"
        self._monitor.state("silence", f"no hands on {', '.join(silent)}; start the hand pose node of that camera or "
                            f"set hands_topics{until}" if silent else "")
        self._monitor.state("quality of service",
                            "; ".join(filter(None, (qos.unheard(self, topic) for topic in self._topics))))
        self._diagnostics.publish(diagnostics.to_message(
            self._monitor.report(), self.get_fully_qualified_name(), "fusion", self.get_clock().now().to_msg()))

    def stop(self) -> None:
        """Nothing to end."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM. Returns the exit code: 0, or 1 if it refused to start."""
    return process.run(FusionNode, NODE_NAME, args)


if __name__ == "__main__":
    sys.exit(main())
