"""Shards of virtual hands: tar files of ``<index>.jpg`` with ``<index>.json`` and, at will, ``<index>.mask.png``.

Pictures stay compressed: a shard is indexed once and members are read by offset, so a data set of any size needs little
memory and no file stays open, and shards that appear while a training runs join it.
"""
from __future__ import annotations

import contextlib
import json
import logging
import os
import tarfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np

from hand_pose_ros import camera as cameras
from hand_pose_ros.errors import DataError, FrameError
from hand_pose_ros.resources import files_below
from hand_pose_ros.skeleton import NUM_JOINTS, hand_length
from hand_pose_ros.synthesis import shards as stored
from hand_pose_ros.types import Camera, JointState

_log = logging.getLogger(__name__)

MAX_TRIES = 16
"""Draws of a picture without hands."""
APART_PX = 0.5
"""How far joints_px may be from the projection of joints_m; what the renderer rounds makes less than 0.01 of it."""
NEAR = 0.25
"""Joints up to this share of the picture's sides outside it are compared: a lens says nothing of those further off."""


class Shard:
    """One indexed tar file. Raises DataError, naming file and member, if it is not what it claims to be."""

    def __init__(self, path: str):
        self.path = str(path)
        members = {}
        try:
            with tarfile.open(self.path, "r:") as tar:
                for entry in tar:
                    if entry.isfile():
                        key, _, kind = os.path.basename(entry.name).partition(".")
                        members.setdefault(key, {})[kind] = (entry.offset_data, entry.size)
                stored.check_end(tar)
        except (OSError, tarfile.TarError) as error:
            raise DataError(f"shard {self.path} cannot be read ({error}): render it again") from error
        self._members = [v for _, v in sorted(members.items()) if "jpg" in v and "json" in v]
        self._sound = bytearray(len(self._members))     # 1 for labels that were looked through: once is enough
        self._size = {}                                 # width and height by the label that was read last
        if not self._members:
            raise DataError(f"shard {self.path} holds no <index>.jpg with <index>.json: render it again")
        size = os.path.getsize(self.path)
        if any(offset + length > size for member in self._members for offset, length in member.values()):
            raise DataError(f"shard {self.path} is truncated: render it again")
        self._check_hands()

    def __len__(self) -> int:
        return len(self._members)

    def label(self, k: int) -> dict:
        """{"camera", "hands": [{"joints_m" (21, 3), "joints_px" (21, 2), "state" (21,), "is_right"}],
        "unseen": boxes (n, 4) px of hands that are in the picture but not labelled, "complete": whether these are all
        that it shows} of picture k. Raises DataError if it is damaged, or says what no camera can have seen."""
        label = self._label(k)
        if not self._sound[k]:
            self._look_through(f"label {k} of shard {self.path}", label["camera"], label["hands"])
            self._sound[k] = True
        self._size = {k: (label["camera"].width, label["camera"].height)}
        return label

    def image(self, k: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB of picture k. Raises DataError if it is damaged, or of another size than the label, read
        just before, says."""
        return cv2.cvtColor(self._decode(k, "jpg", cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    def mask(self, k: int) -> np.ndarray | None:
        """(H, W) uint8, not 0 where the hand and what it holds are; None where the shard has none."""
        return self._decode(k, "mask.png", cv2.IMREAD_GRAYSCALE) if "mask.png" in self._members[k] else None

    def _check_hands(self) -> None:
        """Raises DataError for hands whose joints lie elsewhere than this version's. Shards that others made need not
        name one; the renderer's without it, but with the seed that it has always noted, are of before the third."""
        with contextlib.suppress(ValueError, AttributeError, TypeError):        # told when that label is asked for
            label = json.loads(self._bytes(0, "json"))
            version = label.get("hands_version", "1 or 2" if "seed" in label else stored.HANDS_VERSION)
            if version != stored.HANDS_VERSION:
                raise DataError(f"shard {self.path} shows virtual hands of version {version}, whose joints lie "
                                f"elsewhere than those of version {stored.HANDS_VERSION}: render it again")

    def _bytes(self, k: int, kind: str) -> bytes:
        offset, length = self._members[k][kind]
        try:
            with open(self.path, "rb") as file:         # thousands of shards would not stay below the limit of files
                file.seek(offset)
                return file.read(length)
        except OSError as error:
            raise DataError(f"shard {self.path} cannot be read ({error})") from error

    def _decode(self, k: int, kind: str, flags: int) -> np.ndarray:
        data = self._bytes(k, kind)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
        if image is None:
            raise DataError(f"picture {k} ({kind}) of shard {self.path} cannot be decoded: render it again")
        size = image.shape[1::-1]
        if self._size.get(k, size) != size:
            raise DataError(f"picture {k} ({kind}) of shard {self.path} has {size[0]} x {size[1]} pixels, its label "
                            f"says {self._size[k][0]} x {self._size[k][1]}: render it again")
        return image

    def _label(self, k: int) -> dict:
        try:
            record = json.loads(self._bytes(k, "json"))
            K = np.array(record["K"], np.float64).reshape(3, 3)
            camera = Camera(int(record["width"]), int(record["height"]), K,
                            str(record.get("distortion_model") or "plumb_bob"),
                            np.array(record.get("D") or [], np.float64))
            hands = [{"joints_m": np.array(h["joints_m"], np.float64).reshape(NUM_JOINTS, 3),
                      "joints_px": np.array(h["joints_px"], np.float64).reshape(NUM_JOINTS, 2),
                      "state": np.array(h["state"], np.int64).reshape(NUM_JOINTS),
                      "is_right": bool(h["is_right"])} for h in record["hands"]]
            # Crops of before these were noted show a second hand of which nothing is said.
            complete = bool(record.get("others_boxed") or not record.get("other_hand"))
            unseen = np.array(record.get("unseen_boxes") or [], np.float64).reshape(-1, 4)
            if not np.isfinite(unseen).all():
                raise ValueError(f"unseen_boxes {unseen.tolist()}")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"label {k} of shard {self.path} is not complete ({error!r}): render it again") from error
        return {"camera": camera, "hands": hands, "unseen": unseen, "complete": complete}

    @staticmethod
    def _look_through(name: str, camera: Camera, hands: list[dict]) -> None:
        """Raises DataError for a label that says what no camera can have seen."""
        info = SimpleNamespace(width=camera.width, height=camera.height, K=camera.K)
        try:
            cameras.check_distortion(camera.distortion_model, camera.D)
            cameras.from_camera_info(info, camera.width, camera.height)
        except FrameError as error:
            raise DataError(f"{name} has no usable camera ({error}): render it again") from error
        for hand in hands:
            if fault := _fault(camera, hand["joints_m"], hand["joints_px"], hand["state"]):
                raise DataError(f"{name} has {fault}: render it again")


def _fault(camera: Camera, joints_m: np.ndarray, joints_px: np.ndarray, state: np.ndarray) -> str:
    """What a hand's label has that no camera can have seen, empty if nothing: it would teach nonsense, or spoil the
    loss."""
    lens_px = cameras.project(camera, joints_m)                                         # NaN where it has no pixel
    apart = np.abs(joints_px - lens_px).max(-1)
    end = np.array((camera.width, camera.height)) - 0.5
    if not (apart <= APART_PX).all():
        if not (np.isfinite(joints_m).all() and (joints_m[:, 2] > 0).all()):
            return "joints that are not in front of the camera"
        if not np.isfinite(joints_px).all():
            return "joints_px that are not finite"
        margin = NEAR * (end + 0.5)
        near = ((joints_px > -margin) & (joints_px < end + margin)).all(-1) & np.isfinite(apart)
        seen, shown = (((px > -0.5) & (px < end)).all(-1) for px in (joints_px, lens_px))
        wrong = ~(apart <= APART_PX) & (near | seen | shown)
        if wrong.any():
            j = int(np.argmax(wrong))
            return (f"joints_px {joints_px[j].round(1).tolist()} for joint {j}, which its camera sees at "
                    f"{lens_px[j].round(1).tolist()}")
    if (joints_px.max(0) < -0.5).any() or (joints_px.min(0) > end).any():
        return "a hand outside its picture"
    if not hand_length(joints_m) > 0:
        return "a hand without any length"
    if state.min() < 0 or state.max() > max(JointState):
        return f"joint states from {state.min()} to {state.max()}, known are 0 to {max(JointState):d}"
    return ""


class Pool:
    """Shards by path, opened when first asked for; a corrupt one is named once and passed over."""

    def __init__(self):
        self._open = {}
        self.first = None                               # (shard, picture) drawn first since this was last None

    def get(self, path: str) -> Shard | None:
        """The shard, or None if it is corrupt."""
        if path not in self._open:
            try:
                self._open[path] = Shard(path)
            except DataError as error:
                _log.warning("skipped: %s", error)
                self._open[path] = None
        return self._open[path]

    def draw(self, paths, rng: np.random.Generator) -> tuple[Shard, int]:
        """A random picture of a random shard. Raises DataError if no shard of ``paths`` can be read."""
        for k in rng.permutation(len(paths)):
            shard = self.get(paths[k])
            if shard is not None:
                picture = int(rng.integers(len(shard)))
                self.first = self.first or (shard.path, picture)
                return shard, picture
        raise DataError(f"none of the {len(paths)} shards can be read: render them again" if len(paths) else
                        "there is no shard that can be read: render more of them")


def empty_picture(pool, paths, rng: np.random.Generator) -> np.ndarray | None:
    """A random picture without hands, (H, W, 3) uint8; None if several draws in turn found none. pool: a Pool."""
    for _ in range(MAX_TRIES if len(paths) else 0):
        shard, k = pool.draw(paths, rng)
        label = shard.label(k)
        if not label["hands"] and not len(label["unseen"]) and label["complete"]:
            return shard.image(k)
    return None


def find(folder: str | Path, kind: str) -> tuple[list[str], list[str]]:
    """(training, held out): finished shards of ``kind`` ("crops" or "frames") below ``folder``, sorted.

    The kind is what the name, or else the folder, begins with; held out are those in a folder "val" and
    those whose name begins so.
    """
    found = [p for p in sorted(path for path in files_below(folder) if path.suffix == ".tar")
             if p.name.startswith(kind) or p.parent.name.startswith(kind)]
    held = [p for p in found if "val" in p.relative_to(folder).parts[:-1] or p.name.startswith("val")]
    return [str(p) for p in found if p not in held], [str(p) for p in held]
