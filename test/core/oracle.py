"""Perfect stand-ins for the two networks, and the 3D hands they know: an oracle for tests and benchmarks only.

The hands are stick figures with plausible bone lengths and bends; images are not needed, because the oracle reads the
scene instead of the pixels. What it answers comes from camera.project and lift.label.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hand_pose_ros import camera as cameras
from hand_pose_ros import crop as crops
from hand_pose_ros.lift import label
from hand_pose_ros.skeleton import hand_length
from hand_pose_ros.types import Camera, CropPose, Detection

# wrist-relative flat right hand seen from its back, x right, y down, z away, in units of its own; fingers point up
_FINGER_BASE = np.array([[-0.22, -0.16], [-0.16, -0.50], [-0.01, -0.51], [0.12, -0.47], [0.23, -0.40]])
_BONES = np.array([[0.22, 0.17, 0.14], [0.22, 0.13, 0.12], [0.25, 0.15, 0.12], [0.23, 0.14, 0.12], [0.18, 0.10, 0.11]])
_SPREAD = np.deg2rad([-45.0, -8.0, 0.0, 8.0, 18.0])


def rotation(axis_angle) -> np.ndarray:
    """Rodrigues: (3,) radians -> (3, 3)."""
    v = np.asarray(axis_angle, np.float64)
    angle = np.linalg.norm(v)
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = v / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def hand(rng: np.random.Generator | None = None, bend: float = 0.3, length_m: float = 0.186, right: bool = True,
         at=(0.0, 0.0, 0.6), turn=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Joints (21, 3) [m] in the camera frame, the middle of the hand near ``at``; ``turn`` is an axis-angle [rad]."""
    joints = np.zeros((21, 3))
    for finger in range(5):
        p = np.array([*_FINGER_BASE[finger], 0.0])
        joints[1 + 4 * finger] = p
        pitch = 0.0
        for k, bone in enumerate(_BONES[finger]):
            pitch += bend if rng is None else bend + rng.normal(0, 0.15)
            a = _SPREAD[finger]
            p = p + bone * np.array([np.sin(a) * np.cos(pitch), -np.cos(a) * np.cos(pitch), np.sin(pitch)])
            joints[2 + 4 * finger + k] = p
    joints *= length_m / hand_length(joints)
    if not right:
        joints[:, 0] *= -1
    joints -= joints[9]
    return joints @ rotation(turn).T + at


@dataclass(eq=False)
class Oracle:
    """The networks' place in the pipeline. ``hands``: list of (joints (21, 3) m, is_right) that the scene holds now."""

    camera: Camera
    hands: list = field(default_factory=list)
    size: int = 224
    uv_sigma: float = 0.0
    xyz_sigma: float = 0.0
    seed: int = 0
    detector_calls: int = 0
    pose_calls: int = 0
    with_up: bool = True

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)

    def detect(self, image, min_score=0.5) -> list:
        """Every hand whose middle is in the image."""
        self.detector_calls += 1
        found = []
        for joints, is_right in self.hands:
            px = cameras.project(self.camera, joints)
            if not np.isfinite(px).all() or not self._inside(px[9]):
                continue
            d = crops.from_joints(px, 0.9, 0.95 if is_right else 0.05)
            found.append(d if self.with_up else Detection(d.box, d.score, np.nan, np.full(2, np.nan)))
        return found

    def estimate(self, batch) -> list:
        """The hand nearest to the middle of each crop; presence 0 if there is none."""
        self.pose_calls += 1
        return [self._pose(crop) for crop in batch]

    def _inside(self, px) -> bool:
        return bool((px >= 0).all() and (px < (self.camera.width, self.camera.height)).all())

    def _pose(self, crop) -> CropPose:
        S, best = self.size, None
        for joints, is_right in self.hands:
            uv, xyz = label(joints, crop)
            if not np.isfinite(uv).all():
                continue
            inside = ((uv >= 0) & (uv < S)).all(-1).mean()
            centre = np.linalg.norm((uv.min(0) + uv.max(0)) / 2 - S / 2) / S
            if inside > 0.6 and (best is None or centre < best[0]):
                best = (centre, uv, xyz, is_right, inside)
        if best is None or best[0] > 0.35:
            return CropPose(np.full((21, 2), S / 2.0), np.zeros((21, 3)), np.full(21, S / 4.0), np.full(21, 0.5),
                            np.zeros(21), 0.02, 0.5)
        _, uv, xyz, is_right, _ = best
        upright = uv[0, 1] - uv[9, 1] > 0.7 * np.linalg.norm(uv[0] - uv[9])
        blur = 1.0 if upright else 4.0                  # a network is less sure of a hand that does not point up
        uv = uv + self.rng.normal(0, 1, uv.shape) * self.uv_sigma
        xyz = xyz + self.rng.normal(0, 1, xyz.shape) * self.xyz_sigma
        return CropPose(uv, xyz - xyz[0], np.full(21, blur * max(self.uv_sigma, 0.5)),
                        np.full(21, max(self.xyz_sigma, 0.01)), np.full(21, 0.9), 0.99 if upright else 0.8,
                        0.97 if is_right != crop.mirrored else 0.03)
