"""A crop pose becomes a hand in metres in the camera's optical frame; ``label`` is the exact inverse, for training.

The network says where the joints are in the crop (uv), and their shape up to size (xyz, in hand lengths). Scaling a
scene about the camera's centre changes no pixel, so everything is solved in hand lengths first:

1. Translation t (3,) of the shape, by weighted linear least squares over all joints: X_i + t lies on the ray (x_i, y_i,
   1) of joint i, that is X_i + t_x = x_i (Z_i + t_z), and the same for y (as DLT with known rotation; Iqbal et al. ECCV
   2018 solve it for the scale). Weights are the inverse variances of that equation, with Huber's psi for outliers.
2. Each joint, given t: the point that agrees best with its ray and with X_i + t, weighted by both sigmas (the
   conditional mean of the Gaussian model). At the network's usual sigmas a visible joint ends up on its ray at the
   depth of the shape, a hidden one nearer to the shape. Chosen by measurement: see test_fused_placement_is_best.
3. Metres: times the hand length. A depth image measures the product of hand length and distance; a Kalman update
   divides the correction between the two, the hand's size with the weights of Student's t (Lange et al., Robust
   statistical modeling using the t distribution, JASA 1989, section 2): a child is no outlier.

The covariance follows the same steps and is checked by chi-square in the tests.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hand_pose_ros import crop as crops
from hand_pose_ros.skeleton import ADULT_HAND_LENGTH_M, WRIST, hand_length, with_tips_on_skin
from hand_pose_ros.types import Camera, Crop, CropPose, Hand, JointState, ScaleSource

ASSUMED_LENGTH_SIGMA = 0.07
"""Relative standard deviation of adult hand lengths round the mean (both sexes; DIN 33402-2)."""
CALIBRATED_LENGTH_SIGMA = 0.03
"""The same after the calibration pose, whose error stays with a hand and view, so that averaging does not help
(benchmarks/calibrated_length.py)."""
ACROSS_SHARE = 0.5
"""The network's x and y are this much surer than its z, of which xyz_sigma speaks; measured, see benchmarks/lift.md."""
NEAREST = 0.1
"""Hand lengths in front of the camera that every joint must be."""
HUBER = 2.0
"""Whitened residual above which a joint's weight falls."""
DETERMINED = 1e-12
"""Weighted variance of the rays' directions below which they are one direction and tell no distance."""
SETTLED = 1e-5
"""Hand lengths, 2 micrometres, by which the distance still changes when the fit's weights count as found."""
MIN_JOINTS = 6
"""Joints with finite values that a fit needs."""
DEPTH_INSIDE_M = 0.009
"""A joint's centre lies this far behind the skin that a depth camera sees, for an adult hand."""
DEPTH_SIGMA = 0.01
"""Relative standard deviation of a depth image over the whole hand (calibration, not pixel noise)."""
SIZE_FREEDOM = 2.0
"""Degrees of freedom of Student's t for the size of a hand that a depth image measures: children, and another person
than the calibrated one, are commoner than normal distributions have them."""
SHORTEST_M, LONGEST_M = 0.12, 0.24
"""Hand lengths that depth is believed of, beside what is expected: from a child of five years to beyond the largest
men (123 mm; 193 +- 10 mm; sources in synthesis/anthropometry.py)."""


@dataclass(frozen=True, eq=False)
class _Fit:
    """The hand in the crop camera, in hand lengths."""

    q: np.ndarray                                   # (21, 3) joints
    M: np.ndarray                                   # (21, 3, 3) covariance of q given t
    J: np.ndarray                                   # (21, 3, 3) d q / d t
    C: np.ndarray                                   # (3, 3) covariance of t


def lift(crop: Crop, pose: CropPose, camera: Camera, hand_length_m: float = ADULT_HAND_LENGTH_M,
         scale_source: ScaleSource = ScaleSource.ASSUMED, depth: np.ndarray | None = None,
         metric_when_uncalibrated: bool = False) -> Hand:
    """One hand in the camera's frame.

    hand_length_m with its origin (ASSUMED or CALIBRATED_HAND) sets the scale and its uncertainty. depth: (H, W)
    metres, registered to the image; used if the camera is calibrated and it agrees with the hand, and then scale_source
    says DEPTH. joints_m is NaN (and scale_source NONE) if the fit is degenerate or behind the camera, or the camera is
    not calibrated and metric_when_uncalibrated is not set; joints_px and joints_rel_m are given all the same.
    """
    rays = crops.rays(crop, pose.uv)
    X = pose.xyz.astype(np.float64)
    if crop.mirrored:
        X = X * (-1.0, 1.0, 1.0)
    joints_px = crops.crop_to_image(crop, camera, pose.uv)
    R = crop.R_camera_crop
    fit = _fit(rays, X, np.asarray(pose.uv_sigma, np.float64) / crop.K[0, 0],
               np.asarray(pose.xyz_sigma, np.float64), R)
    state = joint_states(joints_px, pose.visibility, camera)
    nan = np.full(21, np.nan)
    joints_m, relative, ray, across = np.full((21, 3), np.nan), (X - X[WRIST]) * hand_length_m @ R.T, nan, nan
    length, source = hand_length_m, ScaleSource.NONE
    if fit is not None:
        sigma = CALIBRATED_LENGTH_SIGMA if scale_source == ScaleSource.CALIBRATED_HAND else ASSUMED_LENGTH_SIGMA
        C = np.zeros((4, 4))                                                    # of (log length, t)
        C[0, 0], C[1:, 1:] = sigma**2, fit.C
        q, source = fit.q, scale_source
        if depth is not None and camera.calibrated:             # a wrong angle of view would pass for a small hand
            update = _depth_update(q @ R.T * length, joints_px, state, depth, fit, C, R, length)
            if update is not None:
                delta, C = update
                length, q = length * np.exp(delta[0]), q + fit.J @ delta[1:]
                source = ScaleSource.DEPTH
        relative = (q - q[WRIST]) * length @ R.T
        if camera.calibrated or metric_when_uncalibrated:
            joints_m = q * length @ R.T
            ray, across = _sigmas(q, fit, C, length)
        else:
            source = ScaleSource.NONE
    finite = np.isfinite(joints_px).all(-1)
    low, high = (joints_px[finite].min(0), joints_px[finite].max(0)) if finite.any() else (np.full(2, np.nan),) * 2
    right = 1.0 - pose.right_probability if crop.mirrored else pose.right_probability
    return Hand(score=float(pose.presence), right_probability=float(right), box=np.concatenate([low, high]),
                joints_px=joints_px, joints_m=joints_m, joints_rel_m=relative, confidence=confidence(pose),
                state=state, sigma_ray_m=ray, sigma_across_m=across, hand_length_m=float(length), scale_source=source)


def rescaled(hand: Hand, hand_length_m: float, sigma: float, source: ScaleSource) -> Hand:
    """A lifted hand as if its length were ``hand_length_m``, known to a relative standard deviation ``sigma`` from
    ``source``: metres are proportional to it (step 3 above). hand: with scale source ASSUMED or CALIBRATED_HAND."""
    ratio = hand_length_m / hand.hand_length_m
    before = CALIBRATED_LENGTH_SIGMA if hand.scale_source == ScaleSource.CALIBRATED_HAND else ASSUMED_LENGTH_SIGMA
    distance = np.linalg.norm(hand.joints_m, axis=-1)
    ray = np.sqrt(np.maximum(hand.sigma_ray_m**2 - (before * distance)**2, 0.0) + (sigma * distance)**2)
    return replace(hand, joints_m=hand.joints_m * ratio, joints_rel_m=hand.joints_rel_m * ratio,
                   sigma_ray_m=ray * ratio, sigma_across_m=hand.sigma_across_m * ratio,
                   hand_length_m=float(hand_length_m), scale_source=source)


def label(joints_m: np.ndarray, crop: Crop | crops.CropGeometry) -> tuple[np.ndarray, np.ndarray]:
    """What a perfect network says of a crop: MANO's joints (21, 3) [m, camera frame] (of published ones:
    ``skeleton.mano_joints``) -> uv (21, 2) px, xyz (21, 3) hand lengths.

    The exact inverse of ``lift``, mirroring included. uv is NaN for joints behind the crop camera.
    """
    points = np.asarray(joints_m, np.float64) @ crop.R_camera_crop
    xyz = (points - points[WRIST]) / hand_length(points)
    if crop.mirrored:
        xyz = xyz * (-1.0, 1.0, 1.0)
    return crops.to_uv(crop, points), xyz


def joint_states(joints_px: np.ndarray, visibility: np.ndarray, camera: Camera) -> np.ndarray:
    """(21,) JointState. The network tells hidden from visible, not what hides it: hidden is said as SELF_OCCLUDED."""
    with np.errstate(invalid="ignore"):
        inside = ((joints_px >= -0.5) & (joints_px <= (camera.width - 0.5, camera.height - 0.5))).all(-1)
    state = np.where(np.asarray(visibility) >= 0.5, JointState.VISIBLE, JointState.SELF_OCCLUDED)
    state = np.where(inside, state, JointState.OUTSIDE_IMAGE)
    return np.where(np.isfinite(joints_px).all(-1), state, JointState.UNKNOWN).astype(np.uint8)


def confidence(pose: CropPose) -> np.ndarray:
    """(21,) probability, by the network's own sigmas, that the hand is there and the joint's error is below a tenth of
    the hand's longer side in the crop, tips on the skin: a Rayleigh distribution, to be checked against PCK@0.1."""
    radius = 0.1 * np.ptp(with_tips_on_skin(pose.uv), axis=0).max()
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = -np.expm1(-0.5 * (radius / pose.uv_sigma)**2)
    return np.nan_to_num(pose.presence * inside, nan=0.0)


def _fit(rays: np.ndarray, X: np.ndarray, ray_sigma: np.ndarray, shape_sigma: np.ndarray, R: np.ndarray) -> _Fit | None:
    """Steps 1 and 2: rays (21, 3) with z = 1, shape X (21, 3), sigmas (21,) on the plane z = 1 and in hand lengths; R
    (3, 3) from the crop to the camera.

    None if fewer than MIN_JOINTS are usable, the hand ends up behind the camera or its distance is not determined.
    """
    usable = np.isfinite(rays).all(-1) & np.isfinite(X).all(-1) & (ray_sigma > 0) & (shape_sigma > 0)
    usable &= np.isfinite(ray_sigma) & np.isfinite(shape_sigma)
    if usable.sum() < MIN_JOINTS:
        return None
    xy, Xu, rs, ss = rays[usable, :2], X[usable], ray_sigma[usable, None], shape_sigma[usable, None]
    across = np.array([ACROSS_SHARE, ACROSS_SHARE, 1.0])
    b = xy * Xu[:, 2:] - Xu[:, :2]                      # t_xy - xy t_z = b
    shape_variance = ss**2 * (ACROSS_SHARE**2 + xy**2)
    z, huber, t_z = 1.0, 1.0, np.inf
    for _ in range(6):
        variance = (z * rs)**2 + shape_variance
        weight = huber / variance
        total = weight.sum(0)
        xy_mean, b_mean = (weight * xy).sum(0) / total, (weight * b).sum(0) / total
        lever = weight * (xy - xy_mean)
        information = (lever * xy).sum()                # on t_z, with t_xy eliminated
        if not information > DETERMINED * total.sum():  # also NaN
            return None
        before, t_z = t_z, -(lever * b).sum() / information
        t_xy = b_mean + xy_mean * t_z
        if abs(t_z - before) < SETTLED:
            break
        residual = np.sqrt(((b - t_xy + xy * t_z)**2 / variance).sum(-1, keepdims=True))
        z = np.maximum(Xu[:, 2:] + t_z, NEAREST)
        huber = np.minimum(1.0, HUBER / np.maximum(residual, 1e-9))
    t, column = np.array([*t_xy, t_z]), np.array([*xy_mean, 1.0])
    C = np.outer(column, column) / information + np.diag([*(1.0 / total), 0.0])
    if C[2, 2] > (0.5 * t_z)**2:
        return None
    z = np.maximum(X[:, 2] + t_z, NEAREST)
    with np.errstate(divide="ignore", invalid="ignore"):
        on_ray, on_shape = (z * ray_sigma)**-2, (shape_sigma[:, None] * across)**-2
        B = np.zeros((len(X), 2, 3))                    # B q = 0 on the ray
        B[:, 0, 0] = B[:, 1, 1] = 1.0
        B[:, :, 2] = -rays[:, :2]
        information = np.einsum("nia,nib->nab", B, B) * on_ray[:, None, None] + np.eye(3) * on_shape[:, None, :]
    information[~usable] = np.eye(3)
    M = np.linalg.inv(information)
    J = M * np.where(usable[:, None], on_shape, np.nan)[:, None, :]
    q = np.einsum("nab,nb->na", J, X + t)
    if np.any((q @ R.T)[usable, 2] < NEAREST) or np.any(q[usable, 2] < NEAREST):
        return None
    return _Fit(q, M, J, C)


def _sigmas(q: np.ndarray, fit: _Fit, C: np.ndarray, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations (21,) [m] along and across the viewing rays, from the covariance C of (log length, t)."""
    G = np.concatenate([q[:, :, None], fit.J], -1)                              # (21, 3, 4) d (metres / length)
    S = (fit.M + G @ C @ G.transpose(0, 2, 1)) * length**2
    d = q / np.linalg.norm(q, axis=-1, keepdims=True)
    along = np.einsum("na,nab,nb->n", d, S, d)
    return np.sqrt(along), np.sqrt(np.maximum(np.trace(S, axis1=1, axis2=2) - along, 0.0) / 2)


def _depth_update(points: np.ndarray, joints_px: np.ndarray, state: np.ndarray, depth: np.ndarray, fit: _Fit,
                  C: np.ndarray, R: np.ndarray, length: float):
    """Kalman update of (log length, t) by the median ratio of measured to expected depth at the visible joints.

    points: (21, 3) [m, camera frame] before. Returns the correction (4,) and the new covariance, or None if fewer
    than MIN_JOINTS have depth, or they do not agree with a hand of a human size (wrong registration, something far in
    front of the hand). The farther its size is from the expected one, the less that expectation counts (SIZE_FREEDOM):
    one image does not tell a child from something before an adult's hand; who follows the hand does.
    """
    measured = _depth_at(depth, joints_px) + DEPTH_INSIDE_M * length / ADULT_HAND_LENGTH_M
    usable = (state == JointState.VISIBLE) & np.isfinite(measured) & np.isfinite(points[:, 2])
    usable &= np.nan_to_num(points[:, 2]) > 0
    if usable.sum() < MIN_JOINTS:
        return None
    ratio = np.log(measured[usable] / points[usable, 2])
    centre = np.median(ratio)
    spread = 1.4826 * np.median(np.abs(ratio - centre))
    inliers = np.abs(ratio - centre) <= 3 * max(spread, 0.01)
    if inliers.sum() < max(MIN_JOINTS, 0.5 * len(ratio)) or spread > 0.15:
        return None
    value = ratio[inliers].mean()
    variance = spread**2 / inliers.sum() + DEPTH_SIGMA**2
    used = np.flatnonzero(usable)[inliers]
    dz = np.einsum("b,nbc->nc", R[2], fit.J[used]) / (points[used, 2:] / length)        # d log z / d t
    H = np.concatenate([[1.0], dz.mean(0)])
    of_size = C[0, 0]
    of_rest = H @ C @ H + variance - of_size
    low, high = np.log(np.array([min(SHORTEST_M, length), max(LONGEST_M, length)]) / length)
    if not low - 2 * np.sqrt(of_rest) <= value <= high + 2 * np.sqrt(of_rest):
        return None
    C = C.copy()
    C[0, 0] = of_size * max((SIZE_FREEDOM + value**2 / (of_size + of_rest)) / (SIZE_FREEDOM + 1), 1.0)
    innovation = C[0, 0] + of_rest
    gain = C @ H / innovation
    return gain * value, C - np.outer(gain, H @ C)


def _depth_at(depth: np.ndarray, joints_px: np.ndarray, reach: int = 2) -> np.ndarray:
    """(21,) median of the valid depths [m] in a window round each joint; NaN where there are none. 0 is not a depth."""
    H, W = depth.shape
    out = np.full(len(joints_px), np.nan)
    for i, (u, v) in enumerate(joints_px):
        if not (np.isfinite(u) and np.isfinite(v) and -0.5 <= u <= W - 0.5 and -0.5 <= v <= H - 0.5):
            continue
        column, row = int(round(u)), int(round(v))
        window = depth[max(row - reach, 0):row + reach + 1, max(column - reach, 0):column + reach + 1]
        valid = window[np.isfinite(window) & (window > 0)]
        if valid.size:
            out[i] = np.median(valid)
    return out
