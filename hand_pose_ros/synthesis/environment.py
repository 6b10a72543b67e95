"""HDR light probes: diffuse light as spherical harmonics, blurred reflections, key lights and perspective views.

Each probe is split into its few brightest spots, which become directional lights that can cast shadows, and the rest,
which lights diffusely (Ramamoorthi and Hanrahan, "An Efficient Representation for Irradiance Environment Maps",
SIGGRAPH 2001, eq. 12 and 13: bands scaled by pi, 2 pi / 3, pi / 4) and reflects (octahedral maps convolved with a
Phong lobe). Radiance is scaled so that the mean irradiance over all directions is pi: a white card looks about 1.
Axes of a probe: z up, longitude 0 along +x.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from hand_pose_ros.errors import DataError
from hand_pose_ros.synthesis import assets

NUM_LIGHTS = 3
_OCTAHEDRON = 32
_LOBES = (6.0, 60.0)                            # Phong exponents of the rough and the glossy reflection
_SPOT_COSINE = np.cos(np.radians(14.0))


@dataclass(frozen=True, eq=False)
class Probe:
    """One environment, normalised."""

    name: str
    panorama: np.ndarray                        # (H, 2H, 3) float32 linear radiance, top row looks up
    sh: np.ndarray                              # (9, 3) irradiance / pi, polynomial order of renderer.irradiance
    lights: tuple                               # ((direction (3,), colour (3,)), ...), brightest first
    reflections: np.ndarray                     # (2, O, O, 3) float32: rough, glossy


@dataclass(frozen=True, eq=False)
class Lighting:
    """Light on one scene, in renderer terms. Light colours are irradiance / pi at normal incidence."""

    sh: np.ndarray                              # (9, 3)
    R_env_camera: np.ndarray                    # (3, 3) camera axes to probe axes
    directions: np.ndarray                      # (3, 3) one row per light, towards it, camera axes, unit
    colors: np.ndarray                          # (3, 3) linear RGB
    environment: int
    reflection_gain: np.ndarray                 # (3,)


@lru_cache(maxsize=1)
def probes() -> tuple[Probe, ...]:
    """Every probe among the assets, by name. Raises DataError if one is missing or cannot be read."""
    return tuple(_probe(name) for name in assets.names("light/"))


def reflections() -> np.ndarray:
    """(2 E, O, O, 3) float32: what Renderer takes as environments."""
    return np.concatenate([probe.reflections for probe in probes()])


def sample(rng: np.random.Generator, R_world_camera: np.ndarray) -> Lighting:
    """Draw the light of a scene. R_world_camera: (3, 3), world z up."""
    all_probes = probes()
    index = int(rng.integers(len(all_probes)))
    probe = all_probes[index]
    yaw = rng.uniform(0.0, 2.0 * np.pi)
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
    R_env_camera = turn @ R_world_camera
    tint = np.exp(rng.normal(0.0, 0.06, 3))
    ambient = np.exp(rng.normal(0.0, 0.35)) * tint
    sh = probe.sh * ambient
    if rng.random() < 0.25:                     # flat studio light: the constant band alone, brighter
        sh = sh * np.concatenate([[1.2], np.full(8, 0.4)])[:, None]
    directions = np.tile([0.0, 0.0, -1.0], (NUM_LIGHTS, 1))
    colors = np.zeros((NUM_LIGHTS, 3))
    key = np.exp(rng.normal(-0.1, 0.6))
    count = 0
    if rng.random() < 0.6:
        for direction, color in probe.lights[:2]:
            directions[count] = R_env_camera.T @ direction
            colors[count] = np.minimum(color, 3.0) * key * tint
            count += 1
    if count == 0 or rng.random() < 0.5:        # a lamp, window or flash that the probe does not have
        while count < NUM_LIGHTS and (count == 0 or rng.random() < 0.5):
            directions[count] = _lamp_direction(rng, R_world_camera)
            warm = rng.uniform(-1.0, 1.0)
            colors[count] = key * np.exp(rng.normal(-0.6, 0.5)) * np.array([1 + 0.18 * warm, 1.0, 1 - 0.28 * warm])
            count += 1
    neutral = (sh[0] + 0.5 * colors.sum(axis=0)) / np.mean(sh[0] + 0.5 * colors.sum(axis=0))
    balance = neutral ** -rng.uniform(0.85, 1.0)                    # what the camera's white balance takes away
    sh, colors, ambient = sh * balance, colors * balance, ambient * balance
    order = np.argsort(-colors.sum(axis=1), kind="stable")
    return Lighting(sh, R_env_camera, directions[order], colors[order], index, ambient)


def view(probe: Probe, R_env_camera: np.ndarray, hfov_rad: float, width: int, height: int) -> np.ndarray:
    """Perspective picture of a probe, (height, width, 3) float32 linear. R_env_camera: (3, 3)."""
    f = 0.5 * width / np.tan(0.5 * hfov_rad)
    right = ((np.arange(width) - 0.5 * (width - 1)) / f).astype(np.float32)
    down = ((np.arange(height) - 0.5 * (height - 1)) / f).astype(np.float32)[:, None]
    x, y, z = (np.float32(a) * right + (np.float32(b) * down + np.float32(c)) for a, b, c in R_env_camera)
    rows, columns = probe.panorama.shape[:2]
    u = np.arctan2(-y, x) * np.float32(columns / (2 * np.pi))
    v = np.arctan2(np.sqrt(x * x + y * y), z) * np.float32(rows / np.pi) - np.float32(0.5)
    return cv2.remap(probe.panorama, np.mod(u, np.float32(columns)), v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def _lamp_direction(rng: np.random.Generator, R_world_camera: np.ndarray) -> np.ndarray:
    if rng.random() < 0.2:                      # flash or screen beside the camera
        direction = np.array([rng.normal(0, 0.3), rng.normal(0, 0.3), -1.0])
    else:
        azimuth, height = rng.uniform(0, 2 * np.pi), rng.uniform(-0.1, 1.0)
        ground = np.sqrt(max(1 - height * height, 0.0))
        direction = R_world_camera.T @ np.array([ground * np.cos(azimuth), ground * np.sin(azimuth), height])
    return direction / np.linalg.norm(direction)


def _directions(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit directions (rows, 2 rows, 3) and solid angles (rows, 2 rows) of a latitude-longitude map."""
    theta = (np.arange(rows) + 0.5) / rows * np.pi
    phi = -(np.arange(2 * rows) + 0.5) / (2 * rows) * 2 * np.pi
    sin = np.sin(theta)[:, None]
    up = np.broadcast_to(np.cos(theta)[:, None], (rows, 2 * rows))
    directions = np.stack([sin * np.cos(phi), sin * np.sin(phi), up], axis=-1)
    return directions, np.broadcast_to(sin * (np.pi / rows) ** 2, (rows, 2 * rows))


def _basis(d: np.ndarray) -> np.ndarray:
    """Unnormalised harmonics in the renderer's order. d: (..., 3). Returns (..., 9)."""
    x, y, z = d[..., 0], d[..., 1], d[..., 2]
    return np.stack([np.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], axis=-1)


def _octahedron_directions(size: int) -> np.ndarray:
    f = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(f, f)
    z = 1 - np.abs(x) - np.abs(y)
    low = z < 0
    fold_x = np.where(low, (1 - np.abs(y)) * np.where(x >= 0, 1, -1), x)
    fold_y = np.where(low, (1 - np.abs(x)) * np.where(y >= 0, 1, -1), y)
    d = np.stack([fold_x, fold_y, z], axis=-1)
    return d / np.linalg.norm(d, axis=-1, keepdims=True)


def _probe(name: str) -> Probe:
    import OpenEXR
    file = assets.path(name)
    try:
        panorama = np.asarray(OpenEXR.File(str(file)).channels()["RGB"].pixels, np.float32)[..., :3]
    except (KeyError, RuntimeError, OSError) as error:
        raise DataError(f"light probe {file} cannot be read ({error}); {assets.REMEDY}") from None
    panorama = np.maximum(np.nan_to_num(panorama, nan=0.0, posinf=1e4), 0.0)
    small = cv2.resize(panorama, (128, 64), interpolation=cv2.INTER_AREA)
    directions, solid = _directions(64)
    weight = np.tensordot(small.mean(-1), solid, axes=2) / (4 * np.pi)
    small, panorama = small / weight, panorama / weight
    lights, rest = [], small.copy()
    for _ in range(2):
        luminance = cv2.GaussianBlur(rest.mean(-1), (0, 0), 1.0)
        peak = np.unravel_index(np.argmax(luminance), luminance.shape)
        inside = directions @ directions[peak] > _SPOT_COSINE
        floor = np.median(rest, axis=(0, 1))
        excess = np.where(inside[..., None], np.maximum(rest - 2 * floor, 0), 0)
        color = np.tensordot(solid, excess, axes=([0, 1], [0, 1])) / np.pi
        if color.mean() < 0.08:
            break
        lights.append((directions[peak], color))
        rest = rest - excess
    scale = np.array([1, 3, 3, 3, 15, 15, 1.25, 15, 3.75]) / (4 * np.pi)           # squared norms of the harmonics
    falloff = np.array([1, 2 / 3, 2 / 3, 2 / 3, 0.25, 0.25, 0.25, 0.25, 0.25])
    coefficients = np.tensordot(solid[..., None] * _basis(directions), rest, axes=([0, 1], [0, 1]))
    sh = coefficients * (scale * falloff)[:, None]
    tiny = cv2.resize(np.minimum(rest, 30.0), (64, 32), interpolation=cv2.INTER_AREA)
    sources, tiny_solid = _directions(32)
    cosine = np.maximum(_octahedron_directions(_OCTAHEDRON).reshape(-1, 3) @ sources.reshape(-1, 3).T, 0)
    blurred = []
    for lobe in _LOBES:
        kernel = cosine ** lobe * tiny_solid.reshape(-1)
        kernel /= kernel.sum(axis=1, keepdims=True)
        blurred.append((kernel @ tiny.reshape(-1, 3)).reshape(_OCTAHEDRON, _OCTAHEDRON, 3))
    return Probe(name, panorama, sh, tuple(lights), np.stack(blurred).astype(np.float32))
