"""CMU Panoptic HandDB (Simon et al., CVPR 2017): manual labels on MPII and sign-language pictures, and the dome set.

Joint order   ours (OpenPose order): hand_pts and joint_self.
Units         pixels; the third number is 1 where the joint is labelled.
Root          the wrist.
Licence       non-commercial research.
manual_test and manual_train (hand_labels.zip): one JSON per hand with its own copy of the picture, so several hands of
one picture are several items and the pictures are not exhaustive; is_left is the person's left. dome
(hand143_panopticdb.tar): one JSON of all hands, without a side.
"""
from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from .base import DataSet, Item, choose_split, count_unlabelled, from_items, make_hand, one_label, read_json

TITLE = "CMU Panoptic HandDB"
LICENCE = "CMU Panoptic HandDB: non-commercial research"
DOWNLOAD = "the HandDB page of the CMU Panoptic Studio (domedb.perception.cs.cmu.edu)"
LAYOUT = """  hand_labels/manual_test/name_01_l.json + .jpg   hand_labels/manual_train/...  (or these two alone)
  hand143_panopticdb/hands_v143_14817.json   hand143_panopticdb/imgs/00000000.jpg"""
SPLITS = ("manual_test", "manual_train", "dome")


def _manual(folder: Path, split: str) -> Path | None:
    for path in (folder / "hand_labels" / split, folder / split):
        if path.is_dir() and next(path.glob("*.json"), None):
            return path
    return None


def _dome(folder: Path) -> Path | None:
    for parent in (folder / "hand143_panopticdb", folder):
        for path in sorted(parent.glob("hands_v143_*.json")):
            return path
    return None


def recognise(folder: Path) -> bool:
    """True if one of the three parts is there."""
    return any(_present(folder, split) for split in SPLITS)


def _present(folder: Path, split: str) -> bool:
    return (_dome(folder) if split == "dome" else _manual(folder, split)) is not None


def load(folder: Path, split: str | None = None) -> DataSet:
    """manual_test if it is there, else manual_train, else dome."""
    split = choose_split(split, SPLITS, lambda name: _present(folder, name), folder)
    problems: Counter[str] = Counter()
    items = _load_dome(folder, problems) if split == "dome" else _load_manual(folder, split, problems)
    return from_items("panoptic", items, LICENCE, problems, split)


def _load_manual(folder: Path, split: str, problems: Counter[str]) -> list[Item]:
    items = []
    place = _manual(folder, split)
    for path in sorted(place.glob("*.json")):
        with one_label(problems, TITLE, path.name):
            label = read_json(path)
            points = np.array(label["hand_pts"], float).reshape(21, 3)
            hand = make_hand(points[:, :2], points[:, 2] == 1, problems=problems, name=TITLE,
                             handedness="left" if label["is_left"] else "right")
            if hand:
                picture = path.with_suffix(".jpg")
                items.append(Item(picture.relative_to(folder).as_posix(), picture, (hand,), group=path.stem[:9],
                                  subset=f"panoptic {split}"))
    count_unlabelled(place, ".jpg", {path.with_suffix(".jpg").name for path in place.glob("*.json")}, problems)
    return items


def _load_dome(folder: Path, problems: Counter[str]) -> list[Item]:
    path = _dome(folder)
    items = []
    for number, label in enumerate(read_json(path)["root"]):
        with one_label(problems, TITLE, f"{path.name}, entry {number}"):
            points = np.array(label["joint_self"], float).reshape(21, 3)
            hand = make_hand(points[:, :2], points[:, 2] == 1, problems=problems, name=TITLE)
            if hand:
                picture = path.parent / label["img_paths"]
                items.append(Item(f"{picture.relative_to(folder).as_posix()}#{number}", picture, (hand,),
                                  group=str(label["img_paths"]), subset="panoptic dome"))
    return items
