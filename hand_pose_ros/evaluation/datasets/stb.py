"""Stereo Hand Pose Benchmark (Zhang et al., ICIP 2017): one person's left hand, 640 x 480, twelve recordings.

Joint order   palm centre, then little, ring, middle, index, thumb, each from base to tip.
Units         millimetres in the frame of the left Point Grey camera (BB) or of the depth camera (SK).
Root          the PALM CENTRE. The wrist is put at ring base + 2 (palm - ring base), as Zimmermann and Brox (hand3d) and
              Ge et al. (CVPR 2019) do; papers that keep the palm centre are another protocol.
Licence       research.
Evaluation is B1Counting and B1Random, training the other ten. Splits end in the camera: _BB is the left Point Grey
picture (BB_left), _SK the colour picture of the depth camera, whose label is moved from the depth to the colour frame.
"""
from __future__ import annotations

import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from ...errors import DataError
from .base import LABEL_ERRORS, DataSet, Item, choose_split, from_items, inside, make_hand, one_label, pinhole, project

TITLE = "Stereo Hand Pose Benchmark (STB)"
LICENCE = "STB: research use"
DOWNLOAD = "the page of the ICIP 2017 stereo hand pose data set by zhjwustc on GitHub"
LAYOUT = """  labels/B1Counting_BB.mat  labels/B1Counting_SK.mat ...
  images/B1Counting/BB_left_0.png  images/B1Counting/SK_color_0.png ...   (or B1Counting/... without images/)"""
TEST, TRAIN = ("B1",), ("B2", "B3", "B4", "B5", "B6")
SPLITS = ("test_BB", "test_SK", "train_BB", "train_SK")
TO_OURS = (0, 17, 18, 19, 20, 13, 14, 15, 16, 9, 10, 11, 12, 5, 6, 7, 8, 1, 2, 3, 4)
"""TO_OURS[j] is the place in the file of our joint j (0: the palm centre, which becomes the wrist)."""
RING_BASE = 13
WIDTH, HEIGHT = 640, 480
K_BB = np.array([[822.79041, 0, 318.47345], [0, 822.79041, 250.31296], [0, 0, 1]])
K_SK = np.array([[607.92271, 0, 314.78337], [0, 607.88192, 236.42484], [0, 0, 1]])
SK_ROTATION = np.array([0.00531, -0.01196, 0.00301])
SK_SHIFT_MM = np.array([-24.0381, -0.4563, -1.2326])
"""Depth to colour camera, as a rotation vector and millimetres, as used by Ge et al. (hand-graph-cnn)."""


def _sequences(folder: Path, split: str) -> list[tuple[str, Path]]:
    part, camera = split.split("_")
    names = [person + what for person in (TEST if part == "test" else TRAIN) for what in ("Counting", "Random")]
    return [(name, folder / "labels" / f"{name}_{camera}.mat") for name in names
            if (folder / "labels" / f"{name}_{camera}.mat").is_file()]


def recognise(folder: Path) -> bool:
    """True if a label file of one of the splits is there."""
    return any(_sequences(folder, split) for split in SPLITS)


def load(folder: Path, split: str | None = None) -> DataSet:
    """test_BB if it is there, else the first split that is."""
    split = choose_split(split, SPLITS, lambda name: bool(_sequences(folder, name)), folder)
    camera = split.split("_")[1]
    K, prefix = (K_BB, "BB_left") if camera == "BB" else (K_SK, "SK_color")
    problems: Counter[str] = Counter()
    items = []
    for sequence, path in _sequences(folder, split):
        pictures = folder / "images" / sequence if (folder / "images").is_dir() else folder / sequence
        recording = ()
        with one_label(problems, TITLE, path.name):
            recording = _joints(path, camera)
        for number, joints_m in enumerate(recording):
            pixels = project(joints_m, K)
            hand = make_hand(pixels, inside(pixels, WIDTH, HEIGHT), joints_m, problems=problems, name=TITLE,
                             handedness="left")
            picture = pictures / f"{prefix}_{number}.png"
            if hand:
                items.append(Item(picture.relative_to(folder).as_posix(), picture, (hand,), pinhole(K, WIDTH, HEIGHT),
                                  exhaustive=True, group=sequence))
    return from_items("stb", items, LICENCE, problems, split)


def _joints(path: Path, camera: str) -> np.ndarray:
    """(N, 21, 3) metres in the colour camera's frame, our order, with the wrist in place of the palm centre."""
    from scipy.io import loadmat, matlab
    from scipy.spatial.transform import Rotation

    try:
        joints_mm = np.asarray(loadmat(path)["handPara"], float).transpose(2, 1, 0)         # (3, 21, N) in the file
    except (*LABEL_ERRORS, OSError, NotImplementedError, matlab.MatReadError, zlib.error) as error:
        raise DataError(f"{path}: not a label file with handPara ({error})") from error
    if joints_mm.ndim != 3 or joints_mm.shape[1:] != (21, 3):
        raise DataError(f"{path}: handPara is {joints_mm.shape[::-1]}, expected (3, 21, N)")
    if camera == "SK":
        joints_mm = (joints_mm - SK_SHIFT_MM) @ Rotation.from_rotvec(SK_ROTATION).as_matrix()
    joints = joints_mm[:, TO_OURS] / 1000.0
    joints[:, 0] = joints[:, RING_BASE] + 2.0 * (joints[:, 0] - joints[:, RING_BASE])
    return joints
