"""Stick hands in the shard format: quick stand-ins, so that training can be tested without a renderer."""
from __future__ import annotations

import io
import json
import tarfile

import cv2
import numpy as np

from hand_pose_ros import skeleton

_KNUCKLES = {1: (-0.030, 0.030), 5: (-0.024, 0.090), 9: (-0.002, 0.094), 13: (0.018, 0.088), 17: (0.036, 0.078)}
_LENGTHS = {1: (0.040, 0.032, 0.027), 5: (0.042, 0.026, 0.022), 9: (0.046, 0.030, 0.023), 13: (0.042, 0.028, 0.023),
            17: (0.034, 0.021, 0.020)}


def joints(rng: np.random.Generator) -> np.ndarray:
    """(21, 3) metres of a right hand with random bends: palm in the plane y = 0, fingers along -z, thumb at -x."""
    out = np.zeros((21, 3))
    for base, (x, up) in _KNUCKLES.items():
        out[base] = (x, 0.0, -up)
        spread = -0.9 if base == 1 else x * 4 + rng.normal(0, 0.06)
        bend = 0.0
        for k, length in enumerate(_LENGTHS[base]):
            bend += rng.uniform(0.0, 1.3) * (0.5 if base == 1 else 1.0)
            direction = np.array([np.sin(spread) * np.cos(bend), np.sin(bend), -np.cos(spread) * np.cos(bend)])
            out[base + k + 1] = out[base + k] + length * direction
    return out


def record(rng: np.random.Generator, width: int, height: int, hands: int, span: float | None) -> tuple:
    """(image, json dict): ``hands`` hands; the box of each is about ``span`` of the shorter side, random if None."""
    small = rng.integers(0, 256, (int(rng.integers(3, 24)), int(rng.integers(3, 24)), 3), np.uint8)
    image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    focal = 1.1 * width
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    labels = []
    for _ in range(hands):
        shape = joints(rng)
        right = bool(rng.random() < 0.5)
        shape = shape * (1 if right else -1, 1, 1)
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        turn *= np.sign(np.linalg.det(turn))
        shape = (shape - shape.mean(0)) @ turn.T
        part = span or float(np.exp(rng.uniform(np.log(0.12), np.log(0.6))))
        extent = np.ptp(shape[:, :2], axis=0).max()
        distance = max(focal * extent / (part * min(width, height)), 0.25)
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        if span is None:
            middle = rng.uniform((0.2 * width, 0.2 * height), (0.8 * width, 0.8 * height))
        centre = distance * np.array([(middle[0] - K[0, 2]) / focal, (middle[1] - K[1, 2]) / focal, 1.0])
        points = shape + centre
        px = points[:, :2] / points[:, 2:] * focal + K[:2, 2]
        _draw(image, points, px, focal, rng)
        inside = ((px > -0.5) & (px < (width - 0.5, height - 0.5))).all(-1)
        labels.append({"joints_m": points.tolist(), "joints_px": px.tolist(), "is_right": right,
                       "state": np.where(inside, 1, 4).tolist(), "box": [*px.min(0), *px.max(0)],
                       "hand_length_m": float(skeleton.hand_length(points))})
    return image, {"K": K.tolist(), "distortion_model": "plumb_bob", "D": [0.0] * 5, "width": width, "height": height,
                   "hands": labels}


def write(path, count: int, seed: int = 0, kind: str = "crops") -> str:
    """A shard of ``count`` stand-in pictures at ``path``; returns it as text."""
    rng = np.random.default_rng(seed)
    with tarfile.open(path, "w") as tar:
        for k in range(count):
            if kind == "crops":
                image, label = record(rng, 192, 192, 1, 0.5)
            else:
                image, label = record(rng, 320, 240, int(rng.integers(0, 3)), None)
            jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
            for name, data in ((f"{k:06d}.jpg", jpeg), (f"{k:06d}.json", json.dumps(label).encode())):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return str(path)


def _draw(image, points, px, focal, rng) -> None:
    skin = rng.uniform(60, 240) * np.array([1.0, rng.uniform(0.65, 0.9), rng.uniform(0.45, 0.8)])
    palm = [(0, 1), (1, 5), (5, 9), (9, 13), (13, 17), (17, 0), (0, 9), (0, 13), (0, 5)]
    bones = [(a, b, 0.011) for a, b in palm] + [(a, b, 0.0075) for a, b in skeleton.BONES if a != 0]
    for a, b, radius in sorted(bones, key=lambda bone: -points[[bone[0], bone[1]], 2].mean()):
        depth = points[[a, b], 2].mean()
        shade = np.clip(1.0 + 6.0 * (points[:, 2].mean() - depth), 0.5, 1.3) * (0.9 if radius < 0.01 else 1.0)
        width = max(1, round(2 * radius * focal / depth))
        ends = [tuple(np.round(px[j]).astype(int).tolist()) for j in (a, b)]
        cv2.line(image, ends[0], ends[1], np.clip(skin * shade * 0.8, 0, 255).tolist(), width + 2, cv2.LINE_AA)
        cv2.line(image, ends[0], ends[1], np.clip(skin * shade, 0, 255).tolist(), width, cv2.LINE_AA)
