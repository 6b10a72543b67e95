"""The node in a process of its own, seen from outside over DDS. Its networks are an oracle (standin_node.py)."""
from __future__ import annotations

import array
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import services
import standin_node
from harness import FRAME, HEIGHT, LEFT, RIGHT, START_S, WIDTH, NodeProcess, Rig
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from sensor_msgs.msg import Image
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import Marker, MarkerArray

from hand_pose_ros import camera, frames, messages
from hand_pose_ros.ros import images
from hand_pose_ros.ros.transforms import FRAMES
from hand_pose_ros.skeleton import FINGERS
from hand_pose_ros.types import Camera, JointState

CAMERA = Camera(WIDTH, HEIGHT, np.array([[300.0, 0, WIDTH / 2], [0, 300, HEIGHT / 2], [0, 0, 1]]))


@pytest.fixture(scope="module")
def shared():
    with NodeProcess("-p", "camera_info_wait_s:=0.2") as process, Rig() as rig:
        rig.ready()
        rig.process = process
        yield rig
        assert process.stop() == 0, process.output()
        assert "Traceback" not in process.output()


@pytest.fixture
def rig(shared):
    """The shared node, seeing hands again and without problems from the test before."""
    shared.forget()
    shared.until(lambda: shared.hands and len(shared.hands[-1].hands) == 2 and shared.hands[-1].metric,
                 action=lambda: shared.send(shared.image()), what="a sound start")
    shared.forget()
    return shared


def test_hands_are_where_they_are(rig):
    answer = rig.answer(rig.image())
    hands, info = messages.read_array(answer)
    assert answer.header.frame_id == FRAME
    assert [hand.is_right for hand in hands] in ([True, False], [False, True])
    for hand in hands:
        truth = standin_node.joints_at(CAMERA, *(RIGHT if hand.is_right else LEFT))
        assert np.abs(hand.joints_px - camera.project(CAMERA, truth)).max() < 2.0
        assert np.abs(hand.joints_m - truth).max() < 0.02
        assert np.abs(hand.joints_rel_m - (truth - truth[0])).max() < 0.01
    assert info.filtered and info.metric and info.runtime == "cpu (stand-in)" and info.model == "squares 00000000"


def test_raw_and_filtered_come_with_the_image_stamp(rig):
    image = rig.image()
    rig.answer(image)
    raw = rig.until(lambda: [m for m in rig.raw if m.header.stamp == image.header.stamp], what="the raw hands")[0]
    assert not raw.filtered and len(raw.hands) == 2
    assert all(hand.header.stamp == image.header.stamp for hand in raw.hands)


def test_latencies_follow_the_stages(rig):
    answer = rig.answer(rig.image())
    stages = ("receive", "decode", "detect", "pose", "lift", "publish")
    times = [getattr(answer, f"latency_{stage}") for stage in stages]
    assert times[0] > 0 and times == sorted(times) and times[-1] < 2e9


def test_no_hand_is_an_empty_array_and_no_transform(rig):
    rig.until(lambda: rig.hands and not rig.hands[-1].hands, what="an empty array",
              action=lambda: rig.send(rig.image(())))
    rig.forget()
    assert rig.answer(rig.image(())).hands == []
    rig.spin(0.2)
    assert rig.frames() == set()


def test_transforms_are_rigid_and_say_what_the_message_says(rig):
    answer = rig.answer(rig.image())
    stamp = answer.header.stamp
    sent = rig.until(lambda: [m for m in rig.tf if m.transforms[0].header.stamp == stamp], what="TF")[0].transforms
    assert len(sent) == 2 * len(FRAMES)
    for hand in messages.read_array(answer)[0]:
        name = f"hand_{'right' if hand.is_right else 'left'}_{hand.track_id}_"
        mine = {t.child_frame_id[len(name):]: t for t in sent if t.child_frame_id.startswith(name)}
        assert set(mine) == set(FRAMES)
        for finger, joint in zip(FRAMES, (0, 4, 8, 12, 16, 20)):
            transform = mine[finger]
            p, q = transform.transform.translation, transform.transform.rotation
            assert transform.header.frame_id == FRAME
            assert np.allclose((p.x, p.y, p.z), hand.joints_m[joint])
            x_axis = rotated((q.x, q.y, q.z, q.w), (1, 0, 0))
            end, start = (9, 0) if joint == 0 else (joint, joint - 1)
            bone = hand.joints_m[end] - hand.joints_m[start]
            assert np.allclose(x_axis, bone / np.linalg.norm(bone), atol=1e-6)
        q = mine["wrist"].transform.rotation
        assert np.allclose(frames.wrist_rotation(hand.joints_m, hand.is_right)[:, 2],
                           rotated((q.x, q.y, q.z, q.w), (0, 0, 1)), atol=1e-6)


def rotated(quaternion, vector):
    """A vector turned by a quaternion xyzw (Hamilton product written out)."""
    q, w, v = np.array(quaternion[:3]), quaternion[3], np.array(vector, float)
    return v + 2 * np.cross(q, np.cross(q, v) + w * v)


def test_a_track_keeps_its_names_while_it_moves(rig):
    for step in range(12):
        rig.answer(rig.image((((110 + 3 * step, 150), True), LEFT)))
    rig.spin(0.2)
    assert len({name.rsplit("_", 2)[0] for name in rig.frames() if name.endswith("_wrist")} |
               {name for name in rig.frames() if name.endswith("_wrist")}) in (2, 4)
    assert len(rig.frames()) == 2 * len(FRAMES)


def test_markers_and_debug_images_only_on_demand(rig):
    kept = {}
    subscriptions = [rig.node.create_subscription(kind, topic, lambda m, t=topic: kept.setdefault(t, m), 5)
                     for kind, topic in ((MarkerArray, "/hand_pose/markers"), (Image, "/hand_pose/debug_image"))]
    rig.until(lambda: len(kept) == 2, action=lambda: rig.send(rig.image()), what="markers and debug image")
    for subscription in subscriptions:
        rig.node.destroy_subscription(subscription)
    bones = [m for m in kept["/hand_pose/markers"].markers if m.type == Marker.LINE_LIST]
    assert len(bones) == 2 and all(len(m.points) == 40 and len(m.colors) == 40 for m in bones)
    drawn = images.decode(kept["/hand_pose/debug_image"])
    assert drawn.shape == (HEIGHT, WIDTH, 3) and (drawn != standin_node.picture((RIGHT, LEFT))).any()


# ---------------------------------------------------------------------------------------------------- what cameras send

@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8"])
def test_encodings_over_the_wire(rig, encoding):
    assert len(rig.answer(rig.image(encoding=encoding)).hands) == 2


def test_sixteen_bits_bayer_and_yuv_over_the_wire(rig):
    rgb = standin_node.picture((RIGHT, LEFT), WIDTH, HEIGHT)
    mosaic = rgb[..., 2].copy()
    mosaic[::2, ::2], mosaic[1::2, ::2], mosaic[::2, 1::2] = rgb[::2, ::2, 0], rgb[1::2, ::2, 1], rgb[::2, 1::2, 1]
    yuv = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV)
    yuyv = np.stack([yuv[..., 0], np.where(np.arange(WIDTH) % 2, yuv[..., 2], yuv[..., 1])], -1)
    for encoding, data in (("rgb16", rgb.astype("<u2") * 257), ("bayer_rggb8", mosaic), ("yuv422_yuy2", yuyv)):
        image = changed(rig.image(), encoding=encoding, data=images.byte_array(data.tobytes()), is_bigendian=0,
                        step=data.nbytes // HEIGHT)
        assert sorted(hand.side for hand in rig.answer(image).hands) == [1, 2], encoding
    grey = images.byte_array(rgb[..., 0].tobytes())         # no colours, so nothing that the stand-in knows
    assert rig.answer(changed(rig.image(), encoding="mono8", data=grey, step=WIDTH)).hands == []


def test_a_hand_that_leaves_the_image_loses_its_frames_joint_by_joint_and_then_all(rig):
    """On its way out to the right: what is beyond the border is said to be, and has no frame."""
    partly = False
    for u in (*range(250, WIDTH - 16, 10), WIDTH - 16):
        image = rig.image((((u, 140), True),))
        rig.tf.clear()
        for hand in rig.answer(image).hands:
            beyond = np.array(hand.joints_image).reshape(21, 2)[:, 0] > WIDTH - 0.5
            partly |= bool(beyond.any())
            assert (np.array(hand.state)[beyond] == JointState.OUTSIDE_IMAGE).all()
            rig.spin(0.05)
            sent = {name.split("_", 3)[3] for name in rig.frames()}
            tips = {"wrist": 0, **{f"{finger}_tip": 4 * k + 4 for k, finger in enumerate(FINGERS)}}
            assert sent.isdisjoint(name for name, joint in tips.items() if beyond[joint])
    assert partly
    rig.until(lambda: rig.hands and not rig.hands[-1].hands, what="an empty array",
              action=lambda: rig.send(rig.image(())))
    rig.forget()
    assert rig.answer(rig.image(())).hands == []
    rig.spin(0.1)
    assert rig.frames() == set()


def test_padded_rows(rig):
    image = rig.image()
    rows = np.frombuffer(image.data, np.uint8).reshape(HEIGHT, WIDTH * 3)
    image.data, image.step = images.byte_array(np.pad(rows, ((0, 0), (0, 40))).copy().data), WIDTH * 3 + 40
    assert len(rig.answer(image).hands) == 2


def changed(image, **fields):
    for name, value in fields.items():
        setattr(image, name, value)
    return image


BROKEN_IMAGES = {
    "truncated": (lambda image: changed(image, data=image.data[:1000]), "1000 bytes"),
    "no data": (lambda image: changed(image, data=array.array("B")), "0 bytes"),
    "step too small": (lambda image: changed(image, step=100), "100"),
    "unknown encoding": (lambda image: changed(image, encoding="rainbow"), "rainbow"),
    "depth as colour": (lambda image: changed(image, encoding="16UC1"), "16UC1"),
    "no pixels": (lambda image: changed(image, width=0, height=0), "0"),
}


@pytest.mark.parametrize("case", BROKEN_IMAGES)
def test_broken_images_are_named_and_skipped(rig, case):
    breaking, text = BROKEN_IMAGES[case]
    image = breaking(rig.image())
    rig.until_problem("image", text, lambda: rig.send(changed(image, header=rig.header())))
    assert not any(m.header.stamp == image.header.stamp for m in rig.hands)
    assert rig.answer(rig.image()).hands


BROKEN_INFOS = {
    "zero K": ({"k": [0.0] * 9}, "not calibrated"),
    "another shape": ({"width": 640, "height": 320}, "640"),
    "not finite": ({"k": [float("nan")] * 9}, "not finite"),
    "unknown lens": ({"distortion_model": "crystal ball"}, "crystal ball"),
    "too few coefficients": ({"d": [0.1, 0.2]}, "2 coefficients"),
    "no size": ({"width": 0, "height": 0}, "0 x 0"),
}


@pytest.mark.parametrize("case", BROKEN_INFOS)
def test_broken_camera_info_gives_2d_only(rig, case):
    changes, text = BROKEN_INFOS[case]
    info = rig.info(**changes)
    rig.until_problem("calibration", text, lambda: rig.send(rig.image(), info))
    rig.forget()
    answer = rig.answer(rig.image(), info)
    assert len(answer.hands) == 2 and not answer.metric
    for hand in answer.hands:
        assert np.isfinite(hand.joints_image).all()
        assert np.isnan([[p.x, p.y, p.z] for p in hand.joints_camera]).all()
    rig.spin(0.2)
    assert rig.frames() == set()


def test_another_size_of_the_same_shape_is_scaled_and_said(rig):
    double = rig.info(width=2 * WIDTH, height=2 * HEIGHT,
                      k=[600.0, 0.0, WIDTH + 0.5, 0.0, 600.0, HEIGHT + 0.5, 0.0, 0.0, 1.0])
    rig.until_problem("calibration", "640x480", lambda: rig.send(rig.image(), double))
    assert rig.answer(rig.image(), double).metric


def test_an_image_of_another_size_starts_the_tracks_anew(rig):
    """Their pixels are those of another video mode."""
    before = {hand.track_id for hand in rig.answer(rig.image()).hands}
    assert before & {hand.track_id for hand in rig.answer(rig.image()).hands}
    rig.answer(images.raw_message(Image, rig.header(), np.zeros((HEIGHT // 2, WIDTH // 2, 3), np.uint8)))
    after = {hand.track_id for hand in rig.answer(rig.image()).hands}
    assert before and after and not before & after


def test_another_calibration_starts_the_tracks_anew_and_what_autofocus_does_to_it_does_not(rig):
    """Their metres are those of another lens, and filters would lead them over for a while."""
    def ids(factor):
        f = 300.0 * factor
        return {hand.track_id for hand in rig.answer(rig.image(), rig.info(
            k=[f, 0.0, WIDTH / 2, 0.0, f, HEIGHT / 2, 0.0, 0.0, 1.0])).hands}
    ids(1.0)
    first = ids(1.0)
    assert first and ids(1.01) == first and ids(1.0) == first
    ids(1.3)                                            # the image may have come before its camera_info
    assert ids(1.3) and not ids(1.3) & first


def test_zero_stamps_are_said_and_give_no_transforms(rig):
    zero = Image().header.stamp
    text = rig.until_problem("stamp", "no time stamp", lambda: rig.send(rig.image(stamp=zero)))
    assert "driver" in text
    rig.forget()
    rig.until(lambda: rig.hands, action=lambda: rig.send(rig.image(stamp=zero)), what="hands without stamp")
    assert rig.hands[-1].hands and rig.hands[-1].latency_publish == -1 and rig.frames() == set()


def test_a_stamp_that_repeats_is_used_once(rig):
    stamp = rig.answer(rig.image()).header.stamp
    rig.until_problem("stamp", "twice", lambda: rig.send(rig.image(stamp=stamp)))
    assert sum(m.header.stamp == stamp for m in rig.hands) == 1


def test_stamps_that_go_back_start_anew(rig):
    before = rig.answer(rig.image())
    stamps = []

    def further_back():                                 # each time: the same stamp again would be another problem
        stamps.append(rig.now())
        stamps[-1].sec -= 5 + len(stamps)
        rig.send(rig.image(stamp=stamps[-1]))
    rig.until_problem("stamp", "went back", further_back)
    assert rig.until(lambda: [m for m in rig.hands if m.header.stamp in stamps], what="hands at an older stamp")
    assert len(rig.answer(rig.image()).hands) == len(before.hands)


def test_images_older_than_allowed_are_skipped_and_said(rig):
    assert set_parameter(rig, "max_image_age_s", 5.0).successful
    try:
        old = []

        def send_old():
            stamp = rig.now()
            stamp.sec -= 8
            old.append(stamp)
            rig.send(rig.image(stamp=stamp))
        assert "5 s" in rig.until_problem("age", "max_image_age_s", send_old)
        track_ids = {hand.track_id for hand in rig.answer(rig.image()).hands}
        rig.send(rig.image(stamp=old[0]))
        assert {hand.track_id for hand in rig.answer(rig.image()).hands} == track_ids      # no start anew
        assert not any(m.header.stamp in old for m in rig.hands)
    finally:
        assert set_parameter(rig, "max_image_age_s", 0.0).successful


def test_own_transforms_are_no_clash(rig):
    for _ in range(10):
        rig.answer(rig.image())
    rig.spin(0.2)
    assert rig.diagnostics and not any("tf clash" in report for report in rig.diagnostics)


def test_somebody_elses_transforms_of_the_same_name_are_noticed(rig):
    rig.answer(rig.image())
    transform = rig.until(lambda: rig.tf, what="TF")[-1].transforms[0]
    stolen = type(transform)(child_frame_id=transform.child_frame_id)
    stolen.header.frame_id = "map"

    def clash():
        stolen.header.stamp = rig.now()
        rig.publisher(TFMessage, "/tf").publish(TFMessage(transforms=[stolen]))
        rig.send(rig.image())
    assert "tf_prefix" in rig.until_problem("tf clash", transform.child_frame_id, clash)


def test_the_readme_lists_what_is_published_and_how(rig):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([~/]\S+)` \| `(\w+/msg/\w+)` \| (reliable|best effort), last \d+ \|", readme, re.M)
    listed = {(topic.replace("~", "/hand_pose"), kind, quality) for topic, kind, quality in rows}
    own = ("/rosout", "/parameter_events", "/hand_pose/transition_event")       # every lifecycle node has these
    published = set()
    for topic, kinds in rig.node.get_publisher_names_and_types_by_node("hand_pose", "/"):
        for end in rig.node.get_publishers_info_by_topic(topic):
            if end.node_name == "hand_pose" and topic not in own:
                assert end.qos_profile.durability == DurabilityPolicy.VOLATILE
                quality = "reliable" if end.qos_profile.reliability == ReliabilityPolicy.RELIABLE else "best effort"
                published.add((topic, kinds[0], quality))
    assert published == listed


# ----------------------------------------------------------------------------------------------------------- parameters

def call(rig, kind, service, request):
    return services.call(rig.node, rig.until, kind, service, request)


def set_parameter(rig, name, value):
    kind, field = {int: (ParameterType.PARAMETER_INTEGER, "integer_value"),
                   str: (ParameterType.PARAMETER_STRING, "string_value"),
                   float: (ParameterType.PARAMETER_DOUBLE, "double_value"),
                   bool: (ParameterType.PARAMETER_BOOL, "bool_value")}[type(value)]
    parameter = Parameter(name=name, value=ParameterValue(type=kind, **{field: value}))
    request = SetParameters.Request(parameters=[parameter])
    return call(rig, SetParameters, "/hand_pose/set_parameters", request).results[0]


def test_live_parameters_act_at_once(rig):
    assert set_parameter(rig, "max_hands", 1).successful
    rig.until(lambda: rig.hands and len(rig.hands[-1].hands) == 1, what="one hand only",
              action=lambda: rig.send(rig.image()))
    assert set_parameter(rig, "max_hands", 2).successful


def test_settings_of_the_camera_are_live_too(rig):
    assert set_parameter(rig, "silence_warning_s", 0.3).successful
    rig.until_problem("image source", "no image arrives", timeout_s=START_S)
    assert set_parameter(rig, "silence_warning_s", 2.0).successful


@pytest.mark.parametrize("name, value, reason", [
    ("max_hands", 99, "max_hands"), ("assumed_hfov_deg", 400.0, "assumed_hfov_deg"), ("runtime", "cpu", "fixed"),
    ("image_topic", "elsewhere", "fixed")])
def test_parameters_refuse_with_a_reason(rig, name, value, reason):
    result = set_parameter(rig, name, value)
    assert not result.successful and reason in result.reason


def test_parameters_describe_themselves(rig):
    answer = call(rig, DescribeParameters, "/hand_pose/describe_parameters",
                  DescribeParameters.Request(names=["max_hands", "image_transport"])).descriptors
    assert answer[0].description and answer[0].integer_range[0].to_value == 6
    assert "compressed" in answer[1].additional_constraints
