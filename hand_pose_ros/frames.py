"""Orientations of a hand's wrist and fingertips, defined once for TF, retargeting and teleoperation.

Wrist frame      origin at the wrist; X from the wrist to the middle finger's knuckle (MCP), Z out of the back of the
                 hand (dorsal), Y = Z x X. The same rule for both sides, so Y points to the thumb on a right hand and
                 away from it on a left hand, and a left hand's frame is the mirror image of a right hand's one.
Fingertip frame  origin at the fingertip (the end of the bone, 4 to 6 mm behind the skin); X along the last bone,
                 outward; Z out of the nail side, Y = Z x X.
"""
from __future__ import annotations

import numpy as np

from .skeleton import FINGERTIPS

_INDEX_MCP, _MIDDLE_MCP, _LITTLE_MCP = 5, 9, 17
_TIPS = np.array(FINGERTIPS)
_YZX, _ZXY = np.array([1, 2, 0]), np.array([2, 0, 1])
_DEGENERATE = 1e-6   # sine of the angle below which two directions are taken as parallel


def wrist_rotation(joints: np.ndarray, is_right: bool | np.ndarray) -> np.ndarray:
    """Rotation of the wrist frame (see the module's text).

    joints: (..., 21, 3) in any right-handed frame F and any length unit; is_right: (...). Returns R_F_wrist
    (..., 3, 3), NaN where the joints are not finite or lie on a line.
    """
    wrist = joints[..., 0, :]
    dorsal = cross(joints[..., _LITTLE_MCP, :] - wrist, joints[..., _INDEX_MCP, :] - wrist)
    return _rotation(joints[..., _MIDDLE_MCP, :] - wrist, np.where(is_right, 1.0, -1.0)[..., None] * dorsal)


def fingertip_rotations(joints: np.ndarray, is_right: bool | np.ndarray) -> np.ndarray:
    """Rotations of the five fingertip frames (see the module's text).

    A straight finger has no bending plane, so the nail side comes from the back of the hand, turned by the rotation
    that takes the finger's first bone to its last. The thumb's nail faces half backward and half away from the index
    knuckle when its metacarpal is at rest, so its hint is the sum of these two directions.

    joints: (..., 21, 3) in any right-handed frame F; is_right: (...). Returns R_F_tip (..., 5, 3, 3), thumb first; NaN
    where undefined.
    """
    last = joints[..., _TIPS, :] - joints[..., _TIPS - 1, :]
    first = joints[..., _TIPS - 2, :] - joints[..., _TIPS - 3, :]
    hints = np.repeat(wrist_rotation(joints, is_right)[..., None, :, 2], len(FINGERTIPS), axis=-2)
    away = joints[..., 1, :] - joints[..., _INDEX_MCP, :]
    hints[..., 0, :] += away / np.maximum(_length(away), 1e-12)
    return _rotation(last, _turn(hints, first, last))


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """Unit quaternions xyzw of rotation matrices (Shepperd's method: the largest of the four squares is divided by).

    rotation: (..., 3, 3). Returns (..., 4) with w >= 0; NaN for a matrix that holds NaN.
    """
    r = np.asarray(rotation, np.float64)
    products = np.empty(r.shape[:-2] + (4, 4))                          # 4 q q^T
    x2, y2, z2 = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    for k, signs in enumerate(((1, -1, -1), (-1, 1, -1), (-1, -1, 1), (1, 1, 1))):
        products[..., k, k] = 1 + signs[0] * x2 + signs[1] * y2 + signs[2] * z2
    for k, i, j in ((0, 2, 1), (1, 0, 2), (2, 1, 0)):                   # axis k turns the axis j into the axis i
        products[..., k, 3] = products[..., 3, k] = r[..., i, j] - r[..., j, i]
        products[..., i, j] = products[..., j, i] = r[..., i, j] + r[..., j, i]
    largest = np.argmax(np.diagonal(products, axis1=-2, axis2=-1), axis=-1)[..., None, None]
    q = np.take_along_axis(products, largest, axis=-2)[..., 0, :]
    q = q / (2.0 * np.sqrt(np.take_along_axis(q, largest[..., 0], axis=-1)))
    q = np.where(q[..., 3:] < 0, -q, q)
    return np.where(np.isfinite(r).all((-2, -1))[..., None], q, np.nan)


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product (..., 3) of vectors (..., 3); for a few of them, numpy's own takes ten times as long."""
    return a[..., _YZX] * b[..., _ZXY] - a[..., _ZXY] * b[..., _YZX]


def rotation_of_quaternion(q: np.ndarray) -> np.ndarray:
    """Rotation matrix (3, 3) of a quaternion (4,) xyzw of any length above 0; NaN for one that is zero or not finite.
    """
    length = float(np.linalg.norm(q))
    if not 1e-9 < length < np.inf:
        return np.full((3, 3), np.nan)
    x, y, z, w = q / length
    return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                     [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                     [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Axis times angle [rad], 0..pi, of a rotation matrix. rotation: (3, 3). Returns (3,)."""
    q = quaternion(rotation)
    sine = np.linalg.norm(q[:3])
    if sine < 1e-12:
        return 2.0 * q[:3]
    return q[:3] / sine * 2.0 * np.arctan2(sine, q[3])


def rotation_from_vector(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix of axis times angle (Rodrigues' formula). vector: (3,) rad. Returns (3, 3)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross)


def _length(vectors: np.ndarray) -> np.ndarray:
    """Lengths (..., 1) of vectors (..., 3)."""
    return np.sqrt((vectors * vectors).sum(-1, keepdims=True))


def _rotation(x_axis: np.ndarray, z_hint: np.ndarray) -> np.ndarray:
    """Columns X, Y, Z with X along x_axis and Z as near to z_hint as being perpendicular to X allows: (..., 3, 3)."""
    length, hint_length = _length(x_axis), _length(z_hint)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = x_axis / length
        y = cross(z_hint / hint_length, x)
        sine = _length(y)
        y = y / sine
    defined = (length > 0) & (hint_length > 0) & (sine > _DEGENERATE)   # all false for NaN
    return np.where(defined[..., None], np.stack([x, y, cross(x, y)], axis=-1), np.nan)


def _turn(vector: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """vector (..., 3) turned by the shortest rotation that takes direction a to direction b."""
    a, b = a / np.maximum(_length(a), 1e-12), b / np.maximum(_length(b), 1e-12)
    axis, cosine = cross(a, b), (a * b).sum(-1, keepdims=True)
    opposite = cosine < -0.999999                                       # there the axis is not defined
    once = cross(axis, vector)
    turned = vector + once + cross(axis, once) / np.where(opposite, 1.0, 1.0 + cosine)
    return np.where(opposite, vector, turned)
