"""Moving hands: smooth, possible, exact, and the same from the same seed."""
import numpy as np
import pytest

from hand_pose_ros.errors import ConfigError
from hand_pose_ros.skeleton import bone_lengths
from hand_pose_ros.synthesis import motions, poses, rig, touch
from hand_pose_ros.synthesis.hand_model import HandModel


def _world(hand, skeleton):
    """Where a moving hand's bones turn (21, 3), in the camera's frame."""
    pivots = rig.posed_pivots(skeleton, rig.motions(skeleton, hand.pose))
    return pivots * [1.0 if hand.is_right else -1.0, 1.0, 1.0] @ hand.R_camera_hand.T + hand.t_camera_hand


@pytest.mark.parametrize("name", sorted(motions.MOTIONS))
@pytest.mark.parametrize("is_right", [True, False])
def test_motion_is_smooth_possible_and_before_the_camera(name, is_right):
    motion = motions.make(name, np.random.default_rng(1), is_right)
    skeleton = HandModel.load("makehuman").shape().skeleton
    times = np.arange(0.0, motion.duration_s, 1 / 120)
    frames = [motion.at(time) for time in times]
    assert all(len(frame) == len(motion.tracks) for frame in frames)
    assert frames[0][0].is_right == is_right
    for track in range(len(motion.tracks)):
        hands = [frame[track] for frame in frames]
        drawn = np.stack([hand.pose for hand in hands])
        assert (drawn >= poses.LOWER - 1e-9).all() and (drawn <= poses.UPPER + 1e-9).all()
        turns = np.stack([hand.R_camera_hand for hand in hands])
        np.testing.assert_allclose(turns @ np.swapaxes(turns, 1, 2), np.broadcast_to(np.eye(3), turns.shape), atol=1e-9)
        np.testing.assert_allclose(np.linalg.det(turns), 1.0, atol=1e-9)
        joints = np.stack([_world(hand, skeleton) for hand in hands])
        speed = np.linalg.norm(np.diff(joints, axis=0), axis=2) * 120
        assert speed.max() < 4.0                                             # metres a second: no jumps
        assert (joints[..., 2] > 0.2).all()
        assert np.abs(joints[..., :2] / joints[..., 2:]).max() < 0.75        # in view of a 70 degree lens


def test_bones_of_a_moving_hand_keep_their_lengths():
    motion, skeleton = motions.make("rotate", np.random.default_rng(0)), HandModel.load("makehuman").shape().skeleton
    fingers = [bone for bone in range(20) if bone % 4]
    for time in np.linspace(0.0, motion.duration_s, 9):
        lengths = bone_lengths(_world(motion.at(time)[0], skeleton))
        np.testing.assert_allclose(lengths[fingers], bone_lengths(skeleton.pivots)[fingers], atol=1e-9)


def test_crossing_hands_change_sides_and_the_first_passes_in_front():
    motion = motions.make("cross", np.random.default_rng(2), True)
    start, middle = motion.at(0.0), motion.at(motion.duration_s * 0.55)
    assert np.sign(start[0].t_camera_hand[0]) != np.sign(middle[0].t_camera_hand[0])
    assert np.sign(start[0].t_camera_hand[0]) != np.sign(start[1].t_camera_hand[0])
    assert start[0].is_right != start[1].is_right
    assert all(motion.at(time)[0].t_camera_hand[2] < motion.at(time)[1].t_camera_hand[2] for time in (0.0, 1.0, 1.7))


@pytest.mark.parametrize("name", ["cross", "handover"])
def test_two_hands_do_not_pass_through_each_other(name):
    shape = HandModel.load("makehuman").shape()
    radii = touch.capsule_radii(shape.hand_length_m, shape.person.finger_thickness)
    for seed in range(8):                                   # of "cross", unguarded, half had cut by 8 to 19 mm
        motion = motions.make(name, np.random.default_rng([seed, 76]))
        for time in np.arange(0.0, motion.duration_s, 0.07):
            one, two = (touch.capsules(_world(hand, shape.skeleton), radii) for hand in motion.at(time))
            apart = touch.segment_distance(one[:, None, 0], one[:, None, 1], two[None, :, 0], two[None, :, 1])
            assert (apart - radii[:, None] - radii).min() > 0.004


def test_pinch_closes_and_opens():
    motion, skeleton = motions.make("pinch", np.random.default_rng(3)), HandModel.load("makehuman").shape().skeleton
    gap = [np.linalg.norm(joints[4] - joints[8]) for joints in
           (_world(motion.at(time)[0], skeleton) for time in np.arange(0.0, motion.duration_s, 0.02))]
    closed = np.array(gap) < 0.02
    assert np.count_nonzero(np.diff(closed.astype(int)) == 1) == 4
    assert max(gap) > 0.03


def test_left_motion_is_the_mirror_image_of_the_right_one():
    right, left = (motions.make("wave", np.random.default_rng(4), side) for side in (True, False))
    skeleton = HandModel.load("makehuman").shape().skeleton
    for track in (right.tracks[0], left.tracks[0]):
        track.tremor[2] = 0.0
    for time in (0.1, 0.9, 2.0):
        one, two = (_world(motion.at(time)[0], skeleton) for motion in (right, left))
        np.testing.assert_allclose(one * [-1.0, 1.0, 1.0], two, atol=1e-9)


def test_tremor_is_there_and_small():
    motion = motions.make("count", np.random.default_rng(5), True)
    still = np.stack([motion.at(time)[0].t_camera_hand for time in np.arange(0.0, motion.duration_s, 0.01)])
    assert 1e-4 < still.std(axis=0).max() < 1e-3


def test_minimum_jerk_starts_and_ends_at_rest():
    share = np.linspace(0.0, 1.0, 1001)
    way = motions.minimum_jerk(share)
    assert way[0] == 0.0 and way[-1] == 1.0 and way[500] == pytest.approx(0.5)
    speed = np.gradient(way, share)
    assert speed.max() == pytest.approx(1.875, abs=1e-3)                     # Flash & Hogan: 1.875 of the mean speed
    assert abs(speed[0]) < 1e-4 and abs(speed[-1]) < 1e-4


def test_facing_builds_what_it_says():
    turn = motions.facing([0.0, -1.0, 0.0], [0.0, 0.0, -1.0])               # fingers up, palm to the camera
    np.testing.assert_allclose(turn @ [0.0, 1.0, 0.0], [0.0, -1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(turn @ [0.0, 0.0, -1.0], [0.0, 0.0, -1.0], atol=1e-12)
    thumb_side = turn @ [-1.0, 0.0, 0.0]
    np.testing.assert_allclose(thumb_side, [1.0, 0.0, 0.0], atol=1e-12)      # a right palm shows its thumb on the right


def test_the_same_seed_makes_the_same_motion():
    one, two = (motions.make("reach", np.random.default_rng(6)) for _ in range(2))
    np.testing.assert_array_equal(one.at(1.1)[0].pose, two.at(1.1)[0].pose)
    np.testing.assert_array_equal(one.at(1.1)[0].t_camera_hand, two.at(1.1)[0].t_camera_hand)


def test_unknown_motion_lists_the_choices():
    with pytest.raises(ConfigError, match="unknown motion 'moose'.*wave"):
        motions.make("moose", np.random.default_rng(0))
