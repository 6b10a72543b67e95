"""InterHand2.6M v1.0 (Moon et al., ECCV 2020): two hands in a studio, 512 x 334 pictures, 5 or 30 frames per second.

Joint order   21 right, then 21 left; each thumb, index, middle, ring, little from TIP to base, wrist last:
              annotations/skeleton.txt ("r_thumb4 0" ... "r_wrist 20", "l_thumb4 21" ... "l_wrist 41").
Units         millimetres in world axes; camera: x_cam = camrot (x - campos); K from focal and princpt.
Root          the wrist (joints 20 and 41).
Licence       CC BY-NC 4.0.
A joint is valid if joint_valid says so (labelled and inside the image); a hand without a valid wrist has no 3D, as in
the authors' own evaluation. A picture may show a hand that is not labelled (their issues 99 and 113), so that no answer
counts as false. The old layout (annotations/all, human_annot, machine_annot) is read too.
"""
from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from .base import DataSet, Item, choose_split, make_hand, one_label, pinhole, project, read_json

TITLE = "InterHand2.6M"
LICENCE = "InterHand2.6M: CC BY-NC 4.0"
DOWNLOAD = "the InterHand2.6M page of its authors (mks0601.github.io/InterHand2.6M), 5 fps or 30 fps, version 1.0"
LAYOUT = """  annotations/test/InterHand2.6M_test_data.json  ..._camera.json  ..._joint_3d.json   (also train, val)
  images/test/Capture0/... .jpg"""
SPLITS = ("test", "val", "train")
TO_OURS = (20, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 19, 18, 17, 16)
"""TO_OURS[j] is the number, within one hand, of our joint j."""
ANNOTATION_KEYS = ("joint_valid", "hand_type", "hand_type_valid")
IMAGE_KEYS = ("file_name", "seq_name", "width", "height")


def _folder(folder: Path, split: str) -> Path | None:
    for name in (split, "all", "human_annot", "machine_annot"):
        if (folder / "annotations" / name / f"InterHand2.6M_{split}_data.json").is_file():
            return folder / "annotations" / name
    return None


def recognise(folder: Path) -> bool:
    """True if the folder holds the labels of one of the splits."""
    return any(_folder(folder, split) for split in SPLITS)


def load(folder: Path, split: str | None = None) -> DataSet:
    """test if it is there, else val, else train."""
    split = choose_split(split, SPLITS, lambda name: _folder(folder, name) is not None, folder)
    labels = _folder(folder, split)
    data = read_json(labels / f"InterHand2.6M_{split}_data.json")
    cameras = read_json(labels / f"InterHand2.6M_{split}_camera.json")
    joints = read_json(labels / f"InterHand2.6M_{split}_joint_3d.json")
    images = {image["id"]: image for image in data["images"]}
    problems: Counter[str] = Counter()

    def of_image(image: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """Camera and world joints of an image, which lie in files of their own. Raises DataError if they are not there.
        """
        capture, view, frame = str(image["capture"]), str(image["camera"]), str(image["frame_idx"])
        try:
            camera = {key: cameras[capture][key][view] for key in ("campos", "camrot", "focal", "princpt")}
        except KeyError as error:
            raise DataError(f"no camera {view} of capture {capture}: {error} is missing") from error
        try:
            entry = joints[capture][frame]
            return camera, entry["world_coord"] if isinstance(entry, dict) else entry
        except KeyError as error:
            raise DataError(f"no 3D joints of capture {capture}, frame {frame}: {error} is missing") from error

    annotations, labelled = [], set()
    for number, annotation in enumerate(data["annotations"]):
        with one_label(problems, TITLE, f"annotation {number}"):
            labelled.add(annotation["image_id"])
            if annotation["image_id"] not in images:
                problems[f"{TITLE}: label without image entry, left out"] += 1
                continue
            image = images[annotation["image_id"]]
            of_image(image)
            lacking = [key for place, keys in ((annotation, ANNOTATION_KEYS), (image, IMAGE_KEYS)) for key in keys
                       if key not in place]
            if lacking:
                raise DataError(f"without {', '.join(lacking)}")
            annotations.append(annotation)
    unlabelled = sum(number not in labelled for number in images)
    if unlabelled:
        problems[f"{TITLE}: image without label, not used"] += unlabelled
    if not annotations:
        raise DataError(f"{TITLE}: no labelled image could be read; {dict(problems) or 'the labels are empty'}")

    def build(index: int) -> Item:
        annotation = annotations[index]
        image = images[annotation["image_id"]]
        found, world = of_image(image)
        camera, world = {key: np.array(value, float) for key, value in found.items()}, np.array(world, float)
        joints_m = (world - camera["campos"]) @ camera["camrot"].T / 1000.0
        K = np.array([[camera["focal"][0], 0, camera["princpt"][0]], [0, camera["focal"][1], camera["princpt"][1]],
                      [0, 0, 1]])
        pixels = project(joints_m, K)
        valid = np.array(annotation["joint_valid"]).reshape(42) > 0
        kind = annotation["hand_type"]
        hands = []
        for side, start in (("right", 0), ("left", 21)):
            order = np.array(TO_OURS) + start
            if kind not in (side, "interacting") or not valid[order].any():
                continue
            hands.append(make_hand(pixels[order], valid[order], joints_m[order], valid[order] & valid[order][0],
                                   problems=problems, name=TITLE,
                                   handedness=side if annotation["hand_type_valid"] else None,
                                   attributes={"hands": "interacting" if kind == "interacting" else "single"}))
        name = f"images/{split}/{image['file_name']}"
        return Item(name, folder / name, tuple(hand for hand in hands if hand),
                    pinhole(K, image["width"], image["height"]),
                    group=f"{image['capture']}/{image['seq_name']}",
                    subset=f"interhand26m {'interacting' if kind == 'interacting' else 'single'}")

    return DataSet("interhand26m", len(annotations), build, LICENCE, problems, split)
