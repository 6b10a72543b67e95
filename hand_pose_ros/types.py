"""The values that travel through the pipeline. Every convention of the package is said here, once.

Axes      camera optical frame: x right, y down, z forward (REP 103)
Pixels    (0, 0) is the centre of the top-left pixel; (u, v) = (column, row)
Colour    RGB, uint8
Units     SI; any other unit is in the name (_px, _ns, _hz, _mm). "hand lengths" are defined in skeleton.hand_length
Times     integer nanoseconds of the image's own header.stamp
Poses     T_a_b and R_a_b map from b to a; quaternions are xyzw
Boxes     (x0, y0, x1, y1) in pixels of the source image, tight round the 21 joints (not round the skin)
Joints    21, in the order of skeleton.JOINT_NAMES; HandPose21.msg says where they lie (skeleton.joint_centres)
Side      right_probability is the probability that the hand is a person's right hand
Unknown   NaN, never 0. "No hand" is an empty tuple
Left      left hands are mirrored in crop.py and mirrored back in lift.py, nowhere else; networks see right hands
"""
from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np


class JointState(IntEnum):
    """What is known of one joint in one image; same numbers as the constants of HandPose21.msg."""

    UNKNOWN = 0
    VISIBLE = 1
    SELF_OCCLUDED = 2
    OBJECT_OCCLUDED = 3
    OUTSIDE_IMAGE = 4
    EXTRAPOLATED = 5


class ScaleSource(IntEnum):
    """Where a metric scale came from; same numbers as the constants of HandPose21.msg."""

    NONE = 0
    ASSUMED = 1
    CALIBRATED_HAND = 2
    DEPTH = 3
    MULTI_VIEW = 4


@dataclass(frozen=True, eq=False)
class Camera:
    """A calibrated (or, with ``calibrated=False``, assumed) camera. Projection lives in camera.py."""

    width: int
    height: int
    K: np.ndarray                                   # (3, 3) float64, pixels
    distortion_model: str = "plumb_bob"             # plumb_bob | rational_polynomial | equidistant
    D: np.ndarray = field(default_factory=lambda: np.zeros(5))   # (n,) float64, OpenCV order of the model
    frame_id: str = "camera_color_optical_frame"
    calibrated: bool = True                         # False: K is a guess from an assumed field of view


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera image with its calibration and capture time."""

    image: np.ndarray                               # (H, W, 3) uint8 RGB
    camera: Camera
    stamp_ns: int
    depth: np.ndarray | None = None                 # (H, W) float32 metres along z, registered to image; NaN unknown


@dataclass(frozen=True, eq=False)
class Detection:
    """A hand found in the whole image, or predicted there by the tracker."""

    box: np.ndarray                                 # (4,) float64 pixels
    score: float                                    # 0..1
    right_probability: float                        # 0..1, NaN unknown
    up: np.ndarray                                  # (2,) image direction wrist -> middle MCP, unit length; NaN unknown


@dataclass(frozen=True, eq=False)
class Crop:
    """A virtual pinhole camera at the source camera's centre that looks at one hand, rolled so that the hand points up.

    The image is the network's input. If ``mirrored``, its columns are flipped after sampling, so that a left hand
    looks like a right one; K and R_camera_crop describe the crop before that flip.
    """

    image: np.ndarray                               # (S, S, 3) uint8 RGB
    K: np.ndarray                                   # (3, 3) float64, pixels of the crop
    R_camera_crop: np.ndarray                       # (3, 3) float64
    mirrored: bool


@dataclass(frozen=True, eq=False)
class CropPose:
    """What the pose network says of one crop, in the crop as the network saw it (still mirrored if the crop is)."""

    uv: np.ndarray                                  # (21, 2) pixels of the crop
    xyz: np.ndarray                                 # (21, 3) hand lengths, MANO's wrist at the origin, crop camera axes
    uv_sigma: np.ndarray                            # (21,) pixels of the crop, one standard deviation per axis
    xyz_sigma: np.ndarray                           # (21,) hand lengths, one standard deviation along z
    visibility: np.ndarray                          # (21,) probability that the joint is not hidden
    presence: float                                 # 0..1 probability that the crop shows a hand
    right_probability: float  # 0..1 of the hand as the crop shows it: near 1 if mirroring was right


@dataclass(frozen=True, eq=False)
class Hand:
    """One hand in one image, in the source camera's optical frame."""

    score: float                                    # 0..1
    right_probability: float                        # 0..1
    box: np.ndarray                                 # (4,) float64 pixels
    joints_px: np.ndarray                           # (21, 2) float64 pixels of the source image
    joints_m: np.ndarray                            # (21, 3) float64 metres in the camera frame; NaN if not metric
    joints_rel_m: np.ndarray                        # (21, 3) float64 metres, wrist at the origin, camera axes
    confidence: np.ndarray                          # (21,) 0..1
    state: np.ndarray                               # (21,) uint8 JointState
    sigma_ray_m: np.ndarray                         # (21,) metres, one standard deviation along the viewing ray
    sigma_across_m: np.ndarray                      # (21,) metres, one standard deviation across it, per axis
    hand_length_m: float                            # metres, see skeleton.hand_length: of the stretched hand
    scale_source: ScaleSource = ScaleSource.ASSUMED
    track_id: int = 0                               # 0 until tracking.py has named it; then 1, 2, ...

    @property
    def is_right(self) -> bool:
        return self.right_probability >= 0.5


@dataclass(frozen=True, eq=False)
class Sample:
    """One labelled virtual hand, in the terms above: what synthesis writes and training reads."""

    image: np.ndarray                               # (H, W, 3) uint8 RGB
    camera: Camera
    joints_m: np.ndarray                            # (21, 3) float64 metres in the camera frame
    joints_px: np.ndarray                           # (21, 2) float64 pixels
    state: np.ndarray                               # (21,) uint8 JointState
    is_right: bool
    depth: np.ndarray | None = None                 # (H, W) float32 metres, NaN where nothing was rendered
    parts: np.ndarray | None = None  # (H, W) uint8: 0 not this hand, 1 forearm, 2 palm, 3..7 thumb..little
