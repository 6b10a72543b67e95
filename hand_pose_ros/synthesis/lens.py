"""Pictures of a camera with lens distortion: drawn through a pinhole that sees enough, then bent."""
from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from hand_pose_ros import camera as camera_model
from hand_pose_ros.errors import ConfigError
from hand_pose_ros.synthesis.renderer import Raster
from hand_pose_ros.types import Camera


class Lens:
    """Bends pinhole pictures into those of ``camera``.

    size: (width, height) of the pinhole pictures to draw; by default as many pixels as keep the camera's resolution.
    ``size`` and ``K`` (3, 3) say what to draw. Raises ConfigError for a lens that sees behind itself or folds.
    """

    def __init__(self, camera: Camera, size: tuple[int, int] | None = None):
        self.camera = camera
        knots_u, to_u = _knots(camera.width)
        knots_v, to_v = _knots(camera.height)
        rays = camera_model.unproject(camera, np.stack(np.meshgrid(knots_u, knots_v), axis=-1))
        if not np.isfinite(rays).all() or (rays[..., 2] <= 0).any():
            raise ConfigError("the lens sees behind itself or its distortion has no inverse inside the image: "
                              "use a smaller field of view")
        xy = np.stack([to_v @ rays[..., k] @ to_u.T for k in range(2)], axis=-1)         # of every pixel
        low, high = xy.reshape(-1, 2).min(0), xy.reshape(-1, 2).max(0)
        if size is None:
            fx = fy = float(camera.K[0, 0])
            size = tuple(int(np.ceil(n)) + 2 for n in (high - low) * fx)
        else:
            fx, fy = (np.array(size) - 3) / (high - low)
        self.size = size
        self.K = np.array([[fx, 0.0, 1 - low[0] * fx], [0.0, fy, 1 - low[1] * fy], [0.0, 0.0, 1.0]])
        self._x = (xy[..., 0] * fx + self.K[0, 2]).astype(np.float32)
        self._y = (xy[..., 1] * fy + self.K[1, 2]).astype(np.float32)

    def bend(self, image: np.ndarray, method: int = cv2.INTER_LINEAR) -> np.ndarray:
        """A pinhole picture (H, W[, C]) as the camera sees it, (height, width[, C])."""
        return cv2.remap(image, self._x, self._y, method)

    def bend_raster(self, raw: Raster) -> Raster:
        """Colour and coverage interpolated, depth and ids of the nearest ray."""
        return Raster(self.bend(raw.color), self.bend(raw.alpha), self.bend(raw.depth, cv2.INTER_NEAREST),
                      self.bend(raw.ids, cv2.INTER_NEAREST))

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) metres to pixels (..., 2); those far outside the picture as a pinhole would show them."""
        pinhole = replace(self.camera, D=np.zeros(5), distortion_model="plumb_bob")
        plain, bent = camera_model.project(pinhole, points), camera_model.project(self.camera, points)
        size = np.array([self.camera.width, self.camera.height])
        far = (np.abs(plain / size - 0.5) > 0.9).any(axis=-1, keepdims=True) | ~np.isfinite(bent)
        return np.where(far, plain, bent)


def _knots(count: int) -> tuple[np.ndarray, np.ndarray]:
    """About every second of ``count`` pixels and the (count, knots) matrix that interpolates between them.

    The inverse of the distortion is so smooth that this costs less than 0.02 pixels.
    """
    knots = np.linspace(0.0, count - 1.0, max(count // 2, 2))
    return knots, np.stack([np.interp(np.arange(count), knots, unit) for unit in np.eye(len(knots))], axis=1)


def sample(rng: np.random.Generator, K: np.ndarray, width: int, height: int) -> Lens:
    """Draw the lens of a cheap to middling camera with intrinsics K (3, 3): k1 -0.25..0.1, small p1, p2, k2.

    Such numbers are what the factory calibrations of web and RGB-D cameras hold. Wide fields of view get the weaker
    ones: r (1 + k1 r^2) must grow beyond the image's corner for the distortion to have an inverse there.
    """
    reach = np.hypot(width / K[0, 0], height / K[1, 1]) / 2              # tangent at the corner
    strongest = min(0.09 / reach ** 2, 0.25)
    k1 = strongest * (rng.uniform(-1.0, -0.1) if rng.random() < 0.75 else rng.uniform(0.0, 0.4))
    k2 = -rng.uniform(0.0, 0.1) * k1
    return Lens(Camera(width, height, K, D=np.array([k1, k2, *rng.normal(0, 5e-4, 2), 0.0])), (width, height))
