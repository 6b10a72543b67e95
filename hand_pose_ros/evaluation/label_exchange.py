"""Draft labels to a label editor and back, as COCO keypoints (Lin et al., ECCV 2014; cocodataset.org, data format).

CVAT ("COCO Keypoints 1.0"), COCO Annotator and FiftyOne read and write this format. Left hands, right hands and hands
of unknown side are categories of 21 named keypoints; visibility 2 is seen, 1 hidden but placed, 0 not labelled.
"""
from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..skeleton import BONES, JOINT_NAMES
from . import predictions
from .datasets import folder as label_folder
from .datasets.base import LABEL_ERRORS, read_json, reason

FILE = "coco_keypoints.json"
SIDES = {"left_hand": "left", "right_hand": "right", "hand": None}
"""Category: handedness of a label."""
BEFORE = "annotations.before.jsonl"
"""The labels as they were before corrected ones were taken over."""


def to_coco(rows: list[dict[str, Any]], seen: list[list[list[bool]]]) -> dict[str, Any]:
    """Label lines as a COCO keypoint file. seen: of each hand of each line, whether each joint is visible (21)."""
    sides = list(SIDES.values())
    categories = [{"id": number, "name": name, "supercategory": "hand", "keypoints": list(JOINT_NAMES),
                   "skeleton": [[parent + 1, child + 1] for parent, child in BONES]}
                  for number, name in enumerate(SIDES, 1)]
    images, annotations = [], []
    for number, (row, row_seen) in enumerate(zip(rows, seen), 1):
        images.append({"id": number, "file_name": row["image"], "width": row["width"], "height": row["height"]})
        for hand, hand_seen in zip(row["hands"], row_seen):
            points = [[x, y, 2 if visible else 1] if valid else [0, 0, 0]
                      for (x, y), valid, visible in zip(hand["joints_2d"], hand["valid_2d"], hand_seen)]
            x, y, width, height = hand["bbox"]
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "iscrowd": 0, "bbox": [x, y, width, height],
                "area": width * height, "category_id": 1 + sides.index(hand["handedness"]),
                "num_keypoints": sum(hand["valid_2d"]), "keypoints": [value for point in points for value in point]})
    return {"info": {"description": "draft labels of hands, to be corrected"}, "licenses": [], "images": images,
            "annotations": annotations, "categories": categories}


def take_over(corrected: Path, folder: Path) -> tuple[int, int, Counter[str]]:
    """Put the hands of a COCO keypoint file, as an editor exported it, into the annotations.jsonl of ``folder``.

    Its pictures become labels by a person ("independent"), also those from which all hands were taken; those that it
    does not name stay as they are. The labels before are kept beside them. Returns pictures, hands, and what was left
    out. Raises DataError for a file that is no such export, or names a picture twice or one that the folder has not.
    """
    data, problems = read_json(corrected), Counter()
    path = folder / label_folder.FILE
    rows = {row["image"]: row for row, _ in label_folder.rows(path)}
    try:
        category = {entry["id"]: (SIDES.get(str(entry["name"])), _order(entry)) for entry in data["categories"]}
        names = {image["id"]: _named(image, rows, path) for image in data["images"]}
        if len(set(names.values())) < len(names):
            twice = next(name for name, count in Counter(names.values()).items() if count > 1)
            raise DataError(f"{twice} is named twice")
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in names.values()}
        for annotation in data["annotations"]:
            side, order = category[annotation["category_id"]]
            hand = _hand(annotation, side, order)
            if hand is None:
                problems[f"{names[annotation['image_id']]}: annotation without keypoints of a hand, left out"] += 1
            else:
                found[names[annotation["image_id"]]].append(hand)
    except (DataError, *LABEL_ERRORS) as error:
        raise DataError(f"{corrected}: no COCO keypoints of the pictures in {folder} ({reason(error)})") from error
    untouched = 0
    for name, hands in found.items():
        before = {_places(hand) for hand in rows[name]["hands"]}
        untouched += sum(_places(hand) in before for hand in hands)
        matrix = next((hand["K"] for hand in rows[name]["hands"] if hand.get("K") is not None), None)
        rows[name].update(truth="independent", hands=[{**hand, "K": matrix} for hand in hands])
    if untouched:
        problems["hand whose joints are where the labels had them before: looked at, or forgotten?"] += untouched
    if left := len(rows) - len(found):
        problems["picture that the corrected file does not name, left as it was"] += left
    names = (BEFORE if not k else BEFORE.replace(".jsonl", f".{k}.jsonl") for k in itertools.count())
    kept = next(name for name in names if not (folder / name).exists())         # the first one is the draft: it stays
    predictions.write(folder / kept, [path.read_text("utf8")])
    predictions.write(path, (json.dumps(row, allow_nan=False) + "\n" for row in rows.values()))
    return len(found), sum(map(len, found.values())), problems


def _places(hand: dict[str, Any]) -> tuple:
    """What tells one label of a hand from another: where its joints are, to a tenth of a pixel."""
    return tuple((round(x, 1), round(y, 1)) if valid else None
                 for (x, y), valid in zip(hand["joints_2d"], hand["valid_2d"]))


def _order(category: dict[str, Any]) -> list[int]:
    """Where each of our joints stands among a category's keypoints; [] for a category that is none of hands. Raises
    DataError if one of hands lacks a joint."""
    ours = category.get("name") in SIDES
    names = category.get("keypoints") or (list(JOINT_NAMES) if ours else [])
    missing = [name for name in JOINT_NAMES if name not in names]
    if missing and ours:
        raise DataError(f"category {category['name']} lacks the keypoints {', '.join(missing)}")
    return [] if missing else [names.index(name) for name in JOINT_NAMES]


def _named(image: dict[str, Any], rows: dict[str, Any], path: Path) -> str:
    """The label line of a picture: editors drop the folder, or put theirs before it."""
    for name, row in rows.items():
        if Path(name).name == Path(image["file_name"]).name:
            sizes = [[each["width"], each["height"]] for each in (image, row)]
            if sizes[0] != sizes[1]:
                raise DataError("{} is {} x {} pixels there and {} x {} here".format(name, *sizes[0], *sizes[1]))
            return name
    raise DataError(f"{path} has no line for the picture {image['file_name']}")


def _hand(annotation: dict[str, Any], side: str | None, order: list[int]) -> dict[str, Any] | None:
    points = annotation.get("keypoints")
    if not order or not points:
        return None
    if len(points) != 3 * len(JOINT_NAMES):
        raise DataError(f"annotation {annotation.get('id')}: {len(points)} numbers in keypoints instead of 63")
    points = [[float(value) for value in points[3 * place:3 * place + 3]] for place in order]
    if not all(math.isfinite(value) for point in points for value in point):
        raise DataError(f"annotation {annotation.get('id')}: a keypoint is not a number; correct it, or delete it")
    known = [point[:2] for point in points if point[2] > 0]
    if not known:
        return None
    low, high = ([limit(axis) for axis in zip(*known)] for limit in (min, max))
    width, height = round(high[0] - low[0], 2), round(high[1] - low[1], 2)
    return {**({"bbox": [low[0], low[1], width, height]} if width > 0 and height > 0 else {}),
            "joints_2d": [point[:2] for point in points], "valid_2d": [int(point[2] > 0) for point in points],
            "joints_3d": None, "valid_3d": None, "handedness": side, "handedness_source": "corrected"}
