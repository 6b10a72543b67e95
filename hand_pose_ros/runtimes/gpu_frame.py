"""Crops on the device: the frame goes up once, every hand is cut out and normalised there, only joints come down.

The fast twin of ``crop.sample``: the same virtual camera, the same averaging where a crop is coarser than the frame,
black outside. The sampling grid is built by hand, since TensorRT has no converter for ``affine_grid`` and the frame's
size must not be baked into an engine.
"""
from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Sequence

import numpy as np

from .. import camera as cameras
from .. import crop as crops
from .. import detect
from ..crop import CropGeometry
from ..errors import FrameError
from ..estimate import split
from ..types import Camera, CropPose, Frame

if TYPE_CHECKING:
    import torch

NODE = 8
"""Crop pixels between the nodes where a lens model is evaluated on the CPU; the device interpolates between them."""
NOWHERE = -10.0
"""Sampling coordinate of a crop pixel that looks at nothing: far outside -1 to 1, so it becomes black."""


class DeviceFrame:
    """One camera image on the device.

    image: (H, W, 3) uint8 RGB. device: "cuda", or "cpu" for tests. Raises FrameError for another shape or type.
    """

    def __init__(self, image: np.ndarray, device: str) -> None:
        import torch
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise FrameError(f"the frame must be (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")
        host_image = torch.from_numpy(np.require(image, requirements=["C", "W"]))
        if device != "cpu":
            host_image = host_image.pin_memory()
        self.planes = host_image.to(device, non_blocking=True).permute(2, 0, 1)[None].float()      # (1, 3, H, W)
        self._averaged = {1: self.planes}

    def crops(self, camera: Camera, geometries: Sequence[CropGeometry]) -> torch.Tensor:
        """What each virtual camera sees: (N, S, S, 3) uint8 on the device, N >= 1, all of one size."""
        import torch
        factors = [crops.averaging_factor(camera, geometry) for geometry in geometries]
        planes = [self._average(factor) for factor in factors]
        # From source pixels to -1 and 1, the outer pixel edges of the averaged frame: the same in x and y, by matrices.
        scales = [2.0 / (factor * np.array([plane.shape[3], plane.shape[2]])) for factor, plane in zip(factors, planes)]
        make = _pinhole_grids if cameras.is_pinhole(camera) else _lens_grids
        grids = make(camera, geometries, scales, self.planes.device)                    # (N, S, S, 2), one upload
        cut = [torch.nn.functional.grid_sample(plane, grid[None], "bilinear", "zeros", align_corners=False)
               for plane, grid in zip(planes, grids)]
        return torch.cat(cut).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def letterboxed(self, size: tuple[int, int]) -> torch.Tensor:
        """The frame fitted into ``size`` (H, W) in the middle of black, as ``detect.letterbox``: (1, H, W, 3) uint8."""
        import torch
        height, width = self.planes.shape[2:]
        (h, w), (top, left), scale, _ = detect.fitted((height, width), size)
        blocks = detect.whole_blocks((height, width), scale)
        if blocks == 1 and scale < 1:
            rows, columns = (_on_device(*pair, self.planes.device) for pair in ((height, h), (width, w)))
            small = rows @ self.planes @ columns.T
        else:
            small = torch.nn.functional.interpolate(self._average(blocks), (h, w), mode="bilinear", align_corners=False)
        placed = torch.nn.functional.pad(small, (left, size[1] - w - left, top, size[0] - h - top))
        return placed.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def _average(self, factor: int) -> torch.Tensor:
        """The frame averaged over factor x factor blocks, black beyond its right and lower edge."""
        import torch
        if factor not in self._averaged:
            height, width = self.planes.shape[2:]
            padded = torch.nn.functional.pad(self.planes, (0, -width % factor, 0, -height % factor))
            self._averaged[factor] = torch.nn.functional.avg_pool2d(padded, factor)
        return self._averaged[factor]


class Uploaded:
    """The newest frame on the device: goes up once, however often detector and pose network look at it."""

    def __init__(self) -> None:
        self._image: np.ndarray | None = None
        self._frame: DeviceFrame | None = None

    def __call__(self, image: np.ndarray, device: str) -> DeviceFrame:
        """The image on the device; the one that is there already if it is the same array."""
        if self._frame is None or self._image is not image:
            self._image, self._frame = image, DeviceFrame(image, device)
        return self._frame


class DeviceDense:
    """Letterbox and detector network of one frame: ``detect.Detector.look``.

    detector: a runtime with ``run_on_device(images) -> outputs``; while it has no ``device`` but the CPU (an engine is
    still being built) the picture is made there.
    """

    def __init__(self, detector, uploaded: Uploaded) -> None:
        self.detector, self.uploaded = detector, uploaded

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The detector's dense map (8, h, w) of an image (H, W, 3) uint8."""
        size, device = self.detector.source.input_shape[:2], self.detector.device
        if device == "cpu":
            return self.detector(detect.letterbox(image, size)[0][None])[0][0]
        return self.detector.run_on_device(self.uploaded(image, device).letterboxed(size))[0][0]


class DeviceLook:
    """Crops and poses of one frame: ``pipeline.Pipeline.look``.

    pose: a runtime as for ``DeviceDense``.
    """

    def __init__(self, pose, uploaded: Uploaded) -> None:
        self.pose, self.uploaded = pose, uploaded

    def __call__(self, frame: Frame, geometries: Sequence[CropGeometry]) -> list[CropPose]:
        """The pose in each crop of the frame, in order."""
        if not geometries:
            return []
        return split(self.outputs(frame.image, frame.camera, geometries), len(geometries))

    def outputs(self, image: np.ndarray, camera: Camera, geometries: Sequence[CropGeometry]) -> tuple[np.ndarray, ...]:
        """What the pose network says of each crop of the image, N >= 1 of them: its outputs, first dimension N."""
        device, limit = self.pose.device, self.pose.max_batch
        if device == "cpu":
            return self.pose(np.stack([crops.sample(image, camera, geometry) for geometry in geometries]))
        images = self.uploaded(image, device).crops(camera, geometries)
        parts = [self.pose.run_on_device(images[start:start + limit]) for start in range(0, len(images), limit)]
        return tuple(np.concatenate(columns) for columns in zip(*parts))


@functools.lru_cache(maxsize=8)
def area_weights(source: int, target: int) -> np.ndarray:
    """(target, source) float32 weights that average a line of ``source`` pixels down to ``target``: each target pixel
    is the mean of what it covers, partly covered pixels by their part (as cv2.INTER_AREA)."""
    edges = np.arange(target + 1) * (source / target)
    pixel = np.arange(source)
    covered = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return (covered.clip(0) * (target / source)).astype(np.float32)


@functools.lru_cache(maxsize=8)
def _on_device(source: int, target: int, device) -> torch.Tensor:
    import torch
    return torch.from_numpy(area_weights(source, target)).to(device)


def _uploaded(values: np.ndarray, device) -> torch.Tensor:
    """float32 on the device, without waiting for what runs there."""
    import torch
    tensor = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def _pinhole_grids(camera: Camera, geometries: Sequence[CropGeometry], scales, device) -> torch.Tensor:
    """(N, S, S, 2) sampling coordinates of each crop's pixels: one homography each, mirroring included."""
    import torch
    size, matrices = geometries[0].size, []
    for geometry, (x, y) in zip(geometries, scales):
        flip = np.array([[-1.0, 0, size - 1], [0, 1, 0], [0, 0, 1]]) if geometry.mirrored else np.eye(3)
        to_grid = np.array([[x, 0, 0.5 * x - 1], [0, y, 0.5 * y - 1], [0, 0, 1]])
        matrices.append(to_grid @ camera.K @ geometry.R_camera_crop @ np.linalg.inv(geometry.K) @ flip)
    m = _uploaded(np.array(matrices), device)[:, None, None]                            # (N, 1, 1, 3, 3)
    at = torch.arange(size, device=device, dtype=torch.float32)
    points = at[None, :, None] * m[..., 0] + at[:, None, None] * m[..., 1] + m[..., 2]
    in_front = points[..., 2:] > 1e-6
    return torch.where(in_front, points[..., :2] / points[..., 2:].clamp(min=1e-6), NOWHERE)


def _lens_grids(camera: Camera, geometries: Sequence[CropGeometry], scales, device) -> torch.Tensor:
    """The same through a lens model, which is evaluated on a coarse grid and interpolated cubically."""
    import torch
    size = geometries[0].size
    nodes = -(-size // NODE) + 4                            # two spare nodes on each side keep the borders interpolated
    coarse, exact = [], {}
    for k, (geometry, scale) in enumerate(zip(geometries, scales)):
        coarse.append((_projected(camera, geometry, (np.arange(nodes) - 1.5) * NODE - 0.5) + 0.5) * scale - 1.0)
        if not np.isfinite(coarse[k]).all():                # the lens ends inside the crop
            whole = (_projected(camera, geometry, np.arange(size)) + 0.5) * scale - 1.0
            exact[k] = np.nan_to_num(whole, nan=NOWHERE).clip(NOWHERE, -NOWHERE)
            coarse[k] = np.full_like(coarse[k], NOWHERE)
    planes = _uploaded(np.array(coarse), device).permute(0, 3, 1, 2)
    # With antialias torch takes the cubic of a = -0.5, which keeps straight lines straight; without, a = -0.75, which
    # bends them by half a pixel.
    fine = torch.nn.functional.interpolate(planes, scale_factor=NODE, mode="bicubic", align_corners=False,
                                           antialias=True)
    grids = [*fine[:, :, 2 * NODE:2 * NODE + size, 2 * NODE:2 * NODE + size].permute(0, 2, 3, 1)]
    for k, values in exact.items():
        grids[k] = _uploaded(values, device)
    return torch.stack([grid.flip(1) if geometry.mirrored else grid for grid, geometry in zip(grids, geometries)])


def _projected(camera: Camera, geometry: CropGeometry, at: np.ndarray) -> np.ndarray:
    """(n, n, 2) source pixels of the crop pixels at x at."""
    x = (at - geometry.K[0, 2]) / geometry.K[0, 0]
    y = (at - geometry.K[1, 2]) / geometry.K[1, 1]
    rays = np.stack([*np.meshgrid(x, y), np.ones((len(at), len(at)))], -1)
    return cameras.project(camera, rays @ geometry.R_camera_crop.T)
