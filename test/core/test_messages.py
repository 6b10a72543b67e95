"""Hands to messages and back, with rclpy's classes and with those of rosbags; wrong shapes never reach a message."""
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from hand_pose_ros import bags, messages
from hand_pose_ros.errors import DataError
from hand_pose_ros.msg import HandPose21, HandPose21Array
from hand_pose_ros.skeleton import JOINT_NAMES, NUM_JOINTS
from hand_pose_ros.types import Camera, Hand, JointState, ScaleSource

MAKERS = {
    "rclpy": {"HandPose21": HandPose21, "HandPose21Array": HandPose21Array},
    "rosbags": {
        "HandPose21": lambda: bags.new_message("hand_pose_ros/msg/HandPose21"),
        "HandPose21Array": lambda: bags.new_message("hand_pose_ros/msg/HandPose21Array"),
    },
}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


def example_hand(**changes):
    joints = np.arange(63, dtype=np.float64).reshape(21, 3) / 100 + 0.5
    hand = Hand(
        score=0.75, right_probability=0.25, box=np.array([10.0, 20.0, 110.5, 220.5]),
        joints_px=np.arange(42, dtype=np.float64).reshape(21, 2), joints_m=joints, joints_rel_m=joints - joints[0],
        confidence=np.linspace(0, 1, 21), state=np.arange(21, dtype=np.uint8) % 6, sigma_ray_m=np.full(21, 0.03125),
        sigma_across_m=np.full(21, 0.015625), hand_length_m=0.1875, scale_source=ScaleSource.CALIBRATED_HAND,
        track_id=7,
    )
    return replace(hand, **changes)


def header_of(make, stamp_ns=1_700_000_000_123_456_789, frame_id="cam"):
    header = make["HandPose21Array"]().header
    bags.stamp_header(header, stamp_ns, frame_id)
    return header


def round_trip(make, hands, info=messages.ArrayInfo()):
    message = messages.fill_array(make["HandPose21Array"](), hands, header_of(make), make["HandPose21"], info)
    return messages.read_array(message)


def assert_same(hand, other):
    for field in fields(Hand):
        first, second = getattr(hand, field.name), getattr(other, field.name)
        np.testing.assert_allclose(np.asarray(second, float), np.asarray(first, float), rtol=1e-6, atol=1e-7,
                                   err_msg=field.name)


def test_round_trip_keeps_every_field_of_every_hand(make):
    hands = (example_hand(), example_hand(track_id=8, right_probability=0.875, joints_m=np.full((21, 3), np.nan)))
    info = messages.ArrayInfo("net 12345678", "cpu", True, False, 1, 2, 3, 4, 5, 6, True, 9)
    got, got_info = round_trip(make, hands, info)
    assert got_info == info
    assert len(got) == 2
    for hand, other in zip(hands, got):
        assert_same(hand, other)


def test_fields_stand_where_the_definition_says(make):
    """Outside truth: field by field as HandPose21.msg reads, not through our own reader."""
    hand = example_hand()
    message = messages.fill_hand(make["HandPose21"](), hand, header_of(make))
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1_700_000_000, 123_456_789)
    assert message.header.frame_id == "cam"
    assert message.side == HandPose21.SIDE_LEFT and message.side_probability == 0.75
    assert list(message.joints_image[2 * 8:2 * 8 + 2]) == [16, 17]               # index tip: u, then v
    tip = message.joints_camera[HandPose21.INDEX_TIP]
    assert (tip.x, tip.y, tip.z) == tuple(hand.joints_m[8])
    wrist = message.joints_wrist[HandPose21.WRIST]
    assert (wrist.x, wrist.y, wrist.z) == (0, 0, 0)
    assert list(message.box) == [10, 20, 110.5, 220.5]
    assert message.scale_source == HandPose21.SCALE_CALIBRATED_HAND
    assert message.hand_length == 0.1875 and message.track_id == 7


def test_constants_of_the_definition_are_those_of_the_code():
    for number, name in enumerate(JOINT_NAMES):
        assert getattr(HandPose21, name.upper()) == number
    assert HandPose21.NUM_JOINTS == NUM_JOINTS
    for state in JointState:
        assert getattr(HandPose21, f"STATE_{state.name}") == state
    for source in ScaleSource:
        assert getattr(HandPose21, f"SCALE_{source.name}") == source
    sides = (HandPose21.SIDE_UNKNOWN, HandPose21.SIDE_LEFT, HandPose21.SIDE_RIGHT)
    assert sides == (messages.SIDE_UNKNOWN, messages.SIDE_LEFT, messages.SIDE_RIGHT)


def test_no_hand_is_an_empty_array_with_the_images_stamp(make):
    message = messages.fill_array(make["HandPose21Array"](), (), header_of(make, 5), make["HandPose21"],
                                  messages.ArrayInfo())
    assert len(message.hands) == 0 and messages.stamp_ns(message.header) == 5
    assert message.latency_publish == -1
    assert messages.read_array(message) == ((), messages.ArrayInfo())


@pytest.mark.parametrize("right", [0.0, 0.5, 1.0, float("nan")])
def test_side_and_its_probability(make, right):
    (hand,), _ = round_trip(make, (example_hand(right_probability=right),))
    np.testing.assert_equal(hand.right_probability, right)
    message = messages.fill_hand(make["HandPose21"](), hand, header_of(make))
    assert np.isnan(message.side_probability) or message.side_probability >= 0.5


@given(
    arrays(np.float64, (21, 3), elements=st.floats(-100, 100) | st.just(float("nan"))),
    arrays(np.float64, (21, 2), elements=st.floats(-1e5, 1e5, width=32) | st.just(float("nan"))),
    st.floats(0, 1),
)
def test_any_numbers_survive(joints_m, joints_px, right):
    hand = example_hand(joints_m=joints_m, joints_px=joints_px, right_probability=right)
    for make in MAKERS.values():
        (got,), _ = round_trip(make, (hand,))
        assert_same(hand, got)


WRONG_SHAPES = {
    "box": (3,), "joints_px": (20, 2), "joints_m": (20, 3), "joints_rel_m": (21, 2), "confidence": (22,),
    "state": (20,), "sigma_ray_m": (21, 1), "sigma_across_m": (0,),
}


@pytest.mark.parametrize("name", WRONG_SHAPES)
def test_a_wrong_shape_is_refused_by_name(make, name):
    with pytest.raises(DataError, match=name):
        round_trip(make, (example_hand(**{name: np.zeros(WRONG_SHAPES[name])}),))


@pytest.mark.parametrize("track_id", [0, -1, 2**32])
def test_a_hand_without_a_track_is_refused(make, track_id):
    with pytest.raises(DataError, match="track id"):
        round_trip(make, (example_hand(track_id=track_id),))


def test_numpy_scalars_become_plain_numbers():
    """rclpy stores np.float32(1.5) as 5e-315 when its checks are off, and refuses it when they are on."""
    hand = example_hand(score=np.float32(0.5), right_probability=np.float32(0.75), hand_length_m=np.float32(0.25),
                        track_id=np.int64(3), scale_source=np.uint8(2))
    message = messages.fill_hand(HandPose21(), hand, HandPose21().header)
    values = (message.score, message.side_probability, message.hand_length, message.track_id, message.scale_source)
    assert [type(value) for value in values] == [float, float, float, int, int]
    assert values == (0.5, 0.75, 0.25, 3, 2)


def test_a_message_that_is_damaged_is_refused_when_read():
    message = messages.fill_hand(MAKERS["rosbags"]["HandPose21"](), example_hand(), header_of(MAKERS["rosbags"]))
    message.joints_wrist = message.joints_wrist[:20]
    with pytest.raises(DataError, match="joints_wrist"):
        messages.read_hand(message)
    message = messages.fill_hand(MAKERS["rosbags"]["HandPose21"](), example_hand(), header_of(MAKERS["rosbags"]))
    message.scale_source = 99
    with pytest.raises(DataError, match="99"):
        messages.read_hand(message)
    message = messages.fill_hand(MAKERS["rosbags"]["HandPose21"](), example_hand(), header_of(MAKERS["rosbags"]))
    message.state[4] = 7
    with pytest.raises(DataError, match="state 7"):
        messages.read_hand(message)


def test_the_middleware_reads_what_we_wrote():
    """Through the real serializer and back; the array and the message keep nothing in common with the hand."""
    from rclpy.serialization import deserialize_message, serialize_message
    hand = example_hand()
    make = MAKERS["rclpy"]
    message = messages.fill_array(HandPose21Array(), (hand,), header_of(make), HandPose21, messages.ArrayInfo())
    for field in fields(Hand):
        if isinstance(getattr(hand, field.name), np.ndarray):
            getattr(hand, field.name)[:] = 0
    (got,), _ = messages.read_array(deserialize_message(serialize_message(message), HandPose21Array))
    assert_same(example_hand(), got)


def test_what_is_read_is_a_copy(make):
    """The message may be filled again, as the node does, while what was read lives on."""
    message = messages.fill_hand(make["HandPose21"](), example_hand(), header_of(make))
    got = messages.read_hand(message)
    zero = {field.name: np.zeros_like(value) for field in fields(Hand)
            if isinstance(value := getattr(got, field.name), np.ndarray)}
    messages.fill_hand(message, replace(got, **zero), header_of(make))
    for name in ("joints_image", "box", "confidence", "state", "sigma_ray", "sigma_across"):
        np.asarray(getattr(message, name))[:] = 9
    assert_same(example_hand(), got)


def test_a_message_filled_again_keeps_nothing(make):
    header, used = header_of(make), make["HandPose21"]()
    nan = np.full((21, 3), np.nan)
    messages.fill_hand(used, example_hand(joints_m=nan, right_probability=np.nan, score=0.125,
                                          scale_source=ScaleSource.NONE, track_id=99), header_of(make, 7, "other"))
    messages.fill_hand(used, example_hand(), header)
    assert_same(messages.read_hand(messages.fill_hand(make["HandPose21"](), example_hand(), header)),
                messages.read_hand(used))
    assert (messages.stamp_ns(used.header), used.header.frame_id) == (messages.stamp_ns(header), "cam")


def test_metres_of_one_hand_beside_one_without_are_guessed_if_the_camera_has_no_calibration():
    known = example_hand()
    unknown = replace(known, joints_m=np.full((21, 3), np.nan))
    for metric in (False, True):
        info = messages.ArrayInfo(metric=metric)
        assert messages.guessed_metres([known, unknown], info) is not metric
        assert not messages.guessed_metres([unknown], info)


def test_hands_that_have_no_places_are_told_from_no_hands_and_from_guessed_ones():
    known, guessed = messages.ArrayInfo(metric=True), messages.ArrayInfo(metric=False)
    placed, other = example_hand(), example_hand(joints_m=np.full((21, 3), np.nan))
    assert messages.unplaced([other], guessed) and messages.unplaced([other, other], guessed)
    for hands in ([], [placed], [other, placed]):
        assert not messages.unplaced(hands, guessed) and not messages.unplaced(hands, known)
    assert not messages.unplaced([other], known)            # lost for this image only: the camera is calibrated


def test_one_hand_of_unknown_scale_makes_the_others_no_guess():
    known, unknown = example_hand(), example_hand(scale_source=ScaleSource.NONE)
    camera = Camera(640, 480, np.eye(3), calibrated=True)
    assert messages.is_metric(camera, ()) and messages.is_metric(camera, (known, unknown))
    assert not messages.is_metric(camera, (unknown,)) and not messages.is_metric(replace(camera, calibrated=False), ())


@pytest.mark.parametrize("right, number", [(0.0, 1), (0.4999, 3), (0.5, 2**31), (1.0, 2**32 - 1)])
def test_message_and_hand_name_the_same_side(make, right, number):
    one = example_hand(right_probability=right, track_id=number)
    message = messages.fill_hand(make["HandPose21"](), one, header_of(make))
    assert (message.side == messages.SIDE_RIGHT) == one.is_right and message.track_id == number
