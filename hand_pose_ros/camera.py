"""Pixels <-> viewing rays for the lens models of sensor_msgs/CameraInfo, and the checks a CameraInfo must pass.

Models and coefficient order are OpenCV's: ``plumb_bob`` (k1 k2 p1 p2 k3; Brown 1966), ``rational_polynomial``
(k1 k2 p1 p2 k3 k4 k5 k6, then thin prism s1..s4 and sensor tilt tx ty) and ``equidistant`` (k1..k4; Kannala and
Brandt 2006). A lens polynomial is only meant for the part of the image it was fitted to: beyond the radius where it
stops growing it folds back, so both directions answer NaN there instead of a wrong pixel.
"""
from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from hand_pose_ros.errors import FrameError
from hand_pose_ros.types import Camera

COEFFICIENTS = {
    "plumb_bob": (0, 4, 5),
    "rational_polynomial": (0, 8, 12, 14),
    "equidistant": (0, 4),
}
"""Numbers of coefficients that each model may come with; none at all means an ideal pinhole."""

MODEL_ALIASES = {"": "plumb_bob", "none": "plumb_bob", "fisheye": "equidistant", "kannala_brandt4": "equidistant"}
"""Names that drivers use for the same models."""

_WIDEST = np.deg2rad(89.0)
"""Largest angle off the axis: rays are given with z = 1, so 90 degrees cannot be written."""


def project(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Points in the camera's optical frame (..., 3) [m] -> pixels (..., 2); NaN behind the camera or off the lens."""
    points = np.asarray(points, np.float64)
    z = points[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        xy = points[..., :2] / np.where(z > 0, z, np.nan)[..., None]
    return _to_pixels(camera, _distort(camera, xy))


def unproject(camera: Camera, px: np.ndarray) -> np.ndarray:
    """Pixels (..., 2) -> viewing rays (..., 3) with z = 1; NaN where the lens model has no ray for the pixel."""
    px = np.asarray(px, np.float64)
    K = camera.K
    y = (px[..., 1] - K[1, 2]) / K[1, 1]
    x = (px[..., 0] - K[0, 2] - K[0, 1] * y) / K[0, 0]
    xy = _undistort(camera, np.stack([x, y], -1))
    return np.concatenate([xy, np.where(np.isnan(xy[..., :1]), np.nan, 1.0)], -1)


def is_pinhole(camera: Camera) -> bool:
    """True if straight lines stay straight: no lens distortion."""
    return camera.distortion_model != "equidistant" and not np.any(camera.D)


def assumed(width: int, height: int, hfov_deg: float, frame_id: str = "camera_color_optical_frame") -> Camera:
    """A stand-in for a missing calibration: an ideal pinhole of the given horizontal field of view [degrees].

    Raises FrameError if the field of view is not between 1 and 179 degrees.
    """
    if not 1.0 <= hfov_deg <= 179.0:
        raise FrameError(f"assumed_hfov_deg is {hfov_deg}: give the camera's horizontal field of view, 1 to 179 "
                         "degrees")
    focal = 0.5 * width / np.tan(0.5 * np.deg2rad(hfov_deg))
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]], np.float64)
    return Camera(int(width), int(height), K, frame_id=frame_id, calibrated=False)


def resized(camera: Camera, width: int, height: int) -> Camera:
    """The same camera after its image was resized to width x height pixels (the outer borders stay where they are)."""
    scale = np.array([width / camera.width, height / camera.height])
    K = camera.K.copy()
    K[:2] *= scale[:, None]
    K[:2, 2] += 0.5 * scale - 0.5                       # pixel (0, 0) is a pixel's centre, not its corner
    return replace(camera, width=int(width), height=int(height), K=K)


def from_camera_info(info, image_width: int, image_height: int, rectified: bool = False) -> Camera:
    """A Camera from a sensor_msgs/CameraInfo (any object with its fields) and the size of the image it came with.

    ``rectified``: the image went through image_proc/rectify, so P holds and there is no distortion left; otherwise K
    and D hold. Region of interest and binning are applied as CameraInfo.msg defines them (offset first, then
    binning). A CameraInfo of another size is scaled if both sides differ by the same factor.
    Raises FrameError, naming the value and the remedy, for everything that cannot be used.
    """
    K = _matrix(info, "P" if rectified else "K")
    model = str(getattr(info, "distortion_model", "") or "")
    D = np.asarray(_field(info, "d", "D", default=()), np.float64).ravel()
    if rectified:
        model, D = "plumb_bob", np.zeros(0)
    model = MODEL_ALIASES.get(model, model)
    if model == "equidistant" and not D[4:].any():      # drivers that always send five fill up with zeros
        D = D[:4]
    check_distortion(model, D)
    width, height = int(info.width), int(info.height)
    if width <= 0 or height <= 0:
        raise FrameError(f"camera_info says the image is {width} x {height} pixels: the driver must fill width and "
                         "height; calibrate the camera or fix its camera_info")
    full = Camera(width, height, K, model, D if D.size else np.zeros(5 if model == "plumb_bob" else 4),
                  str(getattr(getattr(info, "header", None), "frame_id", "")))
    if model == "rational_polynomial" and not D.size:
        full = replace(full, D=np.zeros(8))
    part = _apply_roi_and_binning(full, info)
    for candidate in (part, full):                      # many drivers fill roi and binning and send the full image
        if (candidate.width, candidate.height) == (image_width, image_height):
            return candidate
    ratio_x, ratio_y = image_width / part.width, image_height / part.height
    one_pixel = max(1.0 / part.width, 1.0 / part.height) * max(ratio_x, ratio_y, 1.0)
    if abs(ratio_x - ratio_y) > one_pixel:
        raise FrameError(f"camera_info is for {part.width} x {part.height} pixels but the image has {image_width} x "
                         f"{image_height}, another shape: remap camera_info to the topic that belongs to this image")
    return resized(part, image_width, image_height)


def seems_rectified(topic: str, info) -> bool:
    """Whether images are rectified by the name of their topic (image_rect of image_proc) although their camera_info,
    which is the raw images' one, has a distortion: taken for raw they would be undistorted twice."""
    last = topic.removesuffix("/compressed").rpartition("/")[2]
    return "rect" in last.split("_") and any(_field(info, "d", "D", default=()))


def check_distortion(model: str, D: np.ndarray) -> None:
    """Raises FrameError if the model is unknown or D (n,) does not fit it."""
    if model not in COEFFICIENTS:
        raise FrameError(f"distortion model '{model}' is not known; choose one of {', '.join(COEFFICIENTS)}, "
                         "or rectify the image first and set image_is_rectified")
    if D.size not in COEFFICIENTS[model]:
        raise FrameError(f"distortion model '{model}' came with {D.size} coefficients, it takes "
                         f"{' or '.join(map(str, COEFFICIENTS[model]))}: fix D of the camera_info")
    if not np.all(np.isfinite(D)):
        raise FrameError(f"distortion coefficients are not finite ({D.tolist()}): calibrate the camera again")


def _field(info, *names, default):
    """The first of the names that the message has: ROS 2 writes k, ROS 1 wrote K."""
    for name in names:
        value = getattr(info, name, None)
        if value is not None:
            return value
    return default


def _matrix(info, name: str) -> np.ndarray:
    """K, or the left 3x3 of P, as (3, 3) float64."""
    values = np.asarray(_field(info, name.lower(), name, default=()), np.float64).ravel()
    shape = (3, 4) if name == "P" else (3, 3)
    if values.size != shape[0] * shape[1]:
        raise FrameError(f"camera_info has {values.size} numbers in {name}, it needs {shape[0] * shape[1]}")
    K = values.reshape(shape)[:, :3].copy()
    if not np.all(np.isfinite(K)):
        raise FrameError(f"camera_info has numbers in {name} that are not finite: calibrate the camera again")
    if K[0, 0] == 0 or K[1, 1] == 0:
        other = "clear image_is_rectified or fill P" if name == "P" else "calibrate it (camera_calibration)"
        raise FrameError(f"camera_info has {name}[0,0] = {K[0, 0]:g} and {name}[1,1] = {K[1, 1]:g}, which means that "
                         f"the camera is not calibrated: {other}, or stop its camera_info to use assumed_hfov_deg")
    if K[0, 0] < 0 or K[1, 1] < 0:
        raise FrameError(f"camera_info has a negative focal length in {name} ({K[0, 0]:g}, {K[1, 1]:g}): "
                         "un-flip the image in the driver, or set mirrored_image for a mirrored one")
    if np.any(np.abs(K[2] - (0, 0, 1)) > 1e-9) or K[1, 0] != 0:
        raise FrameError(f"camera_info has {name} = {K.tolist()}, which is not a pinhole matrix: its last row must be "
                         "0 0 1")
    return K


def _apply_roi_and_binning(camera: Camera, info) -> Camera:
    """The part of the sensor that the image shows. Half-pixel exact: pixel (0, 0) is a centre."""
    roi = getattr(info, "roi", None)
    x0, y0 = int(getattr(roi, "x_offset", 0)), int(getattr(roi, "y_offset", 0))
    width = int(getattr(roi, "width", 0)) or camera.width - x0
    height = int(getattr(roi, "height", 0)) or camera.height - y0
    bin_x = int(getattr(info, "binning_x", 0)) or 1
    bin_y = int(getattr(info, "binning_y", 0)) or 1
    if x0 + width > camera.width or y0 + height > camera.height or width <= 0 or height <= 0:
        raise FrameError(f"camera_info has a region of interest of {width} x {height} at ({x0}, {y0}), which does not "
                         f"fit into {camera.width} x {camera.height}: fix roi in the driver")
    if not 0 < bin_x <= width or not 0 < bin_y <= height:
        raise FrameError(f"camera_info bins {bin_x} x {bin_y} pixels of {width} x {height}: fix binning in the driver")
    K = camera.K.copy()
    K[:2, 2] -= (x0, y0)
    cut = replace(camera, width=width, height=height, K=K)
    if bin_x == bin_y == 1:
        return cut
    return resized(replace(cut, width=width // bin_x * bin_x, height=height // bin_y * bin_y),
                   width // bin_x, height // bin_y)


def _to_pixels(camera: Camera, xy: np.ndarray) -> np.ndarray:
    K = camera.K
    return np.stack([K[0, 0] * xy[..., 0] + K[0, 1] * xy[..., 1] + K[0, 2], K[1, 1] * xy[..., 1] + K[1, 2]], -1)


def _distort(camera: Camera, xy: np.ndarray) -> np.ndarray:
    """Ideal image plane (..., 2) -> the plane behind the lens (..., 2)."""
    if is_pinhole(camera):
        return xy
    lens = _lens(camera.distortion_model, tuple(np.asarray(camera.D, np.float64).tolist()))
    return lens.distort(xy)


def _undistort(camera: Camera, xy: np.ndarray) -> np.ndarray:
    """The plane behind the lens (..., 2) -> the ideal image plane (..., 2): the exact inverse of _distort."""
    if is_pinhole(camera):
        return xy
    lens = _lens(camera.distortion_model, tuple(np.asarray(camera.D, np.float64).tolist()))
    return lens.undistort(xy)


@lru_cache(maxsize=64)
def _lens(model: str, D: tuple):
    return _Equidistant(D) if model == "equidistant" else _Brown(D)


def _first_positive_root(polynomial: np.ndarray) -> float:
    """Smallest positive real root of a polynomial (coefficients from the constant up), or infinity."""
    polynomial = np.trim_zeros(np.where(np.abs(polynomial) > 1e-12, polynomial, 0.0), "b")
    roots = np.polynomial.polynomial.polyroots(polynomial) if len(polynomial) > 1 else []
    real = [root.real for root in np.atleast_1d(roots) if abs(root.imag) < 1e-9 * (1 + abs(root)) and root.real > 0]
    return min(real, default=np.inf)


class _Brown:
    """plumb_bob and rational_polynomial: radial, tangential, thin prism and tilt, OpenCV's calib3d equations."""

    def __init__(self, D: tuple):
        self.D = k = np.zeros(14)
        k[:len(D)] = D
        polynomial = np.polynomial.polynomial
        self.numerator = np.array([1.0, k[0], k[1], k[4]])
        self.denominator = np.array([1.0, k[5], k[6], k[7]])
        N, M = self.numerator, self.denominator
        dN, dM = polynomial.polyder(N), polynomial.polyder(M)
        # d/dr of r N(r2)/M(r2) has this numerator in r2; where it reaches zero the lens folds back
        slope = polynomial.polysub(polynomial.polymul(dN, M), polynomial.polymul(N, dM))
        slope = polynomial.polyadd(polynomial.polymul(N, M), polynomial.polymul([0.0, 2.0], slope))
        self.r_max = min(np.sqrt(min(_first_positive_root(slope), _first_positive_root(M))), np.tan(_WIDEST))
        self.table_r = np.tan(np.linspace(0, np.arctan(self.r_max), 256))
        with np.errstate(divide="ignore", invalid="ignore"):            # a rational lens may end at a pole
            self.table_rd = (self.table_r * polynomial.polyval(self.table_r**2, N)
                             / polynomial.polyval(self.table_r**2, M))
        self.table_rd = np.maximum.accumulate(np.where(np.isfinite(self.table_rd), self.table_rd, 0.0))
        self.tilt = _tilt(k[12], k[13]) if k[12] or k[13] else None

    def distort(self, xy: np.ndarray) -> np.ndarray:
        return np.stack(self._value_and_slopes(xy[..., 0], xy[..., 1], slopes=False)[:2], -1)

    def _value_and_slopes(self, x: np.ndarray, y: np.ndarray, slopes: bool = True):
        """Distorted xd, yd, NaN beyond r_max, and d xd/dx, d xd/dy, d yd/dx, d yd/dy; all of the shape of x."""
        k = self.D
        r2 = x * x + y * y
        r2 = np.where(r2 < self.r_max**2, r2, np.nan)
        M = 1 + r2 * (k[5] + r2 * (k[6] + r2 * k[7]))
        radial = (1 + r2 * (k[0] + r2 * (k[1] + r2 * k[4]))) / M
        xy = x * y
        xd = x * radial + 2 * k[2] * xy + k[3] * (r2 + 2 * x * x) + r2 * (k[8] + r2 * k[9])
        yd = y * radial + 2 * k[3] * xy + k[2] * (r2 + 2 * y * y) + r2 * (k[10] + r2 * k[11])
        J = ()
        if slopes:
            dN = k[0] + r2 * (2 * k[1] + r2 * 3 * k[4])
            dM = k[5] + r2 * (2 * k[6] + r2 * 3 * k[7])
            slope = 2 * (dN - radial * dM) / M                                       # d radial = slope (x dx + y dy)
            prism_x, prism_y = 2 * (k[8] + 2 * r2 * k[9]), 2 * (k[10] + 2 * r2 * k[11])
            both = slope * xy + 2 * (k[2] * x + k[3] * y)
            J = (radial + slope * x * x + 2 * k[2] * y + (6 * k[3] + prism_x) * x, both + prism_x * y,
                 both + prism_y * x, radial + slope * y * y + 2 * k[3] * x + (6 * k[2] + prism_y) * y)
        if self.tilt is not None:
            T = self.tilt
            w = T[2, 0] * xd + T[2, 1] * yd + T[2, 2]
            xd, yd = (T[0, 0] * xd + T[0, 1] * yd + T[0, 2]) / w, (T[1, 0] * xd + T[1, 1] * yd + T[1, 2]) / w
            if slopes:
                a, b = (T[0, 0] - xd * T[2, 0]) / w, (T[0, 1] - xd * T[2, 1]) / w
                c, d = (T[1, 0] - yd * T[2, 0]) / w, (T[1, 1] - yd * T[2, 1]) / w
                J = (a * J[0] + b * J[2], a * J[1] + b * J[3], c * J[0] + d * J[2], c * J[1] + d * J[3])
        return (xd, yd, *J)

    def undistort(self, xyd: np.ndarray) -> np.ndarray:
        u, v = xyd[..., 0], xyd[..., 1]
        rd = np.hypot(u, v)
        r = np.minimum(np.interp(rd, self.table_rd, self.table_r), 0.999 * self.r_max)
        scale = np.where(rd > 1e-12, r / np.maximum(rd, 1e-12), 1.0)
        x, y = u * scale, v * scale
        with np.errstate(divide="ignore", invalid="ignore"):
            for _ in range(30):                         # Newton; the table starts it inside its basin
                xd, yd, xx, xy, yx, yy = self._value_and_slopes(x, y)
                du, dv = u - xd, v - yd
                error = np.maximum(np.abs(du), np.abs(dv))
                if not np.any(error > 1e-14 * (1 + rd)):
                    break
                det = xx * yy - xy * yx
                dx, dy = (yy * du - xy * dv) / det, (xx * dv - yx * du) / det
                size = np.hypot(dx, dy)
                shorten = np.minimum(1.0, 0.25 * (1 + r) / np.maximum(size, 1e-12))
                x, y = x + dx * shorten, y + dy * shorten
            good = error < 1e-9 * (1 + rd)
        return np.where(good[..., None], np.stack([x, y], -1), np.nan)


class _Equidistant:
    """Fisheye: the distance from the centre grows with a polynomial of the angle (Kannala and Brandt 2006, eq. 6)."""

    def __init__(self, D: tuple):
        k = np.zeros(4)
        k[:len(D)] = D
        self.k = k
        derivative = np.array([1.0, 3 * k[0], 5 * k[1], 7 * k[2], 9 * k[3]])      # in theta squared
        self.theta_max = min(np.sqrt(_first_positive_root(derivative)), _WIDEST)
        self.table = np.linspace(0, self.theta_max, 256)
        self.table_d = self._radius(self.table)

    def _radius(self, theta: np.ndarray) -> np.ndarray:
        k, t2 = self.k, theta * theta
        return theta * (1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3]))))

    def distort(self, xy: np.ndarray) -> np.ndarray:
        r = np.linalg.norm(xy, axis=-1)
        theta = np.arctan(r)
        theta = np.where(theta < self.theta_max, theta, np.nan)
        scale = np.where(r > 1e-9, self._radius(theta) / np.maximum(r, 1e-9), 1.0)
        return xy * scale[..., None]

    def undistort(self, xyd: np.ndarray) -> np.ndarray:
        rd = np.linalg.norm(xyd, axis=-1)
        k = self.k
        theta = np.interp(rd, self.table_d, self.table)
        for _ in range(20):
            t2 = theta * theta
            slope = 1 + t2 * (3 * k[0] + t2 * (5 * k[1] + t2 * (7 * k[2] + t2 * 9 * k[3])))
            step = (rd - self._radius(theta)) / np.maximum(slope, 1e-6)
            theta = np.clip(theta + step, 0.0, self.theta_max)
            if not np.any(np.abs(step) > 1e-15):
                break
        good = (np.abs(self._radius(theta) - rd) < 1e-9 * (1 + rd)) & (theta < self.theta_max)
        scale = np.where(rd > 1e-9, np.tan(theta) / np.maximum(rd, 1e-9), 1.0)
        return np.where(good[..., None], xyd * scale[..., None], np.nan)


def _tilt(tau_x: float, tau_y: float) -> np.ndarray:
    """Homography of a tilted sensor (Scheimpflug lens), as computeTiltProjectionMatrix of OpenCV's calib3d."""
    cx, sx, cy, sy = np.cos(tau_x), np.sin(tau_x), np.cos(tau_y), np.sin(tau_y)
    R = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]]) @ np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    return np.array([[R[2, 2], 0, -R[0, 2]], [0, R[2, 2], -R[1, 2]], [0, 0, 1]]) @ R


def has_part(info: Any) -> bool:
    """Whether a CameraInfo speaks of binning or a region of interest, which explain another image size. Drivers also
    fill in the whole image."""
    return info.binning_x > 1 or info.binning_y > 1 or 0 < info.roi.width < info.width \
        or 0 < info.roi.height < info.height
