"""The scoring rules against small cases worked out by hand, and against another scorer of the same rules."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hand_pose_ros.evaluation import datasets, predictions, scoring
from hand_pose_ros.evaluation.datasets.base import Item, make_hand
from hand_pose_ros.evaluation.predictions import Predicted

SQUARE = np.stack(np.meshgrid(np.linspace(0, 40, 7), np.linspace(0, 20, 3)), -1).reshape(21, 2)
"""21 points that fill a box of 40 x 20 px."""


def item(*hands, **rest):
    rest = {"exhaustive": True, "subset": "made", "group": "g", **rest}
    return Item("a.png", Path("a.png"), tuple(hands), **rest)


def truth(shift=(0.0, 0.0), **rest):
    return make_hand(SQUARE + shift, **rest)


def test_pairs_take_the_least_distance_first():
    """Two truth hands overlap; each prediction overlaps both. Taken in order, the first would take the wrong one."""
    hands = [truth(), truth((8, 0))]
    guesses = [Predicted(joints_px=SQUARE + (7, 0)), Predicted(joints_px=SQUARE + (2, 0))]
    assert [(t, p) for t, p, _ in scoring.match(hands, guesses, 0.3)] == [(1, 0), (0, 1)]
    assert scoring.match(hands, guesses[:1], 0.3)[0][:2] == (1, 0)
    assert scoring.match(hands, [Predicted(joints_px=SQUARE + (100, 0))], 0.3) == []


def test_one_image_by_hand():
    """Errors of 2.1 px on all joints of a hand of 40 px: NME 5.25 %; a missed hand; a false alarm; an ignored one."""
    hands = truth(handedness="left"), truth((200, 0), handedness="right")
    image = scoring.score_image(item(*hands, ignore=((300, 0, 400, 90),)), [
        Predicted(0.9, joints_px=SQUARE + (2.1, 0), handedness="right"),
        Predicted(0.8, joints_px=SQUARE + (100, 50)),
        Predicted(0.7, joints_px=SQUARE + (310, 10))])
    found = scoring.summary([image])
    assert found["hands"] == 2 and found["recall"] == 0.5
    assert image.counted == 2 and found["precision"] == 0.5 and found["images_with_false"] == 1      # one is ignored
    assert found["nme"] == pytest.approx(0.0525) and found["epe_px"] == pytest.approx(2.1)
    assert found["nme_area"] == pytest.approx(2.1 / np.sqrt(800))
    assert found["pck_0.1"] == 1.0 and found["pck_0.2"] == 1.0 and found["pck_0.2_all"] == 0.5
    assert found["auc_2d"] == pytest.approx(50 / 61)                 # thresholds 0.055 .. 0.300 of 61
    assert found["handedness"] == 0.0
    # AP: of three predictions one is ignored; the hit has the highest score and recall 1/2: 51 of 101 points
    assert found["ap50"] == pytest.approx(51 / 101)
    assert np.isnan(found["mpjpe_mm"])


def test_only_valid_joints_count():
    valid = np.ones(21)
    valid[20] = 0
    joints = SQUARE.copy()
    joints[20] = np.nan
    far = SQUARE + (4, 0)
    far[20] += 500                                                  # must neither count nor stretch the predicted box
    image = scoring.score_image(item(make_hand(joints, valid)), [Predicted(joints_px=far)])
    assert scoring.summary([image])["epe_px"] == pytest.approx(4.0) and image.hands[0].labelled_joints == 20


def test_a_hand_with_one_labelled_joint_is_found_but_has_no_size_to_count_errors_in():
    valid = np.zeros(21)
    valid[8] = 1
    image = scoring.score_image(item(truth(), make_hand(SQUARE + (200, 0), valid)),
                                [Predicted(joints_px=SQUARE + (2.1, 0)), Predicted(joints_px=SQUARE + (201, 0))])
    found = scoring.summary([image])
    assert found["recall"] == 1.0 and found["nme"] == pytest.approx(0.0525) and found["pck_0.2_all"] == 1.0
    alone = scoring.summary([scoring.score_image(item(make_hand(SQUARE, valid)), [Predicted(joints_px=SQUARE)])])
    assert np.isnan(alone["nme"])


def test_an_answer_asked_for_in_a_box_counts_however_far_off_it_is():
    """Published errors are over all labelled hands: FreiHAND's eval.py and mmpose's keypoint_epe know no least overlap.
    The first answer lies on the second hand, too."""
    hands = truth(), truth((8, 0))
    guesses = [Predicted(joints_px=SQUARE + (8, 0)), Predicted(joints_px=SQUARE + (108, 0))]
    image = scoring.score_image(item(*hands), guesses, None)
    assert [hand.prediction for hand in image.hands] == [0, 1] and image.false == 0
    found = scoring.summary([image])
    assert found["recall"] == 1.0 and found["epe_px"] == pytest.approx((8 + 100) / 2)


def test_the_mean_over_joints_weighs_hands_by_their_labels():
    """Seven joints 9 px off and 21 joints 1 px off, as mmpose averages them: 3 px, not 5."""
    few = make_hand(SQUARE, np.arange(21) < 7)
    image = scoring.score_image(item(few, truth((300, 0))), [Predicted(joints_px=SQUARE + (9, 0)),
                                                             Predicted(joints_px=SQUARE + (301, 0))], None)
    found = scoring.summary([image])
    assert found["epe_joints_px"] == pytest.approx(3.0) and found["epe_px"] == pytest.approx(5.0)


@pytest.mark.parametrize("joints", [[0], [0, 5], [5, 6, 7, 8]])
def test_a_right_answer_is_found_where_few_joints_are_labelled(joints):
    """One joint, or joints of one finger in a line, have a tight box without area."""
    line = SQUARE.copy()
    line[[0, 5, 6, 7, 8]] = [(50, 10), (50, 20), (50, 30), (50, 40), (50, 50)]
    image = scoring.score_image(item(make_hand(line, np.isin(np.arange(21), joints))),
                                [Predicted(joints_px=line + (1, 0))])
    assert image.hands[0].found and image.false == 0
    far = scoring.score_image(item(make_hand(line, np.isin(np.arange(21), joints))),
                              [Predicted(joints_px=line + (60, 0))])
    assert not far.hands[0].found and far.false == 1


def test_truth_with_a_box_only():
    box = make_hand(np.full((21, 2), np.nan), np.zeros(21), box=(0, 0, 40, 20))
    guesses = [Predicted(box=np.array([0, 0, 40, 18.0])), Predicted(box=np.array([0, 0, 40, 20.0]))]
    image = scoring.score_image(item(box), guesses)
    assert image.hands[0].iou == pytest.approx(1.0) and image.right == 1 and image.false == 1
    found = scoring.summary([image])
    assert found["recall"] == 1.0 and np.isnan(found["nme"]) and np.isnan(found["pck_0.2_all"])


def test_three_dimensions_and_calibration():
    joints = np.random.default_rng(0).normal(0, 0.03, (21, 3)) + (0, 0, 0.5)
    hand = make_hand(SQUARE, joints_m=joints, handedness="right")
    camera = datasets.base.pinhole([[300.0, 0, 20], [0, 300, 10], [0, 0, 1]], 40, 20)
    shifted = joints + (0, 0, 0.02)
    ray = np.linalg.norm(joints, axis=1)
    guess = Predicted(joints_px=SQUARE, joints_m=shifted - shifted[0], joints_camera_m=shifted, handedness="right",
                      sigma_ray_m=np.full(21, 0.02), sigma_across_m=np.full(21, 0.001))
    found = scoring.summary([scoring.score_image(item(hand, camera=camera), [guess])])
    assert found["mpjpe_mm"] == pytest.approx(0.0, abs=1e-9) and found["camera_mpjpe_mm"] == pytest.approx(20.0)
    cosine = joints[:, 2] / ray                                     # the shift along z seen along each ray
    assert found["nees_ray"] == pytest.approx((cosine ** 2).mean())
    assert found["nees_across"] == pytest.approx(((1 - cosine ** 2) / 2 * 0.02 ** 2 / 0.001 ** 2).mean())
    assert found["coverage_1sigma_ray"] == 1.0 and found["handedness"] == 1.0
    without = scoring.summary([scoring.score_image(item(hand), [guess])])
    assert np.isnan(without["camera_mpjpe_mm"]), "no camera: camera-space numbers would mean nothing"


def test_scale_aligned_area_by_hand():
    """Wrist at 0, true joints at (0, 0, 0.1), predicted (+-0.05, 0, 0.2): the best scale is 0.4 / 0.85, after which 20
    joints are 24.25 mm off and the wrist 0; area 20-50 mm: 1 - 20/21 (24.25 - 20) / 30. Unscaled they are 111.8 mm off.
    """
    true, guess = np.zeros((21, 3)), np.zeros((21, 3))
    true[1:] = 0, 0, 0.1
    guess[1:] = 0, 0, 0.2
    guess[1:, 0] = 0.05 * np.tile([1, -1], 10)
    hand = make_hand(SQUARE, joints_m=true + (0, 0, 0.5))
    image = scoring.score_image(item(hand), [Predicted(joints_px=SQUARE, joints_m=guess + (0.1, 0.2, 0.3))])
    found = scoring.summary([image])
    np.testing.assert_allclose(image.hands[0].scale_errors_mm, [0, *[24.2536] * 20], atol=1e-3)
    assert found["scale_mpjpe_mm"] == pytest.approx(20 / 21 * 24.2536, abs=1e-3)
    assert found["auc_scale_20_50"] == pytest.approx(1 - 20 / 21 * 4.2536 / 30, abs=0.005)
    assert found["auc_3d_20_50"] == pytest.approx(1 / 21)


def test_shares_at_the_ends_have_an_interval():
    """Wilson at p = 1, n = 4 groups: 4 / (4 + 1.96^2) = 0.5101 to 1; at 0 its mirror image; inside, the bootstrap's."""
    def found(*right):
        images = [scoring.score_image(item(truth(), truth((200, 0)), group=str(number)), [
            Predicted(joints_px=SQUARE + shift) for shift in ((0, 0), (200, 0))] if hit else [])
            for number, hit in enumerate(right)]
        return scoring.intervals(images)

    assert found(1, 1, 1, 1)["recall"] == (pytest.approx(0.5101, abs=1e-4), 1.0)
    assert found(0, 0, 0, 0)["recall"] == (0.0, pytest.approx(1 - 0.5101, abs=1e-4))
    assert found(1, 1, 1, 1)["precision"] == found(1, 1, 1, 1)["pck_0.2_all"] == found(1, 1, 1, 1)["recall"]
    assert found(1, 0, 1, 1)["recall"] == (0.25, 1.0) and found(1, 1, 1, 1)["nme"] == (0.0, 0.0)
    assert np.isnan(found(1)["recall"]).all(), "one group says nothing of others"
    # Newcombe, Statistics in Medicine 1998, table I: 81 of 263 gives 0.2553 to 0.3662
    assert scoring.wilson(81 / 263, 263) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))


def test_meshes_are_compared_after_alignment():
    """A turned, scaled, shifted copy is perfect; one vertex of 20 that is 100 mm off costs 5 mm or more in the mean."""
    joints = np.random.default_rng(0).normal(0, 0.03, (21, 3)) + (0, 0, 0.5)
    mesh = np.random.default_rng(1).normal(0, 0.05, (20, 3)) + (0, 0, 0.5)
    hand = make_hand(SQUARE, joints_m=joints, vertices_m=mesh)
    turned = 1.3 * mesh[:, [1, 2, 0]] + (0.1, 0.2, 0.3)
    found = scoring.summary([scoring.score_image(item(hand), [Predicted(joints_px=SQUARE, vertices_m=turned)])])
    assert found["f_5mm"] == found["f_15mm"] == 1.0 and found["pa_mpvpe_mm"] == pytest.approx(0, abs=1e-6)
    broken = mesh.copy()
    broken[3] += (0.1, 0, 0)
    worse = scoring.summary([scoring.score_image(item(hand), [Predicted(joints_px=SQUARE, vertices_m=broken)])])
    assert 5 < worse["pa_mpvpe_mm"] < 25 and worse["f_5mm"] < worse["f_15mm"] < 1.0
    other = scoring.summary([scoring.score_image(item(hand), [Predicted(joints_px=SQUARE, vertices_m=mesh[:9])])])
    assert np.isnan(other["f_5mm"]), "meshes of other vertices are not compared"
    assert np.isnan(scoring.summary([scoring.score_image(item(hand), [Predicted(joints_px=SQUARE)])])["f_5mm"])
    line = {"image": "a", "hands": [{"joints_2d": SQUARE.tolist(), "vertices": mesh.tolist()}]}
    assert predictions.parse(line).hands[0].vertices_m.shape == (20, 3)


def test_mrrpe_needs_both_hands():
    joints = np.random.default_rng(0).normal(0, 0.03, (21, 3)) + (0, 0, 0.5)
    camera = datasets.base.pinhole(np.eye(3), 400, 400)
    pair = [make_hand(SQUARE, joints_m=joints, handedness="left"),
            make_hand(SQUARE + (100, 0), joints_m=joints + (0.2, 0, 0), handedness="right")]
    guesses = [Predicted(joints_px=SQUARE, joints_camera_m=joints),
               Predicted(joints_px=SQUARE + (100, 0), joints_camera_m=joints + (0.2, 0, 0.03))]
    assert scoring.score_image(item(*pair, camera=camera), guesses).mrrpe_mm == pytest.approx(30.0)
    assert np.isnan(scoring.score_image(item(*pair, camera=camera), guesses[:1]).mrrpe_mm)


def test_predictions_that_are_not_numbers_cannot_be_right():
    broken = SQUARE.copy()
    broken[3] = np.nan
    image = scoring.score_image(item(truth()), [Predicted(joints_px=broken), Predicted(joints_px=SQUARE)])
    assert image.hands[0].found and image.hands[0].errors_px.max() == 0 and image.counted == 1


def test_labels_of_different_worth_are_not_mixed():
    real = scoring.score_image(item(truth(), kind="real"), [Predicted(joints_px=SQUARE)])
    model = scoring.score_image(item(truth(), kind="model"), [])
    empty = scoring.score_image(item(kind="real"), [Predicted(joints_px=SQUARE)])
    unsure = scoring.score_image(item(kind="model"), [Predicted(joints_px=SQUARE)])     # the model may have missed it
    assert (empty.kind, unsure.kind) == ("negative", "model")
    assert scoring.headline([real, model, empty, unsure]) == [real, empty] and scoring.headline([model]) == [model]


def test_mean_of_real_sets_weighs_sets_equally():
    one = scoring.score_image(item(truth(), subset="a"), [Predicted(joints_px=SQUARE)])
    many = [scoring.score_image(item(truth(), subset="b"), []) for _ in range(9)]
    tables = scoring.tables([one, *many])
    assert tables["mean_of_real_subsets"]["recall"] == 50.0
    assert tables["kinds"]["all independent labels, real"]["recall"] == pytest.approx(0.1)
    assert tables["by"]["size"]["32-64 px"]["hands"] == 10


# ---- the reference scorer, where its folder is at hand

NAMES = {"img": "images", "hands": "hands", "recall": "recall", "prec": "precision", "NME%": "nme",
         "med%": "nme_median", "NMEa%": "nme_area", "EPEpx": "epe_px", "PCK.1": "pck_0.1", "PCK.2": "pck_0.2",
         "PCK.2all": "pck_0.2_all",
         "AUC": "auc_2d", "MPJPE": "mpjpe_mm", "S-MPJPE": "scale_mpjpe_mm", "PA-MPJPE": "pa_mpjpe_mm",
         "n3D": "hands_3d", "hand%": "handedness", "imgFP": "images_with_false"}
"""Column of the reference scorer: ours."""
ROOT = Path(__file__).resolve().parents[2]
PLACES = [Path(place) for place in (os.environ.get("HAND_EVAL_FOLDER"), ROOT.parent / "shared" / "eval") if place]
FOLDER = next((place for place in PLACES if (place / "score.py").is_file()), None)
FILES = sorted(path.name for path in FOLDER.glob("predictions_*.jsonl")) if FOLDER else []


@pytest.mark.parametrize("file", FILES)
def test_agrees_with_the_reference_scorer_to_the_last_digit_shown(file, tmp_path):
    min_iou = 0.05 if "given_box" in file else 0.3
    subprocess.run([sys.executable, FOLDER / "score.py", FOLDER / "annotations.jsonl", FOLDER / file,
                    "--iou", str(min_iou), "--json", tmp_path / "s.json"], check=True, capture_output=True)
    reference = json.loads((tmp_path / "s.json").read_text())
    data, rows = datasets.load("folder", FOLDER), predictions.read(FOLDER / file)
    tables = scoring.tables([scoring.score_image(data[n], rows[data[n].name].hands, min_iou)
                             for n in range(len(data))])
    ours = {**tables["subsets"], **{title.replace("all", "ALL", 1): row for title, row in tables["kinds"].items()},
            "NEGATIVES": tables["kinds"]["no hand in the picture"],
            **{f"size {name}": row for name, row in tables["by"]["size"].items()}}
    for name, row in reference.items():
        for theirs, column in NAMES.items():
            if name.startswith("size") and theirs in ("img", "prec", "imgFP"):
                continue                            # ours gives these for whole images only
            assert scoring.shown(column, ours[name][column]) == row[theirs], f"{name}, {theirs}"
