"""A crop is a virtual pinhole camera at the source camera's centre that looks at one hand.

Its optical axis goes through the middle of the box, it is rolled so that the hand points up, and its square field of
view is MARGIN times the longer side of the box, more where the hand lies across it. So lens distortion and perspective
are undone exactly, and what the pose network sees does not depend on where in the image the hand was (PCL, Yu et al.
CVPR 2021). Left hands are mirrored here and nowhere else.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from hand_pose_ros import camera as cameras
from hand_pose_ros.errors import FrameError
from hand_pose_ros.frames import cross
from hand_pose_ros.types import Camera, Crop, Detection, Frame

MARGIN = 1.3
"""Side of the crop over the longer side of the box. It leaves room for the skin around the outer joints and for a box
that is not quite right; more would only make the hand smaller. The same network reads photographs better the more of
its pixels the hand gets (docs/accuracy.md)."""
ROLL_ROOM = 0.35
"""How much larger the crop is where the hand lies across a square box, whose diagonal is longer than its sides. Of 368
labelled hands, turned at random, nine of ten then reach less than 7 % out of the box so widened, all less than 13 %
(30 and 41 % of one that is not); MARGIN has room for 30 %."""
WIDEST = MARGIN * (1 + ROLL_ROOM)
"""Side of the crop over the longer side of the box at most."""

NEAREST = 0.01
"""A box that reaches beyond the lens is measured by the last points on it that are tried: at this share of its sides.
"""

_MAX_HALF_FOV = np.tan(np.deg2rad(65.0))
_NOWHERE = -32767.0                                # beyond every image that OpenCV samples, which has 16 bits
"""Source pixel of a crop pixel that looks past the lens: far outside, so it becomes black."""
_GRID = 8
"""Crop pixels between the nodes where the lens model is evaluated; between them the map is interpolated."""


@dataclass(frozen=True, eq=False)
class CropGeometry:
    """The virtual camera of a Crop without its image; same meaning of the shared fields."""

    size: int                                       # pixels, both sides
    K: np.ndarray                                   # (3, 3) float64, pixels of the crop
    R_camera_crop: np.ndarray                       # (3, 3) float64
    mirrored: bool


def from_joints(joints_px: np.ndarray, score: float = 1.0, right_probability: float = np.nan) -> Detection:
    """The detection that fits known joints (21, 2) [px]: tight box, up from wrist to middle MCP.

    Joints that are not finite are left out. ``up`` is NaN where the two joints are nearly on top of each other (less
    than a tenth of the box apart). The one rule for training, tracking and refining. Raises FrameError if no joint is
    finite.
    """
    finite = joints_px[np.isfinite(joints_px).all(-1)]
    if not len(finite):
        raise FrameError("no joint of the hand has finite pixels, so there is nothing to put a box round")
    box = np.concatenate([finite.min(0), finite.max(0)])
    up = joints_px[9] - joints_px[0]
    length = np.linalg.norm(up)
    clear = length > 0.1 * max(box[2] - box[0], box[3] - box[1], 1e-6)
    return Detection(box, score, right_probability, up / length if clear else np.full(2, np.nan))


def plan(camera: Camera, detection: Detection, size: int, mirrored: bool = False,
         margin: float = MARGIN) -> CropGeometry:
    """The virtual camera of ``size`` x ``size`` pixels that looks at the detection's box.

    Roll is 0 (the crop's up is the image's up) where ``detection.up`` is NaN. The field of view is ``margin`` times the
    longer side of the box in the image, and up to 1 + ROLL_ROOM times that where the crop lies across a square box.
    Raises FrameError if the box is not finite or its centre is not on the lens.
    """
    box = np.asarray(detection.box, np.float64)
    centre = 0.5 * (box[:2] + box[2:])
    half = 0.5 * np.maximum(box[2:] - box[:2], 2.0)
    up = np.asarray(detection.up, np.float64)
    if not np.all(np.isfinite(up)) or not np.any(up):
        up = np.array([0.0, -1.0])
    up = up / np.linalg.norm(up)
    # centre, two points either side of it along `up`, four edge midpoints
    offsets = np.array([(0, 0), up, -up, (half[0], 0), (-half[0], 0), (0, half[1]), (0, -half[1])])
    rays = cameras.unproject(camera, centre + offsets)
    shrink = 1.0
    for nearer in (0.3, 0.1, NEAREST):                  # a box that reaches beyond the lens is measured further in
        if np.all(np.isfinite(rays[3:])):
            break
        shrink = nearer
        rays[3:] = cameras.unproject(camera, centre + shrink * offsets[3:])
    if not np.all(np.isfinite(rays)):
        raise FrameError(f"box {np.round(box, 1).tolist()} has its centre outside the image of the lens "
                         f"({camera.width} x {camera.height}, {camera.distortion_model}): drop this detection")
    z_axis = rays[0] / np.linalg.norm(rays[0])
    y_axis = rays[2] - rays[1]                          # down, as the image has it at the centre
    y_axis -= (y_axis @ z_axis) * z_axis
    y_axis /= np.linalg.norm(y_axis)
    R = np.stack([cross(y_axis, z_axis), y_axis, z_axis], -1)
    in_crop = rays[3:] @ R
    in_crop = in_crop[:, :2] / in_crop[:, 2:]
    sides = np.linalg.norm(in_crop[0::2] - in_crop[1::2], axis=-1) / shrink
    across = 2 * up[0] * up[1] * sides.min() / max(sides.max(), 1e-12)                  # 1: on a square's diagonal
    side = sides.max() * (1 + ROLL_ROOM * across**2)
    focal = 0.5 * size / min(0.5 * margin * side, _MAX_HALF_FOV)
    c = 0.5 * (size - 1)
    return CropGeometry(int(size), np.array([[focal, 0, c], [0, focal, c], [0, 0, 1.0]]), R, bool(mirrored))


def sample(image: np.ndarray, camera: Camera, geometry: CropGeometry) -> np.ndarray:
    """What the virtual camera sees: (S, S, 3) uint8 (or (S, S), for a mask), black where the image has nothing.

    image: (H, W, 3) or (H, W) uint8. Averages before it samples where the crop has clearly fewer pixels than the image.
    """
    S = geometry.size
    shrink = min(averaging_factor(camera, geometry), max(1, *image.shape[:2]))        # beyond it there is no picture
    homography = _homography(camera, geometry) if cameras.is_pinhole(camera) else None
    if homography is None:
        pixels = _source_pixels(camera, geometry)
    offset = np.zeros(2)
    if shrink > 1:
        covered = _corners(homography, S) if homography is not None else pixels.reshape(2, -1).T
        image, offset = _shrink(image, covered, shrink)
    if image.size == 0:
        return np.zeros((S, S) + image.shape[2:], np.uint8)
    if homography is not None:
        to_small = np.array([[1 / shrink, 0, (0.5 - offset[0]) / shrink - 0.5],
                             [0, 1 / shrink, (0.5 - offset[1]) / shrink - 0.5], [0, 0, 1]])
        out = cv2.warpPerspective(image, to_small @ homography, (S, S), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    else:
        if shrink > 1:
            pixels = (pixels + (0.5 - offset[:, None, None])) / shrink - 0.5
        u, v = pixels.astype(np.float32)
        out = cv2.remap(image, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return cv2.flip(out, 1) if geometry.mirrored else out


def averaging_factor(camera: Camera, geometry: CropGeometry) -> int:
    """Side of the blocks of source pixels that are averaged before the crop samples them: the whole number from which
    the step that is left is 0.7 to 1.4 blocks (1.6 for the first). Beyond that bilinear sampling skips pixels, and a
    network that knows smooth skin sees edges that are none."""
    steps = np.array([[0, 0, 1], [1 / geometry.K[0, 0], 0, 1], [0, 1 / geometry.K[1, 1], 1]])
    px = cameras.project(camera, steps @ geometry.R_camera_crop.T)
    scale = min(np.linalg.norm(px[1] - px[0]), np.linalg.norm(px[2] - px[0]))           # source pixels per crop pixel
    return max(1, int(scale + 0.6)) if np.isfinite(scale) else 1


def take(frame: Frame, detection: Detection, size: int, mirrored: bool = False, margin: float = MARGIN) -> Crop:
    """The crop of one detection. Raises FrameError as ``plan`` does."""
    geometry = plan(frame.camera, detection, size, mirrored, margin)
    image = sample(frame.image, frame.camera, geometry)
    return Crop(image, geometry.K, geometry.R_camera_crop, geometry.mirrored)


def crop_to_image(crop: Crop | CropGeometry, camera: Camera, uv: np.ndarray) -> np.ndarray:
    """Crop pixels (..., 2), as the network saw them -> pixels of the source image (..., 2); NaN off the lens."""
    return cameras.project(camera, rays(crop, uv) @ crop.R_camera_crop.T)


def image_to_crop(crop: Crop | CropGeometry, camera: Camera, px: np.ndarray) -> np.ndarray:
    """Pixels of the source image (..., 2) -> crop pixels (..., 2), as the network sees them; NaN behind the crop."""
    return to_uv(crop, cameras.unproject(camera, px) @ crop.R_camera_crop)


def rays(crop: Crop | CropGeometry, uv: np.ndarray) -> np.ndarray:
    """Crop pixels (..., 2), as the network saw them -> rays (..., 3) with z = 1 in the crop camera, mirroring
    undone."""
    u = 2 * crop.K[0, 2] - uv[..., 0] if crop.mirrored else uv[..., 0]
    x = (u - crop.K[0, 2]) / crop.K[0, 0]
    y = (uv[..., 1] - crop.K[1, 2]) / crop.K[1, 1]
    return np.stack([x, y, np.ones_like(x)], -1)


def to_uv(crop: Crop | CropGeometry, points: np.ndarray) -> np.ndarray:
    """Points (..., 3) in the crop camera -> crop pixels (..., 2) as the network sees them; NaN behind the camera."""
    z = np.where(points[..., 2] > 0, points[..., 2], np.nan)
    u = crop.K[0, 0] * points[..., 0] / z + crop.K[0, 2]
    v = crop.K[1, 1] * points[..., 1] / z + crop.K[1, 2]
    return np.stack([2 * crop.K[0, 2] - u if crop.mirrored else u, v], -1)


def _homography(camera: Camera, geometry: CropGeometry) -> np.ndarray | None:
    """Crop pixels (before the flip) -> source pixels, or None if the crop sees behind the source camera."""
    to_camera = geometry.R_camera_crop @ np.linalg.inv(geometry.K)
    S = geometry.size
    corners = np.array([[0, 0, 1], [S, 0, 1], [0, S, 1], [S, S, 1]], np.float64)
    if np.any((corners @ to_camera.T)[:, 2] < 1e-3):
        return None
    return camera.K @ to_camera


def _corners(homography: np.ndarray, size: int) -> np.ndarray:
    corners = np.array([[-1, -1, 1], [size, -1, 1], [-1, size, 1], [size, size, 1]]) @ homography.T
    return corners[:, :2] / corners[:, 2:]


def _source_pixels(camera: Camera, geometry: CropGeometry) -> np.ndarray:
    """For each crop pixel (before the flip) where it lies in the source image: (2, S, S), columns and rows.

    The lens model is evaluated on a coarse grid and interpolated; where the grid leaves the lens, at every pixel.
    """
    nodes, weights = _interpolation(geometry.size)
    coarse = _exact_source_pixels(camera, geometry, nodes)
    if not np.all(np.isfinite(coarse)):
        exact = _exact_source_pixels(camera, geometry, np.arange(geometry.size, dtype=np.float64))
        return np.where(np.isfinite(exact), exact, _NOWHERE).clip(_NOWHERE, -_NOWHERE)
    return weights @ coarse.astype(np.float32) @ weights.T


@lru_cache(maxsize=8)
def _interpolation(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (n,) in crop pixels, one spare beyond each border, and the weights (size, n) of Catmull-Rom cubics."""
    n = -(-(size - 1) // _GRID) + 3
    at = np.arange(size) / _GRID + 1
    cell = np.minimum(at.astype(int), n - 3)
    f = at - cell
    weights = np.zeros((size, n), np.float32)
    for k, w in enumerate(((-f + 2 * f**2 - f**3) / 2, (2 - 5 * f**2 + 3 * f**3) / 2,
                           (f + 4 * f**2 - 3 * f**3) / 2, (f**3 - f**2) / 2)):
        weights[np.arange(size), cell - 1 + k] = w
    return (np.arange(n) - 1.0) * _GRID, weights


def _exact_source_pixels(camera: Camera, geometry: CropGeometry, at: np.ndarray) -> np.ndarray:
    """The same at the crop pixels at x at (n,), from the lens model itself: (2, n, n) float64, NaN off the lens."""
    x = (at - geometry.K[0, 2]) / geometry.K[0, 0]
    y = (at - geometry.K[1, 2]) / geometry.K[1, 1]
    points = np.stack([*np.meshgrid(x, y), np.ones((len(at), len(at)))], -1)
    return np.moveaxis(cameras.project(camera, points @ geometry.R_camera_crop.T), -1, 0)


def _shrink(image: np.ndarray, covered: np.ndarray, factor: int):
    """The part of the image round the points covered (n, 2) px, averaged over factor x factor blocks; and its corner
    (2,) pixels."""
    H, W = image.shape[:2]
    low, high = covered.min(0) - 2 * factor, covered.max(0) + 2 * factor
    x0, y0 = np.floor(np.clip(low, 0, (W, H)) / factor).astype(int) * factor
    x1, y1 = np.ceil(np.clip(high, 0, (W, H)) / factor).astype(int) * factor
    part = image[y0:min(y1, H), x0:min(x1, W)]
    if not part.size:
        return part, np.zeros(2)
    right, bottom = x1 - x0 - part.shape[1], y1 - y0 - part.shape[0]
    if right or bottom:
        part = cv2.copyMakeBorder(part, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=0)
    part = cv2.resize(part, ((x1 - x0) // factor, (y1 - y0) // factor), interpolation=cv2.INTER_AREA)
    return part, np.array([x0, y0], np.float64)
