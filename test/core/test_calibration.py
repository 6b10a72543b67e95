"""The calibration pose: what it measures, what it refuses, and the file it leaves."""
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from oracle import hand
from test_tracking import observed

from hand_pose_ros import calibration
from hand_pose_ros.calibration import CalibrationState, HandSize, step
from hand_pose_ros.errors import ConfigError
from hand_pose_ros.skeleton import hand_length
from hand_pose_ros.types import ScaleSource

FLAT = hand(bend=0.05, at=(0.02, 0, 0.6))


def seen(truth_m, rng, assumed_m=0.186, depth=False):
    """One camera scales everything with the assumed length; with depth the length itself is measured."""
    if depth:
        return replace(observed(truth_m), hand_length_m=float(hand_length(truth_m)) * (1 + rng.normal(0, 0.02)),
                       scale_source=ScaleSource.DEPTH)
    seen_m = truth_m * assumed_m / hand_length(truth_m) * (1 + rng.normal(0, 0.02))
    return replace(observed(seen_m), hand_length_m=assumed_m)


def run(make_hand, seconds=2.5, distance_m=float("nan")):
    state, rng, steps = CalibrationState(), np.random.default_rng(0), []
    for k in range(int(seconds * 30)):
        state, progress = step(state, make_hand(rng, k), 5_000_000_000 + k * 33_333_333, distance_m)
        steps.append(progress)
        if progress.result:
            break
    return steps


def inside(length_m):
    """From the skin, where a tape ends, to the joints: 9 mm of a hand of 186."""
    return 0.009 * length_m / 0.186


@pytest.mark.parametrize("length", [0.165, 0.19, 0.21])
def test_known_distance_gives_the_length(length):
    truth = hand(bend=0.05, at=(0.02, 0, 0.6), length_m=length)
    distance = truth[[0, 5, 9, 13, 17], 2].mean() - inside(length)
    steps = run(lambda rng, k: (seen(truth, rng),), distance_m=distance)
    assert steps[-1].result.hand_length_m == pytest.approx(length, rel=0.01)
    assert steps[-1].result.method == "distance" and 59 <= len(steps) <= 62
    assert [s.fraction for s in steps] == sorted(s.fraction for s in steps)


@pytest.mark.parametrize("right", [False, True])
def test_either_side_of_the_hand_may_be_shown_and_beside_the_middle_the_distance_is_along_the_axis(right):
    """right or left with the same turn: once the palm, once the back."""
    truth = hand(bend=0.05, right=right, at=(0.25, 0, 0.6), length_m=0.18)
    distance = truth[[0, 5, 9, 13, 17], 2].mean() - inside(0.18)
    assert run(lambda rng, k: (seen(truth, rng),), distance_m=distance)[-1].result.hand_length_m == pytest.approx(
        0.18, rel=0.01)


def test_a_few_images_are_not_enough_however_long_they_take():
    truth, rng, state = hand(bend=0.05, length_m=0.17), np.random.default_rng(0), CalibrationState()
    counts = 0
    for k in range(30):
        state, progress = step(state, (seen(truth, rng, depth=True),), 10 ** 10 + k * 600_000_000)
        counts += 1
        if progress.result:
            break
    assert progress.result.samples == counts >= calibration.MIN_SAMPLES


def test_depth_gives_the_length():
    truth = hand(bend=0.05, length_m=0.17)
    result = run(lambda rng, k: (seen(truth, rng, depth=True),))[-1].result
    assert result.hand_length_m == pytest.approx(0.17, rel=0.01) and result.method == "depth"
    assert result.relative_sigma == pytest.approx(0.02, abs=0.01)


@pytest.mark.parametrize("stamps_s", [
    [*np.arange(9) * 0.03, 3600.0],                                              # the node slept
    [*np.arange(1.0, 2.6, 0.1), 1.1, 1.2, 1.3, 3.05],                            # a recording that starts again
    [*[0.0] * 12, 2.1]])                                                         # one image again and again
def test_two_seconds_are_those_of_images_that_follow_each_other(stamps_s):
    truth, rng, state = hand(bend=0.05, length_m=0.17), np.random.default_rng(0), CalibrationState()
    for stamp_s in stamps_s:
        state, progress = step(state, (seen(truth, rng, depth=True),), int((10 + stamp_s) * 1e9))
        assert progress.result is None


def test_depth_with_every_second_image_is_enough_and_depth_that_ends_is_not():
    truth = hand(bend=0.05, length_m=0.17)
    result = run(lambda rng, k: (seen(truth, rng, depth=k % 2 == 0),))[-1].result
    assert result.hand_length_m == pytest.approx(0.17, rel=0.01) and result.samples <= 32
    steps = run(lambda rng, k: (seen(truth, rng, depth=k < 20),))
    assert not any(s.result for s in steps) and "give a depth image" in steps[-1].message


@pytest.mark.parametrize("hands, says", [
    (lambda rng, k: (), "show one hand"),
    (lambda rng, k: (seen(FLAT, rng),) * 2, "only"),
    (lambda rng, k: (seen(hand(bend=0.7), rng),), "stretch"),
    (lambda rng, k: (seen(hand(bend=0.05, turn=(0, 1.3, 0)), rng),), "turn the palm"),
    (lambda rng, k: (replace(observed(FLAT), joints_m=np.full((21, 3), np.nan)),), "needs a calibration"),
    (lambda rng, k: (observed(FLAT * (1 + 0.2 * rng.normal())),), "scatters"),
    (lambda rng, k: (observed(FLAT + (0.002 * k, 0, 0)),), "hold still"),
    (lambda rng, k: (seen(FLAT, rng) if k % 40 else observed(hand(bend=0.7)),), "stretch"),
])
def test_what_does_not_count(hands, says):
    steps = run(hands, 3.0, distance_m=0.6)
    assert not any(s.result for s in steps)
    assert any(re.search(says, s.message) for s in steps)


def test_without_depth_or_distance_it_says_so():
    assert "give a depth image" in run(lambda rng, k: (seen(FLAT, rng),))[-1].message


def test_an_absurd_length_is_refused():
    steps = run(lambda rng, k: (seen(FLAT, rng),), distance_m=2.5)
    assert any("not plausible" in s.message for s in steps) and not any(s.result for s in steps)


def test_file_round_trip_and_every_way_it_can_be_bad(tmp_path):
    path = tmp_path / "hand.json"
    calibration.save(path, HandSize(0.181, 0.01, 60, "depth"))
    assert calibration.load(path) == HandSize(0.181, 0.01, 60, "depth")
    good = json.loads(path.read_text())
    bad = {"no JSON": "{", "another kind": "[]", "lacks": json.dumps({**good, "samples": None}),
           "long": json.dumps({**good, "hand_length_m": 1.8}),
           "nan": json.dumps({**good, "hand_length_m": float("nan")})}
    for name, text in bad.items():
        path.write_text(text)
        with pytest.raises(ConfigError, match="hand.json.*measure again"):
            calibration.load(path)
    with pytest.raises(ConfigError, match="No such file"):
        calibration.load(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="cannot write"):
        calibration.save(tmp_path / "no" / "folder.json", HandSize(0.18, 0, 1, "depth"))
