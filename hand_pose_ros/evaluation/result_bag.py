"""What a results bag holds beside the hands, so that the node's RViz and Foxglove layouts show it."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..bags import COMPRESSED_IMAGE, BagWriter, new_message, stamp_header, typestore
from ..ros.markers import HandMarkers
from ..types import Hand

MARKERS_TOPIC, DRAWING_TOPIC = "/hand_pose/markers", "/hand_pose/debug_image/compressed"
MARKER, MARKER_ARRAY = "visualization_msgs/msg/Marker", "visualization_msgs/msg/MarkerArray"
PREFIX = "hand"


class _MarkerType:
    """rclpy's message class stood in for: called without arguments it makes an empty message; it has the constants."""

    def __call__(self) -> Any:
        return new_message(MARKER)

    def __getattr__(self, name: str) -> Any:
        return getattr(typestore().types[MARKER], name)


class Markers:
    """The node's own markers, made of rosbags' messages."""

    def __init__(self) -> None:
        types = typestore().types
        self._maker = HandMarkers(types[MARKER_ARRAY], _MarkerType(), types["geometry_msgs/msg/Point"],
                                  types["std_msgs/msg/ColorRGBA"], PREFIX)

    def write(self, bag: BagWriter, stamp_ns: int, frame_id: str, hands: tuple[Hand, ...], log_ns: int) -> None:
        """Write the MarkerArray of one frame."""
        header = new_message("std_msgs/msg/Header")
        stamp_header(header, stamp_ns, frame_id)
        bag.write(MARKERS_TOPIC, MARKER_ARRAY, self._maker.message(header, hands), log_ns)


def write_drawing(bag: BagWriter, picture: Path, stamp_ns: int, frame_id: str, log_ns: int) -> None:
    """Write a JPEG file as the node's debug image."""
    message = new_message(COMPRESSED_IMAGE)
    stamp_header(message.header, stamp_ns, frame_id)
    message.format = "rgb8; jpeg compressed bgr8"
    message.data = np.fromfile(picture, np.uint8)
    bag.write(DRAWING_TOPIC, COMPRESSED_IMAGE, message, log_ns)
