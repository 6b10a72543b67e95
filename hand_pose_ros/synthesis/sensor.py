"""From linear light to the 8-bit picture that a cheap camera, its driver and a network link would deliver."""
from __future__ import annotations

import cv2
import numpy as np

_SRGB_STEPS = 4096
MOTION_LIMIT_PX = 40.0
"""Longer motion blur than this is cut off."""


def _srgb_table() -> np.ndarray:
    x = np.linspace(0.0, 1.0, _SRGB_STEPS)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055).astype(np.float32)


_TO_SRGB = _srgb_table()
_LINEAR_OF_8BIT = np.where(np.arange(256) <= 10, np.arange(256) / 255 / 12.92,
                           ((np.arange(256) / 255 + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_linear(image: np.ndarray) -> np.ndarray:
    """uint8 sRGB (...) to float32 linear light in 0..1."""
    return _LINEAR_OF_8BIT[image]


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """float linear light (...) to float32 sRGB in 0..1, clipped."""
    steps = np.asarray(linear) * np.float32(_SRGB_STEPS - 1)
    return np.take(_TO_SRGB, np.minimum(np.maximum(steps, 0, out=steps), _SRGB_STEPS - 1, out=steps).astype(np.int32))


def sample(rng: np.random.Generator, hand_px: float) -> dict:
    """Draw the settings of one camera and exposure. hand_px: longest side of the hand's box in the stored image."""
    effective = hand_px
    if rng.random() < 0.55:                     # the hand was small, or the video was: fewer real pixels than stored
        effective = min(hand_px, float(np.exp(rng.uniform(np.log(24.0), np.log(150.0)))))
    night = rng.random() < 0.12
    return {
        "resolution": effective / hand_px,
        "motion_px": float(rng.exponential(0.045) * hand_px) if rng.random() < 0.22 else 0.0,
        "motion_angle": float(rng.uniform(0, np.pi)),
        "moving": bool(rng.random() < 0.5),     # what is before the room moves, not the camera
        "defocus_px": float(rng.exponential(0.012) * hand_px) if rng.random() < 0.25 else 0.0,
        "key": float(np.exp(rng.normal(np.log(0.27), 0.3))) * (0.6 if night else 1.0),
        "meter": float(rng.uniform(0.3, 1.0)),
        "white_balance": np.exp(rng.normal(0.0, 0.035, 3) + rng.normal(0.0, 0.06) * np.array([1.0, 0.0, -1.0])),
        "shot": float(np.exp(rng.uniform(np.log(2e-5), np.log(1.2e-3)))) * (4.0 if night else 1.0),
        "read": float(np.exp(rng.uniform(np.log(5e-4), np.log(6e-3)))) * (3.0 if night else 1.0),
        "denoise": bool(rng.random() < 0.35),
        "spare": bool(rng.random() < 0.93),
        "shoulder": float(rng.uniform(0.5, 0.95)),
        "contrast": float(rng.normal(1.02, 0.11)),
        "gamma": float(np.exp(rng.normal(0.0, 0.10))),
        "black": float(rng.normal(0.0, 0.015)) + (float(rng.uniform(0, 0.08)) if rng.random() < 0.15 else 0.0),
        "saturation": 0.0 if rng.random() < 0.035 else float(np.clip(rng.normal(0.93, 0.16), 0.3, 1.4)),
        "sharpen": float(rng.uniform(0.2, 1.0)) if rng.random() < 0.4 else 0.0,
        "vignette": float(rng.uniform(0.0, 0.35)) if rng.random() < 0.2 else 0.0,
        "jpeg": int(rng.integers(25 if effective > 70 else 45, 96)) if rng.random() < 0.8 else 0,
        "rescale": int(rng.integers(3)),
    }


def sample_frame(rng: np.random.Generator, hand_px: float) -> dict:
    """``sample`` for a whole frame: less blur per hand, and the whole picture may be upscaled from a small one."""
    settings = sample(rng, min(hand_px, 60.0))
    settings["meter"] *= 0.5
    settings["resolution"] = 1.0 if rng.random() < 0.7 else float(rng.uniform(0.4, 1.0))
    return settings


def develop(linear: np.ndarray, settings: dict, rng: np.random.Generator,
            subject: np.ndarray | None = None, spared: np.ndarray | None = None) -> np.ndarray:
    """Expose, blur, sample, quantise and compress.

    linear: (H, W, 3) float32. subject: (H, W) weight of what the exposure control looks at, besides the whole picture.
    spared: (H, W) bool of what should come out neither black nor white, where the settings say so.
    Returns (H, W, 3) uint8 RGB.
    """
    height, width = linear.shape[:2]
    gain = _gain(linear, subject, settings["key"], settings["meter"], spared if settings["spare"] else None)
    image = move(linear, settings)
    if settings["defocus_px"] > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), settings["defocus_px"])
    ratio = settings["resolution"]
    if ratio < 0.95:
        small = (max(int(width * ratio), 8), max(int(height * ratio), 8))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    image = image * (settings["white_balance"] * gain).astype(np.float32)
    if settings["vignette"]:
        image = image * _vignette(image.shape[:2], settings["vignette"])
    image = np.clip(image, 0.0, 4.0)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    deviation = image * np.float32(settings["shot"])
    deviation += np.float32(settings["read"] ** 2)
    image = image + np.multiply(noise, np.sqrt(deviation, out=deviation), out=noise)
    image = to_srgb(_roll_off(image, settings["shoulder"]))
    if settings["denoise"]:
        image = cv2.GaussianBlur(image, (0, 0), 0.7)
    if settings["sharpen"]:
        image = image + settings["sharpen"] * (image - cv2.GaussianBlur(image, (0, 0), 1.0))
    image = cv2.pow(np.clip(image, 0.0, 1.0), settings["gamma"])
    image = (image - 0.45) * settings["contrast"] + 0.45 + settings["black"]
    if settings["saturation"] != 1.0:
        luma = (image @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
        image = luma + (image - luma) * settings["saturation"]
    image = (np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    if settings["jpeg"]:
        image = _compress(image, settings["jpeg"])
    if ratio < 0.95:
        method = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA)[settings["rescale"]]
        image = cv2.resize(image, (width, height), interpolation=method)
    return image


def move(light: np.ndarray, settings: dict) -> np.ndarray:
    """Linear light (H, W, C) float32 smeared by the motion of the settings, with its middle where it was."""
    if settings["motion_px"] <= 0.8:
        return light
    return cv2.filter2D(light, -1, _motion_kernel(settings["motion_px"], settings["motion_angle"]),
                        borderType=cv2.BORDER_REFLECT_101)


def _gain(image: np.ndarray, subject: np.ndarray | None, key: float, share: float,
          spared: np.ndarray | None = None) -> float:
    """Auto-exposure: brings a mean luminance to ``key``, within what such a control does.

    The mean is that of the picture and, with weight ``share``, that of the subject pulled towards mid-tones (dark skin
    stays darker than pale skin in the same picture).
    """
    luminance = cv2.transform(np.minimum(image, 2.0), np.full((1, 3), 1 / 3, np.float32))
    mean = float(luminance.mean())
    if subject is not None and subject.sum() > 20:
        on_subject = float((luminance * subject).sum() / subject.sum())
        mean = mean ** (1 - share) * max(on_subject, 1e-4) ** (0.75 * share) * 0.28 ** (0.25 * share)
    gain = float(np.clip(key / max(mean, 1e-4), 0.2, 4.0))
    if spared is not None and spared.any():
        low, high = np.quantile(luminance[spared], (0.5, 0.9))
        gain = float(np.clip(gain, min(0.04 / max(low, 1e-4), 12.0), 0.95 / max(high, 1e-4)))
    return gain


def _roll_off(image: np.ndarray, knee: float) -> np.ndarray:
    """Bends linear light above ``knee`` so that highlights fade into white instead of clipping."""
    above = np.maximum(image - knee, 0.0)
    room = np.float32(1.0 - knee + 1e-6)
    return np.minimum(image, knee) + room * above / (above + room)


def _motion_kernel(length: float, angle: float) -> np.ndarray:
    """What a camera that moves by ``length`` pixels (40 at most) during the exposure makes of a point, adding up to 1.

    The middle of the array is the middle of the exposure. Points of the path are shared among their four pixels, which
    spreads them; so the path is drawn shorter, until its variance is that of the true one. (rows, columns), both odd.
    """
    length = min(length, MOTION_LIMIT_PX)
    direction = np.array([np.cos(angle), np.sin(angle)])
    reach = 0.5 * length
    for _ in range(8):
        kernel = _splat((np.arange(0.5, 128) / 64 - 1)[:, None] * reach * direction)
        middle = np.array(kernel.shape) // 2
        rows, columns = np.indices(kernel.shape)
        along = (columns - middle[1]) * direction[0] + (rows - middle[0]) * direction[1]
        reach *= length / np.sqrt(12 * (kernel * along ** 2).sum())
    return kernel.astype(np.float32)


def _splat(points: np.ndarray) -> np.ndarray:
    """Points (N, 2) as x, y from the middle pixel, each with an N-th of the weight. Returns (rows, columns)."""
    half = np.ceil(np.abs(points).max(0) - 1e-6).astype(int)
    base = np.floor(points).astype(int)
    share = points - base
    kernel = np.zeros((2 * half[1] + 3, 2 * half[0] + 3))
    for dx in (0, 1):
        for dy in (0, 1):
            weight = np.abs(1 - dx - share[:, 0]) * np.abs(1 - dy - share[:, 1]) / len(points)
            np.add.at(kernel, (base[:, 1] + dy + half[1] + 1, base[:, 0] + dx + half[0] + 1), weight)
    return kernel[1:-1, 1:-1]


def _vignette(shape: tuple[int, int], strength: float) -> np.ndarray:
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None] ** 2
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None] ** 2
    return (1.0 - strength * 0.5 * (x + y))[..., None]


def _compress(image: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
