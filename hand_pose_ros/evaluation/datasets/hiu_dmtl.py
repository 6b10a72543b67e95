"""HIU-DMTL (Zhang et al., ICCV 2021): photographs of one hand with 2D joints.

Joint order   ours within each hand: users of the set read pts2d_2hand without reordering (layout as found in public
              loaders; the archive is given out on request and was not at hand when this was written).
Units         pixels. The file also holds 3D joints (pts3d_2hand) whose unit and frame are documented nowhere: not read.
Root          the wrist.
Licence       research; the archive's password comes from the authors.
pts2d_2hand holds 42 joints: the labelled hand is the first 21 if hand_type[0] is set, else the last 21. Which of the
two is a left hand is not documented, so handedness is unknown here and not scored.
"""
from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from .base import DataSet, Item, from_items, make_hand, read_json

TITLE = "HIU-DMTL"
LICENCE = "HIU-DMTL: research use, archive and password from the authors on request"
DOWNLOAD = "the HIU-DMTL page of MandyMo on GitHub (the authors send the archive's password by mail)"
LAYOUT = """  name.jpg or name.png   name.json (pts2d_2hand, hand_type)   [name_mask.png]     here or one folder down"""
SPLITS = ("all",)


def recognise(folder: Path) -> bool:
    """True if a JSON file of the folder, or of one below it, has pts2d_2hand."""
    for path in _labels(folder):
        label = read_json(path)
        return isinstance(label, dict) and "pts2d_2hand" in label
    return False


def _labels(folder: Path):
    for pattern in ("*.json", "*/*.json"):
        for path in sorted(folder.glob(pattern)):
            if path.name != "ids.json":
                yield path


def load(folder: Path, split: str | None = None) -> DataSet:
    """Every labelled picture; the archive has no official split."""
    problems: Counter[str] = Counter()
    items = []
    for path in _labels(folder):
        label = read_json(path)
        if not isinstance(label, dict) or "pts2d_2hand" not in label:
            problems[f"{TITLE}: JSON file without pts2d_2hand, left out"] += 1
            continue
        picture = next((path.with_suffix(s) for s in (".jpg", ".png") if path.with_suffix(s).is_file()), None)
        if picture is None:
            problems[f"{TITLE}: label without image, left out"] += 1
            continue
        both = np.array(label["pts2d_2hand"], float).reshape(42, -1)[:, :2]
        points = both[:21] if label["hand_type"][0] else both[21:]
        hand = make_hand(points, ~(points == 0).all(axis=1), problems=problems, name=TITLE)
        if hand:
            name = picture.relative_to(folder).as_posix()
            items.append(Item(name, picture, (hand,), group=name))
    known = {item.path for item in items}
    extra = [p for s in ("jpg", "png") for p in (*folder.glob(f"*.{s}"), *folder.glob(f"*/*.{s}"))
             if p not in known and not p.stem.endswith("_mask") and not p.with_suffix(".json").is_file()]
    if extra:
        problems[f"{TITLE}: image without label, not used"] += len(extra)
    return from_items("hiu_dmtl", items, LICENCE, problems, "all")
