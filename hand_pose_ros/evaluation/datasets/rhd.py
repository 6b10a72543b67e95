"""Rendered Hand Pose (Zimmermann and Brox, ICCV 2017): rendered persons, 320 x 320 pictures, two hands each.

Joint order   21 left, then 21 right; each wrist, then thumb, index, middle, ring, little from TIP to base.
Units         metres in the camera's frame; pixels; K per picture.
Root          the wrist (some papers score a palm centre instead: read the protocol before comparing).
Licence       research only, no commercial use.
A hand counts if at least 11 of its joints are visible (uv_vis); one with fewer but some is an ignore region. Only
visible joints count in 2D, all of them in 3D.
"""
from __future__ import annotations

import codecs
import io
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from .base import DataSet, Item, TruthHand, choose_split, count_unlabelled, from_items, make_hand, one_label, pinhole

TITLE = "Rendered Hand Pose (RHD)"
LICENCE = "RHD: research only, no commercial use"
DOWNLOAD = "the Rendered Handpose Dataset page of the Computer Vision Group, University of Freiburg"
LAYOUT = """  evaluation/anno_evaluation.pickle   evaluation/color/00000.png ...     (training likewise)"""
SPLITS = ("evaluation", "training")
TO_OURS = (0, 4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17)
"""TO_OURS[j] is the number, within one hand, of our joint j."""
VISIBLE_JOINTS = 11
WIDTH = HEIGHT = 320


def _labels(folder: Path, split: str) -> Path:
    return folder / split / f"anno_{split}.pickle"


def recognise(folder: Path) -> bool:
    """True if the labels of one split are there."""
    return any(_labels(folder, split).is_file() for split in SPLITS)


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays and nothing else: a pickle from the internet must not run code."""

    ALLOWED = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype,
               ("numpy", "_reconstruct"): np.empty(0).__reduce__()[0],
               ("numpy", "scalar"): np.float64(0).__reduce__()[0],
               ("_codecs", "encode"): codecs.encode}

    def find_class(self, module: str, name: str) -> Any:
        """The named object; NumPy 1 and 2 keep theirs in different submodules. Raises UnpicklingError for others."""
        found = self.ALLOWED.get((module.split(".")[0], name))
        if found is None:
            raise pickle.UnpicklingError(f"{module}.{name} does not belong into this file")
        return found


def load(folder: Path, split: str | None = None) -> DataSet:
    """evaluation if it is there, else training. Raises DataError if the pickle holds more than arrays."""
    split = choose_split(split, SPLITS, lambda name: _labels(folder, name).is_file(), folder)
    try:
        labels = _ArraysOnly(io.BytesIO(_labels(folder, split).read_bytes()), encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, AttributeError) as error:
        raise DataError(f"{_labels(folder, split)}: not the published pickle ({error})") from error
    problems: Counter[str] = Counter()
    items = []
    for number in sorted(labels):
        with one_label(problems, TITLE, f"picture {number}"):
            hands, ignore = _hands(labels[number], problems)
            if not hands:
                problems[f"{TITLE}: picture without a hand of {VISIBLE_JOINTS} visible joints, not used"] += 1
                continue
            name = f"{split}/color/{number:05d}.png"
            items.append(Item(name, folder / name, tuple(hands), pinhole(labels[number]["K"], WIDTH, HEIGHT),
                              exhaustive=True, ignore=tuple(ignore), group=str(number), kind="rendered"))
    count_unlabelled(folder / split / "color", ".png", {f"{number:05d}.png" for number in labels}, problems)
    return from_items("rhd", items, LICENCE, problems, split)


def _hands(label: dict[str, Any], problems: Counter[str]) -> tuple[list[TruthHand], list[tuple[float, ...]]]:
    """The hands of a picture that count, and the boxes of those that show too little."""
    uv_vis, xyz = (np.array(label[key], float) for key in ("uv_vis", "xyz"))
    hands, ignore = [], []
    for side, start in (("left", 0), ("right", 21)):
        order = np.array(TO_OURS) + start
        visible = uv_vis[order, 2] == 1
        if visible.sum() >= VISIBLE_JOINTS:
            hand = make_hand(uv_vis[order, :2], visible, xyz[order], problems=problems, name=TITLE, handedness=side)
            if hand:
                hands.append(hand)
        elif visible.any():
            points = uv_vis[order, :2]
            ignore.append((*points.min(axis=0), *points.max(axis=0)))
    return hands, ignore
