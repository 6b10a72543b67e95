"""Orders and definitions of joints in other systems."""
import numpy as np
import pytest

from hand_pose_ros.errors import ConfigError
from hand_pose_ros.skeleton import FINGERTIPS, JOINT_NAMES, joint_centres, hand_length
from hand_pose_ros.synthesis import conventions
from hand_pose_ros.synthesis.hand_model import HandModel

# XRHandJoint, in the order of the W3C WebXR Hand Input Module, section 4.2
WEBXR = ["wrist", "thumb-metacarpal", "thumb-phalanx-proximal", "thumb-phalanx-distal", "thumb-tip",
         *(f"{finger}-finger-{part}" for finger in ("index", "middle", "ring", "pinky")
           for part in ("metacarpal", "phalanx-proximal", "phalanx-intermediate", "phalanx-distal", "tip"))]
OURS = {"cmc": "metacarpal", "mcp": "phalanx-proximal", "pip": "phalanx-intermediate", "dip": "phalanx-distal",
        "ip": "phalanx-distal", "tip": "tip"}


def _webxr_name(ours):
    if ours == "wrist":
        return ours
    finger, joint = ours.split("_")
    return f"thumb-{OURS[joint]}" if finger == "thumb" else f"{finger.replace('little', 'pinky')}-finger-{OURS[joint]}"


def test_webxr_rows_carry_the_names_that_they_should():
    assert [WEBXR[row] for row in conventions.WEBXR_25] == [_webxr_name(name) for name in JOINT_NAMES]


def test_openxr_is_webxr_behind_the_palm():
    names = ["palm", *WEBXR]
    assert [names[row] for row in conventions.OPENXR_26] == [_webxr_name(name) for name in JOINT_NAMES]


def test_mano_rows_carry_the_names_that_they_should():
    names = ["wrist", *(f"{finger}_{joint}" for finger in ("index", "middle", "little", "ring")
                        for joint in ("mcp", "pip", "dip")), "thumb_cmc", "thumb_mcp", "thumb_ip",
             *(f"{finger}_tip" for finger in ("thumb", "index", "middle", "ring", "little"))]
    assert tuple(names[row] for row in conventions.MANO_21) == JOINT_NAMES


def test_reordering_takes_whole_joints():
    joints = np.arange(2 * 25 * 3).reshape(2, 25, 3)
    out = conventions.reorder(joints, conventions.WEBXR_25)
    assert out.shape == (2, 21, 3)
    np.testing.assert_array_equal(out[:, 5], joints[:, 6])


@pytest.mark.parametrize("name", sorted(conventions.DEFINITIONS))
def test_every_definition_says_where_it_comes_from(name):
    definition = conventions.DEFINITIONS[name]
    assert len(definition.source) > 30
    assert definition.measured or (definition.tip_back, definition.wrist_forward, *definition.knuckles_back) == (0,) * 6


@pytest.mark.parametrize("name", sorted(conventions.DEFINITIONS))
def test_conversion_moves_tips_knuckles_and_wrist_and_by_what_it_says(name):
    definition, joints = conventions.DEFINITIONS[name], HandModel.load("makehuman").shape().skeleton.joints
    out = conventions.convert(joints, name)
    inner = [joint for joint in range(1, 21) if joint not in (*FINGERTIPS, 5, 9, 13, 17)]
    np.testing.assert_array_equal(out[inner], joints[inner])
    moved = np.linalg.norm(out - joints, axis=1) / 0.186
    np.testing.assert_allclose(moved[list(FINGERTIPS)], definition.tip_back, atol=1e-12)
    assert moved[0] == pytest.approx(definition.wrist_forward)
    np.testing.assert_allclose(moved[[5, 9, 13, 17]], definition.knuckles_back, atol=1e-12)
    nearer = np.linalg.norm(joints - joints[0], axis=1) - np.linalg.norm(out - joints[0], axis=1)
    np.testing.assert_allclose(nearer[[5, 9, 13, 17]] / 0.186, definition.knuckles_back, atol=1e-12)


# Of the mean hand of MANO (Romero et al., SIGGRAPH Asia 2017): wrist to knuckle and the three bones of index .. little,
# % of the hand's length
MANO_BONES = ((51.4, 18.7, 12.6, 13.4), (53.8, 18.0, 13.2, 15.0), (48.8, 16.4, 14.1, 13.8), (46.4, 12.0, 10.8, 10.8))


@pytest.mark.parametrize("model, bound", [("makehuman", 2.0), ("webxr", 4.0)])
def test_knuckles_and_fingers_are_where_mano_has_them(model, bound):
    """X-rays (Buryanov and Kotiuk 2010) have proximal phalanges longer by 6 % of the hand, which would fail."""
    joints = HandModel.load(model).shape().skeleton.joints
    chains = np.array([[0, f, f + 1, f + 2, f + 3] for f in (5, 9, 13, 17)])
    bones = 100 * np.linalg.norm(np.diff(joints[chains], axis=1), axis=-1) / hand_length(joints)
    assert np.abs(bones - MANO_BONES).max() < bound


def test_published_joints_give_the_bones_xray_lengths():
    """Proximal phalanges, third metacarpal and soft tissue at the tips of Buryanov and Kotiuk 2010, table 2, against
    the mean of the two hands that are drawn; the wrist in the capitate, 14 mm behind that metacarpal; the finger's
    length as common measure. The thumb's last joint turns in the head of the phalanx, 2 to 5 mm behind its end."""
    proximal, ratio, soft, thumb = [], [], [], []
    for model in ("makehuman", "webxr"):
        joints = HandModel.load(model).shape().skeleton.joints
        published = joint_centres(joints)
        length = np.linalg.norm(published[[5, 9, 13, 17]] - published[[6, 10, 14, 18]], axis=1)
        proximal.append(186 * length / hand_length(joints))
        bones = np.linalg.norm(np.diff(published[[0, 9, 10, 11, 12]], axis=0), axis=1)
        ratio.append(bones[0] / bones[1:].sum())
        thumb.append(186 * np.linalg.norm(np.diff(published[1:5], axis=0), axis=1) / hand_length(joints))
        tips = list(FINGERTIPS)
        soft.append(186 * np.linalg.norm(published[tips] - joints[tips], axis=1) / hand_length(joints))
    np.testing.assert_allclose(np.mean(proximal, axis=0), (39.78, 44.63, 41.37, 32.74), atol=0.6)
    np.testing.assert_allclose(np.mean(soft, axis=0), (5.67, 3.84, 3.95, 3.95, 3.73), atol=0.3)
    assert np.mean(ratio) == pytest.approx((64.6 + 14.2) / (44.63 + 26.33 + 17.40), abs=0.02)
    _, first, last = np.mean(thumb, axis=0)
    assert first == pytest.approx(31.57, abs=1.0) and 21.67 + 2.0 < last < 21.67 + 5.0


def test_mediapipe_tips_lie_inside_the_finger_and_its_wrist_in_the_palm():
    joints = HandModel.load("makehuman").shape().skeleton.joints
    out = conventions.convert(joints, "mediapipe")
    for tip in FINGERTIPS:
        along = (joints[tip] - joints[tip - 1]) / np.linalg.norm(joints[tip] - joints[tip - 1])
        assert 0.0055 < (joints[tip] - out[tip]) @ along < 0.0131            # 3 to 7 % of 186 mm
    assert out[0, 1] == pytest.approx(0.014, abs=0.0005)


def test_conversion_turns_and_scales_with_the_hand():
    joints = HandModel.load("makehuman").shape().skeleton.joints
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    np.testing.assert_allclose(conventions.convert(1000 * joints @ turn.T, "mediapipe"),
                               1000 * conventions.convert(joints, "mediapipe") @ turn.T, atol=1e-9)


def test_unknown_convention_lists_the_choices():
    with pytest.raises(ConfigError, match="freihand, mediapipe"):
        conventions.convert(np.zeros((21, 3)), "moose")
