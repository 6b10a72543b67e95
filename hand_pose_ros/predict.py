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
from hand_pose_ros import limits
from hand_pose_ros import pipeline as pipelines
from hand_pose_ros.errors import ConfigError, DataError, FrameError
from hand_pose_ros.imaging import PICTURES, VIDEOS, read_picture
from hand_pose_ros.progress import Progress
from hand_pose_ros.resources import files_below
from hand_pose_ros.runtimes import POSE_ACCURATE
from hand_pose_ros.types import Camera, Frame, Hand

SETTINGS = ("detector_model", "pose_model", "runtime", "max_hands", "presence_threshold", "hand_length_m",
            "assumed_hfov_deg", "mirrored_image")
"""The settings of the core that make sense for files."""
MOST_FRAMES = 0.95
"""Share of the frames that a video's header announces, which is an estimate, below which it counts as cut off."""
POSE_MODEL = POSE_ACCURATE
"""Pictures can wait, whatever runs the network. What a node takes is ``--pose-model auto``."""


def add_arguments(parser) -> None:
    """Options of ``hand-pose predict``."""
    parser.add_argument("images", help="a folder (searched recursively), a picture or a video; pictures as they are "
                        "stored, an EXIF orientation is not followed; a video's rotation is")
    parser.add_argument("--out", required=True, help="file of JSON lines, image paths relative to the folder")
    parser.add_argument("--boxes", metavar="ANNOTATIONS", help="run the pose network alone on the boxes of this file")
    parser.add_argument("--cameras", metavar="ANNOTATIONS", help="take K from this file where it has one")
    parser.add_argument("--min-score", type=limits.number(0, 1), default=0.5,
                        help="probability below which nothing is a hand, also of those followed in a video, 0 to 1; "
                        "with --boxes all are")
    configs.add_arguments(parser, SETTINGS, {"pose_model": POSE_MODEL})
    parser.set_defaults(presence_threshold=None)            # not above --min-score, unless it is given


def main(args) -> int:
    """Predict and write; returns 1 if some picture could not be read (its line then has an error and no hands)."""
    least = max(args.min_score, 0.01)
    if args.presence_threshold is None:
        args.presence_threshold = min(configs.Config().presence_threshold, least)
    settings = configs.from_arguments(args)
    settings = dataclasses.replace(settings, detection_threshold=least, metric_without_calibration=True)
    source = Path(args.images)
    film = source.suffix.lower() in VIDEOS
    if not source.exists():
        raise DataError(f"{source} is not there; give a folder of pictures, a picture or a video")
    if film and (args.boxes or args.cameras):
        raise ConfigError("--boxes and --cameras belong to pictures, not to a video, whose frames have no names")
    boxes = annotations(args.boxes) if args.boxes else None
    intrinsics = annotations(args.cameras) if args.cameras else {}
    files = [source] if film else pictures_of(source)
    names = {name_of(file, source) for file in files}
    if args.cameras and not names & intrinsics.keys():
        raise DataError(f"{args.cameras} has cameras for none of the pictures in {source}: its \"image\" must be their "
                        "path relative to that folder")
    lost = sorted((boxes or {}).keys() - names) if source.is_dir() else []
    check_out(Path(args.out).expanduser(), [*files, *(Path(path) for path in (args.boxes, args.cameras) if path)])
    pipeline = pipelines.load(settings)
    if film:
        lines = video(pipeline, settings, source, args.min_score)
    else:
        lines = pictures(pipeline, settings, source, files, boxes, intrinsics)
    failed = count = hands = 0
    progress = Progress(frames_of(source) if film else len(names if boxes is None else names & boxes.keys()),
                        sys.stderr)
    target = Path(args.out).expanduser()
    plain = target.is_file() or not target.exists()         # no pipe or device is replaced, /dev/stdout neither
    target = target.resolve() if plain else target          # a link stays one
    unfinished = target.with_name(f"{target.name}.partial") if plain else target
    keep = False
    try:
        with open(unfinished, "w") as file:
            for line in lines:
                file.write(json.dumps(line) + "\n")
                count, hands = count + 1, hands + len(line["hands"])
                progress(count)
                if "error" in line:
                    failed += 1
                    progress.close()
                    print(f"{line['image']}: {line['error']}", file=sys.stderr)
        if not count:
            raise DataError(f"{args.boxes} has boxes for none of the pictures in {source}: its \"image\" must be their "
                            "path relative to that folder")
        if plain:
            os.replace(unfinished, target)                  # an earlier result stays until this one is whole
    except BaseException as error:                          # Ctrl-C for one, or a full disk
        progress.close()
        keep = plain and count > 0
        if keep:
            print(f"stopped: the lines of {count} images are in {unfinished}", file=sys.stderr)
        if isinstance(error, OSError):
            raise DataError(f"--out {args.out} cannot be written: {error.strerror}; free some space or give another "
                            "file") from error
        raise
    finally:
        if plain and not keep:
            unfinished.unlink(missing_ok=True)
    progress.close()
    print(f"{count} images, {hands} hands -> {args.out}", file=sys.stdout if plain else sys.stderr)
    if lost:
        print(f"{len(lost)} of the {len(boxes)} pictures in {args.boxes} are not in {source}, or no pictures by their "
              f"names: {lost[0]} for one", file=sys.stderr)
    if source.is_dir() and (films := sorted(path for path in files_below(source) if path.suffix.lower() in VIDEOS)):
        print(f"left out: {len(films)} of the files in {source} are videos, {films[0].name} for one; give them one by "
              "one", file=sys.stderr)
    return 1 if failed or lost else 0


def name_of(file: Path, source: Path) -> str:
    """Of a picture in the output and in annotations: its path relative to the folder."""
    return file.relative_to(source if source.is_dir() else source.parent).as_posix()


def pictures_of(source: Path) -> list[Path]:
    """The picture itself, or those of a folder and the folders in it. Raises DataError if there is none."""
    files = sorted(path for path in files_below(source) if path.suffix.lower() in PICTURES) if source.is_dir() \
        else [source]
    if not files or not files[0].suffix.lower() in PICTURES and not cv2.haveImageReader(str(files[0])):
        raise DataError(f"{source} is neither a folder with pictures ({' '.join(PICTURES)}) nor itself a picture or a "
                        f"video ({' '.join(VIDEOS)}); of a folder of videos give them one by one")
    return files


def check_out(out: Path, read: list[Path]) -> None:
    """Raises ConfigError if ``out`` cannot be a file of lines, or is one of those that are ``read``, by whatever name.
    """
    place = limits.output("--out", str(out))
    if place.is_file() or not place.exists():               # written beside it, then put in its place
        limits.output("--out", f"{place}.partial")
    if same := [path for path in read if out.exists() and path.exists() and path.samefile(out)]:
        raise ConfigError(f"--out {out} would replace {same[0]}, which is read: give another file")


def frames_of(source: Path) -> int:
    """How many frames a video's header announces, 0 if it does not."""
    capture = cv2.VideoCapture(str(source))
    said = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return max(said, 0)


def pictures(pipeline, settings, source: Path, files: list[Path], boxes: dict | None = None,
             intrinsics: dict | None = None):
    """Lines for the pictures of ``pictures_of(source)``, each on its own (nothing is remembered between pictures).

    boxes: records by name, whose hands' boxes replace the detector.
    """
    for file in files:
        name = name_of(file, source)
        if boxes is not None and name not in boxes:
            continue
        try:
            image = read_picture(file)
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


def video(pipeline, settings, source: Path, least: float = 0.0):
    """Lines for the frames of a video, followed over time; "image" is its name, "frame" counts from 0. least: score of
    what is written.

    Raises DataError if it cannot be read.
    """
    capture = cv2.VideoCapture(str(source))
    rate, said = capture.get(cv2.CAP_PROP_FPS) or 25.0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    state, number = pipelines.PipelineState(), 0
    while True:
        ok, image = capture.read()
        if not ok:
            break
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        frame = Frame(image, camera_of(None, image, settings.assumed_hfov_deg), int((number + 1) / rate * 1e9))
        state, result = pipeline.step(state, frame, settings)
        yield {"image": source.name, "frame": number,
               "hands": [{**line_of(hand), "track_id": hand.track_id} for hand in result.hands
                         if hand.score >= least]}
        number += 1
    if not number:
        raise DataError(f"{source} cannot be read as a video; convert it: ffmpeg -i in -c:v libx264 out.mp4")
    if number < MOST_FRAMES * said:
        print(f"{source}: {number} of {said} frames could be read: it is cut off or damaged", file=sys.stderr)


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
                if record["image"] in records:
                    raise ValueError(f"it is the second of {record['image']}: put all hands of a picture into one line")
                records[record["image"]] = record
    except (OSError, ValueError, KeyError, TypeError) as error:
        where = f"line {number} " if "number" in locals() else ""
        raise DataError(f"{path}: {where}cannot be read as annotations ({type(error).__name__}: {error})") from error
    return records


def camera_of(record: dict | None, image: np.ndarray, hfov_deg: float) -> Camera:
    """The camera of a picture: K of its record (its own or its first hand's) if there is one, else assumed. Raises
    FrameError for a K that is none."""
    height, width = image.shape[:2]
    try:
        holders = [record, *record.get("hands", ())] if record else []
        given = next((h["K"] for h in holders if h.get("K") is not None), None)
        if given is None:
            return cameras.assumed(width, height, hfov_deg)
        K = np.array(given, np.float64).reshape(3, 3)
        if not np.isfinite(K).all() or min(K[0, 0], K[1, 1]) <= 0 or K[2].tolist() != [0, 0, 1]:
            raise ValueError(f"K is {given}")
        size = tuple(record.get(name, own) for name, own in (("width", width), ("height", height)))
        if size != (width, height):
            raise ValueError(f"it is of a picture of {size[0]} x {size[1]} pixels, this one has {width} x {height}")
    except (AttributeError, TypeError, ValueError) as error:
        raise FrameError(f"its record has no usable \"K\": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels ({error}); "
                         "correct it, or leave it out") from error
    return Camera(width, height, K, D=np.zeros(0))


def boxes_of(record: dict) -> list[np.ndarray]:
    """The boxes (4,) x0, y0, x1, y1 of a record's hands; tight round their valid joints where it has none. Raises
    FrameError if one has no [x, y, w, h] with an area."""
    try:
        given = [labelled_box(hand) for hand in record["hands"]]
        found = [np.array([x, y, x + w, y + h], np.float64) for x, y, w, h in given]
        size = record.get("width", np.inf), record.get("height", np.inf)
        outside = [bbox for bbox, box in zip(given, found) if (box[2:] <= 0).any() or (box[:2] >= size).any()]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FrameError(f"its record has no usable hands with \"bbox\": [x, y, w, h] ({error})") from error
    if outside:
        raise FrameError(f"its record has \"bbox\": {outside[0]}, which lies outside the picture")
    return found


def labelled_box(hand: dict) -> list[float]:
    """[x, y, w, h] px of a labelled hand: its "bbox", else tight round its valid joints. Raises AttributeError,
    KeyError, TypeError or ValueError if it has neither, or a box that is none."""
    if hand.get("bbox") is not None:
        box = hand["bbox"]
        if len(box) != 4 or not all(isinstance(value, (int, float)) and np.isfinite(value) for value in box) \
                or min(box[2:]) <= 0:
            raise ValueError(f"\"bbox\" is {box}; it must be [x, y, w, h] in pixels, w and h above 0")
        return box
    joints = np.array(hand["joints_2d"], float).reshape(-1, 2)
    known = np.isfinite(joints).all(1)
    if hand.get("valid_2d") is not None:
        known &= np.array(hand["valid_2d"], float) > 0
    low, high = joints[known].min(0), joints[known].max(0)
    return [*low, *(high - low)]


def _rounded(values, digits: int):
    """Nested lists without NaN, which JSON does not know: null."""
    array = np.asarray(values, float)
    if array.ndim > 1:
        return [_rounded(row, digits) for row in array]
    return [round(float(v), digits) if np.isfinite(v) else None for v in array]
