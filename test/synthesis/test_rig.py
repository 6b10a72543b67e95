"""Kinematics of the virtual hand, told in anatomy: what bends where, and what never changes its length."""
import numpy as np
import pytest

from hand_pose_ros.skeleton import FINGERS, bone_lengths, hand_length, joint_centres
from hand_pose_ros.synthesis import poses, rig
from hand_pose_ros.synthesis.hand_model import HandModel

NAMES = ["makehuman", "webxr"]


def _skeleton(name):
    return HandModel.load(name).shape().skeleton


def _pose(**degrees):
    pose = np.zeros(rig.NUM_DOFS)
    for dof, angle in degrees.items():
        pose[rig.DOF[dof]] = np.radians(angle) if dof != "arch" else angle
    return pose


def _joints(skeleton, **degrees):
    return rig.posed_joints(skeleton, rig.motions(skeleton, _pose(**degrees)))


def _pivots(skeleton, **degrees):
    return rig.posed_pivots(skeleton, rig.motions(skeleton, _pose(**degrees)))


def _bend(joints, a, b, c):
    """Angle in degrees between the bones a-b and b-c."""
    one, two = joints[b] - joints[a], joints[c] - joints[b]
    return np.degrees(np.arccos(one @ two / np.linalg.norm(one) / np.linalg.norm(two)))


@pytest.mark.parametrize("name", NAMES)
def test_the_rest_pose_does_not_move_anything(name):
    skeleton = _skeleton(name)
    motions = rig.motions(skeleton, skeleton.rest)
    np.testing.assert_allclose(motions, np.broadcast_to(np.eye(4)[:3], motions.shape), atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_hand_frame_is_what_it_says(name):
    joints = _skeleton(name).joints
    np.testing.assert_allclose(joints[0], 0.0, atol=1e-12)
    assert joints[9, 1] > 0.08 and abs(joints[9, 0]) < 0.004                # y: towards the middle knuckle
    assert joints[17, 0] - joints[5, 0] > 0.045                             # x: towards the little finger
    assert joints[4, 0] < joints[5, 0]                                      # the thumb lies on the other side
    assert joints[4, 2] < joints[5, 2] - 0.02                               # and palmar: z is dorsal


@pytest.mark.parametrize("name", NAMES)
def test_bones_keep_their_lengths_in_every_pose(name):
    model, rng = HandModel.load(name), np.random.default_rng(0)
    shape = model.shape(rng)
    pose = poses.LOWER + (poses.UPPER - poses.LOWER) * rng.random((200, rig.NUM_DOFS))
    pose[:, rig.DOF["arch"]] = 0.0                                          # cupping moves knuckles about the carpus
    lengths = bone_lengths(rig.posed_pivots(shape.skeleton, rig.motions(shape.skeleton, pose)))
    np.testing.assert_allclose(lengths, np.broadcast_to(bone_lengths(shape.skeleton.pivots), lengths.shape), atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_published_bones_and_the_hand_keep_their_lengths_as_fingers_bend(name):
    """Fingers turn about the metacarpal heads of X-rays, not about MANO's knuckles in front of them."""
    shape = HandModel.load(name).shape(np.random.default_rng(0))
    pose = poses.LOWER + (poses.UPPER - poses.LOWER) * np.random.default_rng(1).random((200, rig.NUM_DOFS))
    pose[:, rig.DOF["arch"]] = 0.0
    joints = rig.posed_joints(shape.skeleton, rig.motions(shape.skeleton, pose))
    constant = [bone for bone in range(20) if bone > 1]
    lengths, straight = (bone_lengths(joint_centres(at))[..., constant] for at in (joints, shape.skeleton.joints))
    # The thumb's joints are published towards where the mean hand's metacarpal turns, up to 6 mm from this one's.
    np.testing.assert_allclose(lengths[:, 2:], np.broadcast_to(straight[2:], lengths[:, 2:].shape), atol=1e-9)
    np.testing.assert_allclose(lengths[:, :2], np.broadcast_to(straight[:2], lengths[:, :2].shape), atol=4e-4)
    np.testing.assert_allclose(hand_length(joints), shape.hand_length_m, atol=1e-9)
    thumb = bone_lengths(joint_centres(joints))[:, 1]
    assert np.ptp(thumb) < 0.004                            # of 33 mm; its base in the palm is that of the mean hand
    pose[:, rig.DOF["arch"]] = 1.0                      # knuckles turn about the carpus, set back towards the wrist
    cupped = rig.posed_joints(shape.skeleton, rig.motions(shape.skeleton, pose))
    assert np.abs(bone_lengths(joint_centres(cupped))[..., constant] - straight).max() < 0.0025


@pytest.mark.parametrize("name", NAMES)
def test_knuckles_and_middle_joints_are_published_bent_as_far_as_they_are(name):
    skeleton = _skeleton(name)
    less, more = (joint_centres(_joints(skeleton, middle_mcp_flexion=angle, middle_pip_flexion=angle))
                  for angle in (30, 90))
    assert _bend(more, 0, 9, 10) - _bend(less, 0, 9, 10) == pytest.approx(60, abs=1)
    assert _bend(less, 9, 10, 11) == pytest.approx(30, abs=4) and _bend(more, 9, 10, 11) == pytest.approx(90, abs=4)


@pytest.mark.parametrize("name", NAMES)
def test_the_metacarpal_of_the_thumb_is_as_long_as_in_x_rays(name):
    """46.2 mm (Buryanov and Kotiuk 2010) of a hand of 186 mm, and about its base the thumb turns."""
    skeleton = _skeleton(name)
    base, knuckle = skeleton.pivots[1:3]
    assert 186 * np.linalg.norm(knuckle - base) / hand_length(skeleton.joints) == pytest.approx(46.2, rel=0.1)
    for angles in ({"thumb_cmc_flexion": 40}, {"thumb_cmc_abduction": 20}):
        moved = _joints(skeleton, **angles)[2]
        assert np.linalg.norm(moved - base) == pytest.approx(np.linalg.norm(skeleton.joints[2] - base), abs=1e-9)
        assert np.linalg.norm(moved - knuckle) > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_the_base_of_the_thumb_is_manos_in_a_flat_hand_and_goes_along_with_the_thumb(name):
    skeleton = _skeleton(name)
    flat, pose = skeleton.joints, skeleton.rest.copy()
    np.testing.assert_allclose(joint_centres(flat)[1], flat[1], atol=0.003)
    pose[rig.DOF["thumb_cmc_flexion"]] += np.radians(40)
    motions = rig.motions(skeleton, pose)
    across = rig.posed_joints(skeleton, motions)
    np.testing.assert_allclose(across[1], flat[1], atol=1e-9)                       # MANO's stays in the palm
    carrier = motions[rig.BONE["thumb_cmc"]]
    np.testing.assert_allclose(joint_centres(across)[1], carrier[:, :3] @ flat[1] + carrier[:, 3], atol=0.003)
    assert np.linalg.norm(joint_centres(across)[1] - flat[1]) > 0.006


@pytest.mark.parametrize("name", NAMES)
def test_metacarpals_hinge_where_they_begin(name):
    """68.1, 64.6, 58.0 and 53.7 mm behind their heads (Buryanov and Kotiuk 2010) in a hand of 186 mm."""
    skeleton = _skeleton(name)
    cupped = _pivots(skeleton, arch=1.0)
    knuckles = [5, 9, 13, 17]
    lengths = np.linalg.norm(skeleton.pivots[knuckles] - skeleton.metacarpal_bases, axis=1)
    np.testing.assert_allclose(186 * lengths / hand_length(skeleton.joints), (68.1, 64.6, 58.0, 53.7), rtol=0.12)
    np.testing.assert_allclose(np.linalg.norm(cupped[knuckles] - skeleton.metacarpal_bases, axis=1), lengths, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_cupping_the_palm_keeps_the_fingers_lengths(name):
    skeleton = _skeleton(name)
    cupped, flat = _joints(skeleton, arch=1.0), _joints(skeleton)
    fingers = [bone for bone in range(20) if bone % 4]
    lengths = bone_lengths(_pivots(skeleton, arch=1.0))[fingers]
    np.testing.assert_allclose(lengths, bone_lengths(skeleton.pivots)[fingers], atol=1e-9)
    assert cupped[17, 2] < flat[17, 2] - 0.015  # the little knuckle comes palmar, most of all
    assert abs(cupped[17, 2] - flat[17, 2]) > abs(cupped[9, 2] - flat[9, 2])


@pytest.mark.parametrize("finger", FINGERS[1:])
@pytest.mark.parametrize("name", NAMES)
def test_flexion_bends_by_its_angle_towards_the_palm(name, finger):
    skeleton, first = _skeleton(name), 1 + 4 * FINGERS.index(finger)
    straight = _joints(skeleton)
    for joint, at in (("pip", 1), ("dip", 2)):
        bent = _joints(skeleton, **{f"{finger}_{joint}_flexion": 50})
        assert _bend(bent, *(first + at + step for step in (-1, 0, 1))) == pytest.approx(50.0, abs=6.0)
        assert bent[first + 3, 2] < straight[first + 3, 2] - 0.008
    bent = _pivots(skeleton, **{f"{finger}_mcp_flexion": 90})
    assert (bent[first + 1] - bent[first]) @ [0.0, 0.0, -1.0] > 0.97 * np.linalg.norm(bent[first + 1] - bent[first])


def _lean(joints):
    """Degrees by which the fingers 2-5, bent back into the palm, lean towards the thumb against the hand's axis."""
    back = joints[[8, 12, 16, 20]] - joints[[6, 10, 14, 18]]
    return np.degrees(np.arctan2(-back[:, 0], -back[:, 1]))


@pytest.mark.parametrize("name", NAMES)
def test_curled_fingers_lean_towards_the_root_of_the_thumb(name):
    bent = {f"{finger}_{joint}_flexion": 88 for finger in FINGERS[1:] for joint in ("mcp", "pip")}
    lean = _lean(_joints(_skeleton(name), **bent))
    # Against the middle finger, of 30 volunteers with these joints bent: Tan et al., J. Hand Surg. 33A, 2008.
    off = (lean - lean[1])[[0, 2, 3]] - [-11, 9, 19]
    assert (np.abs(off) < [9, 5, 5]).all()
    assert 4 < lean[1] < 15             # 5 against the metacarpal in X-rays of 31 volunteers (PubMed 22295735)


@pytest.mark.parametrize("name", NAMES)
def test_tips_of_a_fist_lie_side_by_side(name):
    shape = HandModel.load(name).shape()
    fist = rig.posed_joints(shape.skeleton, rig.motions(shape.skeleton, poses.solved("fist", shape)))
    tips, middles = (np.linalg.norm(np.diff(fist[at], axis=0), axis=1) for at in ([8, 12, 16, 20], [6, 10, 14, 18]))
    assert tips.sum() < 0.83 * middles.sum()


@pytest.mark.parametrize("name", NAMES)
def test_straight_fingers_fan_out_and_do_not_lean_whatever_the_others_do(name):
    skeleton = _skeleton(name)
    alone, others = _joints(skeleton), _joints(skeleton, index_mcp_flexion=80, index_pip_flexion=90,
                                               ring_mcp_flexion=80, ring_pip_flexion=90)
    np.testing.assert_allclose(others[9:13], alone[9:13], atol=1e-12)
    bones = _pivots(skeleton)
    along = bones[[6, 10, 14, 18]] - bones[[5, 9, 13, 17]]
    np.testing.assert_allclose(np.degrees(np.arctan2(-along[:, 0], along[:, 1])), np.degrees(rig.FAN_RAD), atol=0.6)


@pytest.mark.parametrize("finger", FINGERS[1:])
def test_abduction_turns_towards_the_thumb_by_its_angle(finger):
    skeleton, tip = _skeleton("makehuman"), 4 + 4 * FINGERS.index(finger)
    straight, turned = _pivots(skeleton), _pivots(skeleton, **{f"{finger}_mcp_abduction": 12})
    assert turned[tip, 0] < straight[tip, 0] - 0.008
    one, two = (bones[tip - 2] - bones[tip - 3] for bones in (straight, turned))
    angle = np.degrees(np.arccos(one @ two / np.linalg.norm(one) / np.linalg.norm(two)))
    assert angle == pytest.approx(12.0, abs=0.3)


@pytest.mark.parametrize("name", NAMES)
def test_straight_fingers_are_straight_and_level(name):
    joints = _joints(_skeleton(name))
    for first in (5, 9, 13, 17):
        assert _bend(joints, first, first + 1, first + 2) < 8.0
        assert abs(joints[first + 3, 2] - joints[first, 2]) < 0.012


def test_the_wrist_bends_the_forearm_and_leaves_the_hand():
    skeleton = _skeleton("makehuman")
    pose = np.zeros(rig.NUM_DOFS)
    before = rig.motions(skeleton, pose)
    pose[rig.DOF["wrist_flexion"]] = np.radians(40)
    after = rig.motions(skeleton, pose)
    np.testing.assert_allclose(after[rig.BONE["index_dip"]], before[rig.BONE["index_dip"]], atol=1e-12)
    elbow = after[rig.BONE["forearm"]][:, :3] @ skeleton.elbow
    assert elbow[2] < skeleton.elbow[2] - 0.1                               # a flexed palm turns towards the forearm
    pose[:] = 0.0
    pose[rig.DOF["wrist_deviation"]] = np.radians(20)
    elbow = rig.motions(skeleton, pose)[rig.BONE["forearm"]][:, :3] @ skeleton.elbow
    assert elbow[0] < skeleton.elbow[0] - 0.05                              # radial: the thumb's side closes


def test_the_thumb_flexes_across_the_palm_and_abducts_out_of_its_plane():
    skeleton = _skeleton("makehuman")
    rest, across = _joints(skeleton), _joints(skeleton, thumb_cmc_flexion=40)
    out = _joints(skeleton, thumb_cmc_abduction=20)
    assert across[4, 0] > rest[4, 0] + 0.03
    assert out[4, 2] < rest[4, 2] - 0.015
    assert np.linalg.norm(_joints(skeleton, thumb_ip_flexion=60)[4] - rest[1]) < np.linalg.norm(rest[4] - rest[1])


def test_many_poses_at_once_are_the_same_as_one_by_one():
    skeleton, drawn = _skeleton("makehuman"), np.random.default_rng(0).normal(0.0, 0.4, (3, 2, rig.NUM_DOFS))
    together = rig.motions(skeleton, drawn)
    for index in np.ndindex(3, 2):
        np.testing.assert_allclose(together[index], rig.motions(skeleton, drawn[index]), atol=1e-14)


def test_every_joint_is_carried_by_its_own_finger():
    for joint, bone in enumerate(rig.JOINT_BONE):
        name = rig.BONES[bone]
        assert FINGERS[(joint - 1) // 4] in name if joint > 1 else name == "palm"
