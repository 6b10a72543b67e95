"""``hand-pose labels``: predictions of a bag, a video or a folder of pictures as draft labels that a person corrects.

Writes a folder with images/, annotations.jsonl (see datasets/folder.py) and the same for label editors (see
label_exchange.py). Every line starts as ``"truth": "draft"``: it scores as a label made with a model until a person has
corrected it and written "independent" in its place; ``labels CORRECTED.json --out FOLDER`` does so with what an editor
has exported. Feed it back as ``evaluate --data FOLDER``, or with the recording it came from as ``evaluate --bag ...
--labels FOLDER``.
"""
from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import config as configs
from .. import limits
from ..errors import ConfigError, DataError, FrameError
from ..imaging import PICTURES, VIDEOS, write_picture
from ..pipeline import PipelineState
from ..types import Frame, Hand, JointState
from . import label_exchange, predictions, work
from .evaluate import OFFLINE_SETTINGS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("source", metavar="SOURCE", help="a bag, a video, or a folder of pictures; or COCO keypoints "
                        "that a label editor exported, to be taken over into --out")
    parser.add_argument("--out", type=limits.folder, required=True, metavar="FOLDER",
                        help="new folder for images/ and annotations.jsonl; for corrected labels the one in which "
                        "they began")
    parser.add_argument("--every", type=limits.whole(1), default=10, metavar="N",
                        help="keep every Nth frame (default: 10)")
    parser.add_argument("--image-topic", help="default: the only colour image topic of the bag")
    parser.add_argument("--name", help="name of the set in the labels (default: the source's name)")
    configs.add_arguments(parser, [name for name in OFFLINE_SETTINGS if name != "draw_labels"])


def main(args: argparse.Namespace) -> int:
    """Run the command. Returns 0."""
    if Path(args.source).suffix.lower() == ".json":
        count, hands, problems = label_exchange.take_over(Path(args.source), Path(args.out))
        print(f"{args.out}: {count} pictures with {hands} hands corrected; the labels before are in "
              f"{label_exchange.BEFORE} (numbered, if that was there)")
        _print_problems(problems)
        return 0
    settings = configs.from_arguments(args)
    run = {"settings": dict(vars(settings)), "factory": "hand_pose_ros.pipeline:load"}
    count, hands, problems = draft(args, run)
    print(f"{args.out}: {count} pictures with {hands} hands to correct, in a label editor as COCO keypoints "
          f"({label_exchange.FILE})")
    _print_problems(problems)
    return 0


def _print_problems(problems: Counter[str]) -> None:
    for problem, number in sorted(problems.items()):
        print(f"{number} x {problem}")


def draft(args: argparse.Namespace, run: dict[str, Any]) -> tuple[int, int, Counter[str]]:
    """Write the label folder. Returns pictures, hands and problems. Raises DataError if the folder is not empty, no
    frame can be used or the disk is full; what it has written is then removed."""
    out, source = Path(args.out), Path(args.source)
    there = out.exists()
    if there and any(out.iterdir()):
        raise DataError(f"{out} is not empty: give a new folder, so that no corrected label is lost")
    (out / "images").mkdir(parents=True)
    try:
        return _draft(args, run, source, out)
    except BaseException:                               # also Ctrl-C: pictures without labels would block a new run
        for path in out.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not there:
            out.rmdir()
        raise


def _draft(args: argparse.Namespace, run: dict[str, Any], source: Path, out: Path) -> tuple[int, int, Counter[str]]:
    chain, config = work.load_pipeline(run)
    recording = work.recording_name(source)
    name, problems, rows, seen = args.name or recording, Counter(), [], []
    state, hands = PipelineState(), 0
    for number, (picture, frame) in enumerate(_frames(args, source, config, problems)):
        try:
            state, result = chain.step(PipelineState() if picture else state, frame, config)
        except FrameError as error:
            problems[str(error)] += 1
            continue
        if picture is None and number % args.every:
            continue
        path = f"images/{picture or frame.stamp_ns}.png"
        write_picture(out / path, frame.image)
        rows.append(_label(path, frame, result.hands, name, recording if picture is None else None))
        seen.append([[state in (JointState.VISIBLE, JointState.UNKNOWN) for state in hand.state]
                     for hand in result.hands])
        hands += len(result.hands)
    if not rows:
        raise DataError(f"{source}: no frame could be used: {dict(problems)}")
    predictions.write(out / "annotations.jsonl", (json.dumps(row, allow_nan=False) + "\n" for row in rows))
    predictions.write(out / label_exchange.FILE, [json.dumps(label_exchange.to_coco(rows, seen), allow_nan=False)])
    return len(rows), hands, problems


def _frames(args: argparse.Namespace, source: Path, config: Any, problems: Counter[str]) \
        -> Iterator[tuple[str | None, Frame]]:
    """Frames with the name of their picture, None for those of a recording."""
    pictures = sorted(path for path in source.iterdir() if path.suffix.lower() in PICTURES) if source.is_dir() else []
    idle = [f"--{name.replace('_', '-')}" for name in ("image_topic", "image_is_rectified")
            if getattr(args, name, None)]
    if idle and (pictures or source.suffix.lower() in VIDEOS):
        raise ConfigError(f"{', '.join(idle)}: of no use, as {source} is no bag; leave it out")
    if pictures:
        from .datasets.base import Item

        same = len({path.stem for path in pictures}) < len(pictures)        # a.jpg and a.png: a.jpg.png, a.png.png
        for path in pictures:
            try:
                yield path.name if same else path.stem, work.still_frame(Item(path.name, path, ()), config)
            except FrameError as error:
                problems[f"{path.name}: {error}"] += 1
    elif source.is_file() and source.suffix.lower() in VIDEOS:
        yield from ((None, frame) for frame, _ in work.video_frames(str(source), config))
    elif source.suffix.lower() in PICTURES:
        raise DataError(f"{source} is one picture: give the folder in which it lies")
    else:
        unit = {"name": source.stem, "paths": [str(source)], "image_topic": args.image_topic}
        with work.open_bag(unit) as reader:
            yield from ((None, frame) for frame, _ in work.bag_frames(reader, unit, config))
            problems.update(reader.problems)


def _label(path: str, frame: Frame, hands: tuple[Hand, ...], name: str, recording: str | None) -> dict[str, Any]:
    """recording: its name, by which evaluate finds its labels among those of several; None for a picture."""
    height, width = frame.image.shape[:2]
    K = frame.camera.K.tolist() if frame.camera.calibrated and not np.any(frame.camera.D) else None
    row: dict[str, Any] = {"image": path, "width": width, "height": height, "dataset": name, "group": recording or name,
                           "truth": "draft", "synthetic": False, "exhaustive": True, "ignore": []}
    if recording:
        row["stamp_ns"] = frame.stamp_ns
    row["hands"] = [_hand(hand, K) for hand in hands]
    return row


def _hand(hand: Hand, K: list | None) -> dict[str, Any]:
    """What a person can correct: joints and side. 3D joints are the network's and stay out of a label for it."""
    known = np.isfinite(hand.joints_px).all(-1)         # a joint that the lens cannot show has no pixel
    seen = known & (hand.state != JointState.OUTSIDE_IMAGE)
    x0, y0, x1, y1 = (round(float(value), 2) for value in hand.box)
    return {"bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)], "score": round(float(hand.score), 4),
            "joints_2d": [np.round(px, 2).tolist() if there else [None, None]
                          for px, there in zip(hand.joints_px, known)], "valid_2d": [int(value) for value in seen],
            "joints_3d": None, "valid_3d": None, "K": K,
            "handedness": None if np.isnan(hand.right_probability) else "right" if hand.is_right else "left",
            "handedness_source": "draft"}
