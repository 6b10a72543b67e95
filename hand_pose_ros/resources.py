"""Where the files beside the code are: models/, config/, launch/; in a source tree, a pip install or an ament
install."""
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hand_pose_ros.errors import ConfigError

PACKAGE = "hand_pose_ros"


def folder(name: str) -> Path:
    """The folder ``name`` ("models", "config", "launch", "test/data") that belongs to the code that is running.

    Walks up from this file, which gives the right answer in every layout without asking the environment:
    ``<source>/name`` where the source tree is used in place, else ``<prefix>/share/hand_pose_ros/name``, with colcon
    (also ``--symlink-install`` and ``--merge-install``) as well as with pip. Raises ConfigError if there is none.
    """
    for parent in Path(__file__).absolute().parents[1:]:
        for root in (parent, parent / "share" / PACKAGE):
            if (root / "package.xml").is_file() and (root / name).is_dir():
                return root / name
    raise ConfigError(
        f"the folder '{name}' of {PACKAGE} is neither beside the code in {Path(__file__).absolute().parent} nor in "
        f"share/{PACKAGE} above it; install the package again (colcon build, or pip install)"
    )


def files_below(folder: str | Path) -> Iterator[Path]:
    """Every file in a folder and those in it, linked ones too; each folder once, however many links lead to it."""
    seen: set[str] = set()
    for here, inner, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(here)) in seen:
            inner.clear()
            continue
        seen.add(real)
        inner.sort()                                    # of two links the first by name
        yield from (Path(here, name) for name in names)
