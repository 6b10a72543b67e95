"""``hand-pose predict``: the node's own pipeline on a picture, a folder of them or a video; a line of JSON each."""
from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np

from hand_pose_ros import camera as cameras
from hand_pose_ros import config as configs
from hand_pose_ros import pipeline as pipelines
from hand_pose_ros.errors import ConfigError, DataError, FrameError
from hand_pose_ros.types import Camera, Frame, Hand

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
SETTINGS = ("detector_model", "pose_model", "runtime", "max_hands", "presence_threshold", "hand_length_m",
            "assumed_hfov_deg", "mirrored_image")
"""The settings of the core that make sense for files."""


def add_arguments(parser) -> None:
    """Options of ``hand-pose predict``."""
    parser.add_argument("images", help="a folder (searched recursively), a picture or a video")
    parser.add_argument("--out", required=True, help="file of JSON lines, image paths relative to the folder")
    parser.add_argument("--boxes", metavar="ANNOTATIONS", help="run the pose network alone on the boxes of this file")
    parser.add_argument("--cameras", metavar="ANNOTATIONS", help="take K from this file where it has one")
    parser.add_argument("--min-score", type=float, default=0.5, help="probability below which nothing is a hand")
    configs.add_arguments(parser, SETTINGS)


def main(args) -> int:
    """Predict and write; returns 1 if some picture could not be read (its line then has an error and no hands)."""
    settings = dataclasses.replace(configs.from_arguments(args), detection_threshold=max(args.min_score, 0.01),
                                   metric_without_calibration=True)
    source = Path(args.images)
    film = source.suffix.lower() in VIDEOS
    if not source.exists():
        raise DataError(f"{source} is not there; give a folder of pictures, a picture or a video")
    if film and (args.boxes or args.cameras):
        raise ConfigError("--boxes and --cameras belong to pictures, not to a video, whose frames have no names")
    if not Path(args.out).absolute().parent.is_dir():
        raise ConfigError(f"--out {args.out}: there is no folder {Path(args.out).absolute().parent}")
    boxes = annotations(args.boxes) if args.boxes else None
    intrinsics = annotations(args.cameras) if args.cameras else {}
    pipeline = pipelines.load(settings)
    if film:
        lines = video(pipeline, settings, source)
    else:
        lines = pictures(pipeline, settings, source, boxes, intrinsics)
    failed = count = hands = 0
    target = Path(args.out).resolve()                       # a link stays one
    plain = target.is_file() or not target.exists()         # and no pipe or device is replaced
    unfinished = target.with_name(f"{target.name}.partial") if plain else target
    try:
        with open(unfinished, "w") as file:
            for line in lines:
                file.write(json.dumps(line) + "\n")
                count, hands = count + 1, hands + len(line["hands"])
                if "error" in line:
                    failed += 1
                    print(f"{line['image']}: {line['error']}", file=sys.stderr)
        if not count:
            raise DataError(f"{args.boxes} has boxes for none of the pictures in {source}: its \"image\" must be their "
                            "path relative to that folder")
        if plain:
            os.replace(unfinished, target)                  # an earlier result stays until this one is whole
    finally:
        if plain:
            unfinished.unlink(missing_ok=True)
    print(f"{count} images, {hands} hands -> {args.out}")
    return 1 if failed else 0


def pictures(pipeline, settings, source: Path, boxes: dict | None = None, intrinsics: dict | None = None):
    """Lines for a picture or a folder of them, each on its own (nothing is remembered between pictures).

    boxes: records by name, whose hands' boxes replace the detector. Raises DataError if there is no picture.
    """
    root = source if source.is_dir() else source.parent
    files = sorted(p for p in source.rglob("*") if p.suffix.lower() in PICTURES) if source.is_dir() else [source]
    if not files or not files[0].is_file():
        raise DataError(f"{source} is neither a picture nor a folder with pictures ({' '.join(PICTURES)})")
    for file in files:
        name = file.relative_to(root).as_posix()
        if boxes is not None and name not in boxes:
            continue
        try:
            image = read(file)
            frame = Frame(image, camera_of((intrinsics or {}).get(name), image, settings.assumed_hfov_deg), 1)
            if boxes is None:
                _, result = pipeline.step(pipelines.PipelineState(), frame, settings)
                hands = result.raw
            else:
                hands = [pipeline.estimate_in_box(frame, box, settings) for box in boxes_of(boxes[name])]
        except FrameError as error:
            yield {"image": name, "hands": [], "error": str(error)}
            continue
        yield {"image": name, "hands": [line_of(hand) for hand in hands]}


def video(pipeline, settings, source: Path):
    """Lines for the frames of a video, followed over time; "image" is its name, "frame" counts from 0.

    Raises DataError if it cannot be read.
    """
    capture = cv2.VideoCapture(str(source))
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    state, number = pipelines.PipelineState(), 0
    while True:
        ok, image = capture.read()
        if not ok:
            break
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        frame = Frame(image, camera_of(None, image, settings.assumed_hfov_deg), int((number + 1) / rate * 1e9))
        state, result = pipeline.step(state, frame, settings)
        yield {"image": source.name, "frame": number,
               "hands": [{**line_of(hand), "track_id": hand.track_id} for hand in result.hands]}
        number += 1
    if not number:
        raise DataError(f"{source} cannot be read as a video")


def line_of(hand: Hand) -> dict:
    """One hand as plain values; joints_3d is relative to the wrist, in metres and camera axes."""
    x0, y0, x1, y1 = np.asarray(hand.box, float)
    return {"bbox": _rounded((x0, y0, x1 - x0, y1 - y0), 2), "score": round(float(hand.score), 4),
            "handedness": "right" if hand.is_right else "left",
            "right_probability": round(float(hand.right_probability), 4),
            "joints_2d": _rounded(hand.joints_px, 2), "joints_3d": _rounded(hand.joints_rel_m, 5),
            "confidence": _rounded(hand.confidence, 3)}


def annotations(path: str | Path) -> dict:
    """Records of a JSON lines file by their "image". Raises DataError naming the file and line."""
    records = {}
    try:
        for number, line in enumerate(Path(path).read_text().splitlines(), 1):
            if line.strip():
                record = json.loads(line)
                records[record["image"]] = record
    except (OSError, ValueError, KeyError, TypeError) as error:
        where = f"line {number} " if "number" in locals() else ""
        raise DataError(f"{path}: {where}cannot be read as annotations ({error!r})") from error
    return records


def camera_of(record: dict | None, image: np.ndarray, hfov_deg: float) -> Camera:
    """The camera of a picture: K of its record (its own or its first hand's) if there is one, else assumed."""
    height, width = image.shape[:2]
    holders = [record, *record.get("hands", ())] if record else []
    K = next((np.array(h["K"], np.float64) for h in holders if h.get("K") is not None), None)
    if K is None:
        return cameras.assumed(width, height, hfov_deg)
    return Camera(width, height, K, D=np.zeros(0))


def boxes_of(record: dict) -> list[np.ndarray]:
    """The boxes (4,) x0, y0, x1, y1 of a record's hands. Raises FrameError if one has no [x, y, w, h]."""
    try:
        return [np.array([x, y, x + w, y + h], np.float64) for x, y, w, h in
                (hand["bbox"] for hand in record["hands"])]
    except (KeyError, TypeError, ValueError) as error:
        raise FrameError(f"its record has no usable hands with \"bbox\": [x, y, w, h] ({error!r})") from error


def read(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Raises FrameError if the file is not a picture."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise FrameError("cannot be decoded as a picture")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _rounded(values, digits: int):
    """Nested lists without NaN, which JSON does not know: null."""
    array = np.asarray(values, float)
    if array.ndim > 1:
        return [_rounded(row, digits) for row in array]
    return [round(float(v), digits) if np.isfinite(v) else None for v in array]
