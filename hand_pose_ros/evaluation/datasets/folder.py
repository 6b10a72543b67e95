"""A folder with annotations.jsonl: one image per line, our joint order; also what ``hand-pose labels`` writes.

Joint order   ours. Units: pixels, metres in the camera's frame (x right, y down, z forward). Root: the wrist.
Licence       per image, in the field "licence".
Fields        image, width, height, dataset, group, truth (independent, or made with a model), synthetic, exhaustive,
              ignore [[x, y, w, h]], hands [{bbox [x, y, w, h], joints_2d, valid_2d, joints_3d, valid_3d, handedness,
              K}].
"""
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ...predict import labelled_box
from .base import (LABEL_ERRORS, DataSet, Item, TruthHand, choose_split, from_items, make_hand, one_label, pinhole,
                   reason)

TITLE = "labelled pictures"
LICENCE = "per image, see the field licence of annotations.jsonl"
FILE = "annotations.jsonl"
DOWNLOAD = "your own; `hand-pose labels` writes one"
LAYOUT = """  annotations.jsonl   images/... as its lines name them"""
SPLITS = ("all",)
NO_HAND = "no_hand_seen_by_eye"
"""What "truth" says of a picture in which a person has found no hand; without hands "independent" says so, too."""


def recognise(folder: Path) -> bool:
    """True if annotations.jsonl is there."""
    return (folder / FILE).is_file()


def load(folder: Path, split: str | None = None) -> DataSet:
    """Every line that is a label."""
    split = choose_split(split, SPLITS, lambda _: True, folder)
    problems: Counter[str] = Counter()
    items, names = [], set()
    for _, item in rows(folder / FILE, problems, strict=False):
        if item.name in names:
            problems[f"{item.name}: labelled twice, only the first is used"] += 1
            continue
        names.add(item.name)
        items.append(item)
    return from_items("folder", items, LICENCE, problems, split)


def rows(path: Path, problems: Counter[str] | None = None, strict: bool = True
         ) -> Iterator[tuple[dict[str, Any], Item]]:
    """Every line of an annotations.jsonl, parsed and as an item. One that is no label raises DataError with the line's
    number or, unless ``strict``, is named in ``problems`` and left out."""
    problems = Counter() if problems is None else problems
    try:
        text = path.read_text("utf8")
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there: give the folder in which the labels lie") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as lines of text: {error}") from error
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            item = _item(path.parent, row, problems)
        except LABEL_ERRORS as error:
            if strict:
                raise DataError(f"{path}:{number}: not a label line ({reason(error)})") from error
            with one_label(problems, TITLE, f"{path.name}:{number}"):
                raise
            continue
        yield row, item


def _item(folder: Path, row: dict[str, Any], problems: Counter[str]) -> Item:
    hands = [_hand(hand, problems) for hand in row["hands"]]
    matrices = [hand["K"] for hand in row["hands"] if hand.get("K") is not None]
    camera = pinhole(matrices[0], row["width"], row["height"]) if matrices else None
    row = {name: value for name, value in row.items() if value is not None}             # null is left out
    truth = row.get("truth", "independent")
    if truth == "draft":
        problems[f"{FILE}: picture whose labels are drafts of hand-pose labels that nobody has corrected"] += 1
    kind = "rendered" if row.get("synthetic") else "real" if truth == "independent" else \
        "negative" if truth == NO_HAND and not row["hands"] else "model"
    return Item(row["image"], folder / row["image"], tuple(hand for hand in hands if hand), camera,
                exhaustive=bool(row.get("exhaustive")),
                ignore=tuple((x, y, x + w, y + h) for x, y, w, h in row.get("ignore", [])),
                group=str(row.get("group", row["image"])), subset=str(row.get("dataset", "folder")), kind=kind)


def _hand(label: dict[str, Any], problems: Counter[str]) -> TruthHand | None:
    points = label.get("joints_2d")
    valid = np.asarray(label["valid_2d"]) > 0 if label.get("valid_2d") is not None else \
        np.full(21, points is not None)
    points = np.full((21, 2), np.nan) if points is None else points
    box, size = None, None
    if label.get("bbox") is not None:
        x, y, w, h = labelled_box(label)
        box, size = (x, y, x + w, y + h), float(max(w, h))
    joints_m, side = label.get("joints_3d"), label.get("handedness")
    side = side.lower() if isinstance(side, str) else side
    if side not in ("left", "right", None):
        problems[f"{FILE}: handedness {side!r}, which is neither left nor right, taken as unlabelled"] += 1
        side = None
    hand = make_hand(points, valid, joints_m, label.get("valid_3d") if joints_m is not None else None, box,
                     problems, FILE, handedness=side)
    if hand is None or size is None:
        return hand
    return TruthHand(hand.box, size, hand.joints_px, hand.valid_px, hand.joints_m, hand.valid_m, hand.handedness)
