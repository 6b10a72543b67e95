"""Data sets, one file each. To add one: the module with load() and the constants below, one line in DATASETS.

A module has TITLE, LICENCE, DOWNLOAD, LAYOUT (words for people), SPLITS, ``recognise(folder) -> bool`` and
``load(folder, split) -> DataSet``; its docstring gives joint order, units and wrist-or-palm convention.
"""
from __future__ import annotations

import difflib
from importlib import import_module
from pathlib import Path
from types import ModuleType

from ...errors import ConfigError, DataError
from .base import LABEL_ERRORS, DataSet, reason, require

DATASETS = {
    "freihand": "hand_pose_ros.evaluation.datasets.freihand",
    "interhand26m": "hand_pose_ros.evaluation.datasets.interhand26m",
    "hiu_dmtl": "hand_pose_ros.evaluation.datasets.hiu_dmtl",
    "onehand10k": "hand_pose_ros.evaluation.datasets.onehand10k",
    "coco_wholebody": "hand_pose_ros.evaluation.datasets.coco_wholebody",
    "coco": "hand_pose_ros.evaluation.datasets.coco",
    "panoptic": "hand_pose_ros.evaluation.datasets.panoptic",
    "rhd": "hand_pose_ros.evaluation.datasets.rhd",
    "stb": "hand_pose_ros.evaluation.datasets.stb",
    "folder": "hand_pose_ros.evaluation.datasets.folder",
}

SAYS_MORE = {"coco": "coco_wholebody"}
"""Where a folder could be meant as either, it is taken as the second: its labels lie beside the first one's."""


def module(name: str) -> ModuleType:
    """The loader's module. Raises ConfigError for an unknown name, with the choices."""
    if name not in DATASETS:
        close = difflib.get_close_matches(name, DATASETS, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"data set {name!r} is not known{hint} Choose one of {', '.join(DATASETS)}")
    return import_module(DATASETS[name])


def recognise(folder: str | Path) -> str:
    """Name of the data set that lies in a folder. Raises DataError if none or several could be meant."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give that of a data set's download, or one with labels of your own")
    found = [name for name in DATASETS if module(name).recognise(folder)]
    found = [name for name in found if SAYS_MORE.get(name) not in found]
    if len(found) != 1:
        what = "no known data set" if not found else f"several data sets ({', '.join(found)}): name one with --dataset"
        own = "" if found else "; pictures of your own need an annotations.jsonl (docs/evaluation.md): hand-pose " \
            f"labels {folder} --out LABELS drafts one"
        raise DataError(f"{folder}: {what}. Known: {', '.join(DATASETS)}{own}")
    return found[0]


def load(name: str, folder: str | Path, split: str | None = None) -> DataSet:
    """Read a data set from the folder its makers' download unpacks to. Raises DataError for another layout, and if no
    label can be read; single labels that cannot be read are left out and counted in ``problems``."""
    loader, folder = module(name), Path(folder)
    require(folder, loader.recognise(folder), loader.TITLE, loader.LAYOUT, loader.DOWNLOAD)
    try:
        return loader.load(folder, split)
    except LABEL_ERRORS as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{folder}: the labels are not laid out as those of {loader.TITLE} ({reason(error)}); unpack "
                        f"the download again") from error
