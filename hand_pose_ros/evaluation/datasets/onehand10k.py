"""OneHand10K (Wang et al., TCSVT 2018): web photographs of one hand, 2D joints, only visible joints labelled.

Joint order   ours: keypoint names of the COCO-style label files that mmpose publishes; the raw text has the same order.
Units         pixels; a hidden joint is (0, 0, 0) in the JSON and (-1, -1) in the raw text.
Root          the wrist.
Licence       research; the pictures come from the web.
Both label forms are read: annotations/onehand10k_test.json, and the makers' Test/label_joint.txt with one line
"name,width,height,hands,x1,y1,...,x21,y21[,...]". How many hands a line labels follows from its numbers, 42 for each,
as in public readers, which do not look at the field hands; where it names another number, the picture is not taken as
one with all hands labelled. A line that cannot be read is left out and counted. Only the JSON has boxes, 1.2 to 2.9
times as large as the tight ones round the visible joints; without them these are taken.
"""
from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from .base import DataSet, Item, choose_split, count_unlabelled, from_items, make_hand, one_label, read_json
from .coco_wholebody import corners

TITLE = "OneHand10K"
LICENCE = "OneHand10K: research use (pictures from the web)"
DOWNLOAD = "the OneHand10K page of Yangang Wang (yangangwang.com); label files in JSON from the mmpose documentation"
LAYOUT = """  annotations/onehand10k_test.json  or  Test/label_joint.txt      (Train likewise)
  Test/source/0.jpg ..."""
SPLITS = ("test", "train")


def _files(folder: Path, split: str) -> tuple[Path, Path]:
    return folder / "annotations" / f"onehand10k_{split}.json", folder / split.capitalize() / "label_joint.txt"


def recognise(folder: Path) -> bool:
    """True if either label form of either split is there."""
    return any(path.is_file() for split in SPLITS for path in _files(folder, split))


def load(folder: Path, split: str | None = None) -> DataSet:
    """test if its labels are there, else train."""
    split = choose_split(split, SPLITS, lambda name: any(p.is_file() for p in _files(folder, name)), folder)
    problems: Counter[str] = Counter()
    coco, text = _files(folder, split)
    labels, incomplete = (_from_json(coco, problems), ()) if coco.is_file() else _from_text(text, problems)
    source = folder / split.capitalize() / "source"
    items = []
    for file_name in sorted(labels):
        name = Path(file_name).name
        hands = [make_hand(points, valid, box=box, problems=problems, name=TITLE)
                 for points, valid, box in labels[file_name]]
        items.append(Item(f"{split.capitalize()}/source/{name}", source / name, tuple(h for h in hands if h),
                          exhaustive=file_name not in incomplete, group=name))
    count_unlabelled(source, ".jpg", {Path(name).name for name in labels}, problems)
    return from_items("onehand10k", items, LICENCE, problems, split)


_Labels = dict[str, list[tuple[np.ndarray, np.ndarray, Any]]]
"""Of each picture and hand the pixels (21, 2), which of them are labelled (21,), and the box's corners or None."""


def _from_json(path: Path, problems: Counter[str]) -> _Labels:
    data = read_json(path)
    names = {image["id"]: image["file_name"] for image in data["images"]}
    labels: _Labels = defaultdict(list)
    for number, annotation in enumerate(data["annotations"]):
        with one_label(problems, TITLE, f"{path.name}, annotation {number}"):
            if annotation["image_id"] not in names:
                problems[f"{TITLE}: label without image entry, left out"] += 1
                continue
            points = np.array(annotation["keypoints"], float).reshape(21, 3)
            box = corners(annotation["bbox"]) if min(annotation.get("bbox", ())[2:], default=0) > 0 else None
            labels[names[annotation["image_id"]]].append((points[:, :2], points[:, 2] > 0, box))
    return labels


def _from_text(path: Path, problems: Counter[str]) -> tuple[_Labels, set[str]]:
    """Labels of each picture, and the pictures of which the line names another number of hands than it labels."""
    labels: _Labels = {}
    incomplete = set()
    for number, line in enumerate(path.read_text("utf8").split("\n"), 1):
        fields = line.strip().strip(",").split(",")
        if fields == [""]:
            continue
        with one_label(problems, TITLE, f"{path.name}:{number}"):
            points, stated = _points(fields), int(fields[3])
            labels[fields[0]] = [(hand, ~(hand < 0).any(axis=1), None) for hand in points]
            if stated != len(points):
                problems[f"{TITLE}: line that names another number of hands than it labels"] += 1
                incomplete.add(fields[0])
    return labels, incomplete


def _points(fields: list[str]) -> np.ndarray:
    """(hands, 21, 2) pixels of a line. Raises DataError for other numbers than 42 per hand."""
    numbers = fields[4:]
    if not numbers or len(numbers) % 42:
        raise DataError(f"{len(numbers)} numbers after name,width,height,hands; expected 42 for each hand")
    return np.array(numbers, float).reshape(-1, 21, 2)
