"""How hand data sets name, order and place the 21 joints, and what separates their definitions from the labels'.

Labels here follow MANO as FreiHAND uses it: tips on the skin at the fingers' ends, the wrist at the end of the forearm,
knuckles further out than X-rays have them (bones within 2 % of the hand's length of MANO's mean hand, of the WebXR hand
4 %). Networks learn these labels; what the package publishes has knuckles and the thumb's joints where they turn, the
wrist in the capitate and tips at the ends of the bones (skeleton.joint_centres).
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hand_pose_ros.errors import ConfigError
from hand_pose_ros.skeleton import FINGERTIPS, hand_length
from hand_pose_ros.skeleton_tables import MANO_21, OPENXR_26, WEBXR_25, reorder  # noqa: F401 (also found here)


@dataclass(frozen=True)
class Definition:
    """Where a convention puts its joints, as distances from the labels (MANO / FreiHAND), in hand lengths."""

    tip_back: float                             # tips lie this far inwards of the finger's end, along the last bone
    wrist_forward: float                        # the wrist lies this far towards the middle knuckle
    knuckles_back: tuple                        # those of index..little lie this far towards the wrist
    measured: bool                              # False: from the makers' words only, which give no number
    source: str


NOWHERE = (0.0, 0.0, 0.0, 0.0)
DEFINITIONS = {
    "freihand": Definition(
        0.0, 0.0, NOWHERE, True, "Zimmermann et al., ICCV 2019, section 3: joints and tips of fitted MANO hands"),
    "mediapipe": Definition(
        0.05, 0.075, (0.011, 0.028, 0.011, 0.0), True,
        "MediaPipe 0.10.21 hand landmarker run on rendered hands with known joints: tips 3 to 7 % of the hand length "
        "inside the finger's end, wrist 14 mm of a 186 mm hand nearer to the fingers, knuckles up to 5 mm nearer to "
        "the wrist (benchmarks/mediapipe_finds.py)"),
    "rhd": Definition(
        0.0, 0.0, NOWHERE, False,
        "Zimmermann & Brox, ICCV 2017, section 4.3: joints of the rendered characters' own skeletons, finger ends too"),
    "interhand26m": Definition(
        0.0, 0.0, NOWHERE, False,
        "Moon et al., ECCV 2020, section 3: rotation centres and finger ends, labelled in many views; the makers say "
        "that fitted MANO joints differ by millimetres, in no fixed direction (InterHand2.6M issue 136)"),
    "panoptic": Definition(
        0.0, 0.0, NOWHERE, False,
        "Simon et al., CVPR 2017, section 3: detections of a network trained on clicked joints, triangulated"),
    "onehand10k": Definition(
        0.0, 0.0, NOWHERE, False,
        "Wang et al., TCSVT 2019, section III: clicked in single photographs, visible joints only"),
}
"""Systematic differences only. Where no number was ever published or measured the entry is zero and says so: a made-up
offset would be worse than none. Clicked joints scatter by several per cent of the hand's length on top."""


def convert(joints: np.ndarray, name: str) -> np.ndarray:
    """Joints as another convention would place them: tips, wrist and knuckles moved as its ``Definition`` says.

    joints: (..., 21, d) as the labels place them, any unit.

    Returns (..., 21, d). Raises ConfigError for an unknown convention.
    """
    if name not in DEFINITIONS:
        raise ConfigError(f"unknown joint convention '{name}'; choose one of: {', '.join(DEFINITIONS)}")
    definition, out = DEFINITIONS[name], np.array(joints, dtype=float)
    length = hand_length(joints)[..., None]
    tips = list(FINGERTIPS)
    last = joints[..., tips, :] - joints[..., [tip - 1 for tip in tips], :]
    last = last / np.linalg.norm(last, axis=-1, keepdims=True)
    out[..., tips, :] -= definition.tip_back * length[..., None] * last
    ahead = joints[..., 9, :] - joints[..., 0, :]
    knuckles = [5, 9, 13, 17]
    back = joints[..., :1, :] - joints[..., knuckles, :]
    back = back / np.linalg.norm(back, axis=-1, keepdims=True)
    out[..., knuckles, :] += np.array(definition.knuckles_back)[:, None] * length[..., None] * back
    out[..., 0, :] += definition.wrist_forward * length * ahead / np.linalg.norm(ahead, axis=-1, keepdims=True)
    return out
