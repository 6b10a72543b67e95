"""``hand-pose bag VIDEO --out x.mcap``: a video, or a folder of pictures, as a bag with camera_info."""
from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np

from .. import camera as cameras
from .. import limits
from ..bags import BagWriter
from ..errors import ConfigError, DataError, FrameError
from ..imaging import PICTURES, read_picture
from ..predict import MOST_FRAMES
from ..types import Camera

START_NS = 1_700_000_000_000_000_000
"""Stamp of the first picture: fixed, so that the same video gives the same bag."""
LAST_START_NS = 2_000_000_000 * 10 ** 9
"""The seconds of a stamp have 31 bits, and the bag goes on after its first picture."""
_TOPIC = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)


def topic(text: str) -> str:
    """Type of a topic's name, as design.ros2.org/articles/topic_and_service_names.html allows it."""
    if not _TOPIC.fullmatch(text) or "__" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give letters, digits and single underscores "
                                         "between slashes, no part beginning with a digit: /camera/color/image_raw")
    return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("source", metavar="VIDEO", help="a video file, or a folder of pictures (in the order of names)")
    parser.add_argument("--out", required=True, metavar="BAG", help="x.mcap, or a name for a rosbag2 folder")
    parser.add_argument("--hfov-deg", type=limits.number(1, 179), metavar="DEG", help="horizontal field of view; "
                        "without it and without --calibration the bag has no camera_info")
    parser.add_argument("--calibration", metavar="FILE", help="YAML file of camera_calibration")
    parser.add_argument("--fps", type=limits.number(0.01, 1000), help="default: the video's own, 30 for pictures")
    parser.add_argument("--topic", type=topic, default="/camera/color/image_raw",
                        help="default: /camera/color/image_raw")
    parser.add_argument("--frame-id", default="camera_color_optical_frame", help="default: camera_color_optical_frame")
    parser.add_argument("--raw", action="store_true", help="raw images in place of JPEG")
    parser.add_argument("--start-ns", type=limits.whole(0, LAST_START_NS), default=START_NS,
                        help="stamp of the first picture")
    parser.add_argument("--limit", type=limits.whole(1), metavar="N", help="only the first N pictures")


def main(args: argparse.Namespace) -> int:
    """Run the command. Raises DataError if the source cannot be read or the bag exists."""
    count, size = convert(args)
    print(f"{args.out}: {count} pictures of {size[0]} x {size[1]}"
          + ("" if args.hfov_deg or args.calibration else ", without camera_info"))
    return 0


def convert(args: argparse.Namespace) -> tuple[int, tuple[int, int]]:
    """Write the bag. Returns the number of pictures and their (width, height)."""
    if args.hfov_deg is not None and args.calibration:
        raise ConfigError("give --hfov-deg or --calibration, not both")
    source = Path(args.source)
    fps = args.fps or (30.0 if source.is_dir() else video_rate(source))
    info_topic = args.topic.rpartition("/")[0] + "/camera_info"
    pictures = read(source)
    camera, count, size = None, 0, (0, 0)
    first = next(pictures, None)
    if first is None:
        raise DataError(f"{source}: no picture could be read; of a folder those that end in {' '.join(PICTURES)} are")
    with BagWriter(args.out) as bag:
        for rgb in _chain(first, pictures):
            if args.limit is not None and count >= args.limit:
                break
            if (rgb.shape[1], rgb.shape[0]) != size and count:
                raise DataError(f"{source}: picture {count} is {rgb.shape[1]} x {rgb.shape[0]}, the ones before "
                                f"{size[0]} x {size[1]}; a camera's pictures have one size")
            size = (rgb.shape[1], rgb.shape[0])
            stamp_ns = args.start_ns + round(1e9 * count / fps)
            camera = camera or camera_of(args, *size)
            if camera is not None:
                bag.camera_info(info_topic, stamp_ns, camera)
            if args.raw:
                bag.image(args.topic, stamp_ns, args.frame_id, rgb)
            else:
                bag.compressed_image(args.topic + "/compressed", stamp_ns, args.frame_id, rgb)
            count += 1
    return count, size


def _chain(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest


def video_rate(path: Path) -> float:
    """Frames per second of a video. Raises DataError if it cannot be opened."""
    video = cv2.VideoCapture(str(path))
    if not path.is_file() or not video.isOpened():
        raise DataError(f"{path}: not a video that OpenCV can read, nor a folder of pictures")
    rate = video.get(cv2.CAP_PROP_FPS)
    video.release()
    return rate or 30.0


def read(source: Path) -> Iterator[np.ndarray]:
    """Pictures of a video or a folder, (H, W, 3) uint8 RGB, in order. Raises DataError for one that cannot be read."""
    if source.is_dir():
        for path in sorted(path for path in source.iterdir() if path.suffix.lower() in PICTURES):
            try:
                yield read_picture(path)
            except FrameError as error:
                raise DataError(f"{path}: {error}") from error
        return
    video = cv2.VideoCapture(str(source))
    count, said = 0, int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    while True:
        ok, bgr = video.read()
        if not ok:
            break
        yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        count += 1
    video.release()
    if count < MOST_FRAMES * said:
        print(f"{source}: {count} of {said} frames could be read: it is cut off or damaged", file=sys.stderr)


def camera_of(args: argparse.Namespace, width: int, height: int) -> Camera | None:
    """The camera of the options; None if they say nothing about it. Raises DataError for an unusable calibration."""
    if args.hfov_deg is not None:
        return cameras.assumed(width, height, args.hfov_deg, args.frame_id)
    if not args.calibration:
        return None
    import yaml

    try:
        values = yaml.safe_load(Path(args.calibration).read_text("utf8"))
        K = np.array(values["camera_matrix"]["data"], float).reshape(3, 3)
        D = np.array(values["distortion_coefficients"]["data"], float).ravel()
        model = values.get("distortion_model", "plumb_bob")
        sized = (int(values["image_width"]), int(values["image_height"]))
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{args.calibration}: not a calibration file of camera_calibration, with image_width, "
                        "image_height, camera_matrix and distortion_coefficients "
                        f"({' '.join(f'{type(error).__name__}: {error}'.split())[:200]})") from error
    info = SimpleNamespace(width=sized[0], height=sized[1], K=K.ravel(), D=D, distortion_model=model)
    try:
        return replace(cameras.from_camera_info(info, width, height), frame_id=args.frame_id)
    except FrameError as error:
        raise DataError(f"{args.calibration}: {error}") from None
