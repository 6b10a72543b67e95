"""Accuracy of hands, one function per published metric. Input lengths in metres or pixels, results in mm and px.

Unknown joints are NaN or masked; a metric over nothing is NaN, never 0. Arrays are (21, 3) or (21, 2) of one hand or
(N, ...) of many, as each function says.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np

from ..skeleton import WRIST

PCK_2D_THRESHOLDS = np.linspace(0.0, 0.3, 61)
"""Of the hand's size, for auc_2d: 0 to 0.3 in 60 steps."""
PCK_3D_RANGES_MM = {"20_50": (20.0, 50.0), "0_50": (0.0, 50.0)}
"""Ranges of the published 3D AUC: 20-50 mm (Zimmermann and Brox 2017, RHD and STB), 0-50 mm (FreiHAND 2019)."""
COCO_IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
COCO_RECALL_POINTS = np.linspace(0.0, 1.0, 101)


# ------------------------------------------------------------------------------------------------------ 3D, one hand

def joint_errors_mm(predicted_m: np.ndarray, truth_m: np.ndarray) -> np.ndarray:
    """Euclidean distance per joint, mm: ||p_j - g_j||, one summand of MPJPE.

    Ionescu et al., Human3.6M, PAMI 2014, eq. 8. predicted_m, truth_m: (..., 3) in the same frame. Returns (...).
    """
    return 1000.0 * np.linalg.norm(np.asarray(predicted_m, float) - np.asarray(truth_m, float), axis=-1)


def mpjpe_mm(predicted_m: np.ndarray, truth_m: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Mean per-joint position error after moving both wrists to the origin, mm.

    MPJPE = 1/J sum_j ||(p_j - p_wrist) - (g_j - g_wrist)||. Ionescu et al., Human3.6M, PAMI 2014, eq. 8, root-relative
    as in Moon et al., InterHand2.6M, ECCV 2020. predicted_m, truth_m: (21, 3); valid: (21,) bool. NaN without a wrist.
    """
    predicted, truth = _root_relative(predicted_m, truth_m, valid)
    return float(joint_errors_mm(predicted, truth).mean()) if len(truth) else float("nan")


def scale_aligned_mpjpe_mm(predicted_m: np.ndarray, truth_m: np.ndarray, valid: np.ndarray | None = None) -> float:
    """MPJPE after the best single scale about the wrist, mm: s = <P, G> / <P, P>, both wrists at the origin.

    The "scale-aligned" protocol of RHD and STB (Zimmermann and Brox, ICCV 2017) in its least-squares form (Rhodin et
    al., ECCV 2018, N-MPJPE). predicted_m, truth_m: (21, 3).
    """
    predicted, truth = _root_relative(predicted_m, truth_m, valid)
    if not len(truth):
        return float("nan")
    return float(joint_errors_mm(scaled_to(predicted, truth), truth).mean())


def scaled_to(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """predicted (n, 3), wrist at the origin, times the one scale that brings it nearest to truth (n, 3), any unit.

    s = <P, G> / <P, P> (N-MPJPE, Rhodin et al., ECCV 2018). Returns (n, 3); zeros stay zeros.
    """
    return predicted * ((predicted * truth).sum() / max((predicted * predicted).sum(), 1e-12))


def pa_mpjpe_mm(predicted_m: np.ndarray, truth_m: np.ndarray, valid: np.ndarray | None = None) -> float:
    """MPJPE after the best similarity transform without reflection, mm.

    Procrustes alignment (Gower 1975); as PA-MPJPE in Zimmermann et al., FreiHAND, ICCV 2019. predicted_m, truth_m:
    (21, 3); the rotation is proper, so a mirrored hand does not score as a good one.
    """
    predicted, truth = _root_relative(predicted_m, truth_m, valid)
    if len(truth) < 3:
        return float("nan")
    return float(joint_errors_mm(procrustes(predicted, truth), truth).mean())


def procrustes(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """source moved onto target by the least-squares similarity (rotation, scale, shift; no reflection). (N, 3) both.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991, eq. 40-42.
    """
    source, target = np.asarray(source, float), np.asarray(target, float)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    a, b = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd(a.T @ b)
    signs = np.ones(3)
    signs[2] = np.sign(np.linalg.det(u @ vt)) or 1.0
    scale = (singular * signs).sum() / max((a * a).sum(), 1e-12)
    return scale * (a @ ((u * signs) @ vt)) + target_mean


def _root_relative(predicted_m: np.ndarray, truth_m: np.ndarray, valid: np.ndarray | None) \
        -> tuple[np.ndarray, np.ndarray]:
    predicted, truth = np.asarray(predicted_m, float), np.asarray(truth_m, float)
    keep = np.isfinite(truth).all(axis=1) & np.isfinite(predicted).all(axis=1)
    if valid is not None:
        keep &= np.asarray(valid, bool)
    if not keep[WRIST]:
        return np.zeros((0, 3)), np.zeros((0, 3))
    return (predicted - predicted[WRIST])[keep], (truth - truth[WRIST])[keep]


def camera_space_mpjpe_mm(predicted_m: np.ndarray, truth_m: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Mean joint error in the camera's frame with no alignment at all, mm: what a robot that reaches for the hand sees.

    CS-MJE of Chen et al., MobRecon, CVPR 2022, sec. 5.1. predicted_m, truth_m: (21, 3) camera frame.
    """
    predicted, truth = np.asarray(predicted_m, float), np.asarray(truth_m, float)
    keep = np.isfinite(truth).all(axis=1) & np.isfinite(predicted).all(axis=1)
    if valid is not None:
        keep &= np.asarray(valid, bool)
    return float(joint_errors_mm(predicted[keep], truth[keep]).mean()) if keep.any() else float("nan")


def mrrpe_mm(predicted_left_m: np.ndarray, predicted_right_m: np.ndarray, truth_left_m: np.ndarray,
             truth_right_m: np.ndarray) -> float:
    """Mean relative-root position error of a pair of hands, mm: ||(r_l - r_r) - (g_l - g_r)|| of the two wrists.

    Moon et al., InterHand2.6M, ECCV 2020, sec. 6. Each argument: (21, 3) camera frame. Mean over pairs outside.
    """
    predicted = np.asarray(predicted_left_m)[WRIST] - np.asarray(predicted_right_m)[WRIST]
    truth = np.asarray(truth_left_m)[WRIST] - np.asarray(truth_right_m)[WRIST]
    return float(joint_errors_mm(predicted, truth))


# --------------------------------------------------------------------------------------------------- curves and areas

def pck(errors: np.ndarray, thresholds: np.ndarray | float) -> np.ndarray:
    """Share of errors not above each threshold (percentage of correct keypoints, as 0..1).

    Yang and Ramanan, PAMI 2013 (PCK); Simon et al., CVPR 2017 for hands. errors: (N,), NaN counts as wrong.
    thresholds: (T,) in the same unit. Returns (T,); NaN for no errors at all.
    """
    errors, thresholds = np.ravel(errors), np.atleast_1d(np.asarray(thresholds, float))
    if not errors.size:
        return np.full(thresholds.shape, np.nan)
    ordered = np.sort(np.where(np.isnan(errors), np.inf, errors))
    return np.searchsorted(ordered, thresholds, side="right") / errors.size


def auc_2d(errors_of_size: np.ndarray) -> float:
    """Mean PCK over thresholds 0..0.3 of the hand's size: AUC = 1/61 sum_i PCK(0.005 i), i = 0..60.

    PCK relative to size: Yang and Ramanan, PAMI 2013; its mean over thresholds: Zimmermann and Brox, ICCV 2017. The
    range and the size, the longer side of the box, are our own: compare it between our runs only. errors_of_size: (N,)
    error / size.
    """
    return float(pck(errors_of_size, PCK_2D_THRESHOLDS).mean())


def auc_30px(errors_px: np.ndarray) -> float:
    """Mean PCK over thresholds in pixels of the image as stored: AUC = 1/20 sum_i PCK(30 i / 20 px), i = 0..19.

    No paper: the AUC of the mmpose model zoo (keypoint_auc with norm_factor 30, num_thrs 20). There an error has to be
    below the threshold, and the shares of the 21 joints are averaged, which differs where joints are unlabelled.
    errors_px: (N,).
    """
    return float(pck(errors_px, 30.0 * np.arange(20) / 20).mean())


def auc_3d(errors_mm: np.ndarray, low_mm: float, high_mm: float, steps: int = 100) -> float:
    """Area under the 3D PCK curve between two thresholds, scaled to 0..1 (trapezoids over ``steps`` thresholds).

    Zimmermann and Brox, ICCV 2017 (20-50 mm); Zimmermann et al., FreiHAND, ICCV 2019 (0-50 mm, 100 steps).
    errors_mm: (N,).
    """
    thresholds = np.linspace(low_mm, high_mm, steps)
    curve = pck(errors_mm, thresholds)
    return float(((curve[1:] + curve[:-1]) / 2 * np.diff(thresholds)).sum() / (high_mm - low_mm))


def f_score(predicted_m: np.ndarray, truth_m: np.ndarray, threshold_mm: float) -> float:
    """Harmonic mean of precision and recall of mesh vertices within a distance (F@5 mm, F@15 mm).

    Knapitsch et al., Tanks and Temples, SIGGRAPH 2017, eq. 3-5; for hands Zimmermann et al., FreiHAND, ICCV 2019.
    predicted_m: (N, 3), truth_m: (M, 3) vertices, aligned or not as the caller decides. NaN without vertices.
    """
    from scipy.spatial import cKDTree

    predicted, truth = np.asarray(predicted_m, float), np.asarray(truth_m, float)
    if not len(predicted) or not len(truth):
        return float("nan")
    precision = (1000.0 * cKDTree(truth).query(predicted)[0] < threshold_mm).mean()
    recall = (1000.0 * cKDTree(predicted).query(truth)[0] < threshold_mm).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


# ---------------------------------------------------------------------------------------------------------- 2D

def tight_box(points: np.ndarray) -> np.ndarray:
    """Box (x0, y0, x1, y1) tight round points (N, 2), in their unit. No paper: a definition."""
    points = np.asarray(points, float)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1); 0 if they do not overlap.

    area(A and B) / area(A or B): Everingham et al., The PASCAL VOC challenge: a retrospective, IJCV 2015, eq. 1.
    """
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common + 1e-9)


def epe_px(predicted_px: np.ndarray, truth_px: np.ndarray) -> np.ndarray:
    """End-point error per joint, pixels of the image as stored: ||p_j - g_j||.

    Baker et al., A database and evaluation methodology for optical flow, IJCV 2011 (endpoint error); of hand joints:
    Zimmermann and Brox, ICCV 2017. predicted_px, truth_px: (..., 2); returns (...).
    """
    return np.linalg.norm(np.asarray(predicted_px, float) - np.asarray(truth_px, float), axis=-1)


def nme(errors_px: np.ndarray, size_px: float) -> float:
    """Normalised mean error of one hand: mean joint error / size of the hand (its box's longer side), 0..

    Jin et al., COCO-WholeBody, ECCV 2020 use the box in the same way. errors_px: (J,).
    """
    return float(np.mean(errors_px) / size_px)


# ---------------------------------------------------------------------------------------------------------- detection

def average_precision(images: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]],
                      iou_threshold: float, size_range_px: tuple[float, float] = (0.0, np.inf)) -> float:
    """COCO average precision at one IoU threshold: precision at 101 recall points, made monotone from the right.

    Lin et al., Microsoft COCO, ECCV 2014 (detection evaluation, 101-point interpolation). images: per image the
    predicted boxes (N, 4), their scores (N,), the truth boxes (M, 4) and ignore regions (K, 4) or None; all boxes
    (x0, y0, x1, y1). A prediction goes to the free truth it overlaps most; one left over that lies by half or more in
    an ignore region counts neither way. size_range_px: only truth whose longer side lies in [low, high) counts; truth
    of another size, what is paired with it, and other predictions of another size count neither way (COCO's AP by area
    with the longer side in place of the area). NaN without truth.
    """
    return _precision_at([_ranked(*image, size_range_px) for image in images], iou_threshold)


def coco_ap(images: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]],
            size_range_px: tuple[float, float] = (0.0, np.inf)) -> dict[str, float]:
    """COCO AP: mean over IoU 0.50:0.05:0.95, and AP50, AP75.

    Lin et al., Microsoft COCO, ECCV 2014 (the challenge's primary metric). Arguments as in average_precision.
    """
    ranked = [_ranked(*image, size_range_px) for image in images]
    values = [_precision_at(ranked, threshold) for threshold in COCO_IOU_THRESHOLDS]
    return {"ap": float(np.mean(values)), "ap50": values[0], "ap75": values[5]}


def _ranked(boxes: np.ndarray, score: np.ndarray, truth: np.ndarray, ignore: np.ndarray | None,
            size_range_px: tuple[float, float]) -> tuple[list[float], list[list[float]], list[bool], list[bool]]:
    """Of one image, predictions by falling score: scores (N), IoU with each truth (N x M), whether a prediction that
    is left over is ignored (N), and whether each truth counts (M). Plain lists: arrays of one or two hands are slow."""
    def counts(box: list[float]) -> bool:
        return size_range_px[0] <= max(box[2] - box[0], box[3] - box[1]) < size_range_px[1]

    order = np.argsort(-np.asarray(score), kind="stable")
    ranked, known = np.asarray(boxes)[order].tolist(), truth.tolist()
    regions = () if ignore is None else ignore.tolist()
    return (np.asarray(score, float)[order].tolist(), [[box_iou(box, other) for other in known] for box in ranked],
            [not counts(box) or any(share_inside(box, region) >= 0.5 for region in regions) for box in ranked],
            [counts(box) for box in known])


def _precision_at(ranked: Sequence[tuple[list[float], list[list[float]], list[bool], list[bool]]],
                  threshold: float) -> float:
    scores, hits, total = [], [], 0
    for own, overlaps, loose, counted in ranked:
        total += sum(counted)
        free = set(range(len(counted)))
        for score, overlap, aside in zip(own, overlaps, loose):
            fits = [t for t in free if overlap[t] >= threshold]
            if fits:
                best = max(fits, key=lambda t: (counted[t], overlap[t], -t))
                free.remove(best)
                aside = not counted[best]
            if not aside:
                scores.append(score)
                hits.append(bool(fits))
    if not total:
        return float("nan")
    if not hits:
        return 0.0
    order = np.argsort(-np.asarray(scores), kind="stable")
    true = np.cumsum(np.asarray(hits)[order])
    recall, precision = true / total, true / np.arange(1, len(true) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, COCO_RECALL_POINTS, side="left")
    return float(np.where(place < len(precision), precision[np.minimum(place, len(precision) - 1)], 0.0).mean())


def share_inside(box: np.ndarray, region: np.ndarray) -> float:
    """Share of a box's area that lies in a region, both (x0, y0, x1, y1).

    area(A and R) / area(A): what the COCO API (Lin et al., ECCV 2014) takes in place of IoU for regions of a crowd.
    """
    width, height = min(box[2], region[2]) - max(box[0], region[0]), min(box[3], region[3]) - max(box[1], region[1])
    return max(width, 0) * max(height, 0) / max((box[2] - box[0]) * (box[3] - box[1]), 1e-9)


# ---------------------------------------------------------------------------------------------------------- over time

def acceleration_error_mm_s2(predicted_m: np.ndarray, truth_m: np.ndarray, stamps_ns: np.ndarray) -> float:
    """Mean error of the joints' acceleration, mm/s^2, from second differences of a track.

    Kanazawa et al., "Learning 3D human dynamics from video", CVPR 2019 (acceleration error), with the real stamps in
    place of a fixed frame rate. predicted_m, truth_m: (T, J, 3); stamps_ns: (T,). NaN for fewer than three frames.
    """
    return _mean_norm_mm(_second_difference(predicted_m, stamps_ns) - _second_difference(truth_m, stamps_ns))


def jitter_mm_s2(predicted_m: np.ndarray, stamps_ns: np.ndarray) -> float:
    """Mean acceleration of the predicted joints, mm/s^2: the shake of a hand that is held still, with no truth needed.

    The acceleration error of Kanazawa et al., CVPR 2019, against a truth at rest: mean ||a_j||, second differences as
    in acceleration_error_mm_s2. Papers that call the third derivative jitter mean something else. predicted_m:
    (T, J, 3); stamps_ns: (T,). Only comparable between runs on the same recording, since true motion counts too.
    """
    return _mean_norm_mm(_second_difference(predicted_m, stamps_ns))


def jitter_px(predicted_px: np.ndarray, stamps_ns: np.ndarray) -> float:
    """Noise in the image, px: root mean square distance of a frame's joints from the line through its neighbours'.

    Gasser, Sroka and Jennen-Steinmetz, "Residual variance and residual pattern in nonlinear regression", Biometrika
    1986, equation 2: noise variance = mean of c^2 (a x_t-1 + b x_t+1 - x_t)^2, whatever the (slow) motion under it; a
    and b interpolate at the frame's time, c^2 = 1 / (a^2 + b^2 + 1). White noise of standard deviation s per axis gives
    s * sqrt(2), since both axes are added. predicted_px: (T, J, 2); stamps_ns: (T,), frames may be missing.
    """
    joints, time = np.asarray(predicted_px, float), (np.asarray(stamps_ns) - np.asarray(stamps_ns)[:1]) * 1e-9
    if len(joints) < 3:
        return float("nan")
    before = ((time[2:] - time[1:-1]) / (time[2:] - time[:-2]))[:, None, None]
    off = before * joints[:-2] + (1 - before) * joints[2:] - joints[1:-1]
    return float(np.sqrt(np.nanmean((off ** 2 / (before ** 2 + (1 - before) ** 2 + 1)).sum(axis=-1))))


def _second_difference(joints_m: np.ndarray, stamps_ns: np.ndarray) -> np.ndarray:
    """Acceleration (T - 2, J, 3) m/s^2 of unevenly spaced positions: divided differences of second order."""
    joints, time = np.asarray(joints_m, float), (np.asarray(stamps_ns) - np.asarray(stamps_ns)[:1]) * 1e-9
    if len(time) < 3:
        return np.zeros((0, *joints.shape[1:]))
    step = np.diff(time)[:, None, None]
    velocity = np.diff(joints, axis=0) / step
    return 2.0 * np.diff(velocity, axis=0) / (step[1:] + step[:-1])


def _mean_norm_mm(vectors: np.ndarray) -> float:
    norms = 1000.0 * np.linalg.norm(vectors, axis=-1)
    return float(np.nanmean(norms)) if np.isfinite(norms).any() else float("nan")


# ---------------------------------------------------------------------------------------------------------- uncertainty

def coverage(errors: np.ndarray, sigma: np.ndarray, factors: Sequence[float] = (1.0, 2.0)) -> list[float]:
    """Share of one-dimensional errors within k standard deviations, for each k; a Gaussian gives 0.683, 0.954.

    Kuleshov et al., "Accurate uncertainties for deep learning using calibrated regression", ICML 2018, eq. 2 at these
    two levels. errors, sigma: (N,) in the same unit.
    """
    z = np.abs(np.ravel(errors)) / np.ravel(sigma)
    z = z[np.isfinite(z)]
    return [float((z <= factor).mean()) if z.size else float("nan") for factor in factors]


def calibration_curve(errors: np.ndarray, sigma: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Share of errors inside the central interval that a Gaussian of the stated sigma gives each probability.

    Kuleshov et al., ICML 2018, sec. 3.5, for central intervals. errors, sigma: (N,); probabilities: (P,) 0..1, returns
    (P,): equal to ``probabilities`` if the uncertainty is calibrated, above it if it is stated too large.
    """
    limits = [NormalDist().inv_cdf((1 + p) / 2) if p < 1 else np.inf for p in probabilities]
    return np.searchsorted(np.sort(np.abs(errors) / np.asarray(sigma)), limits, side="right") / len(errors)


def nees(errors: np.ndarray, sigma: np.ndarray) -> float:
    """Normalised estimation error squared, per dimension: mean of (error / sigma)^2; 1 when sigma is right.

    Bar-Shalom, Li and Kirubarajan, Estimation with Applications to Tracking and Navigation, 2001, sec. 5.4.2; above 1
    the stated uncertainty is too small. errors, sigma: (N,).
    """
    z = np.ravel(errors) / np.ravel(sigma)
    z = z[np.isfinite(z)]
    return float((z ** 2).mean()) if z.size else float("nan")


# ---------------------------------------------------------------------------------------------------------- intervals

def bootstrap(values: np.ndarray, groups: Sequence[object] | None = None, statistic: Callable = np.mean,
              repeats: int = 1000, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13.

    values: (N,). groups: (N,) labels of values that belong together (one recording, one person): whole groups are
    drawn then (cluster bootstrap), because neighbouring frames are not independent. The seed makes it repeatable.
    Returns (low, high); NaN for no values, and no interval can be given for one group.
    """
    values = np.asarray(values, float)
    if not values.size:
        return float("nan"), float("nan")
    if groups is not None and statistic is np.mean:
        return bootstrap_ratio(values, np.ones(len(values)), groups, repeats, seed, level)
    rng = np.random.default_rng(seed)
    if groups is None:
        draws = [statistic(values[rng.integers(0, len(values), len(values))]) for _ in range(repeats)]
    else:
        _, member = np.unique(np.asarray([str(group) for group in groups]), return_inverse=True)
        order = np.argsort(member, kind="stable")
        parts = np.split(values[order], np.cumsum(np.bincount(member))[:-1])
        if len(parts) < 2:
            return float("nan"), float("nan")
        draws = [statistic(np.concatenate([parts[k] for k in rng.integers(0, len(parts), len(parts))]))
                 for _ in range(repeats)]
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_ratio(parts: np.ndarray, wholes: np.ndarray, groups: Sequence[object], repeats: int = 1000,
                    seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Interval of sum(parts) / sum(wholes), drawing whole groups: shares such as recall, precision and PCK.

    Efron and Tibshirani, 1993, ch. 13, for the ratio of two sums. parts, wholes: (N,). Everything else as in
    ``bootstrap``; NaN where all wholes are 0.
    """
    parts, wholes = np.asarray(parts, float), np.asarray(wholes, float)
    names, member = np.unique(np.asarray([str(group) for group in groups]), return_inverse=True)
    if len(names) < 2 or not wholes.sum():
        return float("nan"), float("nan")
    parts, wholes = (np.bincount(member, values, len(names)) for values in (parts, wholes))
    rng = np.random.default_rng(seed)
    draws = np.empty(repeats)
    for k in range(repeats):
        chosen = rng.integers(0, len(names), len(names))
        whole = wholes[chosen].sum()
        draws[k] = parts[chosen].sum() / whole if whole else np.nan
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
