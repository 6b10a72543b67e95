"""Where the joints are published, against the definitions that networks learn."""
import numpy as np
import pytest

from hand_pose_ros.skeleton import FINGERTIPS, KNUCKLES, WRIST, joint_centres, mano_joints

HANDS = np.random.default_rng(0).normal(size=(5, 21, 3))


def test_knuckles_move_straight_towards_the_wrist_and_the_wrist_towards_the_middle_one():
    moved = joint_centres(HANDS)
    others = [j for j in range(4, 21) if j not in (*KNUCKLES, *FINGERTIPS)]
    np.testing.assert_array_equal(moved[:, others], HANDS[:, others])
    way, step = HANDS[:, :1] - HANDS[:, list(KNUCKLES)], moved[:, list(KNUCKLES)] - HANDS[:, list(KNUCKLES)]
    share = (way * step).sum(-1) / (way * way).sum(-1)
    np.testing.assert_allclose(step, share[..., None] * way, atol=1e-12)
    assert (share > 0).all() and (share < 0.1).all()
    np.testing.assert_allclose(moved[:, WRIST] - HANDS[:, WRIST], 0.1 * (moved[:, 9] - HANDS[:, WRIST]), atol=1e-12)


def test_tips_move_into_the_finger():
    moved, tips = joint_centres(HANDS), list(FINGERTIPS)
    before = [tip - 1 for tip in tips]
    bone, step = moved[:, before] - HANDS[:, tips], moved[:, tips] - HANDS[:, tips]
    np.testing.assert_allclose(step, np.array([0.19, 0.16, 0.16, 0.16, 0.19])[:, None] * bone, atol=1e-12)


def test_the_thumb_moves_along_its_bones_towards_the_wrist():
    moved = joint_centres(HANDS)
    for joint, end, share in ((2, moved[:, 1], 0.05 / 0.7), (3, moved[:, 2], 0.11)):
        np.testing.assert_allclose(moved[:, joint] - HANDS[:, joint], share * (end - HANDS[:, joint]), atol=1e-12)


@pytest.mark.parametrize("unknown", [(7, 9), *((joint,) for joint in range(21))])
def test_an_unknown_joint_costs_itself_only(unknown):
    hand = HANDS[0].copy()
    hand[list(unknown)] = np.nan
    back = mano_joints(hand)
    assert np.isnan(back).any(axis=-1).tolist() == [joint in unknown for joint in range(21)]


def test_there_and_back():
    np.testing.assert_allclose(mano_joints(joint_centres(HANDS)), HANDS, atol=1e-12)


def test_turning_moving_and_looking_from_afar_do_not_matter():
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    np.testing.assert_allclose(joint_centres(2 * HANDS @ turn + 3), 2 * joint_centres(HANDS) @ turn + 3, atol=1e-12)
    np.testing.assert_allclose(joint_centres(HANDS[..., :2]), joint_centres(HANDS)[..., :2], atol=1e-12)
