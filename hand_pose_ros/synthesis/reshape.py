"""Changes a hand's proportions bone by bone: finger length and thickness, palm breadth and depth, forearm."""
from __future__ import annotations

import numpy as np

from hand_pose_ros.skeleton import FINGERS
from hand_pose_ros.synthesis import rig, skinning
from hand_pose_ros.synthesis.anthropometry import Person


def proportions(vertices: np.ndarray, weights: np.ndarray, skeleton: rig.Skeleton, person: Person):
    """Stretch a rest-pose hand to a person's proportions, without changing its overall scale.

    vertices: (S, 3) metres in the hand frame; weights: (S, 23). Returns (vertices, joints (21, 3)), metres.
    Each bone maps its part by a stretch along and across itself; skinning blends them, so that the skin stays smooth.
    """
    joints = skeleton.joints
    moved = joints.copy()
    maps = np.zeros((rig.NUM_BONES, 3, 4))
    palm = np.diag([person.breadth, 1.0, person.depth])
    maps[:, :, :3] = palm
    for name in ("forearm", "forearm_upper", "upper_arm"):
        along = skeleton.elbow / np.linalg.norm(skeleton.elbow)
        maps[rig.BONE[name], :, :3] = _stretch(along, 1.0, person.forearm)
    for number, finger in enumerate(FINGERS):
        first = 1 + 4 * number
        moved[first] = palm @ joints[first]
        bones = ("cmc", "mcp", "ip") if number == 0 else ("mcp", "pip", "dip")
        for step, bone in enumerate(bones):
            joint = first + step
            along = joints[joint + 1] - joints[joint]
            along = along / np.linalg.norm(along)
            thickness = person.finger_thickness[number]
            if bone == "cmc":                                # the ball of the thumb follows the palm
                thickness = (thickness + person.depth) / 2
            stretch = _stretch(along, person.finger_length[number], thickness)
            maps[rig.BONE[f"{finger}_{bone}"]] = _carry(stretch, joints[joint], moved[joint])
            moved[joint + 1] = moved[joint] + stretch @ (joints[joint + 1] - joints[joint])
    return skinning.skin(vertices, weights, maps), moved


def _stretch(along: np.ndarray, length: float, thickness: float) -> np.ndarray:
    return thickness * np.eye(3) + (length - thickness) * np.outer(along, along)


def _carry(stretch: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    return np.concatenate([stretch, (end - stretch @ start)[:, None]], axis=1)
