"""COCO-WholeBody v1.0, hands (Jin et al., ECCV 2020): whole scenes, hands of 10 to 100 pixels, 2D joints and boxes.

Joint order   ours (OpenPose order) within lefthand_kpts and righthand_kpts.
Units         pixels; the third number is a visibility, above 0 means labelled.
Root          the wrist.
Licence       labels: non-commercial research; pictures: each with its own Flickr licence.
Left and right are the person's own. The makers label a hand only where it is clear enough for its joints (their
data_format.md), and miss some that are (their issue 6): a person of whom a hand is not labelled (lefthand_valid false)
may still show it, and so may a crowd. The boxes of these are ignore regions, and with them a picture is exhaustive,
since COCO boxes every person or crowd: a detection outside them that is no labelled hand is false. One on such a person
counts neither way, also where it is false, so that precision and AP are on the kind side. Pictures without a labelled
hand are not read here; the loader ``coco`` has them.
"""
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .base import DataSet, Item, TruthHand, choose_split, from_items, make_hand, one_label, read_json

TITLE = "COCO-WholeBody"
LICENCE = "COCO-WholeBody labels: non-commercial research; COCO pictures: Flickr licences, per image"
DOWNLOAD = "labels: the COCO-WholeBody page of jin-s13 on GitHub; pictures: COCO 2017 from cocodataset.org"
LAYOUT = """  annotations/coco_wholebody_val_v1.0.json   val2017/000000000139.jpg ...     (train2017 likewise)"""
SPLITS = ("val", "train")


def label_file(folder: Path, split: str) -> Path:
    """Where the labels of a split ("val" or "train") lie."""
    return folder / "annotations" / f"coco_wholebody_{split}_v1.0.json"


def recognise(folder: Path) -> bool:
    """True if the whole-body labels of one split are there."""
    return any(label_file(folder, split).is_file() for split in SPLITS)


def load(folder: Path, split: str | None = None) -> DataSet:
    """Images with at least one labelled hand; val if it is there, else train."""
    split = choose_split(split, SPLITS, lambda name: label_file(folder, name).is_file(), folder)
    data = read_json(label_file(folder, split))
    problems: Counter[str] = Counter()
    persons = defaultdict(list)
    for number, annotation in enumerate(data["annotations"]):
        with one_label(problems, TITLE, f"annotation {number}"):
            persons[annotation["image_id"]].append(annotation)
    known = {image["id"] for image in data["images"]}
    lost = sum(len(rows) for number, rows in persons.items() if number not in known)
    if lost:
        problems[f"{TITLE}: label without image entry, left out"] += lost
    items, unlabelled = [], 0
    for image in data["images"]:
        with one_label(problems, TITLE, str(image.get("file_name", image["id"]))):
            hands = [hand for person in persons[image["id"]] for hand in _hands(person, problems)]
            if not hands:
                unlabelled += 1
                continue
            name = f"{split}2017/{image['file_name']}"
            items.append(Item(name, folder / name, tuple(hands), exhaustive=True, group=str(image["id"]),
                              ignore=tuple(corners(person["bbox"]) for person in persons[image["id"]]
                                           if may_show_more(person))))
    if unlabelled:
        problems[f"{TITLE}: image without a labelled hand, not used"] += unlabelled
    return from_items("coco_wholebody", items, LICENCE, problems, split)


def labelled_sides(person: dict[str, Any]) -> list[str]:
    """Which hands of an annotation of a person are labelled. A box without area is none: so the makers write that."""
    return [side for side in ("left", "right")
            if person.get(f"{side}hand_valid") and min(person[f"{side}hand_box"][2:]) > 0]


def may_show_more(person: dict[str, Any]) -> bool:
    """Whether a detection on this person may be a hand that is not labelled."""
    return bool(person.get("iscrowd")) or len(labelled_sides(person)) < 2


def corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    """x, y, width, height -> x0, y0, x1, y1. Raises ValueError for other than four numbers."""
    x, y, w, h = box
    return x, y, x + w, y + h


def _hands(person: dict[str, Any], problems: Counter[str]) -> list[TruthHand]:
    hands = []
    for side in labelled_sides(person):
        points = np.array(person[f"{side}hand_kpts"], float).reshape(21, 3)
        valid = points[:, 2] > 0
        hands.append(make_hand(points[:, :2], valid, box=corners(person[f"{side}hand_box"]), problems=problems,
                               name=TITLE, handedness=side))
    return [hand for hand in hands if hand]
