"""Images into rclpy messages the fast way, and the encodings that only an installed cv_bridge knows."""
from __future__ import annotations

import array
from types import SimpleNamespace
from typing import Any

import numpy as np

from .. import imaging
from ..errors import FrameError
from . import compat


def decode(message: Any) -> np.ndarray:
    """Image or CompressedImage -> (H, W, 3) uint8 RGB through imaging.py; other encodings through cv_bridge if present.

    Raises FrameError that names the value and the remedy.
    """
    if hasattr(message, "encoding") and message.encoding not in imaging.ENCODINGS:
        bridge = compat.cv_bridge()
        if bridge is not None:
            try:
                return np.asarray(bridge.imgmsg_to_cv2(message, "rgb8"))
            except Exception as error:          # CvBridgeError, KeyError, cv2.error, ... whatever it meets
                raise FrameError(f"image encoding '{message.encoding}' is not known here and cv_bridge refuses it "
                                 f"({error}); set the camera to one of {', '.join(imaging.ENCODINGS)}") from error
    return imaging.decode(message)


def raw_message(message_type: Any, header: Any, rgb: np.ndarray, encoding: str = "rgb8") -> Any:
    """sensor_msgs/Image of (H, W, 3) uint8 RGB."""
    return _filled(message_type(header=header), imaging.encode(rgb, SimpleNamespace(), encoding))


def compressed_message(message_type: Any, header: Any, rgb: np.ndarray, quality: int = 85) -> Any:
    """sensor_msgs/CompressedImage (JPEG) of (H, W, 3) uint8 RGB."""
    return _filled(message_type(header=header), imaging.encode_compressed(rgb, SimpleNamespace(), "jpeg", quality))


def _filled(message: Any, fields: SimpleNamespace) -> Any:
    for name, value in vars(fields).items():
        # rclpy checks an ndarray element by element (100 ms for 640x480), an array.array not at all.
        setattr(message, name, byte_array(value) if name == "data" else value)
    return message


def byte_array(data: Any) -> array.array:
    """Any contiguous buffer as the array.array('B') that rclpy takes without a check per element."""
    out = array.array("B")
    out.frombytes(memoryview(data).cast("B"))
    return out
