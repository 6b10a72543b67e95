"""OneHand10K (Wang et al., TCSVT 2018): web photographs of one hand, 2D joints, only visible joints labelled.

Joint order   ours: keypoint names of the COCO-style label files that mmpose publishes; the raw text has the same order.
Units         pixels; a hidden joint is (0, 0, 0) in the JSON and (-1, -1) in the raw text.
Root          the wrist.
Licence       research; the pictures come from the web.
Both label forms are read: annotations/onehand10k_test.json, and the makers' Test/label_joint.txt with one line
"name,width,height,hands,x1,y1,...,x21,y21[,...]".
"""
from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from ...errors import DataError
from .base import DataSet, Item, choose_split, count_unlabelled, from_items, make_hand, read_json

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
    labels = _from_json(coco, problems) if coco.is_file() else _from_text(text)
    source = folder / split.capitalize() / "source"
    items = []
    for file_name in sorted(labels):
        name = Path(file_name).name
        hands = [make_hand(points, valid, problems=problems, name=TITLE) for points, valid in labels[file_name]]
        items.append(Item(f"{split.capitalize()}/source/{name}", source / name, tuple(h for h in hands if h),
                          exhaustive=True, group=name))
    count_unlabelled(source, ".jpg", {Path(name).name for name in labels}, problems)
    return from_items("onehand10k", items, LICENCE, problems, split)


def _from_json(path: Path, problems: Counter[str]) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    data = read_json(path)
    names = {image["id"]: image["file_name"] for image in data["images"]}
    labels: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for annotation in data["annotations"]:
        if annotation["image_id"] not in names:
            problems[f"{TITLE}: label without image entry, left out"] += 1
            continue
        points = np.array(annotation["keypoints"], float).reshape(21, 3)
        labels[names[annotation["image_id"]]].append((points[:, :2], points[:, 2] > 0))
    return labels


def _from_text(path: Path) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    labels: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for number, line in enumerate(path.read_text("utf8").split("\n"), 1):
        fields = line.strip().strip(",").split(",")
        if fields == [""]:
            continue
        try:
            points = np.array(fields[4:], float).reshape(int(fields[3]), 21, 2)
        except (ValueError, IndexError) as error:
            raise DataError(f"{path}:{number}: not a label line ({error}); expected name,width,height,hands,x1,y1,"
                            f"...") from error
        labels[fields[0]] = [(hand, ~(hand < 0).any(axis=1)) for hand in points]
    return labels
