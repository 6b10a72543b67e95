"""What lies behind the hands: views of light probes, rooms, shelves, walls, dead leaves, darkness, and people.

Dead leaves (occluding shapes with power-law sizes) share the edge and spectrum statistics of photographs (Lee, Mumford
and Huang, IJCV 41, 2001) and carry representation learning without any photograph (Baradad et al., NeurIPS 2021).
Colours are taken from the light probes, so that they go together as in a real place.
"""
from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from hand_pose_ros.synthesis import environment, materials, rooms, sensor

KINDS = {"room": 0.48, "view": 0.22, "wall": 0.12, "leaves": 0.05, "shelf": 0.03, "texture": 0.03, "dark": 0.04,
         "screen": 0.03}
_NOISE = 256


def sample(rng: np.random.Generator, width: int, height: int, K: np.ndarray, lighting: environment.Lighting,
           clear_m: float, floor_m: float | None = None, kind: str | None = None) -> tuple[np.ndarray, str]:
    """Draw a background. Returns ((height, width, 3) float32 linear light, its kind).

    K: (3, 3) of the picture. clear_m: how far in front the subject stands; floor_m: height of the camera over the
    floor, drawn if not given.
    """
    kind = kind or str(rng.choice(list(KINDS), p=np.array(list(KINDS.values())) / sum(KINDS.values())))
    if kind == "room":
        image = rooms.paint(rng, width, height, K, lighting.R_env_camera, clear_m, floor_m)
        light = np.sqrt(lighting.sh[0] / lighting.sh[0].mean())
        image *= (light * np.exp(rng.normal(0.0, 0.25))).astype(np.float32)
    else:
        image = _PAINTERS[kind](rng, width, height, lighting.R_env_camera, lighting.environment)
    if kind not in ("view", "dark", "room"):
        image = sensor.to_linear(np.clip(image, 0, 255).astype(np.uint8))
        image = image * np.float32(np.exp(rng.normal(0.0, 0.35)))
        if rng.random() < 0.6:
            image = image * _light_gradient(rng, width, height)
    if rng.random() < (0.3 if kind == "room" else 0.45) and kind not in ("wall", "dark"):       # out of focus
        image = cv2.GaussianBlur(image, (0, 0), float(rng.exponential(0.012) * width + 0.4))
    return np.ascontiguousarray(image, np.float32), kind


@lru_cache(maxsize=1)
def _noise_bank() -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.stack([materials.noise(rng, _NOISE, e)[..., 0]
                     for e in (0.0, 0.3, 0.6, 0.8, 1.0, 1.0, 1.2, 1.2, 1.4, 1.7)])


@lru_cache(maxsize=1)
def _palettes() -> list:
    """Pixels of each probe as 8-bit sRGB, (n, 3), well exposed."""
    out = []
    for probe in environment.probes():
        small = cv2.resize(probe.panorama, (64, 32), interpolation=cv2.INTER_AREA)[4:28].reshape(-1, 3)
        scale = 0.35 / max(np.median(small.mean(-1)), 1e-4)
        out.append((sensor.to_srgb(small * scale) * 255).astype(np.float32))
    return out


def _colors(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, 3) sRGB 0..255: a place's colours, made more varied in brightness and saturation, with odd bright things."""
    palettes = _palettes()
    palette = palettes[int(rng.integers(len(palettes)))]
    colors = palette[rng.integers(len(palette), size=n)]
    grey = colors.mean(axis=1, keepdims=True)
    colors = grey + (colors - grey) * rng.uniform(0.4, 1.5)
    colors = colors * np.exp(rng.normal(0.0, 0.45, (n, 1)))
    vivid = rng.random(n) < rng.uniform(0.0, 0.15)
    colors[vivid] = rng.uniform(0, 255, (int(vivid.sum()), 3))
    skin = rng.random(n) < 0.06
    for i in np.flatnonzero(skin):
        colors[i] = sensor.to_srgb(materials.tone(rng.random())) * 255
    return np.clip(colors, 0, 255)


def _patch(rng: np.random.Generator, width: int, height: int, fine: bool = True) -> np.ndarray:
    """(height, width) unit-variance noise at a random scale and direction."""
    bank = _noise_bank()
    field = bank[int(rng.integers(0 if fine else 3, len(bank)))]
    zoom = float(np.exp(rng.uniform(np.log(0.35), np.log(3.0))))
    stretch = float(np.exp(rng.normal(0, 0.5))) if rng.random() < 0.7 else float(rng.uniform(4, 12))
    angle = rng.uniform(0, np.pi) if rng.random() < 0.5 else rng.choice([0, np.pi / 2])
    c, s = np.cos(angle) / zoom, np.sin(angle) / zoom
    matrix = np.array([[c * stretch ** -0.5, -s * stretch ** -0.5, rng.uniform(0, _NOISE)],
                       [s * stretch ** 0.5, c * stretch ** 0.5, rng.uniform(0, _NOISE)]], np.float32)
    return cv2.warpAffine(field, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                          borderMode=cv2.BORDER_WRAP)


def _texture(rng: np.random.Generator, width: int, height: int, color: np.ndarray, strength: float) -> np.ndarray:
    field = _patch(rng, width, height)[..., None]
    tint = np.array([1.0, rng.uniform(0.7, 1.1), rng.uniform(0.5, 1.1)], np.float32)
    return color.astype(np.float32) * np.exp(np.clip(strength * field, -2, 1.2) * tint)


def _light_gradient(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    gx, gy = rng.normal(0, 0.3, 2).astype(np.float32)
    fall = np.float32(max(rng.normal(0.0, 0.25), 0.0))
    return np.exp(gx * x + gy * y - fall * (x * x + y * y))[..., None]


def _view(rng, width, height, R_env_camera, probe):
    every = environment.probes()
    if rng.random() < 0.4:
        probe = int(rng.integers(len(every)))
    fov = np.radians(rng.uniform(35, 110))
    image = environment.view(every[probe], R_env_camera, fov, width, height)
    mean = max(float(np.minimum(image, 3).mean()), 1e-3)
    image = np.minimum(image, 12.0) * np.float32(np.exp(rng.normal(np.log(0.5), 0.6)) / mean)
    if rng.random() < 0.7:                       # the probes are coarse: add the detail that they lack
        image = image * np.exp(0.12 * _patch(rng, width, height))[..., None]
    return image


def _leaves(rng, width, height, *_):
    n = int(np.exp(rng.uniform(np.log(15), np.log(130))))
    colors = _colors(rng, n)
    image = _texture(rng, width, height, colors[0], 0.15)
    small, big = 0.03 * width, rng.uniform(0.25, 0.9) * width
    u = rng.random(n)
    sizes = np.sort(1.0 / np.sqrt(u / small ** 2 + (1 - u) / big ** 2))[::-1]      # p(r) ~ r^-3
    boxy = rng.random()
    for size, color in zip(sizes, colors):
        centre = rng.uniform(-0.1, 1.1, 2) * (width, height)
        _leaf(rng, image, centre, size, color, boxy)
    detail = _patch(rng, width, height)[..., None]
    image *= np.exp(np.float32(rng.uniform(0.0, 0.25)) * detail)
    return image


def _leaf(rng, image, centre, size, color, boxy):
    kind = rng.random()
    tone = tuple(float(c) for c in color)
    if kind < boxy * 0.8:
        angle = rng.normal(0, 6) if rng.random() < 0.7 else rng.uniform(0, 180)
        shape = (size * rng.uniform(0.4, 2.2), size * rng.uniform(0.4, 2.2))
        corners = cv2.boxPoints((tuple(centre), shape, float(angle))).astype(np.int32)
        cv2.fillPoly(image, [corners], tone, cv2.LINE_AA)
        if rng.random() < 0.4:
            edge = tuple(float(c) * rng.uniform(0.3, 1.6) for c in color)
            cv2.polylines(image, [corners], True, edge, int(rng.integers(1, 4)), cv2.LINE_AA)
    elif kind < 0.85:
        axes = (max(int(size * rng.uniform(0.3, 1)), 1), max(int(size * rng.uniform(0.3, 1)), 1))
        where = (int(centre[0]), int(centre[1]))
        angle = float(rng.uniform(0, 180))
        cv2.ellipse(image, where, axes, angle, 0, 360, tone, -1, cv2.LINE_AA)
        if rng.random() < 0.35:                  # a lighter side
            light = tuple(min(float(c) * 1.3 + 10, 255.0) for c in color)
            inner = (max(int(axes[0] * 0.6), 1), max(int(axes[1] * 0.6), 1))
            cv2.ellipse(image, (where[0] - axes[0] // 6, where[1] - axes[1] // 6),
                        inner, angle, 0, 360, light, -1, cv2.LINE_AA)
    else:
        m = int(rng.integers(3, 9))
        angles = np.sort(rng.uniform(0, 2 * np.pi, m))
        radii = size * rng.uniform(0.4, 1.1, m)
        points = centre + np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]
        cv2.fillPoly(image, [points.astype(np.int32)], tone, cv2.LINE_AA)


def _shelf(rng, width, height, *_):
    colors = _colors(rng, 64)
    image = _texture(rng, width, height, colors[0] * 0.6, 0.1)
    row = height * float(np.exp(rng.uniform(np.log(0.12), np.log(0.5))))
    y = float(rng.uniform(-0.9, 0)) * row
    k = 1
    while y < height:
        x = float(rng.uniform(-0.2, 0)) * width
        w, h = row * rng.uniform(0.15, 0.7), row * rng.uniform(0.5, 0.92)
        color = colors[k % 64]
        while x < width:
            if rng.random() < 0.35:
                color = colors[int(rng.integers(64))]
                w, h = row * rng.uniform(0.12, 0.7), row * rng.uniform(0.45, 0.92)
            left, top, right, bottom = int(x), int(y + row - h), int(x + w), int(y + row * 0.97)
            cv2.rectangle(image, (left, top), (right, bottom), tuple(map(float, color)), -1)
            band = colors[int(rng.integers(64))] if rng.random() < 0.7 else np.full(3, 235.0)
            cv2.rectangle(image, (left, int(top + h * 0.35)), (right, int(top + h * rng.uniform(0.5, 0.85))),
                          tuple(map(float, band)), -1)
            shine = tuple(min(float(c) * 1.5 + 25, 255.0) for c in color)
            cv2.line(image, (int(x + w * 0.3), top), (int(x + w * 0.3), bottom),
                     shine, max(int(w * 0.12), 1), cv2.LINE_AA)
            cv2.line(image, (right, top), (right, bottom), tuple(float(c) * 0.3 for c in color), max(int(w * 0.1), 1))
            x += w * rng.uniform(1.02, 1.2)
        cv2.rectangle(image, (0, int(y + row * 0.97)), (width, int(y + row * 1.05)),
                      tuple(map(float, colors[k % 64] * 0.8)), -1)
        y += row
        k += 1
    if rng.random() < 0.5:
        angle = rng.normal(0, 8)
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), float(angle), 1.1)
        image = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
    return image


def _wall(rng, width, height, *_):
    base = np.clip(rng.normal(175, 55), 15, 250) * (1 + rng.normal(0, 0.05, 3))
    if rng.random() < 0.25:
        base = _colors(rng, 1)[0]
    image = _texture(rng, width, height, base, float(rng.exponential(0.03)))
    if rng.random() < 0.3:
        pattern = _texture(rng, width, height, base * rng.uniform(0.7, 1.2), 0.05)
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        period = width * rng.uniform(0.03, 0.3)
        wave = np.sin(2 * np.pi * (x * np.cos(k := rng.uniform(0, np.pi)) + y * np.sin(k)) / period)
        image = np.where((wave > rng.uniform(0, 0.9))[..., None], pattern, image)
    return image * (_light_gradient(rng, width, height) ** rng.uniform(0.3, 1.0))


def _texture_only(rng, width, height, *_):
    colors = _colors(rng, 3)
    image = _texture(rng, width, height, colors[0], float(rng.uniform(0.1, 0.6)))
    if rng.random() < 0.6:
        other = _texture(rng, width, height, colors[1], float(rng.uniform(0.05, 0.5)))
        mask = _patch(rng, width, height, fine=False)[..., None] * rng.uniform(1, 6) + rng.normal(0, 1)
        weight = 1 / (1 + np.exp(-np.clip(mask, -20, 20)))
        image = image * weight + other * (1 - weight)
    return image


def _dark(rng, width, height, *_):
    image = np.full((height, width, 3), rng.exponential(0.004), np.float32)
    if rng.random() < 0.5:
        for _ in range(int(rng.integers(1, 14))):
            x, y = rng.integers(0, width), rng.integers(0, height)
            cv2.circle(image, (int(x), int(y)), int(1 + rng.exponential(1.5)), (3.0, 3.0, 2.8), -1, cv2.LINE_AA)
        image = image + 0.3 * cv2.GaussianBlur(image, (0, 0), 0.02 * width)
    return image


def _screen(rng, width, height, *_):
    color = np.array([[40, 190, 60], [60, 90, 200], [240, 240, 240], [120, 120, 120]], np.float32)[int(rng.integers(4))]
    return _texture(rng, width, height, color * np.exp(rng.normal(0, 0.15)), 0.04)


_PAINTERS = {"view": _view, "leaves": _leaves, "shelf": _shelf, "wall": _wall, "texture": _texture_only,
             "dark": _dark, "screen": _screen}
