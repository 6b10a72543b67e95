"""Index tables between the 21 joints and the orders of OpenXR, WebXR and MANO, both ways."""
from __future__ import annotations

import numpy as np

WEBXR_25 = (0, 1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 16, 17, 18, 19, 21, 22, 23, 24)
"""Rows of the 25 WebXR joints that are the 21: wrist; thumb metacarpal, proximal, distal, tip; then per finger
proximal, intermediate, distal, tip. The four finger metacarpals are dropped (W3C WebXR Hand Input, XRHandJoint)."""

OPENXR_26 = tuple(row + 1 for row in WEBXR_25)
"""Rows of the 26 OpenXR joints: as WebXR, with the palm first (OpenXR 1.0, XrHandJointEXT)."""

MANO_21 = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
"""Rows of MANO's 16 joints (wrist; index, middle, little, ring, thumb, each base first) followed by its five finger
tips in the order thumb, index, middle, ring, little (Romero et al., SIGGRAPH Asia 2017; FreiHAND's reordering)."""

TABLES = {"webxr_25": (WEBXR_25, 25), "openxr_26": (OPENXR_26, 26), "mano_21": (MANO_21, 21)}
"""name: (rows, number of joints there)"""


def reorder(joints: np.ndarray, rows: tuple[int, ...]) -> np.ndarray:
    """Joints in this project's order. joints: (..., N, d) in the other order; rows: one of the tables above."""
    return joints[..., list(rows), :]


def expand(joints: np.ndarray, name: str) -> np.ndarray:
    """Joints in another order, the inverse of ``reorder``. joints: (..., 21, d). Returns (..., N, d).

    Joints that the 21 do not have (the metacarpals and the palm of WebXR and OpenXR) are NaN.
    """
    rows, count = TABLES[name]
    out = np.full((*joints.shape[:-2], count, joints.shape[-1]), np.nan)
    out[..., list(rows), :] = joints
    return out
