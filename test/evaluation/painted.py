"""Pipelines that know the truth, for tests: the real pipeline.py, crops, lift and tracker with invented networks.

The picture itself tells the oracle the answer: ``paint`` writes the hands' joints as numbers into its first rows. The
networks' part is played by functions that read those numbers, so everything round them is the robot's own code.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import samples

from hand_pose_ros import crop as crops
from hand_pose_ros import pipeline
from hand_pose_ros.skeleton import joint_centres
from hand_pose_ros.types import Camera, Crop, CropPose, Detection, Frame, Hand, JointState, ScaleSource

K = np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]])
CAMERA = Camera(320, 240, K)


def hand(shift: tuple[float, float, float] = (0.0, 0.0, 0.5), seed: int = 0) -> np.ndarray:
    """A plausible right hand seen from its back, (21, 3) metres in the camera's frame."""
    rng = np.random.default_rng(seed)
    joints = [np.zeros(3)]
    for finger, angle in enumerate(np.deg2rad([-50, -18, 0, 15, 30])):
        base = np.array([np.sin(angle), -np.cos(angle), 0.0]) * (0.045 if finger == 0 else 0.09)
        direction = base / np.linalg.norm(base)
        point = base.copy()
        joints.append(point)
        for length in (0.03, 0.024, 0.02) if finger == 0 else (0.042, 0.026, 0.02):
            direction = direction + (0, 0, -0.25)
            point = point + direction / np.linalg.norm(direction) * length
            joints.append(point)
    return np.array(joints) + shift + rng.normal(0, 0.0005, (21, 3))


class Oracle(pipeline.Pipeline):
    """pipeline.Pipeline whose networks read the true joints from ``truth(frame)``."""

    def step(self, state, frame: Frame, config):
        _SEEN["frame"] = frame
        return super().step(state, frame, config)

    def estimate_in_box(self, frame: Frame, box, config):
        _SEEN["frame"] = frame
        return super().estimate_in_box(frame, box, config)


_SEEN: dict = {}
MARK = (11, 97, 203)


def paint(image: np.ndarray, hands: list[tuple[np.ndarray, bool]]) -> np.ndarray:
    """The image with (joints_m (21, 3), is_right) of its hands written into its first rows as bytes."""
    out = image.copy()
    data = np.concatenate([np.array([len(hands)], np.float32), *[
        np.concatenate([[float(right)], joints.ravel()]).astype(np.float32) for joints, right in hands]])
    raw = np.frombuffer(data.astype("<f4").tobytes(), np.uint8)
    flat = out.reshape(-1)
    flat[:3] = MARK
    flat[3:3 + raw.size] = raw
    return out


def painted(image: np.ndarray) -> list[tuple[np.ndarray, bool]]:
    flat = np.ascontiguousarray(image).reshape(-1)
    if tuple(flat[:3]) != MARK:
        return []
    count = int(np.frombuffer(flat[3:7].tobytes(), "<f4")[0])
    values = np.frombuffer(flat[7:7 + count * 64 * 4].tobytes(), "<f4").reshape(count, 64).astype(float)
    return [(row[1:].reshape(21, 3), bool(row[0])) for row in values]


def make(noise_px: float, noise_m: float):
    """A factory of pipelines with that much noise on the networks' answers."""
    def detect(image: np.ndarray, threshold: float) -> list[Detection]:
        found = []
        for joints, right in painted(image):
            px = project(joints)
            found.append(Detection(np.concatenate([px.min(0), px.max(0)]), 0.9, float(right), up(px)))
        return found

    def estimate(taken: list[Crop]) -> list[CropPose]:
        frame = _SEEN["frame"]
        return [_pose(crop, frame, noise_px, noise_m) for crop in taken]

    return Oracle(detect, estimate, 128)


def _pose(crop: Crop, frame: Frame, noise_px: float, noise_m: float) -> CropPose:
    hands = painted(frame.image)
    middle = crops.crop_to_image(crop, frame.camera, np.full((1, 2), 63.5))[0]
    if not hands:
        return CropPose(np.full((21, 2), 64.0), np.zeros((21, 3)), np.ones(21), np.ones(21), np.ones(21), 0.0, 0.5)
    joints, right = min(hands, key=lambda h: np.linalg.norm(project(h[0]).mean(0) - middle))
    rng = np.random.default_rng(int(abs(joints[0, 0]) * 1e6) + frame.stamp_ns % 1_000_003)
    uv, xyz = lift_label(joints, crop)
    return CropPose(uv + rng.normal(0, noise_px, (21, 2)), xyz + rng.normal(0, noise_m, (21, 3)), np.full(21, 1.0),
                    np.full(21, 0.03), np.ones(21), 0.99, float(right != crop.mirrored))


def lift_label(joints: np.ndarray, crop: Crop):
    from hand_pose_ros.lift import label

    return label(joints, crop)


def project(joints: np.ndarray) -> np.ndarray:
    uvw = joints @ K.T
    return uvw[:, :2] / uvw[:, 2:]


def up(px: np.ndarray) -> np.ndarray:
    direction = px[9] - px[0]
    return direction / max(np.linalg.norm(direction), 1e-9)


def exact(config):
    return make(0.0, 0.0)


def noisy(config):
    return make(1.5, 0.02)


def blind(config):
    return pipeline.Pipeline(lambda image, threshold: [], lambda taken: [], 128)


class Published(pipeline.Pipeline):
    """Answers every box with the hand of ``samples.py``, its knuckles where the package publishes them."""

    def estimate_in_box(self, frame: Frame, box, config) -> Hand:
        true = samples.hand_m()
        px = true @ frame.camera.K.T
        joints, px = joint_centres(true), joint_centres(px[:, :2] / px[:, 2:])
        return Hand(1.0, 1.0, np.asarray(box), px, joints, joints - joints[0], np.ones(21),
                    np.full(21, JointState.VISIBLE, np.uint8), np.ones(21), np.ones(21), 0.186, ScaleSource.ASSUMED, 1)


class Astray(Published):
    """The same hand, but 400 pixels beside its box."""

    def estimate_in_box(self, frame: Frame, box, config) -> Hand:
        answer = super().estimate_in_box(frame, box, config)
        return replace(answer, joints_px=answer.joints_px + (400, 0), box=answer.box + (400, 0, 400, 0))


def astray(config):
    return Astray(lambda image, threshold: [], lambda taken: [], 128)


def published(config):
    return Published(lambda image, threshold: [], lambda taken: [], 128)
