"""What every data set becomes: items with an image and truth hands in our joint order, metres and pixels."""
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ... import imaging
from ...errors import DataError, FrameError
from ...skeleton import NUM_JOINTS
from ...types import Camera
from .. import metrics

LABEL_ERRORS = (DataError, LookupError, TypeError, ValueError, AttributeError)
"""What making something of a damaged label raises: a key or file is missing, a list is short, a number is a word."""
NAMED_LABELS = 20
"""So many damaged labels are named, the rest only counted: a lost file must not fill the report."""


@dataclass(frozen=True, eq=False)
class TruthHand:
    """One labelled hand. Unknown joints are NaN and not valid."""

    box: np.ndarray                                 # (4,) pixels, x0 y0 x1 y1, as labelled, else round valid joints
    size_px: float                                  # longer side of the tight box, or of box where that is all there is
    joints_px: np.ndarray                           # (21, 2) pixels
    valid_px: np.ndarray                            # (21,) bool
    joints_m: np.ndarray | None = None              # (21, 3) metres, camera frame; None: the set has no 3D
    valid_m: np.ndarray | None = None               # (21,) bool
    handedness: str | None = None                   # "left" | "right" | None, as the hand looks in the stored image
    vertices_m: np.ndarray | None = None            # (V, 3) metres, camera frame, where the set has a mesh
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def tight_box(self) -> np.ndarray:
        """(4,) pixels round the valid joints, as boxes of our answers are; as labelled where there are none."""
        return metrics.tight_box(self.joints_px[self.valid_px]) if self.valid_px.any() else self.box


@dataclass(frozen=True, eq=False)
class Item:
    """One labelled image."""

    name: str                                       # path inside the data set, unique
    path: Path
    hands: tuple[TruthHand, ...]
    camera: Camera | None = None                    # None: the set does not say
    exhaustive: bool = False                        # every hand is labelled or lies in an ignore region
    ignore: tuple[tuple[float, float, float, float], ...] = ()          # boxes x0 y0 x1 y1
    group: str = ""                                 # images that belong together (person, recording)
    subset: str = ""                                # row of the result table; the data set's name if empty
    kind: str = "real"                              # real | rendered | model: labels made with another model
    problem: str = ""                               # what is wrong with the label; it then has neither hand nor image

    def image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, the pixels as stored (no EXIF turning). Raises FrameError if it or its label cannot be
        read."""
        if self.problem:
            raise FrameError(self.problem)
        if not self.path.is_file():
            raise FrameError("label without image: the file is missing")
        return imaging.read_picture(self.path)


@dataclass(frozen=True, eq=False)
class DataSet:
    """A loaded data set: items made when asked for, so that millions of labels do not all become arrays at once.

    A label that turns out to be damaged then gives an item that says so in ``problem`` and whose image cannot be read,
    so that it is counted where unreadable images are, and the others go on.
    """

    name: str
    count: int
    build: Callable[[int], Item]
    licence: str
    problems: Counter[str] = field(default_factory=Counter)     # so far: some are met when an item is made
    split: str = ""
    mano: bool = False                              # the truth's knuckles are those of fitted MANO hands
    problems_at_load: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "problems_at_load", Counter(self.problems))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self.count:
            raise IndexError(index)
        try:
            return self.build(index)
        except LABEL_ERRORS as error:
            name = f"label {index} of {self.name}"
            return Item(name, Path(name), (), problem=f"label {index} cannot be read ({reason(error)}), left out")


def reason(error: Exception) -> str:
    """The error in words; a KeyError alone would be no more than the key."""
    return str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"


@contextmanager
def one_label(problems: Counter[str], title: str, name: str) -> Iterator[None]:
    """Makes something of one label: if that fails, the label is named and counted, and the loader goes on.

    title: of the data set; name: of the label for people, such as its file. The first NAMED_LABELS are named.
    """
    try:
        yield
    except LABEL_ERRORS as error:
        start = f"{title}: label cannot be read, left out: "
        if sum(problem.startswith(start) for problem in problems) < NAMED_LABELS:
            problems[f"{start}{name} ({reason(error)})"] += 1
        else:
            problems[f"{title}: further labels that cannot be read, left out"] += 1


def from_items(name: str, items: Sequence[Item], licence: str, problems: Counter[str], split: str = "") -> DataSet:
    """A data set of items that are all there already. Raises DataError for none."""
    if not items:
        said = "; ".join(problems) or "the labels are empty"
        raise DataError(f"{name}: no labelled image could be read; {said}")
    return DataSet(name, len(items), items.__getitem__, licence, problems, split)


def make_hand(joints_px: Any, valid_px: Any = None, joints_m: Any = None, valid_m: Any = None, box: Any = None,
              problems: Counter[str] | None = None, name: str = "", **rest: Any) -> TruthHand | None:
    """A TruthHand from raw labels: NaN and infinite joints become invalid and are counted; the box is tight round the
    valid joints unless the label's own is given. None, counted, where neither a joint nor a box is known.
    """
    joints = np.array(joints_px, float).reshape(NUM_JOINTS, 2)
    valid = np.ones(NUM_JOINTS, bool) if valid_px is None else np.asarray(valid_px).astype(bool).reshape(NUM_JOINTS)
    finite = np.isfinite(joints).all(axis=1)
    if problems is not None and (valid & ~finite).any():
        problems[f"{name}: 2D joint that is not a number, taken as unlabelled"] += int((valid & ~finite).sum())
    valid = valid & finite
    joints[~valid] = np.nan
    if joints_m is not None:
        joints_m = np.array(joints_m, float).reshape(NUM_JOINTS, 3)
        valid_m = np.ones(NUM_JOINTS, bool) if valid_m is None else np.asarray(valid_m).astype(bool).reshape(NUM_JOINTS)
        finite = np.isfinite(joints_m).all(axis=1)
        if problems is not None and (valid_m & ~finite).any():
            problems[f"{name}: 3D joint that is not a number, taken as unlabelled"] += int((valid_m & ~finite).sum())
        valid_m = valid_m & finite
    if box is None and not valid.any():
        if problems is not None:
            problems[f"{name}: hand without a valid joint or box, left out"] += 1
        return None
    tight = metrics.tight_box(joints[valid]) if valid.any() else np.asarray(box, float)
    return TruthHand(tight if box is None else np.asarray(box, float),
                     float(max(tight[2] - tight[0], tight[3] - tight[1])), joints, valid, joints_m, valid_m, **rest)


def inside(joints_px: np.ndarray, width: int, height: int) -> np.ndarray:
    """(21,) bool: joints that lie in the image. joints_px: (21, 2), pixel centres at whole numbers."""
    return ((joints_px > -0.5) & (joints_px < (width - 0.5, height - 0.5))).all(axis=-1)


def pinhole(K: Any, width: int, height: int) -> Camera:
    """A calibrated camera without distortion. K: (3, 3) pixels."""
    return Camera(int(width), int(height), np.asarray(K, float).reshape(3, 3))


def project(joints_m: np.ndarray, K: np.ndarray) -> np.ndarray:
    """(N, 3) metres in front of a pinhole -> (N, 2) pixels."""
    uvw = joints_m @ np.asarray(K, float).T
    return uvw[:, :2] / uvw[:, 2:]


def require(folder: Path, found: bool, title: str, layout: str, download: str) -> None:
    """Raises DataError with the expected layout and where to get the set, unless ``found``."""
    if not found:
        here = ", ".join(sorted(p.name for p in folder.iterdir())[:12]) if folder.is_dir() else "no such folder"
        raise DataError(f"{folder} is not a {title} folder. Expected:\n{layout}\nFound: {here or 'nothing'}.\n"
                        f"Download: {download}")


def read_json(path: Path) -> Any:
    """Parsed JSON. Raises DataError, naming the file, if it is cut off or not JSON."""
    try:
        with path.open(encoding="utf8") as file:
            return json.load(file)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path}: not readable JSON ({error}); unpack the download again") from error


def choose_split(split: str | None, splits: Sequence[str], present: Callable[[str], bool], folder: Path) -> str:
    """The split asked for, else the first of ``splits`` whose files are there. Raises DataError if it is not there."""
    if split is not None and split not in splits:
        raise DataError(f"split {split!r} does not exist here; choose one of {', '.join(splits)}")
    for name in (splits if split is None else [split]):
        if present(name):
            return name
    raise DataError(f"{folder}: the files of the split {split or ' or '.join(splits)} are not there")


def count_unlabelled(folder: Path, suffix: str, labelled: set[str], problems: Counter[str]) -> None:
    """Count the images of one folder that no label names."""
    extra = sum(1 for path in folder.glob(f"*{suffix}") if path.name not in labelled) if folder.is_dir() else 0
    if extra:
        problems[f"{folder.name}: image without label, not used"] += extra
