"""How hand data sets name, order and place the 21 joints, and what separates their definitions from this project's.

Labels here follow MANO as FreiHAND uses it: tips on the skin at the fingers' ends, the wrist in the carpus.
"""
from __future__ import annotations

import numpy as np

WEBXR_25 = (0, 1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 16, 17, 18, 19, 21, 22, 23, 24)
"""Rows of the 25 WebXR joints that are the 21: wrist; thumb metacarpal, proximal, distal, tip; then per finger
proximal, intermediate, distal, tip. The four finger metacarpals are dropped (W3C WebXR Hand Input, XRHandJoint)."""

OPENXR_26 = tuple(row + 1 for row in WEBXR_25)
"""Rows of the 26 OpenXR joints: as WebXR, with the palm first (OpenXR 1.0, XrHandJointEXT)."""

MANO_21 = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
"""Rows of MANO's 16 joints (wrist; index, middle, little, ring, thumb, each base first) followed by its five finger tips
in the order thumb, index, middle, ring, little (Romero et al., SIGGRAPH Asia 2017; FreiHAND's own reordering)."""


def reorder(joints: np.ndarray, rows: tuple[int, ...]) -> np.ndarray:
    """Joints in this project's order. joints: (..., N, d) in the other order; rows: one of the tables above."""
    return joints[..., list(rows), :]
