"""Orientations of wrist and fingertips: laws, and SciPy as the outside truth for quaternions."""
from __future__ import annotations

import numpy as np
import pytest
from oracle import hand
from scipy.spatial.transform import Rotation

from hand_pose_ros import frames

RNG = np.random.default_rng(5)
HANDS = np.stack([hand(RNG, at=RNG.normal(0, 0.3, 3), turn=RNG.normal(0, 1, 3)) for _ in range(20)])


def both(joints, is_right):
    return np.concatenate([frames.wrist_rotation(joints, is_right)[..., None, :, :],
                           frames.fingertip_rotations(joints, is_right)], axis=-3)


def test_they_are_rotations_with_x_along_the_bone():
    found = both(HANDS, True)
    np.testing.assert_allclose(found @ found.swapaxes(-1, -2), np.broadcast_to(np.eye(3), found.shape), atol=1e-12)
    assert (np.linalg.det(found) > 0).all()
    bones = np.stack([HANDS[:, 9] - HANDS[:, 0], *(HANDS[:, tip] - HANDS[:, tip - 1] for tip in (4, 8, 12, 16, 20))], 1)
    np.testing.assert_allclose(found[..., 0], bones / np.linalg.norm(bones, axis=-1, keepdims=True), atol=1e-12)


def test_they_turn_with_the_hand():
    for turn in Rotation.random(10, random_state=3):
        np.testing.assert_allclose(both(turn.apply(HANDS.reshape(-1, 3)).reshape(HANDS.shape) + 0.7, True),
                                   turn.as_matrix() @ both(HANDS, True), atol=1e-9)


def test_y_points_to_the_thumb_on_a_right_hand_and_away_from_it_on_a_left_one():
    mirror = np.array([-1.0, 1.0, 1.0])
    for joints, is_right, sign in ((HANDS, True, 1), (HANDS * mirror, False, -1)):
        to_thumbs_side = joints[:, 5] - joints[:, 17]
        y = frames.wrist_rotation(joints, is_right)[..., 1]
        assert (sign * (y * to_thumbs_side).sum(-1) > 0.8 * np.linalg.norm(to_thumbs_side, axis=-1)).all()


def test_a_left_hand_has_the_mirror_image_of_a_right_hands_frames():
    mirror = np.array([-1.0, 1.0, 1.0])
    right, left = both(HANDS, True), both(HANDS * mirror, False)
    np.testing.assert_allclose(left[..., 0], right[..., 0] * mirror, atol=1e-9)     # along the bone
    np.testing.assert_allclose(left[..., 2], right[..., 2] * mirror, atol=1e-9)     # out of the nail side


def test_a_flat_hand_has_its_nails_on_its_back():
    """The oracle's fingers bend away from the camera, so its palm looks there and its back to the camera."""
    found = both(hand(bend=0.0), True)
    np.testing.assert_allclose(found[[0, 2, 3, 4, 5], :, 2], np.tile([0.0, 0.0, -1.0], (5, 1)), atol=1e-9)


@pytest.mark.parametrize("bend", [0.1, 0.5, 0.9])
def test_the_nail_goes_round_with_a_finger_that_curls(bend):
    """Three joints of the middle finger bend, up to more than a right angle, where the nail looks back at the palm."""
    z = frames.fingertip_rotations(hand(bend=bend), True)[2, :, 2]
    np.testing.assert_allclose(z, (0.0, -np.sin(3 * bend), -np.cos(3 * bend)), atol=1e-9)


def test_many_hands_at_once_are_what_each_is_alone():
    sides = RNG.random(len(HANDS)) < 0.5
    together = both(HANDS, sides)
    for joints, is_right, rotations in zip(HANDS, sides, together):
        np.testing.assert_allclose(both(joints, bool(is_right)), rotations, atol=1e-12)


@pytest.mark.parametrize("joint, lost", [(0, range(6)), (5, range(6)), (8, [2]), (7, [2]), (20, [5])])
def test_a_joint_that_is_not_known_leaves_only_its_own_frames_undefined(joint, lost):
    broken = HANDS[0].copy()
    broken[joint] = np.nan
    undefined = np.isnan(both(broken, True)).any((-1, -2))
    assert set(np.flatnonzero(undefined)) == set(lost)


def test_a_bone_without_length_and_a_hand_on_a_line_have_no_frame():
    joints = HANDS[0].copy()
    joints[8] = joints[7]
    assert np.isnan(frames.fingertip_rotations(joints, True)[1]).all()
    assert np.isnan(frames.wrist_rotation(np.outer(np.arange(21.0), (1.0, 2.0, 3.0)), True)).all()


def test_quaternions_of_any_rotation():
    turns = Rotation.concatenate([Rotation.random(200, random_state=1), Rotation.identity(),
                                  *(Rotation.from_rotvec(np.pi * axis) for axis in np.eye(3))])
    matrices = turns.as_matrix()
    found = frames.quaternion(matrices)
    np.testing.assert_allclose(np.abs((found * turns.as_quat()).sum(1)), 1.0, atol=1e-12)     # q and -q are one turn
    np.testing.assert_allclose(Rotation.from_quat(found).as_matrix(), matrices, atol=1e-12)
    assert (found[:, 3] >= 0).all()
    np.testing.assert_allclose(frames.quaternion(matrices[7]), found[7])
    matrices[3, 0, 0] = np.nan
    assert np.isnan(frames.quaternion(matrices)[3]).all() and np.isfinite(frames.quaternion(matrices)[[2, 4]]).all()


def test_cross_is_numpys():
    a, b = RNG.normal(size=(2, 5, 4, 3))
    np.testing.assert_allclose(frames.cross(a, b), np.cross(a, b), atol=1e-15)


@pytest.mark.parametrize("right", [True, False])
def test_the_nail_of_a_thumb_at_rest_faces_back_and_away_from_the_fingers(right):
    joints = hand(bend=0.0, right=right)                                     # its back looks to the camera
    nail = frames.fingertip_rotations(joints, right)[0, :, 2]
    away = (joints[1] - joints[5]) / np.linalg.norm(joints[1] - joints[5])
    assert nail @ (0, 0, -1) > 0.3 and nail @ away > 0.3
