"""FreiHAND (Zimmermann et al., ICCV 2019): one right hand per 224 x 224 photograph, 3D joints, MANO mesh.

Joint order   ours (wrist; thumb, index, middle, ring, little, base to tip): utils/fh_utils.py of lmb-freiburg/freihand.
Units         metres in the camera's frame; K in pixels. 2D is the projection of 3D.
Root          the wrist.
Definition    joints of fitted MANO hands: predictions are moved to MANO's knuckles before they are compared.
Licence       research only, no commercial use.
Training has four versions of each picture (green screen, then three composites): image number n shows label
n mod 32560. The evaluation set has one version; its labels were published later, as a separate archive. As many
versions are read as the highest number among the training pictures tells; one that is missing below it is counted.
"""
from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from .base import (
    DataSet, Item, choose_split, count_unlabelled, inside, make_hand, one_label, pinhole, project, read_json)

TITLE = "FreiHAND"
LICENCE = "FreiHAND: research only, no commercial use"
DOWNLOAD = "the FreiHAND project page of the University of Freiburg (lmb.informatik.uni-freiburg.de)"
LAYOUT = """  evaluation_K.json  evaluation_xyz.json  [evaluation_verts.json]  evaluation/rgb/00000000.jpg ...
  training_K.json    training_xyz.json    [training_verts.json]    training/rgb/00000000.jpg ..."""
SPLITS = ("evaluation", "training")
WIDTH = HEIGHT = 224
VERSIONS = 4


def recognise(folder: Path) -> bool:
    """True if the folder holds one of the two splits."""
    return any(_present(folder, split) for split in SPLITS)


def _present(folder: Path, split: str) -> bool:
    return all((folder / f"{split}_{part}.json").is_file() for part in ("K", "xyz"))


def _versions(rgb: Path, labels: int) -> int:
    """How many of the four versions of the pictures are there: counting pictures instead would drop a whole version for
    a single one that was deleted."""
    numbers = [int(path.stem) for path in rgb.glob("*.jpg") if path.stem.isdecimal()]
    highest = max((number for number in numbers if number < VERSIONS * labels), default=0)
    return highest // max(labels, 1) + 1


def _readable(matrices: list[Any], joints: list[Any], problems: Counter[str]) -> list[int]:
    """Numbers of the labels with a camera and 21 joints. Raises DataError for none."""
    kept = []
    for number, (K, xyz) in enumerate(zip(matrices, joints)):
        with one_label(problems, TITLE, f"label {number}"):
            if np.shape(K) != (3, 3) or np.shape(xyz) != (21, 3):
                raise DataError(f"K of shape {np.shape(K)} and joints of shape {np.shape(xyz)}")
            kept.append(number)
    if not kept:
        raise DataError(f"{TITLE}: no label could be read; {dict(problems) or 'the labels are empty'}")
    return kept


def load(folder: Path, split: str | None = None) -> DataSet:
    """evaluation if its labels are there, else training. Raises DataError for lists of different length."""
    split = choose_split(split, SPLITS, lambda name: _present(folder, name), folder)
    matrices, joints = read_json(folder / f"{split}_K.json"), read_json(folder / f"{split}_xyz.json")
    mesh = folder / f"{split}_verts.json"
    vertices = read_json(mesh) if split == "evaluation" and mesh.is_file() else None
    if len(matrices) != len(joints):
        raise DataError(f"{split}_K.json has {len(matrices)} entries but {split}_xyz.json {len(joints)}: download both "
                        f"again")
    problems: Counter[str] = Counter()
    rgb = folder / split / "rgb"
    kept = _readable(matrices, joints, problems)
    versions = _versions(rgb, len(joints)) if split == "training" else 1
    count_unlabelled(rgb, ".jpg", {f"{n:08d}.jpg" for n in range(versions * len(joints))}, problems)

    def build(index: int) -> Item:
        version, place = divmod(index, len(kept))
        label = kept[place]
        K, xyz = np.array(matrices[label], float), np.array(joints[label], float)
        pixels = project(xyz, K)
        hand = make_hand(pixels, inside(pixels, WIDTH, HEIGHT), xyz, problems=problems, name=TITLE, handedness="right",
                         vertices_m=None if vertices is None else np.array(vertices[label], float))
        name = f"{split}/rgb/{version * len(joints) + label:08d}.jpg"
        return Item(name, folder / name, () if hand is None else (hand,), pinhole(K, WIDTH, HEIGHT), exhaustive=True,
                    group=str(label))

    return DataSet("freihand", versions * len(kept), build, LICENCE, problems, split, mano=True)
