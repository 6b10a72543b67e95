"""COCO-WholeBody v1.0, hands (Jin et al., ECCV 2020): whole scenes, hands of 10 to 100 pixels, 2D joints and boxes.

Joint order   ours (OpenPose order) within lefthand_kpts and righthand_kpts.
Units         pixels; the third number is a visibility, above 0 means labelled.
Root          the wrist.
Licence       labels: non-commercial research; pictures: each with its own Flickr licence.
Left and right are the person's own. A person whose hand is not labelled (lefthand_valid false) may still show one, so
the images are not exhaustive; the boxes of unlabelled and crowd persons are ignore regions.
"""
from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from .base import DataSet, Item, choose_split, from_items, make_hand, read_json

TITLE = "COCO-WholeBody"
LICENCE = "COCO-WholeBody labels: non-commercial research; COCO pictures: Flickr licences, per image"
DOWNLOAD = "labels: the COCO-WholeBody page of jin-s13 on GitHub; pictures: COCO 2017 from cocodataset.org"
LAYOUT = """  annotations/coco_wholebody_val_v1.0.json   val2017/000000000139.jpg ...     (train2017 likewise)"""
SPLITS = ("val", "train")


def _labels(folder: Path, split: str) -> Path:
    return folder / "annotations" / f"coco_wholebody_{split}_v1.0.json"


def recognise(folder: Path) -> bool:
    """True if the whole-body labels of one split are there."""
    return any(_labels(folder, split).is_file() for split in SPLITS)


def load(folder: Path, split: str | None = None) -> DataSet:
    """Images with at least one labelled hand; val if it is there, else train."""
    split = choose_split(split, SPLITS, lambda name: _labels(folder, name).is_file(), folder)
    data = read_json(_labels(folder, split))
    problems: Counter[str] = Counter()
    persons = defaultdict(list)
    for annotation in data["annotations"]:
        persons[annotation["image_id"]].append(annotation)
    known = {image["id"] for image in data["images"]}
    lost = sum(len(rows) for number, rows in persons.items() if number not in known)
    if lost:
        problems[f"{TITLE}: label without image entry, left out"] += lost
    items, unlabelled = [], 0
    for image in data["images"]:
        hands, ignore = [], []
        for person in persons[image["id"]]:
            for side in ("left", "right"):
                if not person.get(f"{side}hand_valid"):
                    x, y, w, h = person["bbox"]
                    ignore.append((x, y, x + w, y + h))
                    continue
                points = np.array(person[f"{side}hand_kpts"], float).reshape(21, 3)
                x, y, w, h = person[f"{side}hand_box"]
                valid = points[:, 2] > 0
                hand = make_hand(points[:, :2], valid, box=None if valid.any() else (x, y, x + w, y + h),
                                 problems=problems, name=TITLE, handedness=side)
                if hand:
                    hands.append(hand)
        if not hands:
            unlabelled += 1
            continue
        name = f"{split}2017/{image['file_name']}"
        items.append(Item(name, folder / name, tuple(hands), ignore=tuple(ignore), group=str(image["id"])))
    if unlabelled:
        problems[f"{TITLE}: image without a labelled hand, not used"] += unlabelled
    return from_items("coco_wholebody", items, LICENCE, problems, split)
