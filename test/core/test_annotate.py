"""Drawing: it marks what it should where it should, in a copy."""
from dataclasses import replace

import numpy as np
import pytest
from oracle import hand
from test_tracking import observed

from hand_pose_ros import annotate
from hand_pose_ros.types import JointState

GREY = np.full((480, 640, 3), 90, np.uint8)
HAND = replace(observed(hand(at=(0, 0.02, 0.5), bend=0.2)), track_id=3)


def test_every_joint_has_its_colour_in_its_place_and_the_image_is_left_alone():
    before = GREY.copy()
    drawn = annotate.draw(GREY, [HAND], labels=False)
    np.testing.assert_array_equal(GREY, before)
    for joint, (u, v) in enumerate(HAND.joints_px):
        assert tuple(drawn[round(v), round(u)]) == annotate.colour_of_joint(joint), joint
    assert len({annotate.colour_of_joint(j) for j in range(21)}) == 6


def test_a_joint_that_is_not_seen_is_hollow():
    state = HAND.state.copy()
    state[8] = JointState.SELF_OCCLUDED
    u, v = HAND.joints_px[8].round().astype(int)
    assert tuple(annotate.draw(GREY, [replace(HAND, state=state)], False)[v, u]) != annotate.colour_of_joint(8)


def test_label_says_side_id_score_and_distance():
    assert annotate.caption(HAND) == "right 95% #3 0.90 0.51 m"
    flat = replace(HAND, right_probability=0.02, joints_m=np.full((21, 3), np.nan))
    assert annotate.caption(flat) == "left 98% #3 0.90"
    assert (annotate.draw(GREY, [HAND]) != annotate.draw(GREY, [HAND], labels=False)).any()


def _labels(monkeypatch, image, hands):
    """Where the labels of hands are drawn: x0, y0, x1, y1."""
    boxes = []

    def noted(drawn, first, last, colour, thickness):
        boxes.append((*first, *last))
    monkeypatch.setattr(annotate.cv2, "rectangle", noted)
    annotate.draw(image, hands)
    return np.array(boxes)


@pytest.mark.parametrize("down", [0, 400, -400])
def test_labels_of_hands_that_are_near_do_not_hide_each_other(monkeypatch, down):
    shifted = [replace(HAND, box=HAND.box + [dx, dy + down, dx, dy + down])
               for dx, dy in ((0, 0), (40, 3), (-30, -4), (10, 12))]
    boxes = _labels(monkeypatch, GREY, shifted)
    assert len(boxes) == 4 and boxes.min() >= 0 and boxes[:, 3].max() <= 480 and boxes[:, 2].max() <= 642
    for k, a in enumerate(boxes):
        for b in boxes[k + 1:]:
            assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3], (a, b)


@pytest.mark.parametrize("side", [64, 100, 200])
def test_a_label_is_whole_in_a_small_picture(monkeypatch, side):
    small = replace(HAND, box=np.array([0.3, 0.3, 0.9, 0.9]) * side, joints_px=HAND.joints_px * side / 640)
    (box,) = _labels(monkeypatch, GREY[:side, :side], [small])
    assert box[0] >= 0 and box[1] >= 0 and box[2] <= side and box[3] <= side


@pytest.mark.parametrize("far_px", [1e4, 1e9, 1e12])
def test_one_joint_far_outside_does_not_cover_the_picture(far_px):
    px = HAND.joints_px.copy()
    px[20, 0] = far_px
    away = replace(HAND, joints_px=px, box=np.concatenate([px.min(0), px.max(0)]))
    assert (annotate.draw(GREY, [away], labels=False) != GREY).any(-1).mean() < 0.2


def test_hands_outside_or_unknown_do_no_harm():
    far = replace(HAND, joints_px=HAND.joints_px + 1e7, box=HAND.box + 1e7)
    nan = replace(HAND, joints_px=np.full((21, 2), np.nan), box=np.full(4, np.nan))
    np.testing.assert_array_equal(annotate.draw(GREY, [nan]), GREY)
    annotate.draw(GREY, [far])                                               # no crash, nothing to see
    np.testing.assert_array_equal(annotate.draw(GREY, iter([HAND])), annotate.draw(GREY, [HAND]))
