"""What a labelled hand looks like, for tables that show where accuracy is lost.

Everything is told from the truth alone (brightness and tone of the skin from the pixels under its bones), never from a
prediction, so that two runs are grouped alike. What the labels do not tell is "unknown".
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from ..frames import wrist_rotation
from ..skeleton import BONES, NUM_JOINTS
from .datasets.base import TruthHand

TITLES = {
    "size": "Size of the hand in the image", "view": "Side that faces the camera",
    "tilt": "Tilt out of the image plane",
    "up": "Where the fingers point in the image", "fingers": "Stretched fingers", "hidden": "Joints hidden by the hand",
    "side": "Hand",
    "border": "Border of the image", "brightness": "Brightness of the skin (CIE L*)",
    "tone": "Tone of the skin in the image (ITA)"}
"""Attribute: heading."""
SIZES = ((0, 32, "<32 px"), (32, 64, "32-64 px"), (64, 128, "64-128 px"), (128, 1e9, ">=128 px"))
BRIGHTNESS = ((0, 35, "dark, <35"), (35, 60, "35-60"), (60, 101, "bright, >=60"))
TONES = ((-91, 10, "brown or dark, <10 deg"), (10, 41, "tan, 10-41 deg"), (41, 91, "light, >=41 deg"))
IN_PICTURE = ("border", "brightness", "tone")
UNKNOWN = "unknown"
GROUPS = {
    "size": [name for *_, name in SIZES], "view": ["palm", "back", "edge"],
    "tilt": ["<30 deg", "30-60 deg to the camera", "30-60 deg away", ">=60 deg to the camera", ">=60 deg away"],
    "up": ["up", "left or right", "down"], "fingers": ["0-1", "2-3", "4-5"],
    "hidden": ["none", "1-3", "4-7", "8 or more"], "side": ["left", "right"], "border": ["not reached", "reached"],
    "brightness": [name for *_, name in BRIGHTNESS], "tone": [name for *_, name in TONES]}
FINGER_RADIUS_M = 0.008
HIDDEN_DEPTH_M = 0.012
STRETCHED = 0.9
"""A finger is stretched if its tip is further from its base than this share of the length along its bones."""
EDGE_AREA = 0.15
_BONES = np.array(BONES)
_TRIANGLES = np.array([[0, 1, 5], [0, 5, 9], [0, 9, 13], [0, 13, 17]])                         # of the palm
_ENDS_IN = (np.arange(NUM_JOINTS)[:, None, None] == _BONES).any(axis=-1)                       # (21, 20)
_CORNER_OF = (np.arange(NUM_JOINTS) == _TRIANGLES[..., None]).any(axis=1)                      # (4, 21)


def of_hand(hand: TruthHand, hidden: np.ndarray | None, in_picture: Mapping[str, str] | None = None) -> dict[str, str]:
    """Attribute: group, for every attribute of TITLES. hidden: of ``hidden_joints``. in_picture: what ``of_picture``
    said, None if no one looked."""
    return {"size": group(hand.size_px, SIZES), "view": view_of(hand), "tilt": _tilt(hand), "up": _up(hand),
            "fingers": _fingers(hand), "hidden": _share(hidden), "side": hand.handedness or UNKNOWN,
            **(in_picture or dict.fromkeys(IN_PICTURE, UNKNOWN))}


def of_picture(rgb: np.ndarray, hand: TruthHand) -> dict[str, str]:
    """The attributes IN_PICTURE, for which pixels are needed. rgb: (H, W, 3) uint8."""
    lightness, tone = skin_of(rgb, hand)
    reached = (hand.tight_box[:2] < 1).any() or (hand.tight_box[2:] > (rgb.shape[1] - 2, rgb.shape[0] - 2)).any()
    return {"border": "reached" if reached else "not reached", "brightness": group(lightness, BRIGHTNESS),
            "tone": group(tone, TONES)}


def groups_of(attribute: str) -> list[str]:
    """Every group of an attribute in the order of the tables, "unknown" last."""
    return [*GROUPS[attribute], UNKNOWN]


def group(value: float, limits: Sequence[tuple[float, float, str]]) -> str:
    """Name of the half-open interval (low, high, name) that holds the value; "unknown" if none does."""
    return next((name for low, high, name in limits if low <= value < high), UNKNOWN)


def view_of(hand: TruthHand) -> str:
    """Which side of the hand faces the camera: palm, back, or edge (palm normal 60 to 120 degrees off the view).

    From 3D truth; without it from the sense in which wrist, index base and little base turn in the image, edge if their
    triangle is thin. "unknown" without the side of the hand or these joints.
    """
    needed = [0, 5, 9, 17]
    if hand.handedness is None:
        return UNKNOWN
    if hand.joints_m is not None and hand.valid_m[needed].all():
        facing = -float(wrist_rotation(hand.joints_m, hand.handedness == "right")[2, 2])     # the camera looks along +z
        return UNKNOWN if np.isnan(facing) else "back" if facing > 0.5 else "palm" if facing < -0.5 else "edge"
    if not hand.valid_px[needed].all():
        return UNKNOWN
    wrist, index, middle, little = hand.joints_px[needed]
    (ax, ay), (bx, by) = index - wrist, little - wrist
    length = max(np.linalg.norm(v - wrist) for v in (index, middle, little))
    area = (ax * by - ay * bx) / max(length ** 2, 1e-9)          # > 0: index to little is clockwise in the image
    if abs(area) < EDGE_AREA:
        return "edge"
    return "back" if (area > 0) == (hand.handedness == "right") else "palm"


def hidden_joints(hand: TruthHand) -> np.ndarray | None:
    """(21,) bool: joints behind another finger or the palm of the same hand, as seen from the camera; None without 3D.

    A joint is hidden if a bone that does not end in it, FINGER_RADIUS_M thick, or a triangle of the palm lies before it
    by at least HIDDEN_DEPTH_M. An estimate: the truth holds joints, no surface.
    """
    if hand.joints_m is None or not hand.valid_m.all():
        return None
    joints = hand.joints_m
    if not (joints[:, 2] > 0.05).all():                          # relative to a root: taken as seen from far away
        joints = joints + (0.0, 0.0, 1.0 - joints[:, 2].min())
    plane, depth = joints[:, :2] / joints[:, 2:], joints[:, 2]
    start, end = (plane[_BONES[:, k]] for k in (0, 1))                                                   # (20, 2)
    along = end - start
    reach = ((plane[:, None] - start) * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-12)
    reach = np.clip(reach, 0.0, 1.0)                                                                # (21, 20)
    apart = np.linalg.norm(plane[:, None] - start - reach[..., None] * along, axis=-1)
    before = depth[:, None] - (1 - reach) * depth[_BONES[:, 0]] - reach * depth[_BONES[:, 1]]
    by_bone = (apart < FINGER_RADIUS_M / depth[:, None]) & (before > HIDDEN_DEPTH_M) & ~_ENDS_IN
    corners = np.concatenate([plane[_TRIANGLES].transpose(0, 2, 1), np.ones((len(_TRIANGLES), 1, 3))], axis=1)
    thin = np.abs(np.linalg.det(corners)) < 1e-9
    corners[thin] = np.eye(3)
    weights = np.linalg.solve(corners, np.vstack([plane.T, np.ones(NUM_JOINTS)])[None])             # (4, 3, 21)
    before = depth - (weights * depth[_TRIANGLES][..., None]).sum(axis=1)
    by_palm = (weights >= 0).all(axis=1) & (before > HIDDEN_DEPTH_M) & ~_CORNER_OF & ~thin[:, None]
    return by_bone.any(axis=1) | by_palm.any(axis=0)


def _share(hidden: np.ndarray | None) -> str:
    return UNKNOWN if hidden is None else "none" if not hidden.any() else "1-3" if hidden.sum() <= 3 else \
        "4-7" if hidden.sum() <= 7 else "8 or more"


def _tilt(hand: TruthHand) -> str:
    if hand.joints_m is None or not hand.valid_m[[0, 9]].all():
        return UNKNOWN
    x, y, z = hand.joints_m[9] - hand.joints_m[0]
    degrees = np.degrees(np.arctan2(abs(z), np.hypot(x, y)))
    if degrees < 30:
        return "<30 deg"
    return ("30-60 deg" if degrees < 60 else ">=60 deg") + (" to the camera" if z < 0 else " away")


def _up(hand: TruthHand) -> str:
    if not hand.valid_px[[0, 9]].all():
        return UNKNOWN
    u, v = hand.joints_px[9] - hand.joints_px[0]
    return ("up", "left or right", "down", "left or right")[int(np.round(np.arctan2(u, -v) / (np.pi / 2))) % 4]


def _fingers(hand: TruthHand) -> str:
    joints, valid = (hand.joints_m, hand.valid_m) if hand.joints_m is not None else (hand.joints_px, hand.valid_px)
    if not valid.all():
        return UNKNOWN
    chains = joints[1:].reshape(5, 4, -1)
    lengths = np.linalg.norm(np.diff(chains, axis=1), axis=2).sum(axis=1)
    straight = (np.linalg.norm(chains[:, 3] - chains[:, 0], axis=1) > STRETCHED * lengths).sum()
    return "0-1" if straight < 2 else "2-3" if straight < 4 else "4-5"


def skin_of(rgb: np.ndarray, hand: TruthHand) -> tuple[float, float]:
    """Lightness L* (0..100) and individual typology angle ITA = atan((L* - 50) / b*) in degrees (Chardon et al. 1991),
    medians over the pixels half way along the valid bones; NaN if there are none.

    rgb: (H, W, 3) uint8. Both depend on light and camera too: what the network sees, not who the person is.
    """
    ends = [(a, b) for a, b in BONES if hand.valid_px[a] and hand.valid_px[b]]
    if not ends:
        return float("nan"), float("nan")
    middle = np.array([(hand.joints_px[a] + hand.joints_px[b]) / 2 for a, b in ends])
    columns, rows = np.round(middle).astype(int).T
    keep = (columns >= 0) & (rows >= 0) & (columns < rgb.shape[1]) & (rows < rgb.shape[0])
    if not keep.any():
        return float("nan"), float("nan")
    pixels = rgb[rows[keep], columns[keep]].astype(np.float32)[None] / 255.0
    lightness, _, b = np.median(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[0], axis=0)
    return float(lightness), float(np.degrees(np.arctan2(lightness - 50.0, max(b, 1e-6))))
