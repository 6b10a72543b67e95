"""What cameras, lamps, cables and other things in front of the lens do to a picture; uint8 in, uint8 out, fast.

Each step is drawn independently. ``strength`` scales how often and how much. The aim is that nothing but the shape of a
hand is left to learn from (Tobin et al., domain randomisation, IROS 2017), the frequency content included (random
filters after Xu et al., "Robust and generalizable visual representation learning via random convolutions", ICLR 2021).
"""
from __future__ import annotations

import cv2
import numpy as np

_NOISE = np.random.default_rng(7).standard_normal((512, 512, 3)).astype(np.float32)
_LEVELS = np.arange(256, dtype=np.float32) / 255.0
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def distort(image: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> the same, as another camera in another light would give it."""
    p = rng.random(12) / max(strength, 1e-6)
    if p[0] < 0.25:
        image = _lamp(image, rng)
    if p[1] < 0.85:
        image = _tone(image, rng, strength)
    if p[2] < 0.5:
        image = _colour(image, rng, strength)
    if p[3] < 0.12:
        image = _filter(image, rng)
    if p[4] < 0.25:
        image = _blur(image, rng)
    elif p[4] < 0.5:
        image = _sharpen(image, rng)
    if p[5] < 0.2:
        image = _resolution(image, rng)
    if p[6] < 0.4:
        image = _noise(image, rng)
    if p[7] < 0.35:
        image = _jpeg(image, rng)
    return image


def sensor(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> the same, sharpened, noisy and compressed at the pixels it has: what a camera does to a
    small picture, before anybody enlarges it."""
    p = rng.random(3)
    if p[0] < 0.3:
        image = _sharpen(image, rng)
    if p[1] < 0.3:
        image = _noise(image, rng)
    if p[2] < 0.5:
        image = _jpeg(image, rng)
    return image


def occlude(image: np.ndarray, rng: np.random.Generator, other: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """A thing in front: (image, covered (H, W) bool). ``other``: a picture to cut the thing from, else plain colour."""
    h, w = image.shape[:2]
    covered = np.zeros((h, w), np.uint8)
    centre = (int(rng.uniform(0.1, 0.9) * w), int(rng.uniform(0.1, 0.9) * h))
    axes = (int(rng.uniform(0.04, 0.22) * w), int(rng.uniform(0.04, 0.22) * h))
    if rng.random() < 0.5:
        cv2.ellipse(covered, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    else:
        corners = cv2.boxPoints((centre, (2 * axes[0], 2 * axes[1]), float(rng.uniform(0, 180))))
        cv2.fillConvexPoly(covered, corners.astype(np.int32), 1)
    image = image.copy()
    where = covered.astype(bool)
    if other is not None and rng.random() < 0.6:
        image[where] = cv2.resize(other, (w, h))[where]
    else:
        image[where] = rng.integers(0, 256, 3)
    return image, where


def put_behind(image: np.ndarray, front: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``image`` (H, W, 3) uint8 where ``front`` (H, W) bool, with a soft edge, and elsewhere a random part of
    ``other``, mirrored half the time: the same hand before another scene (Dwibedi et al., cut, paste and learn, ICCV
    2017)."""
    h, w = image.shape[:2]
    size = rng.uniform(0.4, 1.0) * np.array(other.shape[:2])
    top, left = (rng.uniform(0, 1, 2) * (np.array(other.shape[:2]) - size)).astype(int)
    part = other[top:top + int(size[0]), left:left + int(size[1])]
    behind = cv2.resize(part[:, ::-1] if rng.random() < 0.5 else part, (w, h)).astype(np.float32)
    alpha = cv2.GaussianBlur(front.astype(np.float32), (0, 0), float(rng.uniform(0.5, 1.2)))[..., None]
    return (alpha * image + (1.0 - alpha) * behind + 0.5).astype(np.uint8)


def _tone(image, rng, strength):
    gain = np.exp(rng.normal(0, 0.18 * strength) + rng.normal(0, 0.09 * strength, 3))
    gamma = np.exp(rng.normal(0, 0.22 * strength))
    offset = rng.normal(0, 0.06 * strength)
    contrast = np.exp(rng.normal(0, 0.12 * strength))
    curve = (_LEVELS[:, None] ** gamma - 0.5) * contrast + 0.5
    table = (np.clip(curve * gain + offset, 0, 1) * 255 + 0.5).astype(np.uint8)
    return cv2.LUT(image, np.ascontiguousarray(table[None]))


def _colour(image, rng, strength):
    saturation = 0.0 if rng.random() < 0.15 else float(np.exp(rng.normal(0, 0.4 * strength)))
    grey = np.tile(_LUMA, (3, 1))
    hue = rng.normal(0, 0.12 * strength)                                            # turn about the grey axis, radians
    c, s = np.cos(hue), np.sin(hue) / np.sqrt(3)
    turn = c * np.eye(3) + (1 - c) / 3 + s * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    matrix = (saturation * np.eye(3) + (1 - saturation) * grey) @ turn
    return cv2.transform(image, matrix.astype(np.float32))


def _lamp(image, rng):
    h, w = image.shape[:2]
    corners = np.exp(rng.normal(0, 0.4, (2, 2, 1)) + rng.normal(0, 0.08, (2, 2, 3))).astype(np.float32)
    shade = cv2.resize(corners, (w, h), interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(image, shade, dtype=cv2.CV_8U)


def _filter(image, rng):
    kernel = rng.normal(0, 1, (3, 3)).astype(np.float32)
    kernel -= kernel.mean()
    kernel *= rng.uniform(0.05, 0.25)
    kernel[1, 1] += 1.0
    return cv2.filter2D(image, -1, kernel)


def _blur(image, rng):
    if rng.random() < 0.6:
        return cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 2.0)))
    length = 2 * int(rng.integers(1, 5)) + 1                                        # an even one moves the picture
    kernel = np.zeros((length, length), np.float32)
    angle = rng.uniform(0, np.pi)
    half = 0.5 * (length - 1)
    direction = half * np.array([np.cos(angle), np.sin(angle)])
    cv2.line(kernel, tuple(np.round(half - direction).astype(int).tolist()),
             tuple(np.round(half + direction).astype(int).tolist()), 1.0)
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def _sharpen(image, rng):
    """As many cameras do inside: what is less in the blurred image is added once more."""
    amount = float(rng.uniform(0.3, 1.8))
    return cv2.addWeighted(image, 1 + amount, cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.6, 1.6))), -amount, 0)


def _resolution(image, rng):
    h, w = image.shape[:2]
    scale = rng.uniform(0.2, 0.8)
    small = cv2.resize(image, (max(24, int(w * scale)), max(24, int(h * scale))), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR if rng.random() < 0.6 else cv2.INTER_NEAREST_EXACT)


def _noise(image, rng):
    h, w = image.shape[:2]
    y, x = rng.integers(0, max(1, 512 - h)), rng.integers(0, max(1, 512 - w))
    noise = _NOISE[y:y + h, x:x + w]
    if noise.shape[:2] != (h, w):
        noise = cv2.resize(_NOISE, (w, h), interpolation=cv2.INTER_NEAREST)
    if rng.random() < 0.3:
        noise = np.ascontiguousarray(np.broadcast_to(noise[..., :1], noise.shape))
    return cv2.addWeighted(image, 1.0, noise, float(abs(rng.normal(0, 9))), 0.0, dtype=cv2.CV_8U)


def _jpeg(image, rng):
    ok, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 90))])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])     # OpenCV's colours are BGR
