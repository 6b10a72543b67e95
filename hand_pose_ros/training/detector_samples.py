"""One training sample of a detector: virtual frames and crops at any zoom, turned, mirrored and put side by side."""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hand_pose_ros.skeleton import BONES
from hand_pose_ros.training import photometric, shards

STRIDE = 8
MIN_HAND_PX = 10.0
"""Hands with a smaller box (longer side, pixels of the input) are neither taught nor forbidden."""
PLATEAU = 0.6
"""Of the Gaussian; above it a cell may claim the hand with full score."""


@dataclass(frozen=True)
class DetectorAugmentation:
    """What the detector must live with; shares of samples unless a unit is said."""

    close_ups: float = 0.35             # made from crop shards, where one hand fills much of the picture
    mosaic: float = 0.15                # four pictures in one
    zoom: tuple = (0.7, 2.5)            # of frames, log-uniform
    close_up_zoom: tuple = (0.4, 1.9)   # of crops; 1: the crop fills the input
    surroundings: float = 0.8           # share whose rest is filled by a picture without hands, else by one colour
    at_hand: float = 0.5                # share of frames moved so that a hand is in view
    turn_deg: float = 12.0              # standard deviation of the turn
    any_turn: float = 0.12              # share turned by any angle
    flip: float = 0.5
    strength: float = 1.0               # of the photometric distortion


EXACT = DetectorAugmentation(close_ups=0.0, mosaic=0.0, zoom=(1.0, 1.0), at_hand=0.0, turn_deg=0.0, any_turn=0.0,
                             flip=0.0, surroundings=0.0, strength=0.0)
"""No augmentation: whole frames, letterboxed in black or one colour."""


def detector_sample(pool, frames, crops, size: tuple[int, int], rng: np.random.Generator,
                    augmentation: DetectorAugmentation) -> dict:
    """A random sample of ``size`` (height, width): see ``labels`` for its fields beside "image" (H, W, 3) uint8."""
    h, w = size
    if rng.random() < augmentation.mosaic:
        image, hands, unseen = np.zeros((h, w, 3), np.uint8), [], []
        y, x = int(rng.uniform(0.3, 0.7) * h), int(rng.uniform(0.3, 0.7) * w)
        for rows, columns in ((slice(0, y), slice(0, x)), (slice(0, y), slice(x, w)),
                              (slice(y, h), slice(0, x)), (slice(y, h), slice(x, w))):
            part, found, hidden, window = _view(pool, frames, crops, (rows.stop - rows.start,
                                                                      columns.stop - columns.start), rng, augmentation)
            image[rows, columns] = part
            corner = np.array([columns.start, rows.start])
            window[:, 2] -= window[:, :2] @ corner
            hands += [(joints + corner, right, window) for joints, right in found]
            unseen += [box + np.tile(corner, 2) for box in hidden]
    else:
        image, found, unseen, window = _view(pool, frames, crops, size, rng, augmentation)
        hands = [(joints, right, window) for joints, right in found]
    if augmentation.strength:
        image = photometric.distort(image, rng, augmentation.strength)
    return {"image": np.ascontiguousarray(image), **labels(hands, size, unseen)}


def rectangle(low, high) -> np.ndarray:
    """The half-planes (4, 3) whose common part lies between two corners: (a, b, c) where a u + b v + c > 0."""
    return np.array([[1.0, 0, -low[0]], [0, 1, -low[1]], [-1, 0, high[0]], [0, -1, high[1]]])


def _clipped(segments: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """The parts of segments (n, 2, 2) that lie in all half-planes, (m, 2, 2) (Cyrus & Beck, Computers & Graphics
    1978)."""
    at = segments @ planes[:, :2].T + planes[:, 2]                                      # (n, 2, planes)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = at[:, 0] / (at[:, 0] - at[:, 1])
    first = np.where(at[:, 0] < 0, crossing, 0.0).max(1)
    last = np.where(at[:, 1] < 0, crossing, 1.0).min(1)
    kept = (at.max(1) >= 0).all(1) & (first <= last)
    start, way = segments[kept, :1], segments[kept, 1:] - segments[kept, :1]
    return start + way * np.stack([first[kept], last[kept]], 1)[..., None]


def labels(hands, size: tuple[int, int], unseen=()) -> dict:
    """Dense labels for hands [(joints_px (21, 2), is_right, window: half-planes (n, 3) in which it can be seen)] in an
    input of ``size``; unseen: boxes (4,) px of hands that are too hidden to be labelled. A box is tight round what of
    the bones can be seen.

    heat (h, w): 1 around a hand's middle, falling off as a Gaussian with the size of the box (Zhou et al. 2019,
    section 3, with a plateau: nobody can tell the middle of a large hand to a cell, and its score should not suffer);
    positive (h, w): weight of the plateau's cells, so that hands of n cells count as sqrt(n); middle (h, w): 1 at the
    one cell of the middle; care (h, w): 0 where a hand is too small or too far out of view to be demanded or forbidden;
    box (4, h, w): log distances to the sides in strides; side (h, w) 0 or 1; up (2, h, w) unit direction; weight
    (h, w): 1 at middles, less around them, where box, side and up are taught. All float32.
    """
    h, w = size[0] // STRIDE, size[1] // STRIDE
    f = np.float32
    heat, care, weight = np.zeros((h, w), f), np.ones((h, w), f), np.zeros((h, w), f)
    positive, peak = np.zeros((h, w), f), np.zeros((h, w), f)
    box, side, up = np.zeros((4, h, w), f), np.zeros((h, w), f), np.zeros((2, h, w), f)
    cell_v, cell_u = np.mgrid[:h, :w]
    u, v = (cell_u + 0.5) * STRIDE - 0.5, (cell_v + 0.5) * STRIDE - 0.5
    for x0, y0, x1, y1 in unseen:
        care[(u > x0 - STRIDE) & (u < x1 + STRIDE) & (v > y0 - STRIDE) & (v < y1 + STRIDE)] = 0
    for joints, right, window in sorted(hands, key=lambda hand: -np.ptp(hand[0], axis=0).max()):
        seen = _clipped(joints[np.array(BONES)], window).reshape(-1, 2)
        if not len(seen) or (np.ptp(seen, axis=0) <= 1).any():
            continue
        low, high = seen.min(0), seen.max(0)
        share = (joints @ window[:, :2].T + window[:, 2] > 0).all(-1).mean()
        span = high - low
        middle = 0.5 * (low + high)
        at = np.clip(np.round((middle + 0.5) / STRIDE - 0.5).astype(int), 0, (w - 1, h - 1))
        if share < 0.5 or span.max() < MIN_HAND_PX:
            near = (np.abs(u - middle[0]) < 0.5 * span[0] + STRIDE) & (np.abs(v - middle[1]) < 0.5 * span[1] + STRIDE)
            care[near & (heat < 1)] = 0
            continue
        sigma = np.maximum(0.09 * span / STRIDE, 0.5)
        bump = np.exp(-0.5 * (((cell_u - at[0]) / sigma[0])**2 + ((cell_v - at[1]) / sigma[1])**2)).astype(f)
        plateau = bump > PLATEAU
        heat = np.maximum(heat, np.where(plateau, 1, bump))
        positive[plateau], peak[at[1], at[0]] = plateau.sum()**-0.5, 1
        distances = np.stack([u - low[0], v - low[1], high[0] - u, high[1] - v])
        taught = (bump > 0.4) & (distances > 1).all(0)
        direction = joints[9] - joints[0]
        direction = direction / max(np.linalg.norm(direction), 1e-6)
        box[:, taught] = np.log(distances[:, taught] / STRIDE)
        side[taught], weight[taught] = right, bump[taught]
        up[:, taught] = direction[:, None]
        care[taught] = 1
    return {"heat": heat, "positive": positive, "middle": peak, "care": care, "weight": weight, "box": box,
            "side": side, "up": up}


def _surroundings(pool, frames, size, rng, augmentation) -> np.ndarray:
    """What a zoomed-out picture is put on, (H, W, 3) uint8: part of a frame that shows no hand, or one colour."""
    h, w = size
    wanted = len(frames) and rng.random() < augmentation.surroundings
    image = shards.empty_picture(pool, frames, rng) if wanted else None
    if image is not None:
        high, wide = (int(n * rng.uniform(0.5, 1.0)) for n in image.shape[:2])
        y, x = int(rng.integers(image.shape[0] - high + 1)), int(rng.integers(image.shape[1] - wide + 1))
        return cv2.resize(image[y:y + high, x:x + wide], (w, h), interpolation=cv2.INTER_LINEAR)
    colour = (0, 0, 0) if rng.random() < 0.5 else rng.integers(0, 256, 3)
    return np.full((h, w, 3), colour, np.uint8)


def _view(pool, frames, crops, size, rng, augmentation):
    """A random picture, zoomed, moved, turned, perhaps mirrored: (picture of ``size``, [(joints_px, is_right)], [boxes
    of hands too hidden to be labelled], half-planes (8, 3) in which the picture lies: beyond it is another one)."""
    h, w = size
    close_up = len(crops) and (not len(frames) or rng.random() < augmentation.close_ups)
    for _ in range(shards.MAX_TRIES):
        shard, k = pool.draw(crops if close_up else frames, rng)
        label = shard.label(k)
        if label["complete"]:
            break
    image = shard.image(k)
    height, width = image.shape[:2]
    hands = label["hands"]
    zoom = float(np.exp(rng.uniform(*np.log(augmentation.close_up_zoom if close_up else augmentation.zoom))))
    scale = zoom * min(w / width, h / height)
    centre = np.array([width - 1, height - 1]) / 2
    if hands and (close_up or rng.random() < augmentation.at_hand):
        joints = hands[int(rng.integers(len(hands)))]["joints_px"]
        centre = 0.5 * (joints.min(0) + joints.max(0)) + rng.uniform(-0.5, 0.5, 2) * (w, h) / scale * 0.8
    elif zoom > 1:
        centre = centre + rng.uniform(-0.5, 0.5, 2) * (width, height) * (1 - 1 / zoom)
    angle = rng.uniform(-np.pi, np.pi) if rng.random() < augmentation.any_turn else \
        np.deg2rad(rng.normal(0, 1) * augmentation.turn_deg)
    flip = -1.0 if rng.random() < augmentation.flip else 1.0
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    linear = np.array([[c, -s], [s, c]]) @ np.diag([flip, 1.0])
    matrix = np.column_stack([linear, np.array([w - 1, h - 1]) / 2 - linear @ centre])
    if scale < 0.6:
        image = cv2.blur(image, (int(round(1 / scale)) | 1,) * 2)                       # an even one moves the picture
    seen = (np.array([[0, 0], [w - 1, 0], [0, h - 1], [w - 1, h - 1]]) - matrix[:, 2]) @ np.linalg.inv(linear).T
    filled = ((seen >= 0) & (seen <= (width - 1, height - 1))).all()
    view = np.empty((h, w, 3), np.uint8) if filled else _surroundings(pool, frames, size, rng, augmentation)
    cv2.warpAffine(image, matrix, (w, h), dst=view, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)
    found = [(hand["joints_px"] @ linear.T + matrix[:, 2], bool(hand["is_right"]) == (flip > 0)) for hand in hands]
    corners = label["unseen"][:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) @ linear.T + matrix[:, 2]
    hidden = np.clip(np.concatenate([corners.min(1), corners.max(1)], -1), -0.5, np.tile([w - 0.5, h - 0.5], 2))
    picture = rectangle((-0.5, -0.5), (width - 0.5, height - 0.5))
    picture[:, :2] = picture[:, :2] @ np.linalg.inv(linear)
    picture[:, 2] -= picture[:, :2] @ matrix[:, 2]
    window = np.concatenate([picture, rectangle((-0.5, -0.5), (w - 0.5, h - 0.5))])
    return view, found, [box for box in hidden if (box[2:] > box[:2]).all()], window
