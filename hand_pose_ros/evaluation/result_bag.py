"""What a results bag holds beside the original topics: those of a node called hand_pose, so that its RViz and Foxglove
layouts show the bag."""
from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..bags import COMPRESSED_IMAGE, HANDS, BagWriter, hands_message, new_message, stamp_header, typestore
from ..messages import ArrayInfo
from ..ros.markers import HandMarkers
from ..types import Frame, Hand

HANDS_TOPIC, RAW_TOPIC = "/hand_pose/hands", "/hand_pose/hands_raw"
MARKERS_TOPIC, DRAWING_TOPIC = "/hand_pose/markers", "/hand_pose/debug_image/compressed"
TOPICS = (HANDS_TOPIC, RAW_TOPIC, MARKERS_TOPIC, DRAWING_TOPIC)
MARKER, MARKER_ARRAY = "visualization_msgs/msg/Marker", "visualization_msgs/msg/MarkerArray"
PREFIX = "hand"


class _MarkerType:
    """rclpy's message class stood in for: called without arguments it makes an empty message; it has the constants."""

    def __call__(self) -> Any:
        return new_message(MARKER)

    def __getattr__(self, name: str) -> Any:
        return getattr(typestore().types[MARKER], name)


class Spool:
    """Messages of all frames, serialized into a file without a name until the bag is written; a context manager.

    Frames come in the order of their stamps, a bag is written in the order of recording; in between they wait here and
    not in memory, since a long recording has gigabytes of drawn pictures.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)
        self._places: list[tuple[int, int, str, str, int, int]] = []     # log_ns, number, topic, type, offset, length
        types = typestore().types
        self._markers = HandMarkers(types[MARKER_ARRAY], _MarkerType(), types["geometry_msgs/msg/Point"],
                                    types["std_msgs/msg/ColorRGBA"], PREFIX)

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def add(self, frame: Frame, log_ns: int, result: Any, info: ArrayInfo, drawn: np.ndarray) -> None:
        """The messages of one frame. result: pipeline.Result. drawn: (H, W, 3) uint8 BGR, the debug image."""
        stamp_ns, frame_id = frame.stamp_ns, frame.camera.frame_id
        self._put(HANDS_TOPIC, HANDS, hands_message(stamp_ns, frame_id, result.hands, replace(info, filtered=True)),
                  log_ns)
        self._put(RAW_TOPIC, HANDS, hands_message(stamp_ns, frame_id, result.raw, info), log_ns)
        self._put(MARKERS_TOPIC, MARKER_ARRAY, self._marker_array(stamp_ns, frame_id, result.hands), log_ns)
        picture = new_message(COMPRESSED_IMAGE)
        stamp_header(picture.header, stamp_ns, frame_id)
        picture.format = "rgb8; jpeg compressed bgr8"
        picture.data = cv2.imencode(".jpg", drawn)[1].ravel()
        self._put(DRAWING_TOPIC, COMPRESSED_IMAGE, picture, log_ns)

    def writer(self, bag: BagWriter) -> Callable[[float], None]:
        """A function that writes to the bag what was recorded up to a time and is not yet written."""
        places = iter(sorted(self._places))
        following = next(places, None)

        def put(until_ns: float) -> None:
            nonlocal following
            while following is not None and following[0] <= until_ns:
                log_ns, _, topic, type_name, offset, length = following
                self._file.seek(offset)
                bag.write_serialized(topic, type_name, self._file.read(length), log_ns)
                following = next(places, None)

        return put

    def _put(self, topic: str, type_name: str, message: Any, log_ns: int) -> None:
        raw = bytes(typestore().serialize_cdr(message, type_name))
        self._places.append((log_ns, len(self._places), topic, type_name, self._file.tell(), len(raw)))
        self._file.write(raw)

    def _marker_array(self, stamp_ns: int, frame_id: str, hands: tuple[Hand, ...]) -> Any:
        header = new_message("std_msgs/msg/Header")
        stamp_header(header, stamp_ns, frame_id)
        return self._markers.message(header, hands)
