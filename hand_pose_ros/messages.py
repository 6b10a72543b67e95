"""Hands <-> HandPose21Array by attribute access, without importing ROS: empty messages are passed in and filled.

Messages of rclpy and those that rosbags makes from the same definitions have the same attributes, so one function
serves the node and the bags. Lengths and number types are made right here, because rclpy does not check them by default
and a wrong length crashes the middleware's serializer.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Iterable, Sequence

import numpy as np

from hand_pose_ros.errors import DataError
from hand_pose_ros.skeleton import NUM_JOINTS
from hand_pose_ros.types import Camera, Hand, JointState, ScaleSource

SIDE_UNKNOWN, SIDE_LEFT, SIDE_RIGHT = 0, 1, 2
"""Same numbers as the constants of HandPose21.msg."""

UNKNOWN_NS = -1


@dataclass(frozen=True)
class ArrayInfo:
    """What HandPose21Array says beside the hands. Durations count from the image's stamp, UNKNOWN_NS where unknown."""

    model: str = ""
    runtime: str = ""
    filtered: bool = False
    metric: bool = False
    latency_receive_ns: int = UNKNOWN_NS
    latency_decode_ns: int = UNKNOWN_NS
    latency_detect_ns: int = UNKNOWN_NS
    latency_pose_ns: int = UNKNOWN_NS
    latency_lift_ns: int = UNKNOWN_NS
    latency_publish_ns: int = UNKNOWN_NS
    detector_ran: bool = False
    dropped: int = 0


INFO_FIELDS = {
    "model": str, "runtime": str, "filtered": bool, "metric": bool,
    "latency_receive": int, "latency_decode": int, "latency_detect": int, "latency_pose": int, "latency_lift": int,
    "latency_publish": int, "detector_ran": bool, "dropped": int,
}
"""Fields of HandPose21Array beside header and hands, with the type that rclpy insists on."""


def is_metric(camera: Camera, hands: Sequence[Hand]) -> bool:
    """HandPose21Array.metric: metres are measured, not guessed. A hand whose scale is not known has NaN instead."""
    return camera.calibrated and (not hands or any(hand.scale_source != ScaleSource.NONE for hand in hands))


def guessed_metres(hands: Sequence[Hand], info: ArrayInfo) -> bool:
    """Whether the metres of these hands are of a camera without calibration (metric_without_calibration): no size, no
    camera's place and no robot may be told by them."""
    return not info.metric and any(np.isfinite(hand.joints_m).any() for hand in hands)


def unplaced(hands: Sequence[Hand], info: ArrayInfo) -> bool:
    """Whether hands were seen whose places nobody knows: their camera has no calibration, or none of them a scale. Who
    needs places must not take them for hands that it has seen."""
    return not info.metric and len(hands) > 0 and not any(np.isfinite(hand.joints_m).any() for hand in hands)


def fill_array(message: Any, hands: Iterable[Hand], header: Any, new_hand: Callable[[], Any], info: ArrayInfo) -> Any:
    """Fill an empty HandPose21Array with all hands of one image (none: an empty array) and return it.

    header: std_msgs/Header with the image's own stamp and optical frame. new_hand: makes an empty HandPose21.
    Raises DataError as fill_hand does.
    """
    message.header = header
    message.hands = [fill_hand(new_hand(), hand, header) for hand in hands]
    for name, make in INFO_FIELDS.items():
        attribute = f"{name}_ns" if name.startswith("latency_") else name
        setattr(message, name, make(getattr(info, attribute)))
    return message


def fill_hand(message: Any, hand: Hand, header: Any) -> Any:
    """Fill an empty HandPose21, whose arrays have their full length already, and return it.

    Raises DataError where the hand has an array of the wrong shape or no track id: such a hand must not reach the
    middleware.
    """
    if not 1 <= hand.track_id <= 0xFFFFFFFF:
        raise DataError(f"track id {hand.track_id} cannot be published: ids are 1..2^32-1, given by tracking.py")
    message.header = header
    message.track_id = int(hand.track_id)
    message.side, message.side_probability = _side(hand.right_probability)
    message.score = float(hand.score)
    message.box = _array("box", hand.box, (4,), np.float32)
    message.joints_image = _array("joints_px", hand.joints_px, (NUM_JOINTS, 2), np.float32).ravel()
    _fill_points("joints_m", message.joints_camera, hand.joints_m)
    _fill_points("joints_rel_m", message.joints_wrist, hand.joints_rel_m)
    message.confidence = _array("confidence", hand.confidence, (NUM_JOINTS,), np.float32)
    message.state = _array("state", hand.state, (NUM_JOINTS,), np.uint8)
    message.sigma_ray = _array("sigma_ray_m", hand.sigma_ray_m, (NUM_JOINTS,), np.float32)
    message.sigma_across = _array("sigma_across_m", hand.sigma_across_m, (NUM_JOINTS,), np.float32)
    message.hand_length = float(hand.hand_length_m)
    message.scale_source = int(hand.scale_source)
    return message


def read_array(message: Any) -> tuple[tuple[Hand, ...], ArrayInfo]:
    """Hands and the rest of a HandPose21Array. Numbers come back with float32 precision.

    The image's stamp and frame are ``stamp_ns(message.header)`` and ``message.header.frame_id``. Raises DataError as
    read_hand does.
    """
    values = {
        f"{name}_ns" if name.startswith("latency_") else name: make(getattr(message, name))
        for name, make in INFO_FIELDS.items()
    }
    return tuple(read_hand(hand) for hand in message.hands), ArrayInfo(**values)


def read_hand(message: Any) -> Hand:
    """The Hand in a HandPose21. Raises DataError for arrays of the wrong length, an unknown scale source and unknown
    joint states."""
    probability = float(message.side_probability)
    if int(message.scale_source) not in ScaleSource.__members__.values():
        raise DataError(f"scale_source {message.scale_source} of a HandPose21 is none of {list(map(int, ScaleSource))}")
    return Hand(
        score=float(message.score),
        right_probability={SIDE_LEFT: 1.0 - probability, SIDE_RIGHT: probability}.get(int(message.side), float("nan")),
        box=_array("box", message.box, (4,), np.float64),
        joints_px=_array("joints_image", message.joints_image, (2 * NUM_JOINTS,), np.float64).reshape(NUM_JOINTS, 2),
        joints_m=_read_points("joints_camera", message.joints_camera),
        joints_rel_m=_read_points("joints_wrist", message.joints_wrist),
        confidence=_array("confidence", message.confidence, (NUM_JOINTS,), np.float64),
        state=_states(message.state),
        sigma_ray_m=_array("sigma_ray", message.sigma_ray, (NUM_JOINTS,), np.float64),
        sigma_across_m=_array("sigma_across", message.sigma_across, (NUM_JOINTS,), np.float64),
        hand_length_m=float(message.hand_length),
        scale_source=ScaleSource(int(message.scale_source)),
        track_id=int(message.track_id),
    )


def stamp_ns(header: Any) -> int:
    """The stamp of any std_msgs/Header in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def _side(right_probability: float) -> tuple[int, float]:
    """(SIDE_*, probability that this side is right)."""
    right = float(right_probability)
    if np.isnan(right):
        return SIDE_UNKNOWN, right
    return (SIDE_RIGHT, right) if right >= 0.5 else (SIDE_LEFT, 1.0 - right)


def _states(values: Any) -> np.ndarray:
    state = _array("state", values, (NUM_JOINTS,), np.uint8)
    if state.max() > max(JointState):
        raise DataError(f"state {state.max()} of a joint of a HandPose21 is none of {list(map(int, JointState))}")
    return state


def _array(name: str, values: Any, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """A copy of its own with exactly this shape and type: neither side may change the other's numbers later."""
    array = np.array(values, dtype=dtype)
    if array.shape != shape:
        raise DataError(f"{name} of a hand has shape {array.shape}; HandPose21 needs {shape}")
    return array


def _fill_points(name: str, points: Any, joints: Any) -> None:
    rows = _array(name, joints, (NUM_JOINTS, 3), np.float64).tolist()
    if len(points) != NUM_JOINTS:
        raise DataError(f"the message to fill has {len(points)} points for {name}; HandPose21 has {NUM_JOINTS}")
    for point, (x, y, z) in zip(points, rows):
        point.x, point.y, point.z = x, y, z


def _read_points(name: str, points: Any) -> np.ndarray:
    return _array(name, [(point.x, point.y, point.z) for point in points], (NUM_JOINTS, 3), np.float64)
