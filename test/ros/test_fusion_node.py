"""The fusion node over DDS: hands of two cameras and their transforms in, fused hands, TF and diagnostics out."""
from __future__ import annotations

import argparse
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

sys.path.append(str(Path(__file__).parents[1] / "core"))
from test_fusion import error, pose, seen, shape  # noqa: E402
from two_contexts import LATCHED, TwoContexts  # noqa: E402

from hand_pose_ros import messages  # noqa: E402
from hand_pose_ros.config import markdown_table  # noqa: E402
from hand_pose_ros.errors import ConfigError, DataError  # noqa: E402
from hand_pose_ros.frames import quaternion  # noqa: E402
from hand_pose_ros.msg import HandPose21, HandPose21Array  # noqa: E402
from hand_pose_ros.ros import calibrate_cameras, fusion_node  # noqa: E402
from hand_pose_ros.types import ScaleSource  # noqa: E402

TOPICS = {"left": "/cam_left/hand_pose/hands", "right": "/cam_right/hand_pose/hands"}
POSES = {"left": pose(0.0), "right": pose(60.0)}


class Bench(TwoContexts):
    """The fusion, and two cameras with a listener."""

    def __init__(self, **parameters):
        super().__init__(fusion_node.FusionNode, {"hands_topics": ",".join(TOPICS.values()),
                                                  "diagnostics_period_s": 0.2, **parameters}, "cameras")
        self.got, self.tf, self.markers, self.reports = [], [], [], []
        for kind, topic, kept in ((HandPose21Array, "/hand_pose_fusion/hands", self.got), (TFMessage, "/tf", self.tf),
                                  (MarkerArray, "/hand_pose_fusion/markers", self.markers),
                                  (DiagnosticArray, "/diagnostics", self.reports)):
            self.rig.create_subscription(kind, topic, kept.append, 100)
        self.cameras = {name: self.rig.create_publisher(HandPose21Array, topic, 10) for name, topic in TOPICS.items()}
        self.static = self.rig.create_publisher(TFMessage, "/tf_static", LATCHED)
        self.X, self.rng = shape(np.random.default_rng(1)), np.random.default_rng(2)

    def now_ns(self):
        return self.rig.get_clock().now().nanoseconds

    def stamps(self):
        return [messages.stamp_ns(message.header) for message in self.got]

    def good(self):
        """Whether the newest result is where the hand is, which one camera alone cannot know."""
        hands = messages.read_array(self.got[-1])[0] if self.got else ()
        return bool(hands) and error(hands[0], self.X) < 0.03

    def connect(self):
        self.static.publish(TFMessage(transforms=[self.transform()]))

    def transform(self):
        R, t = POSES["right"]
        transform = TransformStamped(child_frame_id="right_optical")
        transform.header.frame_id = "left_optical"
        move, turn = transform.transform.translation, transform.transform.rotation
        move.x, move.y, move.z = t.tolist()
        turn.x, turn.y, turn.z, turn.w = quaternion(R).tolist()
        return transform

    def send(self, *names, metric=True, stamp_ns=None, placed=True):
        """The same hand as each of these cameras sees it, now; the first camera's last, since it sets the pace."""
        now = self.rig.get_clock().now().to_msg() if stamp_ns is None else Time(nanoseconds=stamp_ns).to_msg()
        for name in names or reversed(TOPICS):
            header = HandPose21Array().header
            header.stamp, header.frame_id = now, f"{name}_optical"
            info = messages.ArrayInfo(model="m", runtime="r", filtered=True, metric=metric, latency_receive_ns=1)
            hand = seen(self.X, POSES[name], self.rng, 0.08, track_id=1)
            if not placed:
                hand = replace(hand, joints_m=np.full((21, 3), np.nan), scale_source=ScaleSource.NONE)
            self.cameras[name].publish(messages.fill_array(HandPose21Array(), [hand], header, HandPose21, info))

    def problems(self):
        own = [status for report in self.reports[-2:] for status in report.status
               if status.name.startswith("/hand_pose_fusion: ") and status.level != b"\0"]
        return {status.name.split(": ", 1)[1]: status.message for status in own}

    def said(self):
        return self.problems()


def fused(b):
    """The newest result in which both cameras had a part, as (hands, info), or None."""
    for message in reversed(b.got):
        hands, info = messages.read_array(message)
        if hands and hands[0].scale_source == ScaleSource.MULTI_VIEW:
            return message, hands, info
    return None


def tf_of(b, message):
    """What was heard of the transforms of a result, by child frame."""
    return {t.child_frame_id: t for m in b.tf for t in m.transforms if t.header.stamp == message.header.stamp}


def test_two_cameras_give_one_hand_in_true_metres_with_tf_and_markers():
    with Bench() as b:
        b.connect()
        def with_tf():
            found = fused(b)
            return found if found and tf_of(b, found[0]) else None
        message, (hand,), info = b.until(with_tf, "a fused hand with its TF", b.send)
        assert message.header.frame_id == message.hands[0].header.frame_id == "left_optical"
        alone = seen(b.X, POSES["left"], b.rng, 0.08)
        assert error(hand, b.X) < 0.015 < error(alone, b.X)
        assert info.metric and info.filtered and info.model == "m" and info.runtime == "fusion of 2 cameras, r"
        assert info.latency_publish_ns >= 0 and hand.track_id == 1
        tip = tf_of(b, message)["fused/hand_right_1_index_tip"]
        assert tip.header.frame_id == "left_optical"
        where = tip.transform.translation
        assert np.linalg.norm([where.x - b.X[8, 0], where.y - b.X[8, 1], where.z - b.X[8, 2]]) < 0.03
        b.until(lambda: b.markers, "markers", b.send)
        b.until(lambda: b.reports and not b.problems(), "a report without problems", b.send)


def test_without_the_transform_the_second_camera_is_not_used_and_that_is_said():
    with Bench() as b:
        b.until(lambda: "right_optical" in b.problems().get("extrinsics", ""), "the missing transform", b.send)
        assert "static" in b.problems()["extrinsics"]
        hands, info = messages.read_array(b.got[-1])
        assert len(hands) == 1 and hands[0].scale_source == ScaleSource.ASSUMED and "1 cameras" in info.runtime
        b.connect()
        b.until(lambda: fused(b), "a fused hand once the transform is there", b.send)


def test_the_others_go_on_in_the_first_cameras_frame_while_it_is_silent():
    with Bench(silence_warning_s=0.5) as b:
        b.connect()
        b.until(lambda: TOPICS["left"] in b.problems().get("silence", ""), "a word on silence", lambda: b.send("right"))
        assert not b.got and "before the first camera" in b.problems()["silence"]
        b.until(lambda: fused(b), "a fused hand", b.send)

        def by_right():
            hands = messages.read_array(b.got[-1])[0]
            return b.got[-1] if hands and np.isnan(hands[0].joints_px).all() else None
        message = b.until(by_right, "results without the first camera", lambda: b.send("right"))
        assert message.header.frame_id == "left_optical"
        assert error(messages.read_array(message)[0][0], b.X) < 0.2


def test_a_moved_hand_tells_where_the_cameras_are_and_the_node_takes_it_instead_of_tf(tmp_path, capsys):
    path = tmp_path / "cameras.json"
    parser = argparse.ArgumentParser()
    calibrate_cameras.add_arguments(parser)
    args = parser.parse_args([*TOPICS.values(), "--out", str(path), "--seconds", "3"])
    with Bench() as b:
        work = threading.Thread(target=lambda: ended.append(calibrate_cameras.main(args)), daemon=True)
        X, ended, began_s = b.X, [], time.monotonic()
        work.start()

        def move():
            at_s = 3.0 * (time.monotonic() - began_s)
            b.X = X + [0.15 * np.sin(1.1 * at_s), 0.1 * np.sin(1.7 * at_s), 0.12 * np.sin(2.3 * at_s)]
            b.send()
            time.sleep(0.02)

        b.until(lambda: not work.is_alive(), "the end of the calibration", move)
        assert ended == [0]
    said = capsys.readouterr().out
    assert "right_optical is at" in said and "static_transform_publisher --frame-id left_optical" in said
    with Bench(extrinsics_file=str(path)) as b:
        _, (hand,), _ = b.until(lambda: fused(b), "a fused hand without any TF", b.send)
        assert np.linalg.norm(hand.joints_rel_m - (b.X - b.X[0]), axis=-1).mean() < 0.015
    with Bench(extrinsics_file=str(path), hands_topics=f"{TOPICS['right']},{TOPICS['left']}") as b:
        b.until(lambda: "does not tell where left_optical is" in b.problems().get("extrinsics", ""), "a word on it",
                b.send)


def test_a_calibration_that_hears_nothing_names_the_topic(tmp_path):
    parser = argparse.ArgumentParser()
    calibrate_cameras.add_arguments(parser)
    args = parser.parse_args(["/a/hands", "/b/hands", "--out", str(tmp_path / "x.json"), "--timeout", "1"])
    with pytest.raises(DataError, match="/a/hands: no message.*/b/hands: no message"):
        calibrate_cameras.main(args)
    for change, words in ((dict(second="/a/hands"), "two cameras"), (dict(seconds=0.0), "1 to 3600"),
                          (dict(out=str(tmp_path / "no" / "x")), "no folder"), (dict(first="a b"), "no topic name")):
        with pytest.raises(ConfigError, match=words):
            calibrate_cameras.main(argparse.Namespace(**{**vars(args), **change}))


def test_guessed_metres_are_not_fused():
    with Bench() as b:
        b.connect()
        b.until(lambda: "not calibrated" in b.problems().get("metres", ""), "a word on guessed metres",
                lambda: (b.send("left"), b.send("right", metric=False)))
        assert fused(b) is None and b.got


def test_hands_without_a_place_are_told_of_and_make_no_result_metric():
    """What a hand pose node without camera_info sends."""
    with Bench() as b:
        b.connect()
        b.until(lambda: "no place in metres" in b.problems().get("metres", ""), "a word of them",
                lambda: (b.send("left"), b.send("right", metric=False, placed=False)))
        assert messages.read_array(b.got[-1])[1].metric
        b.until(lambda: not messages.read_array(b.got[-1])[1].metric, "results that are not metric",
                lambda: b.send(metric=False, placed=False))


@pytest.mark.parametrize("late, parameters", [("left", {}), ("right", {"wait_s": 0.4})])
def test_cameras_of_unequal_delay_are_fused(late, parameters):
    """150 ms apart: the late one's image is joined by the other's of the same time, whichever of them leads."""
    with Bench(**parameters) as b:
        b.connect()
        soon, waiting = next(name for name in TOPICS if name != late), []

        def send():
            waiting.append(b.now_ns())
            b.send(soon, stamp_ns=waiting[-1])
            while waiting and b.now_ns() - waiting[0] > 150_000_000:
                b.send(late, stamp_ns=waiting.pop(0))
            b.spin(0.03)
        b.until(lambda: fused(b), "both cameras", send)
        b.got.clear()
        b.until(lambda: len(b.got) > 15, "results", send)
        assert np.median([error(messages.read_array(m)[0][0], b.X) for m in b.got]) < 0.03       # alone: 0.06


def test_a_camera_whose_images_come_later_than_is_waited_for_is_told_of():
    with Bench(wait_s=0.02) as b:
        b.connect()
        waiting = []

        def send():
            waiting.append(b.now_ns())
            b.send("left", stamp_ns=waiting[-1])
            while waiting and b.now_ns() - waiting[0] > 150_000_000:
                b.send("right", stamp_ns=waiting.pop(0))
            b.spin(0.03)
        said = b.until(lambda: b.problems().get("skew", ""), "a word of it", send)
        assert TOPICS["right"] in said and "raise wait_s to 0." in said and "synchronise" in said


def test_no_result_repeats_a_time_or_goes_back_when_the_pace_changes():
    """The first camera's hands come later than the second's, and it falls silent for a while."""
    with Bench(wait_s=0.0) as b:
        b.connect()
        b.until(lambda: b.got, "a result", b.send)
        b.until(lambda: len(b.got) > 5, "results by the second camera", lambda: (b.send("right"), b.spin(0.05)))
        behind_ns = b.now_ns() - 40_000_000
        b.send("right")
        b.spin(0.2)
        b.send("left", stamp_ns=behind_ns)
        b.spin(0.2)
        stamps = b.stamps()
        assert np.all(np.diff(stamps) > 0), np.diff(stamps)
        b.send(stamp_ns=stamps[0] - 20 * 10**9)                              # a bag that starts again
        b.until(lambda: b.stamps()[-1] == stamps[0] - 20 * 10**9, "its results",
                lambda: b.send(stamp_ns=stamps[0] - 20 * 10**9))


def test_a_slow_first_camera_leads_all_the_same():
    """Below three images a second; each of them gives one result, of both cameras."""
    with Bench() as b:
        b.connect()
        b.until(lambda: fused(b), "a fused hand", b.send)
        for _ in range(2):
            b.spin(0.45)
            b.send()
        before = len(b.got)
        for _ in range(5):
            b.spin(0.45)
            b.send("right")
            b.spin(0.1)
            b.send("left")
        b.spin(0.3)
        assert len(b.got) - before <= 6 and np.all(np.diff(b.stamps()) > 0)


def test_a_moving_cameras_place_is_waited_for():
    with Bench(wait_s=0.5) as b:
        moving = b.rig.create_publisher(TFMessage, "/tf", 10)

        def tell():
            transform = b.transform()
            transform.header.stamp = b.rig.get_clock().now().to_msg()
            moving.publish(TFMessage(transforms=[transform]))

        def send():
            b.send()
            b.spin(0.05)
            tell()
            b.spin(0.05)
        b.until(b.good, "a fused hand", send)
        b.got.clear()
        b.reports.clear()
        for _ in range(6):
            send()
        b.until(lambda: len(b.got) >= 5, "the results", lambda: b.spin(0.05))
        errors = [error(messages.read_array(m)[0][0], b.X) for m in b.got]
        assert np.median(errors) < 0.03, errors                              # a busy machine may be late once
        said = b.until(lambda: b.problems().get("extrinsics", ""), "what is missing", b.send)
        assert "too late" in said and "raise wait_s" in said


def test_nobody_waits_for_the_place_of_a_camera_that_is_silent():
    """Its computer is switched off, and with it the transforms of its mount."""
    with Bench(wait_s=0.5) as b:
        moving = b.rig.create_publisher(TFMessage, "/tf", 10)
        transform = b.transform()
        transform.header.stamp = b.rig.get_clock().now().to_msg()
        moving.publish(TFMessage(transforms=[transform]))
        b.until(lambda: b.got, "a result", b.send)
        b.spin(fusion_node.LEAD_S + 0.7)
        asked = []
        b.tested._missing = lambda *_: False
        poses = b.tested._poses
        b.tested._poses = lambda stamp_ns: asked.append(poses(stamp_ns)) or asked[-1]
        b.send("left")
        b.until(lambda: asked, "a result by the first camera alone", lambda: b.send("left"))
        assert all(not late for _, late in asked)


def test_views_that_never_meet_are_reported():
    with Bench() as b:
        R, t = POSES["right"]
        POSES["right"] = R, t + [0.0, 0.3, 0.0]
        try:
            b.connect()
        finally:
            POSES["right"] = R, t
        said = b.until(lambda: b.problems().get("apart", ""), "a word on views apart", b.send)
        assert "right hand each" in said and "transforms" in said


@pytest.mark.parametrize("values, words", [
    ({"hands_topics": "/a"}, "two or more"), ({"hands_topics": "/a,/a"}, "different"),
    ({"hands_topics": "/a,b c"}, "no topic name"), ({"tf_prefix": "/x"}, "tf_prefix"), ({"max_skew_s": 5.0}, "0.001")])
def test_settings_that_cannot_work_are_refused(values, words):
    with pytest.raises(ConfigError, match=words):
        with Bench(**values):
            pass


def test_the_documentation_has_the_settings_as_they_are():
    text = (Path(__file__).parents[2] / "docs" / "fusion.md").read_text()
    assert text[text.index("| parameter |"):].strip() == markdown_table(fusion_node.SETTINGS).strip()


def test_hands_that_quality_of_service_keeps_away_are_told_of():
    with Bench() as b:
        b.until(lambda: "silence" in b.problems(), "a report")
        assert "quality of service" not in b.problems()                      # of the reliable ones
        b.rig.create_publisher(HandPose21Array, TOPICS["right"],
                               QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT))
        b.until(lambda: f"{TOPICS['right']} is not heard from /cameras" in b.problems().get("quality of service", ""),
                "what is not heard")
