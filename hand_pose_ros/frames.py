"""Orientations of a hand's wrist and fingertips, defined once for TF, retargeting and teleoperation.

Wrist frame      origin at the wrist; X from the wrist to the middle finger's knuckle (MCP), Z out of the back of the
                 hand (dorsal), Y = Z x X. The same rule for both sides, so Y points to the thumb on a left hand and
                 away from it on a right hand, and a left hand's frame is the mirror image of a right hand's one.
Fingertip frame  origin at the fingertip; X along the last bone, outward; Z out of the nail side, Y = Z x X.
"""
from __future__ import annotations

import numpy as np

from .skeleton import FINGERS, FINGERTIPS

_INDEX_MCP, _MIDDLE_MCP, _LITTLE_MCP = 5, 9, 17
_DEGENERATE = 1e-6   # sine of the angle below which two directions are taken as parallel


def wrist_rotation(joints: np.ndarray, is_right: bool) -> np.ndarray:
    """Rotation of the wrist frame (see the module's text).

    joints: (21, 3) in any right-handed frame F and any length unit. Returns R_F_wrist (3, 3), or NaN where the joints
    are not finite or lie on a line.
    """
    wrist = joints[0]
    dorsal = np.cross(joints[_LITTLE_MCP] - wrist, joints[_INDEX_MCP] - wrist)
    if not is_right:
        dorsal = -dorsal
    return _rotation(joints[_MIDDLE_MCP] - wrist, dorsal)


def fingertip_rotations(joints: np.ndarray, is_right: bool) -> np.ndarray:
    """Rotations of the five fingertip frames (see the module's text).

    A straight finger has no bending plane, so the nail side comes from the back of the hand, turned by the rotation
    that takes the finger's first bone to its last. The thumb's nail faces half backward and half away from the index
    knuckle when its metacarpal is at rest, so its hint is the sum of these two directions.

    joints: (21, 3) in any right-handed frame F. Returns R_F_tip (5, 3, 3), thumb first; NaN where undefined.
    """
    back = wrist_rotation(joints, is_right)[:, 2]
    out = np.full((len(FINGERS), 3, 3), np.nan)
    for finger, tip in enumerate(FINGERTIPS):
        last = joints[tip] - joints[tip - 1]
        first = joints[tip - 2] - joints[tip - 3]
        if finger == 0:
            away = joints[1] - joints[_INDEX_MCP]
            hint = back + away / max(np.linalg.norm(away), 1e-12)
        else:
            hint = back
        out[finger] = _rotation(last, _turn(hint, first, last))
    return out


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """Unit quaternion xyzw of a rotation matrix (Shepperd's method: the largest of the four squares is divided by).

    rotation: (3, 3). Returns (4,) with w >= 0; NaN if the matrix holds NaN.
    """
    if not np.all(np.isfinite(rotation)):
        return np.full(4, np.nan)
    r = rotation
    squares = np.array([1 + r[0, 0] - r[1, 1] - r[2, 2], 1 - r[0, 0] + r[1, 1] - r[2, 2],
                        1 - r[0, 0] - r[1, 1] + r[2, 2], 1 + r[0, 0] + r[1, 1] + r[2, 2]])
    k = int(np.argmax(squares))
    s = 2.0 * np.sqrt(squares[k])
    q = np.empty(4)
    if k == 3:
        q[:] = (r[2, 1] - r[1, 2]) / s, (r[0, 2] - r[2, 0]) / s, (r[1, 0] - r[0, 1]) / s, s / 4
    else:
        i, j, m = k, (k + 1) % 3, (k + 2) % 3
        q[i] = s / 4
        q[j] = (r[j, i] + r[i, j]) / s
        q[m] = (r[m, i] + r[i, m]) / s
        q[3] = (r[m, j] - r[j, m]) / s
    return q if q[3] >= 0 else -q


def rotation_of_quaternion(q: np.ndarray) -> np.ndarray:
    """Rotation matrix (3, 3) of a quaternion (4,) xyzw of any length above 0; NaN for one that is zero or not
    finite."""
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


def _rotation(x_axis: np.ndarray, z_hint: np.ndarray) -> np.ndarray:
    """Columns X, Y, Z with X along x_axis and Z as near to z_hint as being perpendicular to X allows."""
    length, hint_length = np.linalg.norm(x_axis), np.linalg.norm(z_hint)
    if not (length > 0 and hint_length > 0):                           # also catches NaN
        return np.full((3, 3), np.nan)
    x = x_axis / length
    y = np.cross(z_hint / hint_length, x)
    sine = np.linalg.norm(y)
    if not sine > _DEGENERATE:
        return np.full((3, 3), np.nan)
    y = y / sine
    return np.stack([x, y, np.cross(x, y)], axis=1)


def _turn(vector: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """vector turned by the shortest rotation that takes direction a to direction b."""
    a, b = a / max(np.linalg.norm(a), 1e-12), b / max(np.linalg.norm(b), 1e-12)
    axis, cosine = np.cross(a, b), float(a @ b)
    if cosine < -0.999999:                                             # opposite: the axis is not defined
        return vector
    return vector + np.cross(axis, vector) + np.cross(axis, np.cross(axis, vector)) / (1.0 + cosine)
