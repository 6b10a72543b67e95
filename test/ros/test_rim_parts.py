"""Parts of the rim that need no second process: slot, frames, markers, monitor, QoS choice, stand-ins, images."""
from __future__ import annotations

import argparse
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import Point, TransformStamped
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from standin_node import oracle
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from hand_pose_ros import imaging, skeleton
from hand_pose_ros.config import Setting
from hand_pose_ros.errors import ConfigError
from hand_pose_ros.msg import HandPose21Array
from hand_pose_ros.ros import compat, diagnostics, environment, images, parameters, publishers, qos, run, teleop
from hand_pose_ros.ros import transforms
from hand_pose_ros.ros.markers import HandMarkers
from hand_pose_ros.ros.newest import Newest
from hand_pose_ros.ros.publishers import OLDEST_PLAUSIBLE_NS, Latency
from hand_pose_ros.types import Hand, JointState, ScaleSource


def some_hand(right=True, track_id=1, **changes):
    joints = oracle.hand(right=right)
    hand = Hand(0.9, float(right), np.array([0.0, 0, 9, 9]), joints[:, :2], joints, joints - joints[0], np.ones(21),
                np.full(21, JointState.VISIBLE, np.uint8), np.ones(21), np.ones(21), 0.18, ScaleSource.ASSUMED,
                track_id)
    return replace(hand, **changes)


# --------------------------------------------------------------------------------------------------------- newest frame

@given(st.lists(st.one_of(st.integers(0, 99), st.none()), max_size=40))
def test_every_item_is_taken_or_counted(actions):
    """Numbers are put, None takes: taken plus counted as replaced plus waiting is all that was put."""
    slot, put, taken, replaced = Newest(), 0, [], 0
    for action in actions:
        if action is None:
            item, lost = slot.take(0.0)
            taken += [] if item is None else [item]
            replaced += lost
        else:
            slot.put((put, action))
            put += 1
    last, lost = slot.take(0.0)
    assert len(taken) + replaced + lost + (last is not None) == put
    assert [number for number, _ in taken] == sorted({number for number, _ in taken})


def test_take_wakes_up_for_the_next_item():
    slot, got = Newest(), []
    thread = threading.Thread(target=lambda: got.append(slot.take(5.0)))
    thread.start()
    slot.put("image")
    thread.join(5.0)
    assert got == [("image", 0)]


# ------------------------------------------------------------------------------------------------- processor time

def test_a_late_timer_tells_of_too_little_processor_time_for_a_while():
    now = [100.0]
    punctuality = diagnostics.Punctuality(0.25, lambda: now[0])

    def tick(after_s):
        now[0] += after_s
        punctuality.tick()
    now[0] += 7.0                                           # networks are loaded
    punctuality.restart()
    for after_s in (0.1, 0.25, 0.3, 0.2, 0.6):
        tick(after_s)
    assert punctuality.worst_s() == pytest.approx(0.35) and not punctuality.starved
    tick(0.25 + diagnostics.LATE_S + 0.1)
    assert punctuality.starved
    for _ in range(39):
        tick(0.25)
    assert punctuality.starved
    tick(0.5)
    assert not punctuality.starved
    now[0] += 20.0
    punctuality.restart()
    tick(0.25)
    assert not punctuality.starved and punctuality.worst_s() < 0.3
    punctuality.restart()
    tick(0.25 + diagnostics.LATE_S + 0.1)                   # late from the start
    assert punctuality.starved


# --------------------------------------------------------------------------------------------------------------- frames

def test_names_tell_side_track_and_camera():
    assert transforms.hand_name(some_hand(True, 3), "cam_left/") == "cam_left/hand_right_3"
    assert transforms.hand_name(some_hand(False, 4)) == "hand_left_4"
    assert [transforms.prefix_of(name) for name in ("/", "/cam_left", "/robot/cam")] == ["", "cam_left/", "robot/cam/"]


@pytest.mark.parametrize("right", [True, False])
def test_all_six_frames_of_a_known_hand(right):
    hand = some_hand(right)
    (frames,) = transforms.hand_frames((hand,))
    assert tuple(name for name, _, _ in frames) == transforms.FRAMES
    for (_, position, quaternion), joint in zip(frames, (0, 4, 8, 12, 16, 20)):
        assert np.allclose(position, hand.joints_m[joint]) and np.isclose(np.linalg.norm(quaternion), 1)


@pytest.mark.parametrize("state", [JointState.OUTSIDE_IMAGE, JointState.EXTRAPOLATED, JointState.UNKNOWN])
@pytest.mark.parametrize("joint, missing", [
    (4, {"thumb_tip"}), (2, {"thumb_tip"}), (8, {"index_tip"}), (20, {"little_tip"}), (18, {"little_tip"}),
    (13, {"ring_tip"}), *((palm, set(transforms.FRAMES)) for palm in (0, 5, 9, 17))])
def test_a_frame_is_made_of_joints_that_are_seen_or_not_sent(state, joint, missing):
    """Its axes come from other joints: from guessed ones they would look as good as from seen ones."""
    states = np.full(21, JointState.VISIBLE, np.uint8)
    states[joint] = state
    names = {name for name, _, _ in transforms.hand_frames((some_hand(state=states),))[0]}
    assert names == set(transforms.FRAMES) - missing


def test_a_hand_without_metres_has_no_frames():
    assert transforms.hand_frames((some_hand(joints_m=np.full((21, 3), np.nan)),)) == [[]]
    broken = some_hand().joints_m.copy()
    broken[8] = np.nan
    assert "index_tip" not in [name for name, _, _ in transforms.hand_frames((some_hand(joints_m=broken),))[0]]


def test_transform_messages_hold_plain_floats():
    header = Header(frame_id="eye")
    out = transforms.transform_messages(TransformStamped, header, (some_hand(), some_hand(False, 2)), "")
    assert len(out) == 12 and len({m.child_frame_id for m in out}) == 12
    assert all(type(m.transform.rotation.w) is float and m.header.frame_id == "eye" for m in out)


def test_clash_guard_knows_its_own():
    guard = transforms.ClashGuard("", remembered=3)
    for stamp in (1, 2, 3, 4):
        guard.sent("hand_right_1_wrist", stamp)
    assert guard.may_concern(b"....hand_right_1_wrist..") and not guard.may_concern(b"base_link")
    assert not guard.foreign("hand_right_1_wrist", 4)
    assert guard.foreign("hand_right_1_wrist", 4)               # sent once, came twice
    assert guard.foreign("hand_right_1_wrist", 99)
    assert not guard.foreign("hand_left_7_wrist", 99)           # never sent by us: no clash
    for stamp in (5, 6, 7):
        guard.sent("hand_left_2_wrist", stamp)
    assert not guard.foreign("hand_right_1_wrist", 99)          # not sent any more
    assert len(guard._own) == 3 and dict(guard._names) == {"hand_left_2_wrist": 3}


def test_own_transforms_that_come_back_late_are_no_clash():
    """As many as can wait in the queue of /tf (100 messages of 6 hands) while the executor is kept busy."""
    guard = transforms.ClashGuard("")
    sent = [(f"hand_right_{hand}_{frame}", stamp) for stamp in range(1, 101) for hand in range(6)
            for frame in transforms.FRAMES]
    for child, stamp in sent:
        guard.sent(child, stamp)
    assert not any(guard.foreign(child, stamp) for child, stamp in sent)


# -------------------------------------------------------------------------------------------------------------- markers

def test_markers_of_lost_hands_are_deleted_once():
    maker = HandMarkers(MarkerArray, Marker, Point, ColorRGBA, "")
    first = maker.message(Header(), (some_hand(track_id=1), some_hand(False, 2)))
    names = ("hand_right_1", "hand_left_2")
    assert {(m.ns, m.id) for m in first.markers} == {(name, k) for name in names for k in range(3)}
    second = maker.message(Header(), (some_hand(track_id=1),))
    assert {(m.ns, m.id) for m in second.markers if m.action == Marker.DELETE} == {("hand_left_2", k) for k in range(3)}
    assert not any(m.action == Marker.DELETE for m in maker.message(Header(), (some_hand(track_id=1),)).markers)


# -------------------------------------------------------------------------------------------------------------- monitor

def make_monitor():
    now, said = SimpleNamespace(s=0.0), []
    return diagnostics.Monitor(lambda level, text: said.append(text), lambda: now.s), now, said


def test_problems_are_said_once_and_fade_or_stay():
    monitor, now, said = make_monitor()
    for now.s in np.arange(0, 3, 0.1):
        monitor.problem("image", "torn; mend it")
        monitor.problem("lens", "missing; find it", diagnostics.ERROR, standing=True)
    assert said == ["torn; mend it", "missing; find it"]
    now.s += diagnostics.HOLD_S + 0.1
    assert [(status.name, status.level) for status in monitor.report()] == [
        ("lens", diagnostics.ERROR), ("image", diagnostics.OK), ("summary", diagnostics.ERROR)]
    monitor.clear("lens")
    assert [(status.name, status.summary) for status in monitor.report()] == [
        ("lens", "solved"), ("summary", "running")]
    assert [status.name for status in monitor.report()] == ["summary"] and monitor.report()[-1].level == diagnostics.OK


def test_a_state_is_a_problem_for_as_long_as_there_is_a_text():
    monitor, now, said = make_monitor()
    for text in ("", "open; close it", "open; close it", ""):
        now.s += diagnostics.HOLD_S + 0.1
        monitor.state("door", text, diagnostics.ERROR)
        assert monitor.has("door") == bool(text)
        monitor.report()
        assert monitor.has("door") == bool(text)                    # it stands
    assert said == ["open; close it"] and monitor.report()[-1].level == diagnostics.OK


def test_a_text_that_changes_all_the_time_does_not_fill_the_log():
    monitor, now, said = make_monitor()
    for k in range(300):
        now.s = k / 30
        monitor.problem("image", f"JPEG of {k} bytes is torn")
    assert said == ["JPEG of 0 bytes is torn"] and monitor.report()[0].values["times seen"] == "300"
    assert monitor.report()[0].summary == "JPEG of 299 bytes is torn"
    for k in range(30):                                             # two causes that take turns
        monitor.problem("image", f"other words {k}" if k % 2 else "it cannot go on", diagnostics.ERROR)
    assert said[1:] == ["it cannot go on", "other words 1"]
    now.s += diagnostics.LOG_AGAIN_S
    monitor.problem("image", "it cannot go on")
    assert said[3:] == ["it cannot go on"]


def test_time_without_an_answer_begins_with_the_first_image():
    monitor, now, _ = make_monitor()
    now.s = 100.0
    assert monitor.unanswered_s() == 0.0
    for now.s in (100.0, 100.1, 100.2):
        monitor.received()
    assert monitor.unanswered_s() == pytest.approx(0.2)
    monitor.published({}, 0)
    assert monitor.unanswered_s() == 0.0
    monitor.received()                                              # the last image before a pause gets no answer
    now.s = 160.0
    monitor.received()
    assert monitor.unanswered_s() == 0.0


@given(st.integers(1, 60), st.integers(0, 60))
@settings(max_examples=20)
def test_rates_and_percentiles(rate_hz, dropped):
    monitor, now, _ = make_monitor()
    for k in range(20 * rate_hz):
        now.s = k / rate_hz
        monitor.received()
        monitor.published({"pose": float(k % 100), "age at publication": float("nan")}, dropped)
    values = monitor.report()[-1].values
    assert abs(float(values["results published [Hz]"]) - rate_hz) <= 0.1 * rate_hz + 0.1
    assert values["dropped in total"] == str(20 * rate_hz * dropped)
    assert "age at publication p50 / p95 / p99 [ms]" not in values      # unknown is not a number
    p50, p95, p99 = (float(x) for x in values["pose p50 / p95 / p99 [ms]"].split(" / "))
    assert p50 <= p95 <= p99 <= 99


def test_diagnostics_message():
    monitor, _, _ = make_monitor()
    monitor.problem("lens", "missing", diagnostics.ERROR)
    message = diagnostics.to_message(monitor.report(), "/hand_pose", "camera", Header().stamp)
    levels = [(status.name, status.level) for status in message.status]
    assert levels == [("/hand_pose: lens", b"\x02"), ("/hand_pose: summary", b"\x02")]


# -------------------------------------------------------------------------------------------------------------- latency

# ONNX Runtime, loaded by other tests, may have set this process to count subnormal numbers as zero.
@given(st.integers(1, OLDEST_PLAUSIBLE_NS), st.lists(st.floats(0, 1, allow_subnormal=False), min_size=4, max_size=4))
def test_stages_add_up(age_ns, stages_s):
    marks = dict(zip(("decode", "detect", "pose", "lift"), 5.0 + np.cumsum(stages_s)))
    latency = Latency(10**18, 10**18 + age_ns, 5.0, marks)
    durations = latency.durations_ms(marks["lift"] + 0.25)
    assert np.isclose(sum(durations.values()) - durations["age at publication"], 1e3 * (sum(stages_s) + 0.25))
    assert np.isclose(durations["age at publication"], age_ns / 1e6 + 1e3 * (sum(stages_s) + 0.25), atol=1e-3)


@pytest.mark.parametrize("stamp_ns, received_ns", [(0, 10**18), (10**18, 10**18 - 1), (1, 10**18)])
def test_ages_that_cannot_be_known(stamp_ns, received_ns):
    assert Latency(stamp_ns, received_ns, 0.0, {}).since_stamp_ns(1.0) == -1


# ------------------------------------------------------------------------------------------------------------------ QoS

RELIABLE, BEST = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
KEPT, VOLATILE = DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE


def publisher(reliability, durability=VOLATILE):
    return SimpleNamespace(node_name="driver", node_namespace="/front", qos_profile=QoSProfile(
        depth=1, reliability=reliability, durability=durability))


@pytest.mark.parametrize("publishers, reliability, durability", [
    ([], BEST, VOLATILE), ([publisher(RELIABLE)], RELIABLE, VOLATILE), ([publisher(BEST)], BEST, VOLATILE),
    ([publisher(RELIABLE), publisher(BEST)], BEST, VOLATILE), ([publisher(RELIABLE, KEPT)], RELIABLE, KEPT),
    ([publisher(RELIABLE, KEPT), publisher(RELIABLE)], RELIABLE, VOLATILE)])
def test_auto_hears_every_publisher(publishers, reliability, durability):
    profile = qos.matching(publishers)
    assert (profile.reliability, profile.durability) == (reliability, durability)
    assert qos.mismatches("/image", profile, publishers) == []


def test_mismatches_name_both_sides():
    sentences = qos.mismatches("/image", QoSProfile(depth=1, reliability=RELIABLE, durability=KEPT), [publisher(BEST)])
    assert len(sentences) == 2 and all("/image" in s and "/front/driver" in s for s in sentences)


# ------------------------------------------------------------------------------------------------------------ stand-ins

def stamped(ns):
    message = Image()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(ns, 10**9)
    return message


def test_synchronizer_pairs_the_nearest():
    pairs = []
    first, second = compat.approximate_synchronizer(5, 0.010, lambda a, b: pairs.append(
        (a.header.stamp.nanosec, b.header.stamp.nanosec)))
    first(stamped(0))
    second(stamped(50_000_000))
    assert pairs == []
    first(stamped(45_000_000))
    second(stamped(5_000_000))
    assert sorted(pairs) == [(0, 5_000_000), (45_000_000, 50_000_000)]


def test_after_time_went_back_only_a_new_synchronizer_pairs():
    """As message_filters does it: the messages of later stamps that still wait keep the new ones out."""
    pairs = []
    first, second = compat.approximate_synchronizer(3, 0.010, lambda a, b: pairs.append(b))
    for k in range(3):
        first(stamped(10**9 + k * 100_000_000))
    for k in range(3):
        first(stamped(k * 100_000_000))
        second(stamped(k * 100_000_000 + 1_000_000))
    assert pairs == []


# --------------------------------------------------------------------------------------------------------------- images

@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8"])
def test_published_images_come_back(encoding):
    rgb = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    message = images.raw_message(Image, Header(frame_id="eye"), rgb, encoding)
    assert type(message.data).__name__ == "array" and message.header.frame_id == "eye"
    assert np.array_equal(images.decode(message), rgb)


def test_published_jpeg_comes_back():
    rgb = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    message = images.compressed_message(CompressedImage, Header(), rgb, 95)
    assert np.abs(images.decode(message).astype(int) - rgb).max() < 8


def test_encodings_of_an_installed_cv_bridge(monkeypatch):
    """Where cv_bridge is installed, it is asked for what imaging.py does not know, and only for that."""
    class Bridge:
        def imgmsg_to_cv2(self, message, encoding):
            if message.encoding != "yuv9":
                raise KeyError(message.encoding)
            return np.full((2, 2, 3), 7, np.uint8)
    monkeypatch.setattr(compat, "cv_bridge", Bridge)
    assert images.decode(Image(encoding="yuv9")).max() == 7
    with pytest.raises(imaging.FrameError, match="yuv10"):
        images.decode(Image(encoding="yuv10"))


# ----------------------------------------------------------------------------------------------------------- parameters

def test_settings_have_names_of_their_own_and_texts():
    names = [setting.name for setting in parameters.all_settings()]
    assert len(names) == len(set(names))
    for setting in parameters.all_settings():
        descriptor = parameters.descriptor(setting)
        assert setting.help and descriptor.description.startswith(setting.help)
        if setting.low is not None:
            assert setting.low <= setting.default <= setting.high


def test_ranges_reach_the_descriptor():
    whole = parameters.descriptor(Setting("n", 2, "N.", low=1, high=6)).integer_range[0]
    assert (whole.from_value, whole.to_value, whole.step) == (1, 6, 1)
    real = parameters.descriptor(Setting("x", 2.0, "X.", unit="s", low=1, high=6))
    assert real.floating_point_range[0].to_value == 6.0 and real.description == "X. [s]"


@pytest.mark.parametrize("topic", ["my topic", "/eye//image", "{eye}/image", "/eye/", "1st"])
def test_a_topic_that_ros_would_refuse_later_is_refused(topic):
    with pytest.raises(ConfigError, match="image_topic is '.*', which is no topic name"):
        parameters.check_topic("image_topic", topic)
    for good in ("image", "/eye/image_raw", "~/image", "{node}/image"):
        parameters.check_topic("image_topic", good)


LIMITS = (Setting("gripper_speed_m_s", 0.15, "Speed."), Setting("max_hand_speed_m_s", 4.0, "Speed of a hand."))


@contextmanager
def started(monkeypatch, *words, **options):
    """A node as its process would make it: these words follow --ros-args."""
    monkeypatch.setattr(sys, "argv", ["teleop", "--ros-args", *map(str, words)])
    context = Context()
    rclpy.init(args=sys.argv, context=context)
    node = Node("teleop", context=context, **options)
    try:
        yield parameters.Parameters(node, LIMITS, lambda values: None).values
    finally:
        node.destroy_node()
        context.try_shutdown()


def parameter_file(folder, sections):
    """Written there; sections: key -> parameters in braces."""
    path = folder / "some.yaml"
    path.write_text("".join(f"{key}: {{ros__parameters: {values}}}\n" for key, values in sections.items()))
    return path


@pytest.mark.parametrize("words, sections, said", [
    (("-p", "gripper_speed:=0.01"), {}, "'gripper_speed'; the nearest is 'gripper_speed_m_s'"),
    (("-p", "teleop:velocity:=0.01"), {}, "'velocity'"),
    (("-p", "use_sim_tim:=true"), {}, "'use_sim_tim'; the nearest is 'use_sim_time'"),
    (("--params-file",), {"/**": "{max_hand_spead_m_s: 1.0}"}, "'max_hand_spead_m_s'; .* 'max_hand_speed_m_s'"),
    (("--params-file",), {"teleop": "{velocity: 0.01}"}, "'velocity'"),
    (("--params-file",), {"/**/teleop": "{arm: {velocity: 0.01}}"}, "'arm.velocity'"),
    (("--params-file",), {"/**": "{velocity: 0.01}", "teleop": "{velocity: 0.02}"}, "'velocity'"),
    (("-p", "velocity:=0.01", "--params-file"), {"/**": "{velocity: 0.01}"}, "'velocity'")])
def test_a_parameter_that_is_none_is_refused_so_that_no_limit_keeps_its_default(monkeypatch, tmp_path, words, sections,
                                                                               said):
    with pytest.raises(ConfigError, match=f"there is no parameter {said}"):
        with started(monkeypatch, *words, *([parameter_file(tmp_path, sections)] if sections else [])):
            pass


def test_a_name_that_a_program_gives_is_checked_too(monkeypatch):
    with pytest.raises(ConfigError, match="no parameter 'velocity'"):
        with started(monkeypatch, parameter_overrides=[Parameter("velocity", value=0.01)]):
            pass


def test_what_is_for_other_nodes_and_for_rclpy_is_not_refused(monkeypatch, tmp_path, capfd):
    """One file for a camera driver and this node, as launch files pass it to both."""
    file = parameter_file(tmp_path, {
        "/**": "{camera: {info_url: x}, frame_id: eye, gripper_speed_m_s: 0.02}",
        "camera": "{gripper_sped_m_s: 1.0}", "teleop": "{max_hand_speed_m_s: 3.0, use_sim_time: false}"})
    with started(monkeypatch, "--params-file", file, "-p", "start_type_description_service:=false", "-p",
                 "qos_overrides./tf.publisher.depth:=5", "-p", "camera:other:=1") as values:
        assert (values.gripper_speed_m_s, values.max_hand_speed_m_s) == (0.02, 3.0)
    said = capfd.readouterr().err
    assert "no parameter 'camera.info_url' here" in said and "no parameter 'frame_id' here" in said


def test_what_a_later_rclpy_would_declare_is_not_refused():
    node = SimpleNamespace(_parameter_overrides={"start_type_description_service": False},
                           has_parameter=lambda _: False, get_fully_qualified_name=lambda: "/humble",
                           add_on_set_parameters_callback=lambda _: None)
    parameters.Parameters(node, (), lambda values: None)
    node._parameter_overrides = {"start_type": False}
    with pytest.raises(ConfigError, match="start_type"):
        parameters.Parameters(node, (), lambda values: None)


def test_a_file_without_a_section_for_the_node_is_logged(monkeypatch, tmp_path, capfd):
    """It may be meant for others: a launch file passes one to all its nodes."""
    file = parameter_file(tmp_path, {"teleop": "{gripper_speed_m_s: 0.02}"})
    with started(monkeypatch, "--params-file", file, "-r", "__ns:=/left"):
        assert f"{file} has no section for /left/teleop" in capfd.readouterr().err
    with started(monkeypatch, "--params-file", parameter_file(tmp_path, {"/**/teleop": "{}"}), "-r", "__ns:=/left"):
        assert "no section" not in capfd.readouterr().err


@pytest.mark.parametrize("command, name, module", [(run, "hand_pose", "node"), (teleop, "teleop", "teleop_node")])
def test_a_config_file_that_says_nothing_to_the_node_is_refused(monkeypatch, tmp_path, command, name, module):
    ran = []
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "the user's own")       # so that run sets none here
    monkeypatch.setattr(f"hand_pose_ros.ros.{module}.main", ran.append)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)

    def start(file, *ros):
        command.main(parser.parse_args(["--config", str(file), *(["--ros-args", *ros] if ros else [])]))
        return ran.pop()
    left = ("-r", "__ns:=/left")
    for key, ros in ((name, ()), ("/**", left), (f"/left/{name}", left), ("x: {a: 1}\nleft:\n  " + name, left)):
        file = parameter_file(tmp_path, {key: "{a: 1}"})
        assert start(file, *ros)[1:] == ["--ros-args", "--params-file", str(file), *ros]
    for key, values, ros, node in (("other", "{a: 1}", (), f"/{name}"), (name, "{a: 1}", left, f"/left/{name}"),
                                   ("/**", "{}", (), f"/{name}"),
                                   (name, "{a: 1}", ("-r", f"{name}:__node:=b"), "/b")):
        with pytest.raises(ConfigError, match=f"no parameters for the node {node};"):
            start(parameter_file(tmp_path, {key: values}), *ros)
    for text, said in (("", "no parameters"), ("a: [", "no parameter file")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=said):
            start(file)
    with pytest.raises(ConfigError, match="there is no parameter file"):
        start(tmp_path / "nope.yaml")


@pytest.mark.parametrize("rclpy_version, localhost, expected", [("3.3.17", "1", False), ("3.3.17", "0", True),
                                                                ("9.1.1", "1", True)])
def test_the_profile_does_not_open_interfaces_that_humble_was_told_to_close(monkeypatch, rclpy_version, localhost,
                                                                            expected):
    monkeypatch.setattr(environment.metadata, "version", lambda name: rclpy_version)
    variables = {"ROS_LOCALHOST_ONLY": localhost}
    environment.use_large_image_profile(variables)
    assert any(name in variables for name in environment.PROFILE_VARIABLES) == expected


@pytest.mark.parametrize("rclpy_version, expected", [("3.3.17", "1"), ("7.1.6", None), ("9.1.1", None)])
def test_only_humble_is_kept_to_this_machine_by_the_name_that_later_ones_warn_of(monkeypatch, rclpy_version, expected):
    monkeypatch.setattr(environment.metadata, "version", lambda name: rclpy_version)
    variables = {"ROS_LOCALHOST_ONLY": "0"}
    environment.keep_to_this_machine(variables, 5)
    assert variables.get("ROS_LOCALHOST_ONLY") == expected
    assert (variables["ROS_AUTOMATIC_DISCOVERY_RANGE"], variables["ROS_DOMAIN_ID"]) == ("LOCALHOST", "5")


@pytest.mark.parametrize("events_executor, called", [(object(), False), (None, True)])
def test_an_events_executor_gets_no_events_of_subscriptions_that_may_be_gone(monkeypatch, events_executor, called):
    """ros2/rclpy issue 1644: it may crash over them. rclpy's own callbacks count, so they are off in both."""
    def said(event):
        raise AssertionError

    monkeypatch.setattr(compat, "_events_executor", lambda: events_executor)
    callbacks = compat.subscription_events(said)
    assert callbacks.incompatible_qos is (said if called else None) and not callbacks.use_default_callbacks
    assert compat.subscription_events().incompatible_qos is None


@pytest.mark.parametrize("value", ["reliability:=besteffort", "depth:='5'", "depth:=-1"])
def test_an_override_of_quality_that_is_none_is_refused_by_name(value):
    with started_node("-p", f"qos_overrides./probe/hands.publisher.{value}") as node:
        with pytest.raises(ConfigError, match="qos_overrides of ~/hands is not possible"):
            qos.results_publisher(node.create_publisher, HandPose21Array, "~/hands")
    assert qos.RESULTS.depth == 5 and qos.RESULTS.reliability == ReliabilityPolicy.RELIABLE


@contextmanager
def started_node(*words):
    context = Context()
    rclpy.init(context=context)
    node = Node("probe", context=context, cli_args=["--ros-args", *words])
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_a_transform_message_takes_a_point_of_the_frame_to_the_camera():
    hand_ = some_hand(True)
    for message in transforms.transform_messages(TransformStamped, Header(), (hand_,), ""):
        joint = dict(zip(transforms.FRAMES, (0, 4, 8, 12, 16, 20)))[message.child_frame_id.split("_", 3)[3]]
        before = 0 if joint == 0 else joint - 1
        bone = hand_.joints_m[9 if joint == 0 else joint] - hand_.joints_m[before]
        p, q = message.transform.translation, message.transform.rotation
        np.testing.assert_allclose((p.x, p.y, p.z), hand_.joints_m[joint])
        v, x = np.array([q.x, q.y, q.z]), np.array([1.0, 0, 0])
        np.testing.assert_allclose(x + 2 * np.cross(v, np.cross(v, x) + q.w * x), bone / np.linalg.norm(bone),
                                   atol=1e-9)


def test_markers_lie_on_the_hand():
    one = some_hand(True)
    bones, joints, label = HandMarkers(MarkerArray, Marker, Point, ColorRGBA, "").message(Header(), (one,)).markers

    def at(points):
        return np.array([(p.x, p.y, p.z) for p in points])
    np.testing.assert_allclose(at(joints.points), one.joints_m)
    ends = at(bones.points).reshape(20, 2, 3)
    np.testing.assert_allclose(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=-1), skeleton.bone_lengths(one.joints_m))
    np.testing.assert_allclose(at([label.pose.position])[0], one.joints_m[0])


def test_cv_bridge_is_asked_for_rgb(monkeypatch):
    picture = {name: np.tile(np.uint8(colour), (2, 2, 1)) for name, colour in
               (("rgb8", (200, 100, 50)), ("bgr8", (50, 100, 200)))}
    bridge = SimpleNamespace(imgmsg_to_cv2=lambda message, to: picture[to])
    monkeypatch.setattr(compat, "cv_bridge", lambda: bridge)
    np.testing.assert_array_equal(images.decode(Image(encoding="yuv9"))[0, 0], (200, 100, 50))


@pytest.fixture
def published(monkeypatch):
    """(Outputs of a node that is not there, the messages that they sent by topic, a function that sends a result)."""
    sent, nobody = {}, SimpleNamespace(get_subscription_count=lambda: 0)

    class Publisher:
        def __init__(self, kind, topic, *_):
            self.topic = topic

        def get_subscription_count(self):
            return 1

        def publish(self, message):
            sent.setdefault(self.topic, []).append(
                (message.filtered, [hand.joints_camera[4].x for hand in message.hands]))

    monkeypatch.setattr(publishers.qos, "results_publisher", lambda create, kind, topic: Publisher(kind, topic))
    monkeypatch.setattr(publishers.qos, "warn_of_unused_overrides", lambda node: None)
    monkeypatch.setattr(publishers.compat, "transform_broadcaster", lambda node: nobody)
    outputs = publishers.Outputs(SimpleNamespace(create_lifecycle_publisher=Publisher), "")
    outputs._markers = outputs._debug = outputs._debug_compressed = nobody

    def send(smooth, raw):
        outputs.publish(Header(), np.zeros((4, 4, 3), np.uint8),
                        SimpleNamespace(hands=smooth, raw=raw, detector_ran=True), Latency(0, 0, 0.0, {}), 0,
                        SimpleNamespace(calibrated=True), SimpleNamespace(publish_tf=False, publish_raw=True),
                        SimpleNamespace(model="m", runtime="r"))
    return outputs, sent, send


def test_raw_hands_are_the_measured_ones(published):
    _, sent, send = published
    raw, smooth = some_hand(True, 3), some_hand(True, 3, joints_m=some_hand().joints_m + 0.01)
    send((smooth,), (raw,))
    assert sent == {"~/hands": [(True, [smooth.joints_m[4, 0]])], "~/hands_raw": [(False, [raw.joints_m[4, 0]])]}


def test_messages_are_used_again(published):
    outputs, _, send = published
    for _ in range(50):
        send((some_hand(), some_hand(False, 2)), (some_hand(), some_hand(False, 2)))
    assert len(outputs._hand_messages._made) <= 4                            # else memory grows with every image
