"""Whole image -> hands: letterbox, one call of a detector network, peaks of its dense map, overlapping ones merged."""
from __future__ import annotations

from typing import Callable

import cv2
import numpy as np

from hand_pose_ros.errors import FrameError
from hand_pose_ros.types import Detection

STRIDE = 8
MIN_SCORE = 0.3
SAME_HAND_IOU = 0.45
"""Of two boxes that overlap more than this the one with the lower score is dropped."""
MAX_HANDS = 16


class Detector:
    """A detector network (``runtimes.load("detector", ...)``) with the steps before and after it.

    network: (1, H, W, 3) uint8 -> (dense (1, 8, H/8, W/8),), see ``networks.DETECTOR_CHANNELS``; size: its (H, W).
    look: letterbox and network in one step where the network runs, (H, W, 3) uint8 -> dense (8, H/8, W/8); None: the
    picture is made here and goes through ``network``.
    """

    def __init__(self, network: Callable[[np.ndarray], tuple], size: tuple[int, int],
                 look: Callable[[np.ndarray], np.ndarray] | None = None):
        self.network, self.size, self.look = network, tuple(size), look

    def __call__(self, image: np.ndarray, min_score: float = MIN_SCORE) -> list[Detection]:
        """Hands in (H, W, 3) uint8 RGB, best first, boxes in its pixels and not cut at its border.

        Raises FrameError if the image is not such an array.
        """
        if self.look is None:
            picture, scale, offset = letterbox(image, self.size)
            dense = self.network(picture[None])[0][0]
        else:
            check_image(image)
            *_, scale, offset = fitted(image.shape[:2], self.size)
            dense = self.look(image)
        found = decode(dense, min_score)
        return [Detection((d.box - np.tile(offset, 2)) / scale, d.score, d.right_probability, d.up) for d in found]


def letterbox(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float, np.ndarray]:
    """The image scaled to fit ``size`` (height, width) in the middle of black: (picture, scale, offset (2,)).

    A pixel (u, v) of the image lies at scale * (u, v) + offset in the picture. Raises FrameError for anything but an
    (H, W, 3) uint8 array with pixels.
    """
    check_image(image)
    (h, w), (top, left), scale, offset = fitted(image.shape[:2], size)
    blocks = whole_blocks(image.shape[:2], scale)
    if blocks > 1:
        image = cv2.resize(image, (image.shape[1] // blocks, image.shape[0] // blocks), interpolation=cv2.INTER_AREA)
    resized = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA if blocks == 1 and scale < 1 else cv2.INTER_LINEAR)
    picture = np.zeros((*size, 3), np.uint8)
    picture[top:top + h, left:left + w] = resized
    return picture, scale, offset


def fitted(shape: tuple[int, int], size: tuple[int, int]
           ) -> tuple[tuple[int, int], tuple[int, int], float, np.ndarray]:
    """How ``letterbox`` places an image of ``shape`` (height, width) in ``size``: what it is scaled to (height, width),
    where that begins (row, column), scale and offset."""
    height, width = shape
    H, W = size
    scale = min(H / height, W / width)
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (H - h) // 2, (W - w) // 2
    return (h, w), (top, left), scale, np.array([left, top], np.float64) + 0.5 * (scale - 1)


def whole_blocks(shape: tuple[int, int], scale: float) -> int:
    """Side of the pixel blocks that are averaged before an image of ``shape`` (height, width) is scaled by ``scale``
    linearly; 1: it is averaged in one step, over parts of pixels. Whole blocks take a fifth of the time (640 x 480 to
    256 x 192) and are taken where they fit into the image and leave little for the second step."""
    sides = range(int(1 / scale + 1e-9), 1, -1)
    return next((side for side in sides if not shape[0] % side and not shape[1] % side and 1 / scale <= 1.5 * side), 1)


def check_image(image: np.ndarray) -> None:
    """Raises FrameError for anything but an (H, W, 3) uint8 array with pixels."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise FrameError(f"the detector needs an (H, W, 3) uint8 image, not {image.shape} {image.dtype}")


def decode(dense: np.ndarray, min_score: float = MIN_SCORE) -> list[Detection]:
    """Peaks of one dense map (8, h, w) -> detections in pixels of the network's input, best first."""
    score = np.ascontiguousarray(dense[0], np.float32)
    peak = score >= cv2.dilate(score, np.ones((3, 3), np.uint8))
    rows, columns = np.nonzero(peak & (score >= min_score))
    if not len(rows):
        return []
    order = np.argsort(-score[rows, columns], kind="stable")[:4 * MAX_HANDS]
    rows, columns = rows[order], columns[order]
    value = dense[:, rows, columns].astype(np.float64).T                        # (n, 8)
    u, v = (columns + 0.5) * STRIDE - 0.5, (rows + 0.5) * STRIDE - 0.5
    boxes = np.stack([u - value[:, 1], v - value[:, 2], u + value[:, 3], v + value[:, 4]], -1)
    kept = []
    for k, box in enumerate(boxes):
        if all(iou(box, boxes[j]) <= SAME_HAND_IOU for j in kept):
            kept.append(k)
        if len(kept) == MAX_HANDS:
            break
    length = np.linalg.norm(value[:, 6:8], axis=-1, keepdims=True)
    up = np.where(length > 0.1, value[:, 6:8] / np.maximum(length, 1e-9), np.nan)
    return [Detection(boxes[k], float(value[k, 0]), float(value[k, 5]), up[k]) for k in kept]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (4,)."""
    side = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if (side <= 0).any():
        return 0.0
    common = float(side.prod())
    return common / float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common)
