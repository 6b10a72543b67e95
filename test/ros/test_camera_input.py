"""Which publishers are heard: every pair of qualities of service, publishers that come late, raw or compressed."""
from __future__ import annotations

import time
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from hand_pose_ros import camera, messages
from hand_pose_ros.ros import camera_input, qos
from hand_pose_ros.ros.camera_input import DEPTH_PATIENCE_S, CameraInput
from hand_pose_ros.ros.diagnostics import Monitor
from hand_pose_ros.ros import node as ros_node
from hand_pose_ros.ros.node import HandPoseNode
from hand_pose_ros.types import JointState, ScaleSource

WAIT_S = 20.0


@pytest.fixture(scope="module")
def world():
    context = Context()
    rclpy.init(context=context)
    camera, listener = Node("driver", context=context, namespace="/front"), Node("listener", context=context)
    executor = SingleThreadedExecutor(context=context)
    for node in (camera, listener):
        executor.add_node(node)
    yield SimpleNamespace(camera=camera, listener=listener, executor=executor)
    executor.shutdown()
    camera.destroy_node()
    listener.destroy_node()
    rclpy.shutdown(context=context)


class Ear:
    """A CameraInput on a topic of its own."""

    def __init__(self, world, topic, starved=lambda: False, **settings):
        self.world, self.said = world, []
        values = dict(image_topic=topic, image_transport="auto", image_reliability="auto", camera_info_topic="",
                      depth_topic="", depth_slop_s=0.02, use_depth=True, silence_warning_s=0.5, camera_info_wait_s=0.0,
                      assumed_hfov_deg=60.0, image_is_rectified=False)
        self.monitor = Monitor(lambda level, text: self.said.append(text))
        self.values = SimpleNamespace(**{**values, **settings})
        self.input = CameraInput(world.listener, self.monitor, lambda: self.values, starved)

    def until(self, condition, send=lambda: None):
        end_s = time.monotonic() + WAIT_S
        while not condition():
            if time.monotonic() > end_s:
                return False
            send()
            self.input.refresh()
            self.world.executor.spin_once(timeout_sec=0.02)
        return True

    def hears(self, publisher, message=None):
        arrived = []

        def took():
            item, _ = self.input.slot.take(0.0)
            if item is not None:
                arrived.append(item)
            return arrived
        return self.until(took, lambda: publisher.publish(message or publisher.msg_type())) and arrived[0]


def quality(reliability, durability="volatile"):
    return QoSProfile(depth=5, reliability=getattr(ReliabilityPolicy, reliability.upper()),
                      durability=getattr(DurabilityPolicy, durability.upper()))


@pytest.mark.parametrize("asked, offered, heard", [
    ("auto", "reliable", True), ("auto", "best_effort", True), ("best_effort", "reliable", True),
    ("best_effort", "best_effort", True), ("reliable", "reliable", True), ("reliable", "best_effort", False)])
@pytest.mark.parametrize("late", [False, True])
def test_pairs_of_reliability(world, asked, offered, heard, late):
    topic = f"/front/{asked}_{offered}_{late}/image"
    ear = Ear(world, topic, image_reliability=asked) if late else None
    publisher = world.camera.create_publisher(Image, topic, quality(offered))
    ear = ear or Ear(world, topic, image_reliability=asked)
    if heard:
        assert ear.hears(publisher)
        assert not ear.monitor.has("qos")
    else:
        assert ear.until(lambda: ear.monitor.has("qos"), lambda: publisher.publish(Image()))
        sentence = next(text for text in ear.said if "RELIABLE" in text)
        assert "/front/driver" in sentence and "BEST_EFFORT" in sentence and "image_reliability" in sentence
    ear.input.destroy()
    world.camera.destroy_publisher(publisher)


def test_a_camera_info_that_was_sent_once_is_heard(world):
    info = world.camera.create_publisher(CameraInfo, "/front/once/camera_info", quality("reliable", "transient_local"))
    message = CameraInfo(width=4, height=2, k=[4.0, 0.0, 2.0, 0.0, 4.0, 1.0, 0.0, 0.0, 1.0],
                         distortion_model="plumb_bob")
    info.publish(message)
    ear = Ear(world, "/front/once/image")
    assert ear.until(lambda: ear.input.lens("eye", 4, 2).calibrated)
    assert ear.input.lens("eye", 4, 2).frame_id == "eye"
    ear.input.destroy()


@pytest.mark.parametrize("change", [
    {"k": [8.0, 0.0, 2.0, 0.0, 8.0, 1.0, 0.0, 0.0, 1.0]}, {"d": [0.1, 0.0, 0.0, 0.0, 0.0]},
    {"width": 8, "height": 4}, {"distortion_model": "equidistant", "d": [0.0] * 4}])
def test_a_calibration_that_changes_is_used(world, change):
    ear = Ear(world, "/front/changed/image")
    said = dict(width=4, height=2, k=[4.0, 0.0, 2.0, 0.0, 4.0, 1.0, 0.0, 0.0, 1.0], distortion_model="plumb_bob")
    for info in (CameraInfo(**said), CameraInfo(**{**said, **change})):
        ear.input._on_camera_info(info)
        lens, made = ear.input.lens("eye", 4, 2), camera.from_camera_info(info, 4, 2)
        assert (lens.K == made.K).all() and (lens.D == made.D).all() and lens.distortion_model == made.distortion_model
    ear.input.destroy()


@pytest.mark.parametrize("topic, d, told, warned", [
    ("image_rect", [0.1, 0.0, 0.0, 0.0, 0.0], False, True), ("image_rect_color", [0.1] + [0.0] * 4, False, True),
    ("image_rect", [0.1] + [0.0] * 4, True, False), ("image_rect", [0.0] * 5, False, False),
    ("image_raw", [0.1] + [0.0] * 4, False, False), ("direct", [0.1] + [0.0] * 4, False, False)])
def test_images_that_are_rectified_by_their_name_are_not_undistorted_in_silence(world, topic, d, told, warned):
    ear = Ear(world, f"/front/proc/{topic}", image_is_rectified=told)
    ear.input.refresh()
    ear.input._on_camera_info(CameraInfo(width=4, height=2, distortion_model="plumb_bob", d=d,
                                         k=[4.0, 0.0, 2.0, 0.0, 4.0, 1.0, 0.0, 0.0, 1.0],
                                         p=[4.0, 0.0, 2.0, 0.0, 0.0, 4.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]))
    ear.input.lens("eye", 4, 2)
    assert any("image_is_rectified:=true" in text for text in ear.said) == warned
    ear.input.destroy()


def test_raw_is_preferred_and_compressed_found(world):
    ear = Ear(world, "/front/both/image")
    compressed = world.camera.create_publisher(CompressedImage, "/front/both/image/compressed", 5)
    assert hasattr(ear.hears(compressed).image, "format")
    raw = world.camera.create_publisher(Image, "/front/both/image", 5)
    assert ear.until(lambda: (item := ear.input.slot.take(0.0)[0]) is not None and hasattr(item.image, "encoding"),
                     lambda: (raw.publish(Image()), compressed.publish(CompressedImage())))
    ear.input.destroy()


def test_nobody_and_silence_are_told_apart(world):
    ear = Ear(world, "/front/quiet/image")
    assert ear.until(lambda: any("nobody publishes" in text for text in ear.said))
    world.camera.create_publisher(Image, "/front/quiet/image", 5)
    assert ear.until(lambda: any("/front/driver publishes" in text for text in ear.said))
    ear.input.destroy()


def test_a_camera_that_comes_is_no_longer_missed_at_once(world):
    ear = Ear(world, "/front/coming/image")
    assert ear.until(lambda: ear.monitor.has("image source"))
    ear.values.silence_warning_s = 60.0
    publisher = world.camera.create_publisher(Image, "/front/coming/image", 5)
    assert ear.until(lambda: not ear.monitor.has("image source"))
    ear.input.destroy()
    world.camera.destroy_publisher(publisher)


def test_a_camera_that_goes_is_missed_after_a_while_and_not_at_once(world):
    ear = Ear(world, "/front/going/image", silence_warning_s=3.0)
    publisher = world.camera.create_publisher(Image, "/front/going/image", 5)
    assert ear.hears(publisher)
    end_s = time.monotonic() + 3.2                          # longer than that after the start, too
    assert ear.until(lambda: time.monotonic() > end_s, lambda: publisher.publish(Image()))
    world.camera.destroy_publisher(publisher)
    assert ear.until(lambda: not world.listener.get_publishers_info_by_topic("/front/going/image"))
    ear.input.refresh()
    gone_s = time.monotonic()
    assert not ear.monitor.has("image source")
    assert ear.until(lambda: ear.monitor.has("image source")) and time.monotonic() - gone_s > 0.5
    ear.input.destroy()


def test_images_of_the_other_transport_are_pointed_at(world):
    publisher = world.camera.create_publisher(CompressedImage, "/front/packed/image/compressed", 5)
    ear = Ear(world, "/front/packed/image", image_transport="raw")
    assert ear.until(lambda: any("/front/packed/image/compressed (compressed) is published, but image_transport is raw"
                                 in text for text in ear.said))
    ear.input.destroy()
    world.camera.destroy_publisher(publisher)


def test_a_camera_that_goes_takes_its_calibration_along(world, monkeypatch):
    """The next camera on these topics may be another: metres and TF must not come of the lens of the first."""
    monkeypatch.setattr(camera_input, "GONE_S", 0.2)
    image = world.camera.create_publisher(Image, "/front/first/image", 5)
    info = world.camera.create_publisher(CameraInfo, "/front/first/camera_info", 5)
    said = CameraInfo(width=4, height=2, k=[4.0, 0.0, 2.0, 0.0, 4.0, 1.0, 0.0, 0.0, 1.0], distortion_model="plumb_bob")
    ear = Ear(world, "/front/first/image")

    def calibrated():
        return ear.input.lens("eye", 4, 2).calibrated

    assert ear.until(calibrated, lambda: info.publish(said)) and ear.hears(image)
    world.camera.destroy_publisher(info)
    looks = iter(range(100))
    assert ear.until(lambda: next(looks, None) is None, lambda: image.publish(Image()))
    assert calibrated()                                     # said once, it holds as long as the images come
    world.camera.destroy_publisher(image)
    assert ear.until(lambda: not calibrated())
    ear.values.camera_info_wait_s = 0.3                     # the next camera's is waited for anew
    image = world.camera.create_publisher(Image, "/front/first/image", 5)
    assert ear.hears(image)
    began_s = time.monotonic()
    assert not calibrated() and time.monotonic() - began_s > 0.1
    ear.input.destroy()
    world.camera.destroy_publisher(image)


@pytest.mark.parametrize("info_stays, gone_s", [(True, 0.0), (False, 60.0)])
def test_a_camera_that_only_pauses_keeps_its_calibration(world, monkeypatch, info_stays, gone_s):
    """Its camera_info is still offered, or its images have not been away for long."""
    monkeypatch.setattr(camera_input, "GONE_S", gone_s)
    topic = f"/front/pause{info_stays}"
    image = world.camera.create_publisher(Image, f"{topic}/image", 5)
    info = world.camera.create_publisher(CameraInfo, f"{topic}/camera_info", 5)
    said = CameraInfo(width=4, height=2, k=[4.0, 0.0, 2.0, 0.0, 4.0, 1.0, 0.0, 0.0, 1.0], distortion_model="plumb_bob")
    ear = Ear(world, f"{topic}/image")
    assert ear.until(lambda: ear.input.lens("eye", 4, 2).calibrated, lambda: info.publish(said)) and ear.hears(image)
    world.camera.destroy_publisher(image)
    if not info_stays:
        world.camera.destroy_publisher(info)
    assert ear.until(lambda: not world.listener.get_publishers_info_by_topic(f"{topic}/image"))
    looks = iter(range(10))
    assert ear.until(lambda: next(looks, None) is None)
    assert ear.input.lens("eye", 4, 2).calibrated
    ear.input.destroy()
    if info_stays:
        world.camera.destroy_publisher(info)


def test_a_publisher_that_discovery_does_not_name_yet_is_not_called_by_a_made_up_name():
    unknown = SimpleNamespace(node_namespace="_NODE_NAMESPACE_UNKNOWN_", node_name="_NODE_NAME_UNKNOWN_")
    assert qos.endpoint_name(unknown) == "a node whose name is not known yet"


def test_silence_is_not_the_cameras_fault_while_this_node_gets_no_processor_time(world):
    busy = [True]
    ear = Ear(world, "/front/busy/image", starved=lambda: busy[0])
    publisher = world.camera.create_publisher(Image, "/front/busy/image", 5)
    assert ear.until(lambda: ear.monitor.has("processor"))
    assert not ear.monitor.has("image source")
    assert any("too little processor time" in text for text in ear.said)
    assert not any("no image arrives; check the camera" in text for text in ear.said)
    busy[0] = False
    assert ear.until(lambda: any("/front/driver publishes" in text for text in ear.said))
    ear.input.destroy()
    world.camera.destroy_publisher(publisher)


def test_depth_comes_with_its_image(world, monkeypatch):
    monkeypatch.setattr(camera_input, "DEPTH_PATIENCE_S", 60.0)
    ear = Ear(world, "/front/rgbd/image", depth_topic="/front/rgbd/depth")
    color = world.camera.create_publisher(Image, "/front/rgbd/image", 5)
    depth = world.camera.create_publisher(Image, "/front/rgbd/depth", 5)

    def send():
        for publisher, nanosec in ((color, 10_000_000), (depth, 12_000_000)):
            message = Image()
            message.header.stamp.sec, message.header.stamp.nanosec = int(time.monotonic()), nanosec
            publisher.publish(message)
    arrived = []
    assert ear.until(lambda: (item := ear.input.slot.take(0.0)[0]) is not None and arrived.append(item) is None, send)
    assert arrived[0].depth.header.stamp.nanosec == 12_000_000 and arrived[0].image.header.stamp.nanosec == 10_000_000
    ear.input.destroy()


def test_depth_of_another_camera_is_not_taken_for_the_images():
    """A depth camera beside the colour one, not registered, whose images happen to be of the same size."""
    said, colour = [], "camera_color_optical_frame"
    node = SimpleNamespace(_monitor=Monitor(lambda level, text: said.append(text)))
    depth = Image(height=2, width=2, encoding="16UC1", step=4, data=np.full(4, 600, np.uint16).tobytes())
    for frame, used in ((colour, True), ("", True), ("camera_depth_optical_frame", False)):
        depth.header.frame_id = frame
        assert (HandPoseNode._depth(node, depth, (2, 2), colour) is not None) == used
    assert len(said) == 1 and "'camera_depth_optical_frame'" in said[0] and "registered" in said[0]


def test_depth_that_tells_of_no_hand_is_said_and_hands_that_are_hardly_seen_are_not_asked_for(monkeypatch):
    now_s, said = [0.0], []
    monkeypatch.setattr(ros_node, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    node = SimpleNamespace(_monitor=Monitor(lambda level, text: said.append(text)), _no_depth_since_s=None)

    def images(seconds, source, visible):
        hand = SimpleNamespace(scale_source=source, state=np.where(np.arange(21) < visible, JointState.VISIBLE,
                                                                   JointState.SELF_OCCLUDED))
        for _ in range(int(30 * seconds)):
            HandPoseNode._look_at_depth_use(node, [hand])
            now_s[0] += 1 / 30

    images(5.0, ScaleSource.ASSUMED, 5)                                 # a fist: too few joints are in sight
    for _ in range(5):
        images(0.7, ScaleSource.ASSUMED, 21)                            # comes into the image
        images(0.1, ScaleSource.DEPTH, 21)
    assert not said
    images(2.0, ScaleSource.CALIBRATED_HAND, 21)
    assert len(said) == 1 and "tells of none of the hands" in said[0]


def test_without_depth_colour_is_used_alone_and_that_is_said(world):
    color, started_s = world.camera.create_publisher(Image, "/front/dark/image", 5), time.monotonic()
    ear = Ear(world, "/front/dark/image", depth_topic="/front/dark/depth")

    def stamped(kind=Image, late_ns=0):
        message = kind()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.monotonic_ns() + late_ns, 10**9)
        return message
    alone = []

    def took():
        item, _ = ear.input.slot.take(0.0)
        return item is not None and alone.append(item) is None
    assert ear.until(took, lambda: color.publish(stamped()))
    assert time.monotonic() - started_s > DEPTH_PATIENCE_S and alone[0].depth is None
    assert "nobody publishes depth on /front/dark/depth" in ear.said[-1] and "align_depth" in ear.said[-1]

    depth = world.camera.create_publisher(Image, "/front/dark/depth", 5)

    def send():
        message = stamped()
        color.publish(message)
        other = Image()
        other.header.stamp = message.header.stamp
        depth.publish(other)
    assert ear.until(lambda: took() and alone[-1].depth is not None, send) and not ear.monitor.has("depth source")
    assert len({(item.image.header.stamp.sec, item.image.header.stamp.nanosec) for item in alone}) == len(alone)
    ear.input.destroy()


def test_images_without_a_stamp_go_without_depth_and_that_is_said(world):
    ear = Ear(world, "/front/stampless/image", depth_topic="/front/stampless/depth")
    ear.input._expected_s -= 2 * DEPTH_PATIENCE_S                     # as when the first image comes late
    taken = []
    for _ in range(20):
        ear.input._on_image(Image())
        ear.input._on_depth(Image())
        taken.append(ear.input.slot.take(0.0)[0])
    assert all(item is not None and item.depth is None for item in taken) and "the stamp 0" in ear.said[-1]
    ear.input.destroy()


@pytest.mark.parametrize("jump", [True, False])
def test_pairing_goes_on_after_time_went_back(world, jump, monkeypatch):
    """jump: the ROS clock says so; else only the stamps do."""
    monkeypatch.setattr(camera_input, "DEPTH_PATIENCE_S", 60.0)
    ear = Ear(world, f"/front/loop_{jump}/image", depth_topic="/front/loop/depth")

    def stamped(ns):
        message = Image()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(ns, 10**9)
        return message
    for k in range(20):                                             # colour twice as often: half of it stays in queues
        ear.input._on_image(stamped(100 * 10**9 + k * 33_000_000))
    ear.input.slot.clear()
    if jump:
        ear.input.restart()
    paired = 0
    for k in range(20):
        ear.input._on_image(stamped(k * 33_000_000 + 500_000))
        if k % 2 == 0:
            ear.input._on_depth(stamped(k * 33_000_000 + 1_500_000))
            item, _ = ear.input.slot.take(0.0)
            paired += item is not None and item.depth is not None
    assert paired == 10
    ear.input.destroy()


def test_live_settings_are_the_present_ones(world):
    ear = Ear(world, "/front/live/image", assumed_hfov_deg=60.0)
    wide = ear.input.lens("eye", 640, 480)
    ear.values = SimpleNamespace(**{**vars(ear.values), "assumed_hfov_deg": 90.0})
    assert ear.input.lens("eye", 640, 480).K[0, 0] == pytest.approx(320.0) and wide.K[0, 0] > 500
    ear.input.destroy()


def test_a_qos_event_alone_names_both_sides(world):
    """The middleware's event comes before the next look at the graph, and also where the graph does not tell."""
    ear = Ear(world, "/front/event/image", image_reliability="reliable")
    ear.input._on_incompatible_qos(SimpleNamespace(last_policy_kind="RELIABILITY"))
    assert ear.monitor.has("qos") and "/front/event/image" in ear.said[-1] and "image_reliability" in ear.said[-1]
    ear.input.destroy()


def played(ear, now, events, rate_hz=30, make=Image):
    """Feeds (time, "image" or "depth", number); [(stamp, whether with depth, time)] of the images that came out."""
    used = []
    for at, kind, k in sorted(events):
        now[0] = 1000.0 + at
        message = make()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(10**12 + k * (10**9 // rate_hz), 10**9)
        (ear.input._on_image if kind == "image" else ear.input._on_depth)(message)
        item, _ = ear.input.slot.take(0.0)
        if item is not None:
            used.append((messages.stamp_ns(item.image.header), item.depth is not None, at))
    return used


@pytest.mark.parametrize("every, lag_s, alone", [(2, 0.004, 0.4), (6, 0.004, 0.7), (1, 0.05, 0.0), (2, 0.05, 0.4)])
def test_depth_that_comes_less_often_or_later_slows_colour_down_by_nothing(world, monkeypatch, every, lag_s, alone):
    """Colour at 30 Hz, depth with each n-th image and later: every image is used, with its depth where there is one."""
    now = [1000.0]
    monkeypatch.setattr(camera_input, "time", SimpleNamespace(monotonic=lambda: now[0]))
    ear = Ear(world, f"/front/slow_{every}_{int(1000 * lag_s)}/image", depth_topic="/front/slow/depth")
    events = [(k / 30, "image", k) for k in range(120)] + [(k / 30 + lag_s, "depth", k) for k in range(0, 120, every)]
    used = played(ear, now, events)
    late = [one for one in used if one[2] > 2.0]                        # it has learnt how late depth comes
    assert [stamp for stamp, _, _ in used] == sorted({stamp for stamp, _, _ in used})
    assert len(late) > 0.93 * 60 and sum(not depth for _, depth, _ in late) >= alone * 60
    assert sum(depth for _, depth, _ in late) > 0.93 * 60 / every
    ear.input.destroy()


@pytest.mark.parametrize("first_s, then_s", [(0.05, 0.075), (0.004, 0.04), (0.05, 0.12)])
def test_depth_that_comes_later_than_before_is_waited_for_again(world, monkeypatch, first_s, then_s):
    now = [1000.0]
    monkeypatch.setattr(camera_input, "time", SimpleNamespace(monotonic=lambda: now[0]))
    ear = Ear(world, f"/front/later_{int(1000 * then_s)}/image", depth_topic="/front/later/depth")
    events = [(k / 30, "image", k) for k in range(180)]
    events += [(k / 30 + (first_s if k < 90 else then_s), "depth", k) for k in range(180)]
    late = [depth for _, depth, at in played(ear, now, events) if at > 4.0]            # a second after the change
    assert sum(late) > 0.9 * 60
    ear.input.destroy()


@pytest.fixture
def clock(monkeypatch):
    """The time [s] as CameraInput sees it, in a list."""
    now = [1000.0]
    monkeypatch.setattr(camera_input, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def stream(rate_hz, lag_s, begin_s=0.0, end_s=4.0):
    """Events for ``played``: every colour image has its depth image, so much later."""
    numbers = range(round(begin_s * rate_hz), round(end_s * rate_hz))
    return [(k / rate_hz + late_s, kind, k) for k in numbers for kind, late_s in (("image", 0.0), ("depth", lag_s))]


@pytest.mark.parametrize("rate_hz, lag_s", [(30, 0.18), (60, 0.1), (60, 0.4), (90, -0.2)])
def test_depth_that_comes_many_images_later_is_paired(world, clock, rate_hz, lag_s):
    ear = Ear(world, f"/front/lag_{rate_hz}_{abs(int(1000 * lag_s))}/image", depth_topic="/front/lag/depth")
    used = [one for one in played(ear, clock, stream(rate_hz, lag_s), rate_hz) if one[2] > 1.0]
    assert sum(depth for _, depth, _ in used) > 0.97 * 3 * rate_hz and not ear.said
    ear.input.destroy()


@pytest.mark.parametrize("lag_s, words", [(0.7, "depth comes too late, 0.7 s after"),
                                          (-0.7, "colour comes too late, 0.7 s after")])
def test_depth_of_right_stamps_that_comes_too_late_is_not_blamed_on_its_stamps(world, clock, lag_s, words):
    topic = f"/front/behind_{lag_s > 0}"
    ear, depth = Ear(world, f"{topic}/image", depth_topic=f"{topic}/depth"), \
        world.camera.create_publisher(Image, f"{topic}/depth", 5)
    assert ear.until(lambda: world.listener.get_publishers_info_by_topic(f"{topic}/depth"))
    used = [one for one in played(ear, clock, stream(30, lag_s)) if one[2] > 1.5]
    assert len(used) >= 74 and not any(depth for _, depth, _ in used)       # alone, and at once
    assert words in ear.said[-1] and "raise it" not in ear.said[-1]
    late = [depth for _, depth, at in played(ear, clock, stream(30, 0.05, 5.0, 8.0)) if at > 6.0]
    assert sum(late) > 0.97 * 60 and not ear.monitor.has("depth source")
    ear.input.destroy()
    world.camera.destroy_publisher(depth)


@pytest.mark.parametrize("kinds, wanted", [(("image",), True), (("image", "depth"), True), (("image",), False)])
def test_no_more_pictures_are_kept_than_those_that_may_still_be_used(world, clock, kinds, wanted):
    """A second at 60 Hz in 720p would be 165 MB. wanted: whether depth still is at the end."""
    class Picture:
        def __init__(self):
            self.header = Image().header
            kept.add(self)
    kept = weakref.WeakSet()
    ear = Ear(world, f"/front/kept_{len(kinds)}_{wanted}/image", depth_topic="/front/kept/depth", depth_slop_s=0.001)
    played(ear, clock, [(k / 60, kind, 2 * k + (kind == "depth")) for k in range(240) for kind in kinds], 120, Picture)
    if not wanted:
        ear.values.use_depth = False
        played(ear, clock, [(4.0, "image", 999)], 120, Picture)
    assert len(kept) <= (len(kinds) * (DEPTH_PATIENCE_S * 60 + 2) if wanted else 2)
    ear.input.destroy()


def stamped_image(ns):
    message = Image()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(ns, 10**9)
    return message


def test_waiting_for_depth_does_not_make_an_image_older_on_arrival(world, clock):
    ear = Ear(world, "/front/age/image", depth_topic="/front/age/depth")
    ear.input._on_image(message := stamped_image(10**12))
    came_ns = world.listener.get_clock().now().nanoseconds
    clock[0] += 0.3
    ear.input._on_depth(stamped_image(10**12))
    item, _ = ear.input.slot.take(0.0)
    assert item.image is message and item.depth is not None
    assert item.received_s == 1000.0 and item.received_ns <= came_ns
    for k in range(1, 31):                                              # the same for those that go without
        clock[0] = 1000.0 + k / 10
        ear.input._on_image(stamped_image(10**12 + k * 10**8))
        item, _ = ear.input.slot.take(0.0)
        if item is not None:
            assert item.received_s == pytest.approx(1000.0 + (messages.stamp_ns(item.image.header) - 10**12) * 1e-9)
    ear.input.destroy()


@pytest.mark.parametrize("rate_hz, pause_s", [(30, 0.7), (30, 5.0), (1, 0.0)])
def test_a_camera_that_starts_or_goes_on_after_a_pause_does_not_lack_depth(world, clock, rate_hz, pause_s):
    """Also one whose images are always half a second or more apart."""
    ear = Ear(world, f"/front/begins_{rate_hz}_{int(pause_s)}/image", depth_topic="/front/begins/depth")
    events = stream(rate_hz, 0.1, 5.0, 9.0) + stream(rate_hz, 0.1, 9.0 + pause_s, 13.0 + pause_s)
    used = played(ear, clock, events, rate_hz)
    assert not ear.said and len(used) >= 8 * rate_hz - 1 and all(depth for _, depth, _ in used)
    ear.input.destroy()


def test_a_slow_camera_without_depth_is_told_of_it_and_not_slowed_down(world, clock):
    ear = Ear(world, "/front/seldom/image", depth_topic="/front/seldom/depth")
    used = played(ear, clock, [(k, "image", 30 * k) for k in range(10)])
    assert [(stamp, at) for stamp, _, at in used if at > 1] == [(10**12 + k * 999_999_990, k) for k in range(2, 10)]
    assert "nobody publishes depth" in ear.said[-1]
    ear.input.destroy()


def test_depth_that_is_not_wanted_is_not_waited_for(world):
    ear = Ear(world, "/front/unwanted/image", depth_topic="/front/unwanted/depth", use_depth=False)
    for k in range(3):
        message = Image()
        message.header.stamp.sec = 100 + k
        ear.input._on_image(message)
        assert ear.input.slot.take(0.0)[0].image is message
    ear.input.destroy()


def test_an_image_from_before_a_jump_of_time_is_not_used(world):
    ear = Ear(world, "/front/jump/image")
    ear.input._on_image(Image())
    ear.input.restart()
    assert ear.input.slot.take(0.0)[0] is None
    ear.input.destroy()


def test_a_rectified_image_has_the_lens_of_p(world):
    ear = Ear(world, "/front/rect/image_rect", image_is_rectified=True)
    ear.input._on_camera_info(CameraInfo(width=4, height=2, distortion_model="plumb_bob", d=[0.1] + [0.0] * 4,
                                         k=[4.0, 0.0, 2.0, 0.0, 4.0, 1.0, 0.0, 0.0, 1.0],
                                         p=[3.0, 0.0, 1.5, 0.0, 0.0, 3.0, 0.5, 0.0, 0.0, 0.0, 1.0, 0.0]))
    lens = ear.input.lens("eye", 4, 2)
    np.testing.assert_array_equal(lens.K, [[3, 0, 1.5], [0, 3, 0.5], [0, 0, 1]])
    assert not lens.D.any()
    ear.input.destroy()


def test_depth_of_a_type_that_is_not_read_is_named(world):
    ear = Ear(world, "/front/typed/image", depth_topic="/front/typed/depth/compressedDepth")
    image = world.camera.create_publisher(Image, "/front/typed/image", 5)
    elsewhere = Context()                                    # one context takes one type for a topic
    rclpy.init(context=elsewhere)
    driver = Node("depth_driver", context=elsewhere)
    driver.create_publisher(CompressedImage, "/front/typed/depth/compressedDepth", 5)

    def told():
        message = Image()
        message.header.stamp = world.camera.get_clock().now().to_msg()
        image.publish(message)
        return any("carries sensor_msgs/msg/CompressedImage, not sensor_msgs/msg/Image" in status.summary
                   for status in ear.monitor.report())
    found = ear.until(told)
    ear.input.destroy()
    driver.destroy_node()
    rclpy.shutdown(context=elsewhere)
    assert found
