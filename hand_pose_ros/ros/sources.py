"""What can play the camera: a bag, a video, a folder of pictures, a webcam; all as a stream of ROS messages."""
from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from hand_pose_ros.msg import HandPose21Array

from .. import bags
from ..errors import DataError
from ..predict import PICTURES, VIDEOS
from . import images

IMAGE_TOPIC, FRAME_ID = "/camera/image_raw", "camera_optical_frame"
LARGEST_SIDE = 1280
"""Pictures are shrunk to this before they are sent; a photograph of 12 megapixels is not a camera stream."""
STATIC_WITHIN_NS = 5 * 10**9
"""Static transforms from the first seconds of a bag are sent before its first image."""
BAG_TYPES = {bags.IMAGE: Image, bags.COMPRESSED_IMAGE: CompressedImage, bags.CAMERA_INFO: CameraInfo,
             bags.HANDS: HandPose21Array, bags.TF_MESSAGE: TFMessage}


@dataclass(frozen=True, eq=False)
class Item:
    """One message to send."""

    at_s: float                                     # since the start of the stream
    topic: str
    message: Any
    is_image: bool


@dataclass(frozen=True)
class Source:
    """What a source offers before it is opened."""

    kind: str                                       # bag, video, folder or webcam
    location: str
    image_topic: str = IMAGE_TOPIC
    image_type: Any = Image
    others: tuple[tuple[str, Any], ...] = ()        # further topics with their types
    truth_topic: str = ""                           # HandPose21Array in the bag; empty: none


def find(location: str, image_topic: str | None = None) -> Source:
    """Tell by its name what a source is: webcam[:N], x.mcap or a bag folder, a video, a folder of pictures.

    image_topic: which camera of a bag; None: the only one. Raises DataError, naming what would be understood.
    """
    source = _find(location, image_topic)
    if image_topic and source.kind != "bag":
        raise DataError(f"image topic {image_topic}: {location} is a {source.kind}, only bags have topics")
    return source


def _find(location: str, image_topic: str | None) -> Source:
    if location == "webcam" or location.startswith("webcam:"):
        number = location.partition(":")[2] or "0"
        if not number.isdigit():
            raise DataError(f"'{location}' is not a webcam; write webcam or webcam:1")
        return Source("webcam", number)
    path = Path(location)
    if path.suffix.lower() in VIDEOS and path.is_file():
        return Source("video", location)
    if path.is_file() and path.suffix.lower() in PICTURES:
        return Source("folder", location)
    if path.is_dir() and any(file.suffix.lower() in PICTURES for file in path.iterdir()):
        return Source("folder", location)
    if path.exists():
        with bags.BagReader(path) as reader:
            # By name: hands that a node has published would be compared with themselves, on the node's own topic.
            truth = next((topic.name for topic in reader.topics.values()
                          if topic.type == bags.HANDS and "truth" in topic.name), "")
            image = reader.image_topic(image_topic)
            others = [topic for topic in (reader.info_topic(image.name), reader.topics.get(truth),
                                          reader.topics.get("/tf_static")) if topic]
            return Source("bag", location, image.name, BAG_TYPES[image.type],
                          tuple((topic.name, BAG_TYPES[topic.type]) for topic in others), truth)
    raise DataError(f"source '{location}' is not there; give webcam[:N], a video ({' '.join(VIDEOS)}), a folder of "
                    "pictures, a .mcap file or a rosbag2 folder")


def items(source: Source) -> Iterator[Item]:
    """The messages in the order of their times. Raises DataError if the source cannot be read."""
    return {"bag": _bag, "video": _video, "folder": _folder, "webcam": _webcam}[source.kind](source)


def _bag(source: Source) -> Iterator[Item]:
    wanted = [*(topic for topic, _ in source.others), source.image_topic]        # at equal stamps, images come last
    if "/tf_static" in wanted:                          # recorded some time after the first images, but true of them
        with bags.BagReader(source.location) as reader:
            begun_ns = None
            for recorded in reader.messages(wanted):
                begun_ns = recorded.log_ns if begun_ns is None else begun_ns
                if recorded.log_ns - begun_ns > STATIC_WITHIN_NS:
                    break
                if recorded.topic == "/tf_static":
                    with contextlib.suppress(Exception):                        # said below
                        yield Item(0.0, recorded.topic, deserialize_message(recorded.raw, TFMessage), False)
    with bags.BagReader(source.location) as reader:
        first_ns = None
        damaged = 0
        for recorded in reader.in_stamp_order(wanted):
            try:
                message = deserialize_message(recorded.raw, BAG_TYPES[recorded.type])
            except Exception as error:                                          # the middleware's own kinds
                damaged += 1
                if damaged == 1:                                                # the others are counted
                    _say(f"{recorded.topic}: a message cannot be read ({error}), left out")
                continue
            if recorded.topic == "/tf_static":
                yield Item(0.0, recorded.topic, message, False)
                continue
            first_ns = recorded.stamp_ns if first_ns is None else first_ns
            at_s, is_image = (recorded.stamp_ns - first_ns) * 1e-9, recorded.topic == source.image_topic
            yield Item(at_s, recorded.topic, message, is_image)
        for problem, count in reader.problems.items():
            _say(f"{problem}{f' ({count} times)' if count > 1 else ''}")
        if damaged > 1:
            _say(f"{damaged} messages could not be read")


def _say(problem: str) -> None:
    print(f"source: {problem}", file=sys.stderr, flush=True)


def _video(source: Source) -> Iterator[Item]:
    capture = cv2.VideoCapture(source.location)
    rate_hz = capture.get(cv2.CAP_PROP_FPS)
    if not capture.isOpened() or not rate_hz > 0:
        raise DataError(f"OpenCV cannot read the video {source.location}; convert it: ffmpeg -i in -c:v libx264 "
                        "out.mp4")
    number = 0
    while (read := capture.read())[0]:
        yield _picture(number / rate_hz, read[1])
        number += 1


def _folder(source: Source) -> Iterator[Item]:
    place = Path(source.location)
    files = sorted(file for file in place.iterdir() if file.suffix.lower() in PICTURES) if place.is_dir() else [place]
    read = 0
    for number, file in enumerate(files):
        bgr = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if bgr is None:
            _say(f"{file} cannot be read as a picture, left out")
            continue
        read += 1
        yield _picture(float(number), bgr)
    if not read:
        raise DataError(f"{place}: not one picture could be read; are these files what their names say "
                        f"({files[0].name} for one)?")


def _webcam(source: Source) -> Iterator[Item]:
    capture = cv2.VideoCapture(int(source.location))
    if not capture.isOpened():
        raise DataError(f"webcam {source.location} cannot be opened; is it plugged in (ls /dev/video*), may you read "
                        "it (group video), does another program use it?")
    started_s = time.monotonic()
    while (read := capture.read())[0]:
        yield _picture(time.monotonic() - started_s, read[1])


def _picture(at_s: float, bgr: Any) -> Item:
    largest = max(bgr.shape[:2])
    if largest > LARGEST_SIDE:
        scale = LARGEST_SIDE / largest
        bgr = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    message = images.raw_message(Image, Image().header, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
    message.header.frame_id = FRAME_ID
    return Item(at_s, IMAGE_TOPIC, message, True)
