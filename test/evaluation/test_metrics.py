"""Every metric against values worked out by hand, and the laws it must obey."""
from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hand_pose_ros.evaluation import metrics

RNG = np.random.default_rng(5)
TRUTH = RNG.normal(0, 0.05, (21, 3)) + (0.1, 0.0, 0.6)


def rotation(seed: int) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


# ---- 3D, one hand

def test_mpjpe_by_hand():
    predicted = TRUTH + (0.3, -0.2, 0.1)            # a common shift is not an error: the wrists are put together
    predicted[5] += (0.003, 0.004, 0.0)             # 5 mm
    predicted[9] += (0.0, 0.0, 0.012)               # 12 mm
    assert metrics.mpjpe_mm(predicted, TRUTH) == pytest.approx((5 + 12) / 21)
    assert metrics.camera_space_mpjpe_mm(TRUTH + (0.03, 0.04, 0), TRUTH) == pytest.approx(50.0)


def test_mpjpe_counts_only_valid_joints_and_needs_the_wrist():
    predicted = TRUTH.copy()
    predicted[5] += (0.021, 0, 0)
    valid = np.ones(21, bool)
    assert metrics.mpjpe_mm(predicted, TRUTH, valid) == pytest.approx(1.0)
    valid[5] = False
    assert metrics.mpjpe_mm(predicted, TRUTH, valid) == pytest.approx(0.0)
    valid[0] = False
    assert np.isnan(metrics.mpjpe_mm(predicted, TRUTH, valid))
    broken = predicted.copy()
    broken[7] = np.nan
    assert metrics.mpjpe_mm(broken, TRUTH) == pytest.approx(21 / 20)


def test_scale_aligned_by_hand():
    truth = np.zeros((21, 3))
    truth[1] = (0.1, 0, 0)
    truth[2] = (0, 0.1, 0)
    predicted = np.zeros((21, 3))
    predicted[1] = (0.2, 0, 0)
    predicted[2] = (0, 0.1, 0)
    # s = <P, G> / <P, P> = (0.02 + 0.01) / (0.04 + 0.01) = 0.6; errors 20 mm and 40 mm
    assert metrics.scale_aligned_mpjpe_mm(predicted, truth) == pytest.approx((20 + 40) / 21)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 5))
def test_alignments_remove_exactly_what_they_say(seed, scale):
    moved = scale * TRUTH @ rotation(seed).T + (1.0, 2.0, 3.0)
    assert metrics.pa_mpjpe_mm(moved, TRUTH) < 1e-6
    assert metrics.scale_aligned_mpjpe_mm(scale * TRUTH + (1, 2, 3), TRUTH) < 1e-6
    noisy = TRUTH + np.random.default_rng(seed).normal(0, 0.01, TRUTH.shape)
    assert metrics.pa_mpjpe_mm(moved, noisy) == pytest.approx(metrics.pa_mpjpe_mm(TRUTH, noisy))


def test_a_mirrored_hand_is_not_aligned_away():
    assert metrics.pa_mpjpe_mm(TRUTH * (-1, 1, 1), TRUTH) > 10.0


def test_procrustes_against_an_independent_solver():
    from scipy.optimize import minimize
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(8, 3)), rng.normal(size=(8, 3))

    def cost(x):
        return ((x[3] * Rotation.from_rotvec(x[:3]).apply(source) + x[4:] - target) ** 2).sum()

    best = min((minimize(cost, np.concatenate([rng.normal(size=3), [1.0], np.zeros(3)])).fun for _ in range(6)))
    assert ((metrics.procrustes(source, target) - target) ** 2).sum() == pytest.approx(best, rel=1e-5)


def test_mrrpe_by_hand():
    left, right = TRUTH, TRUTH + (0.2, 0, 0)
    assert metrics.mrrpe_mm(left + (0.01, 0, 0), right + (0.01, 0, 0.005), left, right) == pytest.approx(5.0)


# ---- curves

def test_pck_and_areas_by_hand():
    errors = np.array([0.0, 10.0, 25.0, 60.0])
    np.testing.assert_allclose(metrics.pck(errors, [0, 9.99, 10, 30, 60]), [0.25, 0.25, 0.5, 0.75, 1.0])
    assert metrics.auc_3d(np.full(7, 60.0), 0, 50) == 0.0 and metrics.auc_3d(np.zeros(7), 0, 50) == 1.0
    # half of the errors are 0 and half lie beyond: the curve is 0.5 everywhere
    assert metrics.auc_3d(np.array([0.0, 99.0]), 20, 50) == pytest.approx(0.5)
    # errors spread evenly over 0..50 mm: PCK(t) = t / 50, area 1/2; between 20 and 50 it is the mean of 0.4 and 1
    even = np.linspace(0, 50, 100_001)
    assert metrics.auc_3d(even, 0, 50) == pytest.approx(0.5, abs=1e-3)
    assert metrics.auc_3d(even, 20, 50) == pytest.approx(0.7, abs=1e-3)
    assert metrics.auc_2d(np.array([0.15])) == pytest.approx(31 / 61)
    assert metrics.auc_30px(np.array([14.9])) == pytest.approx(10 / 20)
    assert np.isnan(metrics.pck([], 1.0)).all() and metrics.pck([np.nan, 1.0], 2.0) == [0.5]


def test_f_score_by_hand():
    truth = np.array([[0.0, 0, 0], [1.0, 0, 0]])
    predicted = np.array([[0.003, 0, 0], [0.5, 0, 0], [0.7, 0, 0]])
    # 1 of 3 predicted points is within 5 mm, 1 of 2 true points is met: F = 2 * 1/3 * 1/2 / (1/3 + 1/2) = 0.4
    assert metrics.f_score(predicted, truth, 5) == pytest.approx(0.4)
    assert metrics.f_score(predicted, truth, 2) == 0.0
    assert metrics.f_score(truth, truth, 5) == 1.0


# ---- 2D and detection

def test_2d_errors_by_hand():
    errors = metrics.epe_px(np.array([[3.0, 4.0], [0, 0]]), np.zeros((2, 2)))
    np.testing.assert_allclose(errors, [5, 0])
    assert metrics.nme(errors, 50.0) == pytest.approx(0.05)
    np.testing.assert_array_equal(metrics.tight_box([[3, 9], [1, 2], [5, 4]]), [1, 2, 5, 9])
    assert metrics.box_iou([0, 0, 2, 2], [1, 1, 3, 3]) == pytest.approx(1 / 7)
    assert metrics.box_iou([0, 0, 1, 1], [1, 0, 2, 1]) == 0.0
    assert metrics.share_inside([0, 0, 4, 1], [1, 0, 3, 9]) == pytest.approx(0.5)


def boxes(*rows):
    return np.array(rows, float).reshape(-1, 4)


def test_average_precision_by_hand():
    truth = boxes([0, 0, 10, 10], [20, 0, 30, 10])
    # ranked: hit, false, hit -> precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1; made monotone 1, 2/3, 2/3.
    # 51 of the 101 recall points (0..0.50) see 1, the other 50 see 2/3.
    image = (boxes([0, 0, 10, 10], [50, 50, 60, 60], [20, 0, 30, 10]), np.array([0.9, 0.8, 0.7]), truth, None)
    assert metrics.average_precision([image], 0.5) == pytest.approx((51 + 50 * 2 / 3) / 101)
    # the false one lies in an ignore region: it counts neither way
    ignored = (*image[:3], boxes([45, 45, 70, 70]))
    assert metrics.average_precision([ignored], 0.5) == pytest.approx(1.0)
    # a second prediction of the same hand is false
    double = (boxes([0, 0, 10, 10], [0, 0, 10, 9.9]), np.array([0.9, 0.8]), truth[:1], None)
    assert metrics.average_precision([double], 0.5) == pytest.approx(1.0)
    late = (double[0], np.array([0.8, 0.9]), truth[:1], None)
    assert metrics.average_precision([late], 0.995) == pytest.approx(0.5)
    assert np.isnan(metrics.average_precision([(boxes(), np.zeros(0), boxes(), None)], 0.5))
    assert metrics.average_precision([(boxes(), np.zeros(0), truth, None)], 0.5) == 0.0


def test_average_precision_by_size():
    small, large = [0, 0, 10, 10], [50, 50, 150, 150]
    image = (boxes(small, large, [300, 0, 380, 80]), np.array([0.6, 0.9, 0.8]), boxes(small, large), None)
    # all: hit, false, hit -> 1 at recall 0..1/2, 2/3 above it. Small alone: the large pair and the large false one are
    # left aside. Large alone: hit, then a false one that comes too late to matter.
    assert metrics.average_precision([image], 0.5) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert metrics.average_precision([image], 0.5, (0, 32)) == pytest.approx(1.0)
    assert metrics.average_precision([image], 0.5, (64, np.inf)) == pytest.approx(1.0)
    assert np.isnan(metrics.average_precision([image], 0.5, (32, 64)))
    wrong = (boxes([0, 0, 12, 12], [20, 0, 30, 10]), np.array([0.6, 0.9]), boxes(small, large), None)
    # small alone: a false one first, then the hit: precision 1/2 everywhere
    assert metrics.average_precision([wrong], 0.5, (0, 32)) == pytest.approx(0.5)
    # the free truth of the wanted size is taken before a better one of another size
    near = (boxes([0, 0, 40, 40]), np.array([1.0]), boxes([0, 0, 50, 40], [0, 0, 40, 30]), None)
    assert metrics.average_precision([near], 0.5, (30, 45)) == pytest.approx(1.0)
    assert metrics.average_precision([near], 0.5, (45, 60)) == pytest.approx(1.0)


def test_coco_ap_falls_with_the_overlap():
    truth = boxes([0, 0, 100, 100])
    shifted = boxes([0, 0, 100, 77])                # IoU 0.77: right for 0.50 .. 0.75, six of the ten thresholds
    found = metrics.coco_ap([(shifted, np.array([1.0]), truth, None)])
    assert found == {"ap": pytest.approx(0.6), "ap50": 1.0, "ap75": 1.0}


# ---- over time

def test_acceleration_by_hand():
    time = np.array([0, 50, 150, 200, 300]) * 1_000_000           # uneven stamps
    t = time[:, None, None] * 1e-9
    direction = np.array([3.0, 0.0, 4.0]) / 5
    parabola = 0.5 * 2.0 * t ** 2 * direction + 0.7 * t + 1.0      # 2 m/s^2
    assert metrics.jitter_mm_s2(parabola, time) == pytest.approx(2000.0)
    assert metrics.acceleration_error_mm_s2(parabola, parabola + 0.3 * t, time) == pytest.approx(0.0, abs=1e-6)
    assert metrics.acceleration_error_mm_s2(parabola, np.zeros_like(parabola), time) == pytest.approx(2000.0)
    assert np.isnan(metrics.jitter_mm_s2(parabola[:2], time[:2]))


def test_jitter_in_pixels_is_the_noise():
    rng = np.random.default_rng(0)
    drift = np.linspace(0, 30, 20_000)[:, None, None]
    noisy = drift + rng.normal(0, 1.5, (20_000, 1, 2))
    stamps_ns = np.arange(20_000) * 33_333_333
    assert metrics.jitter_px(noisy, stamps_ns) == pytest.approx(1.5 * np.sqrt(2), rel=0.02)
    assert metrics.jitter_px(np.broadcast_to(drift, (20_000, 1, 2)), stamps_ns) == pytest.approx(0, abs=1e-6)


def test_jitter_in_pixels_is_no_motion_between_frames_of_which_some_are_missing():
    kept = np.arange(4000) % 4 != 3
    stamps_ns, moving = (np.arange(4000) * 33_333_333)[kept], 8.0 * np.arange(4000)[kept, None, None] * np.ones((1, 2))
    assert metrics.jitter_px(moving, stamps_ns) == pytest.approx(0, abs=1e-6)
    noisy = moving + np.random.default_rng(0).normal(0, 1.5, moving.shape)
    assert metrics.jitter_px(noisy, stamps_ns) == pytest.approx(1.5 * np.sqrt(2), rel=0.05)


# ---- uncertainty and intervals

def test_calibration_by_hand():
    errors, sigma = np.array([0.5, -1.5, 2.5, 0.0]), np.ones(4)
    assert metrics.coverage(errors, sigma) == [0.5, 0.75]
    assert metrics.nees(errors, sigma) == pytest.approx((0.25 + 2.25 + 6.25) / 4)
    assert metrics.nees(2 * errors, 2 * sigma) == pytest.approx((0.25 + 2.25 + 6.25) / 4)
    gauss = np.random.default_rng(0).normal(0, 3, 100_000)
    assert metrics.coverage(gauss, np.full(100_000, 3.0)) == [pytest.approx(0.683, abs=5e-3),
                                                              pytest.approx(0.954, abs=5e-3)]
    assert metrics.nees(gauss, np.full(100_000, 3.0)) == pytest.approx(1.0, abs=0.02)


def test_bootstrap_is_repeatable_and_as_wide_as_theory():
    values = np.random.default_rng(3).normal(10, 2, 400)
    low, high = metrics.bootstrap(values)
    assert metrics.bootstrap(values) == (low, high)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15) and low < values.mean() < high
    assert metrics.bootstrap(np.full(9, 4.0)) == (4.0, 4.0)
    assert np.isnan(metrics.bootstrap(np.zeros(0))).all()


def test_bootstrap_of_shares():
    """Three groups of ten with 2, 5 and 8 hits: a draw of three groups has between 6 and 24 of 30."""
    parts = np.concatenate([np.arange(10) < hits for hits in (2, 5, 8)])
    groups = np.repeat(["a", "b", "c"], 10)
    low, high = metrics.bootstrap_ratio(parts, np.ones(30), groups, repeats=4000)
    assert low == pytest.approx(0.2) and high == pytest.approx(0.8)
    # 1 of 27 draws is all "a" (3.7 %), so the 5 % quantile is 7/30 at the least, and two of three draws agree with it
    assert metrics.bootstrap_ratio(parts, np.ones(30), groups, 4000, level=0.9)[0] >= 0.2
    weighted = metrics.bootstrap_ratio([1, 30], [10, 100], ["a", "b"])
    assert weighted == (pytest.approx(0.1), pytest.approx(0.3))
    # half of the draws have one of each: (1 + 30) / (10 + 100), not the mean of the two shares
    middle = metrics.bootstrap_ratio([1, 30], [10, 100], ["a", "b"], level=0.3)
    assert middle == (pytest.approx(31 / 110), pytest.approx(31 / 110))
    assert np.isnan(metrics.bootstrap_ratio([1.0], [2.0], ["a"])).all()
    assert np.isnan(metrics.bootstrap_ratio([0, 0], [0, 0], ["a", "b"])).all()


def test_calibration_curve_by_hand():
    # |error| / sigma of 0.5, 1.5, 2.5: central intervals of 38.3, 86.6, 98.8 %
    curve = metrics.calibration_curve([0.5, -3.0, 2.5], [1.0, 2.0, 1.0], [0.3, 0.5, 0.9, 1.0])
    np.testing.assert_allclose(curve, [0, 1 / 3, 2 / 3, 1])
    gauss, x = np.random.default_rng(0).normal(0, 3, 100_000), np.linspace(0, 1, 11)
    np.testing.assert_allclose(metrics.calibration_curve(gauss, np.full(100_000, 3.0), x), x, atol=6e-3)


def test_bootstrap_by_group_is_wider_when_neighbours_agree():
    rng = np.random.default_rng(3)
    values = np.repeat(rng.normal(0, 1, 20), 50) + rng.normal(0, 0.01, 1000)
    groups = np.repeat(np.arange(20), 50)
    alone, together = metrics.bootstrap(values), metrics.bootstrap(values, groups)
    assert together[1] - together[0] > 4 * (alone[1] - alone[0])
    assert np.isnan(metrics.bootstrap(values[:50], groups[:50])).all()
    median = metrics.bootstrap(values, groups, statistic=np.median)
    assert median[0] < np.median(values) < median[1]


# ---- sources

FUNCTIONS = [function for _, function in inspect.getmembers(metrics, inspect.isfunction)
             if function.__module__ == metrics.__name__ and not function.__name__.startswith("_")]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_every_metric_names_its_paper(function):
    assert re.search(r"\b(19|20)\d\d\b|No paper: ", function.__doc__), "the paper and its year, or that there is none"


def test_acceleration_of_a_fall_is_that_of_gravity_however_uneven_the_images_come():
    stamps = np.array([0, 10, 43, 50, 90, 200]) * 1_000_000 + 10**18
    t = (stamps - stamps[0]) * 1e-9
    joints = np.zeros((6, 21, 3))
    joints[..., 1] = (0.5 * 9.81 * t**2)[:, None]
    assert metrics.jitter_mm_s2(joints, stamps) == pytest.approx(9810.0, rel=1e-6)
    assert metrics.acceleration_error_mm_s2(joints, np.zeros_like(joints), stamps) == pytest.approx(9810.0, rel=1e-6)
