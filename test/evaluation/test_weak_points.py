"""What a hand looks like, what went wrong with it, and the tables and sheets made of that."""
from __future__ import annotations

import re
from dataclasses import replace

import cv2
import numpy as np
import painted
import pytest

from hand_pose_ros.config import Config
from hand_pose_ros.evaluation import attributes, cases, faults, report, scoring, weak_points
from hand_pose_ros.evaluation.datasets.base import Item, make_hand
from hand_pose_ros.evaluation.predictions import Predicted
from hand_pose_ros.types import Detection, Frame

BACK = painted.hand((0, 0, 0.5))
"""A right hand, fingers up in the image, thumb to the left: we see its back."""


def labelled(joints: np.ndarray = BACK, side: str | None = "right", in_space: bool = True, **rest):
    return make_hand(painted.project(joints), joints_m=joints if in_space else None, handedness=side, **rest)


# ---- what a hand looks like

@pytest.mark.parametrize("in_space", [True, False])
def test_views(in_space):
    """The same answer from 3D and, without it, from the sense of turning in the image."""
    def view(joints, side):
        return attributes.view_of(labelled(joints, side, in_space))

    assert view(BACK, "right") == "back" and view(BACK, "left") == "palm"
    assert view(BACK * (-1, 1, 1), "left") == "back" and view(BACK, None) == "unknown"
    edge = (BACK - BACK[0])[:, [2, 1, 0]] + BACK[0]
    assert view(edge, "right") == "edge"
    upside_down = (BACK - BACK[0]) * (-1, -1, 1) + BACK[0]
    assert view(upside_down, "right") == "back", "a turn in the image plane changes no view"


def test_hidden_joints_of_a_fist_seen_from_its_back():
    """Fingers that fold back under the palm are behind it; the same fist seen from the palm hides no tip."""
    fist = BACK.copy()
    for base in (5, 9, 13, 17):
        to_wrist = fist[0] - fist[base]
        for joint, (share, behind) in enumerate(((0.05, 0.04), (0.3, 0.04), (0.45, 0.025)), base + 1):
            fist[joint] = fist[base] + share * to_wrist + (0, 0, behind)
    tips = [8, 12, 16, 20]
    assert attributes.hidden_joints(labelled(fist))[tips].all()
    seen_from_palm = fist * (1, 1, -1) + (0, 0, 1.0)
    assert not attributes.hidden_joints(labelled(seen_from_palm))[tips].any()
    assert not attributes.hidden_joints(labelled()).any(), "an open hand hides nothing"
    assert attributes.hidden_joints(labelled(in_space=False)) is None
    relative = fist - fist[0]                       # data sets with joints relative to a root
    assert attributes.hidden_joints(labelled(fist))[tips].sum() == \
        attributes.hidden_joints(replace(labelled(fist), joints_m=relative))[tips].sum()


def test_groups_cover_everything_a_hand_can_get():
    told = attributes.of_hand(labelled(), attributes.hidden_joints(labelled()))
    assert told.keys() == attributes.TITLES.keys() == attributes.GROUPS.keys()
    assert told["up"] == "up" and told["fingers"] == "4-5" and told["hidden"] == "none" and told["side"] == "right"
    tilted = BACK.copy()
    tilted[9] = tilted[0] + (0, -0.02, 0.08)
    assert attributes.of_hand(labelled(tilted), None)["tilt"] == ">=60 deg away"
    tilted[9] = tilted[0] + (0, -0.05, -0.05)
    assert attributes.of_hand(labelled(tilted), None)["tilt"] == "30-60 deg to the camera"
    for key, value in told.items():
        assert value in attributes.groups_of(key)
    sideways = (BACK - BACK[0])[:, [1, 0, 2]] + BACK[0]
    assert attributes.of_hand(labelled(sideways), None)["up"] == "left or right"


def test_skin_by_hand():
    """L* and ITA of known colours: mid grey has b* = 0, so above L* 50 its angle is 90 degrees, below it -90."""
    hand = labelled()
    for grey, lightness, angle in ((200, 80.6, 90.0), (60, 25.3, -90.0)):
        told = attributes.skin_of(np.full((240, 320, 3), grey, np.uint8), hand)
        assert told == (pytest.approx(lightness, abs=0.3), pytest.approx(angle, abs=1.0))
    # sRGB (222, 171, 127) is L* 74.0, b* 30.6: atan(24.0 / 30.6) = 38.1 degrees
    image = np.full((240, 320, 3), (222, 171, 127), np.uint8)
    assert attributes.skin_of(image, hand)[1] == pytest.approx(38.1, abs=1.0)
    seen = attributes.of_picture(image, hand)
    assert seen == {"border": "not reached", "brightness": "bright, >=60", "tone": "tan, 10-41 deg"}
    far = labelled(BACK + (0.28, 0, 0))
    assert attributes.of_picture(image, far)["border"] == "reached"
    nowhere = make_hand(np.full((21, 2), np.nan), np.zeros(21), box=(10, 10, 60, 60))
    assert attributes.of_picture(image, nowhere)["tone"] == "unknown"


# ---- what went wrong

def guess(px: np.ndarray, side: str = "right") -> Predicted:
    return Predicted(0.9, joints_px=px, handedness=side)


def test_faults_in_their_order():
    truth = labelled()
    px = truth.joints_px
    size, middle = truth.size_px, px.mean(0)
    assert faults.of_found(truth, guess(px + 0.02 * size)) == ""
    assert faults.of_found(truth, guess(px + 0.3 * size, "left")) == "wrong side"
    assert faults.of_found(truth, guess(px + (0.3 * size, 0))) == "shifted"
    assert faults.of_found(truth, guess(middle + 1.6 * (px - middle))) == "wrong size"
    turn = np.array([[np.cos(0.8), -np.sin(0.8)], [np.sin(0.8), np.cos(0.8)]])
    assert faults.of_found(truth, guess(middle + (px - middle) @ turn.T)) == "turned"
    exchanged = px.copy()
    exchanged[5:17] = px[9:21]                      # index drawn on middle, middle on ring, ring on little
    assert faults.of_found(truth, guess(exchanged)) == "fingers exchanged"
    bent = px.copy()
    bent[7:9] = px[5:7]
    bent[7:9, 1] += 0.75 * size
    assert faults.of_found(truth, guess(bent)) == "one finger"
    bent[11:13] = bent[7:9]
    assert faults.of_found(truth, guess(bent)) == "several fingers"
    assert faults.of_found(truth, Predicted(0.9, box=truth.box)) == ""


def test_why_a_hand_was_missed():
    joints = BACK + (0, 0.03, 0.05)
    image = painted.paint(np.full((240, 320, 3), 90, np.uint8), [(joints, True)])
    frame, truth, config = Frame(image, painted.CAMERA, 1), labelled(joints), Config()
    chain = painted.exact(config)

    def reason(score, answers=(), presence=0.99, count=1, taken=()):
        box = np.array([0.0, 0.0, 20.0, 20.0])
        others = [Detection(box + (9 * k, 0, 9 * k, 0), 0.9, 1.0, np.array([0.0, -1.0])) for k in range(count - 1)]
        own = Detection(truth.box, score, 1.0, np.array([0.0, -1.0]))

        def estimate(taken):
            painted._SEEN["frame"] = frame
            return [replace(pose, presence=presence) for pose in chain.estimate(taken)]

        changed = replace(chain, detect=lambda picture, least: [*others, own] if score >= least else others,
                          estimate=estimate)
        return faults.of_missed(frame, truth, answers, taken, changed, config).split(":")[0]

    assert reason(0.01) == "detector" and reason(0.1) == "detector"
    assert reason(0.2, presence=0.01) == "evidence" and reason(0.95, presence=0.4) == "presence"
    assert reason(0.9, count=20) == "not looked at"
    assert reason(0.9) == "pose"
    shifted = truth.box + np.tile((0.5 * truth.size_px, 0), 2)
    answers = [Predicted(0.8, box=shifted)]
    assert reason(0.9, answers) == "answer beside" and reason(0.9, answers, taken={0}) == "one answer for two hands"
    answers[0] = replace(answers[0], box=truth.box + np.tile((0.7 * truth.size_px, 0), 2))
    assert reason(0.9, answers, taken={0}) == "pose", "a hand that is merely near"


def test_places_of_false_hands():
    truth = [make_hand(np.full((21, 2), np.nan), np.zeros(21), box=(100, 100, 200, 200))]
    for box, place in (((110, 110, 140, 140), "part of a labelled hand"), ((50, 50, 260, 260), "round a labelled hand"),
                       ((300, 10, 340, 40), "elsewhere")):
        assert faults.of_false(Predicted(box=np.array(box, float)), truth) == place


# ---- tables and sheets

def scored(count: int = 12, shift=(0.0, 0.0), subset: str = "a"):
    images = []
    for number in range(count):
        item = Item(f"{subset}/{number}.png", None, (labelled(),), exhaustive=True, subset=subset, group=str(number))
        answers = [] if number == 0 else [guess(item.hands[0].joints_px + np.asarray(shift) * item.hands[0].size_px)]
        images.append(scoring.score_image(item, answers))
    return images


def test_offsets_are_along_and_across_the_hand():
    """The back of an upright right hand: along is up in the image, the thumb is to the left."""
    hand = scored(2, (-0.02, -0.05))[1].hands[0]
    np.testing.assert_allclose(hand.offsets[7], (0.05, 0.02), atol=5e-3)
    mirrored = labelled(BACK * (-1, 1, 1), "left")
    moved = mirrored.joints_px + np.array([0.02, -0.05]) * mirrored.size_px
    np.testing.assert_allclose(scoring.hand_frame_offsets(mirrored, moved)[7], (0.05, 0.02), atol=5e-3)
    table = weak_points.offset_table(scored(12, (-0.02, -0.05)))
    assert table[0][1] == "a, back (11)" and table[-1][1] == "0.00" and table[-2][1] == "5.39"


def test_tables_count_every_hand_once():
    images = scored(12, (0.15, 0.0)) + scored(3, subset="b")
    table = weak_points.fault_table(images, cases.choose(images))
    rows = {row[0]: dict(zip(table[0], row)) for row in table[1:]}
    assert rows["a"]["hands"] == "12" and rows["a"]["missed"] == "1" and rows["a"]["shifted"] == "11"
    assert rows["b"]["NME >= 10 %"] == "0"
    groups = weak_points.attribute_table([replace_view(hand, n) for n, hand in enumerate(weak_points.hands_of(images))])
    views = {row[1]: row for row in groups if row[1] in ("palm", "back")}
    assert sum(int(row[2]) for row in views.values()) == 15
    assert sum(float(row[8]) for row in views.values()) == pytest.approx(100, abs=0.2)
    joints = weak_points.joint_table(images)
    assert joints[0][:3] == ["joint", "all", "a"] and joints[-1][2] == "15.0"


def test_reasons_say_how_many_hands_were_asked():
    images = [image for n in range(6) for image in scored(1, subset="a")]
    chosen = cases.Cases({"a": {"missed": [("a/0.png", n) for n in range(2)]}}, [])
    for key in chosen.sheets["a"]["missed"]:
        chosen.reasons[key] = "one answer for two hands: IoU 0.50"
    table = weak_points.fault_table(images, chosen)
    assert table[1][2:4] == ["6", "one answer for two hands 2 (2 of 6 asked)"]
    assert weak_points.fault_table(images[:2], chosen)[1][3] == "one answer for two hands 2"


def test_bars_tell_of_how_many_hands_their_mean_is():
    """Of three upright hands one is missed and one has no label in space; so is the one that points down."""
    hands = []
    for number, (joints, in_space, found) in enumerate(((BACK, True, True), (BACK, False, True), (BACK, True, False), (
            (BACK - BACK[0]) * (-1, -1, 1) + BACK[0], True, True))):
        hand = labelled(joints, in_space=in_space)
        answers = [replace(guess(hand.joints_px), joints_m=joints)] if found else []
        hands += scoring.score_image(Item(str(number), None, (hand,)), answers).hands
    table = weak_points.attribute_table(hands)
    row = next(dict(zip(table[0], row)) for row in table if row[1] == "up")
    assert (row["hands"], row["hands with NME"], row["hands with 3D"]) == ("3", "2", "1")
    tables = weak_points.Tables([["set"]], {"": table}, [], [])
    drawn = report._weak_section(tables)
    bars = re.findall(r'end">(up|down)<.*?(% found|% NME|mm PA-MPJPE) <tspan class="faint">\((\d+)\)', drawn)
    assert bars[:6] == [("up", "% found", "3"), ("down", "% found", "1"), ("up", "% NME", "2"), ("down", "% NME", "1"),
                        ("up", "mm PA-MPJPE", "1"), ("down", "mm PA-MPJPE", "1")]


def replace_view(hand, number):
    hand.attributes = {**hand.attributes, "view": "palm" if number % 3 else "back"}
    return hand


def test_neighbouring_frames_of_a_recording_are_shown_once():
    images = scored(61, (0.01, 0.0))
    stamps = {image.name: 33_333_333 * number for number, image in enumerate(images)}
    chosen = cases.choose(images, stamps_ns=stamps)
    times = sorted(stamps[name] for name, _ in chosen.sheets["a"]["worst"])
    assert 5 <= len(times) <= 7 and min(np.diff(times)) >= cases.APART_NS
    assert len(cases.choose(images).sheets["a"]["worst"]) == 48


def test_sheets_hold_48_and_show_the_worst_first(tmp_path):
    images = scored(60, (0.01, 0.0))
    images[7].hands[0].errors_px += 5.0
    chosen = cases.choose(images)
    assert len(chosen.sheets["a"]["worst"]) == 48 and chosen.sheets["a"]["worst"][0] == ("a/7.png", 0)
    assert chosen.sheets["a"]["missed"] == [("a/0.png", 0)] and "false" not in chosen.sheets["a"]
    for key in chosen.sheets["a"]["worst"]:
        chosen.shots[key] = np.full((cases.SHOT_PX, cases.SHOT_PX, 3), 120, np.uint8)
        chosen.captions[key] = [key[0], "a long caption that needs more than one line of the sheet"]
    assert cases.write_sheets(tmp_path / "s", chosen) == {"a": {"worst": "a_worst.jpg"}}
    rows, columns = 6, cases.COLUMNS
    assert cv2.imread(str(tmp_path / "s" / "a_worst.jpg")).shape[:2] == (
        rows * (cases.SHOT_PX + cases.CAPTION_PX), columns * (cases.SHOT_PX + 6))
