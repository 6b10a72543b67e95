"""COCO 2017 (Lin et al., ECCV 2014): whole scenes for the detector: false alarms outside persons, and boxes of hands.

Joint order   none: boxes alone are read.
Units         pixels; bbox is x, y, width, height.
Root          none.
Licence       labels CC BY 4.0, those of COCO-WholeBody non-commercial; pictures: each with its own Flickr licence.
COCO itself has boxes of persons and none of hands. A detected hand belongs to a person, so one outside every person box
is a false alarm: person boxes are ignore regions, pictures without a person have none, and every picture is exhaustive.
Alone these labels give false alarms per picture, but neither recall nor AP. Where the label file of COCO-WholeBody lies
beside them, its hand boxes are truth, and a person with both hands labelled, who is no crowd, is no ignore region any
more: then there are recall and AP, also over the pictures that the loader ``coco_wholebody`` leaves out. That one is
recognised first; choose this one with --dataset coco.
"""
from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from . import coco_wholebody
from .base import DataSet, Item, TruthHand, choose_split, from_items, make_hand, one_label, read_json
from .coco_wholebody import corners, labelled_sides, may_show_more

TITLE = "COCO 2017"
LICENCE = "COCO labels: CC BY 4.0; pictures: Flickr licences, per image"
DOWNLOAD = "COCO 2017 pictures and person labels from cocodataset.org"
LAYOUT = """  annotations/instances_val2017.json or person_keypoints_val2017.json   val2017/000000000139.jpg ...
  [annotations/coco_wholebody_val_v1.0.json, for boxes of hands]     (train2017 likewise)"""
SPLITS = ("val2017", "train2017")
PERSON = 1
"""Category id of persons."""


def _files(folder: Path, split: str) -> list[Path]:
    """The label files to read, the one that says more last. instances and person_keypoints hold the same persons."""
    persons = [folder / "annotations" / f"{name}_{split}.json" for name in ("instances", "person_keypoints")]
    found = [path for path in persons if path.is_file()][:1]
    return [*found, _hand_file(folder, split)] if _hand_file(folder, split).is_file() else found


def _hand_file(folder: Path, split: str) -> Path:
    return coco_wholebody.label_file(folder, split.removesuffix("2017"))


def recognise(folder: Path) -> bool:
    """True if person labels of one of the splits are there."""
    return any(_files(folder, split) for split in SPLITS)


def load(folder: Path, split: str | None = None) -> DataSet:
    """Every picture of the label files; val2017 if it is there, else train2017."""
    split = choose_split(split, SPLITS, lambda name: bool(_files(folder, name)), folder)
    problems: Counter[str] = Counter()
    images: dict[int, dict[str, Any]] = {}
    persons: dict[int, dict[str, Any]] = {}         # COCO-WholeBody keeps COCO's ids, and all its fields
    for path in _files(folder, split):
        data = read_json(path)
        images.update((image["id"], image) for image in data["images"])
        for number, annotation in enumerate(data["annotations"]):
            with one_label(problems, TITLE, f"{path.name}, annotation {number}"):
                if annotation.get("category_id", PERSON) == PERSON:
                    persons[annotation["id"]] = annotation
    of_image = defaultdict(list)
    for number, person in persons.items():
        with one_label(problems, TITLE, f"person {number}"):
            of_image[person["image_id"]].append(person)
    items = []
    for image in images.values():
        with one_label(problems, TITLE, str(image.get("file_name", image["id"]))):
            found = of_image[image["id"]]
            name = f"{split}/{image['file_name']}"
            items.append(Item(name, folder / name, tuple(hand for person in found for hand in _hands(person)),
                              exhaustive=True, group=str(image["id"]),
                              ignore=tuple(corners(person["bbox"]) for person in found if may_show_more(person)),
                              subset="coco persons" if found else "coco without persons"))
    licence = f"{LICENCE}; {coco_wholebody.LICENCE}" if _hand_file(folder, split).is_file() else LICENCE
    return from_items("coco", items, licence, problems, split)


def _hands(person: dict[str, Any]) -> list[TruthHand]:
    return [make_hand(np.full((21, 2), np.nan), np.zeros(21), box=corners(person[f"{side}hand_box"]), handedness=side)
            for side in labelled_sides(person)]
