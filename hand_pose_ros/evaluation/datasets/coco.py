"""COCO 2017 (Lin et al., ECCV 2014): whole scenes for the detector: false alarms outside persons, hand boxes if any.

Joint order   none: COCO labels persons, not finger joints.
Units         pixels; bbox is x, y, width, height.
Root          none.
Licence       labels CC BY 4.0; pictures: each with its own Flickr licence.
A picture is exhaustive: a detected hand belongs to a person, so one that lies outside every person box is a false alarm
(person boxes are ignore regions; pictures without a person have none). Where the label file also has hand boxes
(lefthand_box and righthand_box with lefthand_valid and righthand_valid, as in COCO-WholeBody) they are truth hands.
"""
from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from .base import DataSet, Item, choose_split, from_items, make_hand, read_json

TITLE = "COCO 2017"
LICENCE = "COCO labels: CC BY 4.0; pictures: Flickr licences, per image"
DOWNLOAD = "COCO 2017 pictures and person labels from cocodataset.org"
LAYOUT = """  annotations/person_keypoints_val2017.json or instances_val2017.json   val2017/000000000139.jpg ..."""
SPLITS = ("val2017", "train2017")
PERSON = 1
"""Category id of persons."""


def _labels(folder: Path, split: str) -> Path | None:
    for name in ("instances", "person_keypoints"):
        path = folder / "annotations" / f"{name}_{split}.json"
        if path.is_file():
            return path
    return None


def recognise(folder: Path) -> bool:
    """True if person labels are there and whole-body ones, which say more, are not."""
    from . import coco_wholebody

    return any(_labels(folder, split) for split in SPLITS) and not coco_wholebody.recognise(folder)


def load(folder: Path, split: str | None = None) -> DataSet:
    """Every picture of the label file; val2017 if it is there, else train2017."""
    split = choose_split(split, SPLITS, lambda name: _labels(folder, name) is not None, folder)
    data = read_json(_labels(folder, split))
    problems: Counter[str] = Counter()
    persons = defaultdict(list)
    for annotation in data["annotations"]:
        if annotation.get("category_id", PERSON) == PERSON:
            persons[annotation["image_id"]].append(annotation)
    items = []
    for image in data["images"]:
        hands, regions = [], []
        for person in persons[image["id"]]:
            x, y, w, h = person["bbox"]
            regions.append((x, y, x + w, y + h))
            for side in ("left", "right"):
                if person.get(f"{side}hand_valid"):
                    x, y, w, h = person[f"{side}hand_box"]
                    hands.append(make_hand(np.full((21, 2), np.nan), np.zeros(21), box=(x, y, x + w, y + h),
                                           handedness=side))
        name = f"{split}/{image['file_name']}"
        items.append(Item(name, folder / name, tuple(hands), exhaustive=True, ignore=tuple(regions),
                          group=str(image["id"]), subset="coco persons" if regions else "coco without persons"))
    return from_items("coco", items, LICENCE, problems, split)
