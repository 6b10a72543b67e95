"""Does a runtime say the same as torch eager? Asked in pixels and millimetres, after lifting, before it may serve."""
from __future__ import annotations

from typing import Callable, Mapping

import cv2
import numpy as np

from ..errors import ModelError
from ..lift import lift
from ..skeleton import BONES, PARENTS
from ..types import Camera, Crop, CropPose, Hand
from .base import Disagreement, Runtime

LIMIT_PX = 0.5
LIMIT_MM = 0.5
LIMIT_PROBABILITY = 0.02
LIMIT_CAMERA_MM = 2.0
"""Of joints in the camera's frame: distance follows from the size in the picture, so an error of the scale shows
there and nowhere else."""
LIMIT_LOG_SIGMA = 0.05
"""Of the natural logarithm of the stated uncertainties."""
LIMIT_UP_DEG = 1.0
"""Of the direction that the detector gives a hand, by which its first crop is turned."""
CROPS = 8
CELLS = 4
TINY = 1e-9

_FINGER_DIRECTIONS_DEG = (-50.0, -18.0, -3.0, 11.0, 26.0)
_BONE_LENGTHS = ((0.22, 0.22, 0.17, 0.14), (0.48, 0.22, 0.13, 0.11), (0.47, 0.25, 0.15, 0.13),
                 (0.45, 0.23, 0.14, 0.12), (0.43, 0.17, 0.10, 0.10))
"""Of a drawn hand: finger directions from straight up, and bones from the wrist outwards in hand lengths."""


def drawn_hands(height: int, width: int, count: int = CROPS, seed: int = 7) -> np.ndarray:
    """Pictures of simple hands: shaded capsules along the 21 joints, before a soft background, different in each.

    They are made, not stored, so every installation compares on the same ones. Returns (count, height, width, 3) uint8.
    """
    random = np.random.default_rng(seed)
    pictures = np.empty((count, height, width, 3), np.uint8)
    size = min(height, width)
    for picture in pictures:
        coarse = random.integers(20, 235, (5, 5, 3)).astype(np.uint8)
        canvas = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        skin = np.array([224.0, 172.0, 140.0]) * random.uniform(0.25, 1.1)
        turn, length = random.uniform(-0.5, 0.5), size * random.uniform(0.45, 0.65)
        joints = np.empty((21, 2))
        joints[0] = np.array([width, height]) / 2 + length * 0.45 * np.array([-np.sin(turn), np.cos(turn)])
        bend = random.uniform(0.0, 0.5, 5)
        for finger in range(5):
            direction = turn + np.deg2rad(_FINGER_DIRECTIONS_DEG[finger])
            for bone in range(4):
                joint = 1 + 4 * finger + bone
                shortened = _BONE_LENGTHS[finger][bone] * (1.0 if bone == 0 else 1.0 - bend[finger])
                joints[joint] = joints[PARENTS[joint]] + length * shortened * np.array(
                    [np.sin(direction), -np.cos(direction)])
        for depth, (parent, child) in enumerate(BONES):
            wide = 0.11 if PARENTS[parent] < 0 else 0.075
            cv2.line(canvas, _pixel(joints[parent]), _pixel(joints[child]),
                     tuple(np.clip(skin * (0.8 + 0.01 * depth), 0, 255)), max(2, int(wide * length)), cv2.LINE_AA)
        picture[...] = cv2.GaussianBlur(canvas, (3, 3), 0)
    return pictures


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return int(round(point[0])), int(round(point[1]))


def pose_difference(outputs: tuple[np.ndarray, ...], reference: tuple[np.ndarray, ...],
                    input_shape: tuple[int, int, int]) -> dict[str, float]:
    """Differences of two pose outputs after ``lift``: joints in pixels of a 640 x 480 image, joints relative to the
    wrist and in the camera's frame in millimetres, logarithms of the uncertainties, probabilities. Means and largest
    values over all joints of all crops."""
    px, mm, camera_mm = [], [], []
    for hand, expected in zip(_lifted(outputs, input_shape), _lifted(reference, input_shape)):
        known = np.isfinite(expected.joints_m).all(-1)  # none where the fit has no answer: there is nothing to agree on
        px.append(np.linalg.norm(hand.joints_px - expected.joints_px, axis=-1))
        mm.append(np.linalg.norm(hand.joints_rel_m - expected.joints_rel_m, axis=-1) * 1e3)
        camera_mm.extend(np.linalg.norm(hand.joints_m - expected.joints_m, axis=-1)[known] * 1e3)
    sigma = np.abs(np.log(np.maximum(outputs[2:4], TINY)) - np.log(np.maximum(reference[2:4], TINY)))
    probability = np.concatenate([np.abs(a - b).ravel() for a, b in zip(outputs[4:], reference[4:])])
    return {"mean_px": float(np.mean(px)), "max_px": float(np.max(px)), "mean_mm": float(np.mean(mm)),
            "max_mm": float(np.max(mm)), "mean_camera_mm": float(np.mean(camera_mm)) if camera_mm else 0.0,
            "mean_log_sigma": float(sigma.mean()), "mean_probability": float(probability.mean())}


def _lifted(outputs: tuple[np.ndarray, ...], input_shape: tuple[int, int, int]) -> list[Hand]:
    """Each crop's pose lifted as on the robot: a crop of 23 degrees in the middle of a 640 x 480 image."""
    size = input_shape[0]
    focal = size / (2 * np.tan(np.deg2rad(11.5)))
    centre = (size - 1) / 2
    crop = Crop(np.zeros((size, size, 3), np.uint8), np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1.0]]),
                np.eye(3), mirrored=False)
    camera = Camera(640, 480, np.array([[554.0, 0, 319.5], [0, 554.0, 239.5], [0, 0, 1.0]]))
    return [lift(crop, CropPose(*values), camera) for values in zip(*outputs)]


def detector_difference(outputs: tuple[np.ndarray, ...], reference: tuple[np.ndarray, ...],
                        input_shape: tuple[int, int, int]) -> dict[str, float]:
    """Differences of two dense detector outputs at the ``CELLS`` best cells of each image by the reference's score,
    whether or not they pass for hands: sides of the box in pixels, direction in degrees, score and side as
    probabilities."""
    best = np.argsort(-reference[0][:, 0].reshape(len(reference[0]), -1), axis=1)[:, None, :CELLS]
    given, wanted = (np.take_along_axis(dense.reshape(*dense.shape[:2], -1), best, 2)    # (N, 8, CELLS)
                     for dense in (outputs[0], reference[0]))
    difference = np.abs(given - wanted)
    turn = np.degrees([np.arctan2(values[:, 7], values[:, 6]) for values in (given, wanted)])
    turned = np.abs((turn[0] - turn[1] + 180) % 360 - 180)
    return {"mean_px": float(difference[:, 1:5].mean()), "max_px": float(difference[:, 1:5].max()),
            "mean_up_deg": float(turned.mean()), "mean_probability": float(difference[:, [0, 5]].mean())}


DIFFERENCES: dict[str, Callable] = {"pose": pose_difference, "detector": detector_difference}
LIMITS = {"mean_px": LIMIT_PX, "mean_mm": LIMIT_MM, "mean_probability": LIMIT_PROBABILITY,
          "mean_camera_mm": LIMIT_CAMERA_MM, "mean_log_sigma": LIMIT_LOG_SIGMA, "mean_up_deg": LIMIT_UP_DEG}


def refuse_disagreement(runtime: Runtime, eager: Runtime, limits: Mapping[str, float] = LIMITS,
                        pictures: np.ndarray | None = None) -> dict[str, float]:
    """Compares a runtime with eager on ``pictures`` (N, H, W, 3) uint8, or on drawn hands, in every batch size that it
    may be asked for.

    Returns the differences. Raises Disagreement, naming each limit that is passed, if the runtime must not serve.
    """
    if runtime.max_batch < 1:
        raise ModelError(f"runtime {runtime.name} for max_batch {runtime.max_batch}: it must be 1 or more")
    if pictures is None:
        pictures = drawn_hands(*runtime.source.input_shape[:2])
    reference = eager(pictures)
    worst: dict[str, float] = {}
    for size in range(1, min(runtime.max_batch, len(pictures)) + 1):
        outputs = _in_batches(runtime, pictures, size)
        if len(outputs) != len(reference) or any(a.shape != b.shape for a, b in zip(outputs, reference)):
            raise ModelError(f"runtime {runtime.name} gives outputs {[o.shape for o in outputs]} for "
                             f"{runtime.source.model}, eager {[o.shape for o in reference]}: choose another runtime")
        if not all(np.isfinite(output).all() for output in outputs):
            raise Disagreement(f"runtime {runtime.name} gives values that are not finite for {runtime.source.model}: "
                               f"choose another runtime")
        for name, value in DIFFERENCES[runtime.source.kind](outputs, reference, runtime.source.input_shape).items():
            worst[name] = max(worst.get(name, 0.0), np.inf if np.isnan(value) else value)
    passed = [f"{name} {value:.3f} > {limits[name]}" for name, value in worst.items()
              if name in limits and not value <= limits[name]]
    if passed:
        raise Disagreement(f"runtime {runtime.name} does not agree with eager on {runtime.source.model}: "
                           f"{', '.join(passed)}; choose another runtime")
    return {name: round(value, 6) for name, value in worst.items()}


def _in_batches(runtime: Runtime, pictures: np.ndarray, size: int) -> tuple[np.ndarray, ...]:
    parts = [runtime(pictures[start:start + size]) for start in range(0, len(pictures), size)]
    return tuple(np.concatenate(columns) for columns in zip(*parts))
