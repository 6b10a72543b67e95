"""What the fingers do, told from the 3D joints alone: how straight each finger is, and the named gestures of the
clutch."""
from __future__ import annotations

from typing import Callable

import numpy as np

from .errors import ConfigError
from .skeleton import FINGERTIPS, with_tips_on_skin

STRAIGHT = 0.90
"""A finger whose straightness is at least this counts as extended."""
CURLED = 0.70
"""A finger whose straightness is at most this counts as curled; between the two it counts as neither."""


def straightness(joints: np.ndarray) -> np.ndarray:
    """How straight each finger is: distance base to tip over the length of its three bones, 1 for a straight finger.

    joints: (..., 21, 3) in any length unit. Returns (..., 5), thumb first (measured from its MCP's metacarpal, the
    CMC); NaN where a joint is NaN.
    """
    tips = np.array(FINGERTIPS)
    chain = np.stack([joints[..., tips - k, :] for k in (3, 2, 1, 0)])                    # (4, ..., 5, 3)
    length = np.linalg.norm(np.diff(chain, axis=0), axis=-1).sum(axis=0)                  # (..., 5)
    reach = np.linalg.norm(chain[3] - chain[0], axis=-1)
    return np.divide(reach, length, out=np.full_like(reach, np.nan), where=length > 0)


def aperture(joints: np.ndarray, hand_length: float) -> float:
    """Distance between thumb tip and index tip on the skin, where they touch, in hand lengths. joints: (21, 3) as they
    are published, in the unit of hand_length."""
    joints = with_tips_on_skin(joints)
    return float(np.linalg.norm(joints[FINGERTIPS[0]] - joints[FINGERTIPS[1]]) / hand_length)


def _three_fingers(s: np.ndarray) -> bool | None:
    """Middle, ring and little finger extended; thumb and index are free to pinch."""
    if np.all(s[2:] >= STRAIGHT):
        return True
    return False if np.any(s[2:] <= CURLED) else None


def _three_curled(s: np.ndarray) -> bool | None:
    """Middle, ring and little finger curled, as in picking up something small; thumb and index are free to pinch."""
    if np.all(s[2:] <= CURLED):
        return True
    return False if np.any(s[2:] >= STRAIGHT) else None


def _open_hand(s: np.ndarray) -> bool | None:
    """All four fingers extended."""
    if np.all(s[1:] >= STRAIGHT):
        return True
    return False if np.any(s[1:] <= CURLED) else None


def _fist(s: np.ndarray) -> bool | None:
    """All four fingers curled."""
    if np.all(s[1:] <= CURLED):
        return True
    return False if np.any(s[1:] >= STRAIGHT) else None


JOINTS = {"three_fingers": tuple(range(9, 21)), "three_curled": tuple(range(9, 21)), "open_hand": tuple(range(5, 21)),
          "fist": tuple(range(5, 21))}
"""The joints that a gesture is told from."""

GESTURES: dict[str, Callable[[np.ndarray], "bool | None"]] = {
    "three_fingers": _three_fingers,
    "three_curled": _three_curled,
    "open_hand": _open_hand,
    "fist": _fist,
}


def shows(name: str, joints: np.ndarray) -> bool | None:
    """Whether a hand shows a gesture: True, False, or None where the fingers are between the two or unknown.

    joints: (21, 3) in any length unit. Raises ConfigError for an unknown name.
    """
    if name not in GESTURES:
        raise ConfigError(f"gesture '{name}' is unknown; choose one of: {', '.join(sorted(GESTURES))}")
    s = straightness(joints)
    return GESTURES[name](s) if np.all(np.isfinite(s)) else None
