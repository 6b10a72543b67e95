"""The 21 joints: names, order, bones and the one unit of hand size.

Order and names: wrist, then thumb CMC MCP IP TIP, then MCP PIP DIP TIP of index, middle, ring and little finger, tips
last, as in FreiHAND, OpenPose and MediaPipe (``HandLandmark`` in mediapipe/tasks/python/vision/hand_landmarker.py).
Other orders enter the project through one named index table each; those live beside the data set that needs them.
"""
from __future__ import annotations

import numpy as np

JOINT_NAMES = (
    "wrist",
    "thumb_cmc", "thumb_mcp", "thumb_ip", "thumb_tip",
    "index_mcp", "index_pip", "index_dip", "index_tip",
    "middle_mcp", "middle_pip", "middle_dip", "middle_tip",
    "ring_mcp", "ring_pip", "ring_dip", "ring_tip",
    "little_mcp", "little_pip", "little_dip", "little_tip",
)
NUM_JOINTS = len(JOINT_NAMES)
WRIST = 0
FINGERS = ("thumb", "index", "middle", "ring", "little")
FINGERTIPS = (4, 8, 12, 16, 20)
KNUCKLES = (5, 9, 13, 17)
"""MCP joints of the index, middle, ring and little finger."""
_MIDDLE = KNUCKLES[1]
_KNUCKLES = slice(KNUCKLES[0], KNUCKLES[-1] + 1, 4)
_TIPS, _BEFORE_TIPS = (slice(joint, NUM_JOINTS, 4) for joint in (FINGERTIPS[0], FINGERTIPS[0] - 1))

KNUCKLE_SETBACK = (0.04, 0.08, 0.07, 0.06)
"""How much nearer to the wrist joints are published than MANO has them, as a share of the way from the knuckle to the
wrist, index .. little: there they turn. With it the virtual hands' proximal phalanges (35.7, 36.8, 34.9 and 27.4 mm of
a 186 mm hand, like MANO's) get the lengths of X-rays (39.8, 44.6, 41.4 and 32.7 mm; Buryanov & Kotiuk 2010)."""

THUMB_SETBACK = (0.05, 0.11)
"""How much nearer to the wrist the thumb's knuckle is published than MANO has it, as a share of the way to where its
metacarpal turns, and its last joint, as a share of the way to the published knuckle: 2 and 4 mm. There the last joint
lies under its crease, in the head of the proximal phalanx, and the bones have the lengths of X-rays (Buryanov & Kotiuk
2010): 31.6 mm, and before the tip 21.7 mm and 3 mm of that head; MANO's last one is 4 mm too short."""

TIP_SETBACK = (0.19, 0.16, 0.16, 0.16, 0.19)
"""How much nearer to its published neighbour a fingertip is published than MANO has it, which is on the skin, as a
share of that last bone, thumb .. little: at the end of the distal phalanx, under 5.7, 3.8, 4.0, 4.0 and 3.7 mm of soft
tissue (Buryanov & Kotiuk 2010) of the 30.1, 24.1, 24.7, 24.6 and 19.3 mm of the hands that are drawn."""

WRIST_SETBACK = 0.1
"""How much nearer to the published middle knuckle the wrist is published than MANO has it, as a share of the way: in
the middle of the capitate, 14 mm behind the third metacarpal. The hand turns 2 mm further back, about the capitate's
proximal third (Youm et al. 1978); annotators have the wrist further to the front. So it is 79 mm behind the knuckle
(metacarpal 64.6 mm, Buryanov & Kotiuk 2010), 0.89 of what lies in front of that; virtual hands have 0.88 with this and
0.97, at the end of the forearm, without."""

THUMB_BASE = 0.7
"""Where the thumb's saddle joint is published: on its metacarpal, this share of the way from MANO's knuckle of the
thumb to where it turns. That is MANO's place in a flat hand (33 of 46 mm), but as the thumb crosses the palm it goes
along, as what annotators click does; MANO's stays behind."""
THUMB_PIVOT = (0.589, 0.067, -0.078)
"""Where the thumb's metacarpal turns, from the wrist, in MANO's thumb's saddle joint, index and little knuckle from the
wrist: a place in the palm (of the mean virtual hand, by X-ray lengths, synthesis.rig.THUMB_METACARPAL)."""

_KNUCKLE_SHARE, _TIP_SHARE = (np.array(share)[:, None] for share in (KNUCKLE_SETBACK, TIP_SETBACK))

PARENTS = (-1, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19)
BONES = tuple((parent, child) for child, parent in enumerate(PARENTS) if parent >= 0)
"""20 (parent, child) pairs."""

HAND_LENGTH_CHAIN = (0, 9, 10, 11, 12)
"""Joints whose bone lengths add up to the hand length: MANO's wrist, at the end of the forearm, then the middle finger
to its tip. Virtual hands are scaled so that this is what surveys measure from the wrist's crease to that tip."""

ADULT_HAND_LENGTH_M = 0.186
"""Default hand length in metres: about the mean of adult men (193 mm) and women (181 mm;
synthesis/anthropometry.py)."""


def hand_length(joints: np.ndarray) -> np.ndarray:
    """Hand length: wrist to middle fingertip along the bones, so it does not change when fingers bend.

    joints: (..., 21, 3) in any length unit, MANO's (its middle knuckle is taken where it turns, ``KNUCKLE_SETBACK``);
    not for published ones, of which it is 7 (flat) to 10 % (bent) less. Returns (...) in the same unit.
    """
    chain = np.array(joints[..., HAND_LENGTH_CHAIN, :], dtype=float)                     # (..., 5, 3)
    chain[..., 1, :] += KNUCKLE_SETBACK[1] * (chain[..., 0, :] - chain[..., 1, :])
    return np.linalg.norm(np.diff(chain, axis=-2), axis=-1).sum(axis=-1)


def bone_lengths(joints: np.ndarray) -> np.ndarray:
    """Lengths of the 20 ``BONES``. joints: (..., 21, 3) in any length unit. Returns (..., 20) in the same unit."""
    parents, children = np.array(BONES).T
    return np.linalg.norm(joints[..., children, :] - joints[..., parents, :], axis=-1)


def joint_centres(joints: np.ndarray) -> np.ndarray:
    """MANO's joints -> joints as they are published: see ``KNUCKLE_SETBACK``, ``THUMB_SETBACK``, ``TIP_SETBACK``,
    ``WRIST_SETBACK`` and ``THUMB_BASE``.

    joints: (..., 21, d) in any unit, 3D or pixels. Returns (..., 21, d).
    """
    out = np.array(joints, dtype=float)
    pivot = _thumb_pivot(out)
    out[..., 1, :] = THUMB_BASE * pivot + (1.0 - THUMB_BASE) * out[..., 2, :]
    out[..., 2, :] += THUMB_SETBACK[0] * (pivot - out[..., 2, :])
    out[..., 3, :] += THUMB_SETBACK[1] * (out[..., 2, :] - out[..., 3, :])
    out[..., _KNUCKLES, :] += _KNUCKLE_SHARE * (out[..., :1, :] - out[..., _KNUCKLES, :])
    out[..., _TIPS, :] += _TIP_SHARE * (out[..., _BEFORE_TIPS, :] - out[..., _TIPS, :])
    out[..., WRIST, :] += WRIST_SETBACK * (out[..., _MIDDLE, :] - out[..., WRIST, :])
    return out


def _thumb_pivot(mano: np.ndarray) -> np.ndarray:
    places = mano[..., (1, KNUCKLES[0], KNUCKLES[3]), :] - mano[..., :1, :]
    return mano[..., WRIST, :] + np.einsum("k,...kd->...d", THUMB_PIVOT, places)


def with_tips_on_skin(joints: np.ndarray) -> np.ndarray:
    """Published joints (..., 21, d), but fingertips where they touch: on the skin, as MANO has them."""
    out = np.array(joints, dtype=float)
    tips = (out[..., _TIPS, :] - _TIP_SHARE * out[..., _BEFORE_TIPS, :]) / (1.0 - _TIP_SHARE)
    out[..., _TIPS, :] = np.where(np.isnan(tips), out[..., _TIPS, :], tips)
    return out


def mano_joints(joints: np.ndarray) -> np.ndarray:
    """The inverse of ``joint_centres``, for crops as the networks learnt them and for comparison with data sets whose
    truth is a fitted MANO hand. Phalanges from MANO's knuckles change their lengths as fingers bend, published ones do
    not.

    joints: (..., 21, d) in any unit, NaN where unknown. Returns (..., 21, d).
    """
    out = with_tips_on_skin(joints)
    wrist = (out[..., WRIST, :] - WRIST_SETBACK * out[..., _MIDDLE, :]) / (1.0 - WRIST_SETBACK)
    out[..., WRIST, :] = np.where(np.isnan(wrist), out[..., WRIST, :], wrist)       # an unknown joint costs itself only
    knuckles = (out[..., _KNUCKLES, :] - _KNUCKLE_SHARE * out[..., :1, :]) / (1.0 - _KNUCKLE_SHARE)
    out[..., _KNUCKLES, :] = np.where(np.isnan(knuckles), out[..., _KNUCKLES, :], knuckles)
    ip = (out[..., 3, :] - THUMB_SETBACK[1] * out[..., 2, :]) / (1.0 - THUMB_SETBACK[1])
    out[..., 3, :] = np.where(np.isnan(ip), out[..., 3, :], ip)
    along = (out[..., 1, :] - out[..., 2, :]) / (THUMB_BASE - THUMB_SETBACK[0])     # the metacarpal, MANO's knuckle on
    mcp = out[..., 2, :] - THUMB_SETBACK[0] * along
    base = out[..., 1, :] + (mcp + along - _thumb_pivot(out)) / THUMB_PIVOT[0]      # it enters the pivot by that share
    out[..., 1, :] = np.where(np.isnan(base), out[..., 1, :], base)
    out[..., 2, :] = np.where(np.isnan(mcp), out[..., 2, :], mcp)
    return out
