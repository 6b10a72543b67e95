"""``hand-pose score``: predict a folder of labelled photographs and print the table of its scorer."""
from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from hand_pose_ros import limits, predict
from hand_pose_ros.errors import DataError


def add_arguments(parser) -> None:
    """Options of ``hand-pose score``; those of ``predict`` but for its input and output."""
    parser.add_argument("folder", help="folder with annotations.jsonl (docs/evaluation.md), pictures and score.py")
    parser.add_argument("--out", type=limits.folder, required=True, help="folder for predictions and tables")
    parser.add_argument("--scorer", help="another scorer than the folder's score.py")
    inner = argparse.ArgumentParser(add_help=False)
    predict.add_arguments(inner)
    for action in inner._actions:
        if action.option_strings and action.dest not in ("out", "boxes", "cameras"):
            parser._add_action(action)


def main(args) -> int:
    """Predict twice, hands found and boxes given, and run the scorer on both. Raises DataError if a file is absent."""
    folder, out = Path(args.folder), Path(args.out)
    labels, scorer = folder / "annotations.jsonl", Path(args.scorer) if args.scorer else folder / "score.py"
    if not labels.is_file():
        raise DataError(f"{labels} is not there: give a folder of pictures with their labels (docs/evaluation.md says "
                        "how they are written)")
    if not scorer.is_file():
        raise DataError(f"{scorer}, a program that prints the tables, is not there: give another with --scorer, or "
                        f"measure by the package's own rules: hand-pose evaluate --data {folder} --out {out}")
    out.mkdir(parents=True, exist_ok=True)
    status = 0
    for name, boxes, options in (("found", None, []), ("box_given", str(labels), ["--iou", "0.05"])):
        args.images, args.boxes, args.cameras = str(folder), boxes, str(labels)
        args.out = str(out / f"predictions_{name}.jsonl")
        status = predict.main(args) or status
        print(f"\nhands {name.replace('_', ' ')}", flush=True)
        done = subprocess.run([sys.executable, str(scorer), str(labels), args.out, *options, "--json",
                               str(out / f"scores_{name}.json"), "--per-image", str(out / f"per_image_{name}.jsonl")])
        status = status or done.returncode
    return status
