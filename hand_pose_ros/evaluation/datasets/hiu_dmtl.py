"""HIU-DMTL (Zhang et al., ICCV 2021): photographs of mostly one hand with 2D joints.

Joint order   ours within each hand: users of the set read pts2d_2hand without reordering.
Units         pixels. pts3d_w_2hand is not read: a user found it neither root-relative nor in world axes (issue 4), and
              its unit and frame are documented nowhere.
Root          the wrist.
Licence       research; the archive's password comes from the authors.
pts2d_2hand holds 42 joints, of which hand_type tells the halves that are there: one of two numbers, or both. The maker
says "right hand and left hand" (issue 3), but a user found right hands in either half with hand_type_valid set for both
(issue 4, without an answer): so handedness is taken as unknown and not scored. hand_type_valid only says whether
hand_type was labelled; it is not read, since joints that are there are a label. An unlabelled joint is (0, 0) or has
x = 2.0 exactly: issue 4 reports values such as (2.0, -0.67), and a public loader drops what has this x. Nothing says
that all hands of a picture are labelled, so none is taken as exhaustive.
The archive is given out on request and was not at hand when this was written: all of this is from the issues of
MandyMo/HIU-DMTL and from public loaders, none of it checked against the files.
"""
from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from .base import DataSet, Item, TruthHand, from_items, make_hand, one_label, read_json

TITLE = "HIU-DMTL"
LICENCE = "HIU-DMTL: research use, archive and password from the authors on request"
DOWNLOAD = "the HIU-DMTL page of MandyMo on GitHub (the authors send the archive's password by mail)"
LAYOUT = """  name.jpg or name.png   name.json (pts2d_2hand, hand_type)   [name_mask.png]   here or in folders below"""
SPLITS = ("all",)
UNLABELLED_X = 2.0
PICTURES = (".jpg", ".png")
FOLDERS_LOOKED_AT, LABELS_LOOKED_AT = 200, 3
"""By ``recognise``: other data sets have millions of files, and it is asked about them too."""


def recognise(folder: Path) -> bool:
    """True if a JSON file beside a picture of its name, at any depth, has pts2d_2hand."""
    beside = (place / name for place, names in islice(_folders(folder), FOLDERS_LOOKED_AT)
              for name in _labels(names) if _picture(name, names))
    for path in islice(beside, LABELS_LOOKED_AT):
        with suppress(DataError):                   # a single cut-off file does not make it another set
            label = read_json(path)
            if isinstance(label, dict) and "pts2d_2hand" in label:
                return True
    return False


def _folders(folder: Path) -> Iterator[tuple[Path, set[str]]]:
    """The folder and all below it, in order, each with the names of its files."""
    for place, below, names in os.walk(folder):
        below.sort()
        yield Path(place), set(names)


def _labels(names: set[str]) -> list[str]:
    return sorted(name for name in names if name.endswith(".json") and name != "ids.json")


def _picture(label: str, names: set[str]) -> str | None:
    return next((name for suffix in PICTURES if (name := label.removesuffix(".json") + suffix) in names), None)


def load(folder: Path, split: str | None = None) -> DataSet:
    """Every labelled picture; the archive has no official split."""
    problems: Counter[str] = Counter()
    items = []
    for place, names in _folders(folder):
        for name in _labels(names):
            path, picture = place / name, _picture(name, names)
            with one_label(problems, TITLE, path.relative_to(folder).as_posix()):
                label = read_json(path)
                if not isinstance(label, dict) or "pts2d_2hand" not in label:
                    problems[f"{TITLE}: JSON file without pts2d_2hand, left out"] += 1
                elif picture is None:
                    problems[f"{TITLE}: label without image, left out"] += 1
                elif hands := _hands(label, problems):
                    picture = place / picture
                    name = picture.relative_to(folder).as_posix()
                    items.append(Item(name, picture, tuple(hands), group=name))
        extra = sum(name.endswith(PICTURES) and not Path(name).stem.endswith("_mask")
                    and f"{Path(name).stem}.json" not in names for name in names)
        if extra:
            problems[f"{TITLE}: image without label, not used"] += extra
    return from_items("hiu_dmtl", items, LICENCE, problems, "all")


def _hands(label: dict[str, Any], problems: Counter[str]) -> list[TruthHand]:
    """The hands of one picture that hand_type says are there and that have a labelled joint."""
    points = np.array(label["pts2d_2hand"], float).reshape(42, -1)[:, :2]
    labelled = (points[:, 0] != UNLABELLED_X) & (points != 0).any(axis=1)
    first, second = label["hand_type"]
    found = [make_hand(points[half], labelled[half], problems=problems, name=TITLE)
             for half, exists in ((slice(0, 21), first), (slice(21, 42), second)) if exists]
    if not found:
        problems[f"{TITLE}: hand_type names no hand, picture not used"] += 1
    return [hand for hand in found if hand]
