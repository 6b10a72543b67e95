"""Batches made in worker processes. Batch n is a function of (seed, rank, n, shards known then): resume is exact."""
from __future__ import annotations

import itertools
import logging
import os
import signal

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from hand_pose_ros.errors import DataError, FrameError
from hand_pose_ros.training import shards
from hand_pose_ros.training.detector_samples import detector_sample
from hand_pose_ros.training.pose_samples import pose_sample
from hand_pose_ros.training.settings import Settings

_log = logging.getLogger(__name__)

MAX_DAMAGED = 20
"""Samples in a row that may be damaged."""
LAST_BATCHES_S = 15
"""Seconds that a loader goes on after SIGTERM."""
RESCAN_BATCHES = 100
"""The shard folder is looked at again after this many batches."""


class Shelf:
    """The training shards known so far, in the order in which they were found; the held-out ones never change."""

    def __init__(self, folder: str):
        self.folder = folder
        self.state = {"crops": [], "frames": [], "held_crops": [], "held_frames": []}       # real paths
        self._sound: dict[str, bool] = {}               # held-out shards that were looked into

    def rescan(self) -> None:
        """Add what is new. Without a folder "val" the first shard of each kind is held out, but for the only one of a
        kind while there are several of the other: backgrounds and negatives come from it.

        Raises DataError if there is nothing to train on.
        """
        if not os.path.isdir(self.folder):
            raise DataError(f"{self.folder} is no folder: give that of the shards, as hand-pose render leaves them")
        chosen = []                                     # kinds for which there is no folder "val"
        for kind in ("crops", "frames"):
            # One shard has one name, whatever way leads to its folder: what is held out must never be learnt.
            found, held = (list(map(os.path.realpath, paths)) for paths in shards.find(self.folder, kind))
            for name in (kind, "held_" + kind):
                self.state[name] = list(dict.fromkeys(map(os.path.realpath, self.state[name])))
            chosen += [] if held else [kind]
            for path in [path for path in self.state["held_" + kind] if not self._can_be_read(path)]:
                _log.warning("held-out shard %s is not there or damaged: measured on others from here on", path)
                self.state["held_" + kind].remove(path)
            if not self.state["held_" + kind]:
                unused = [path for path in found if path not in self.state[kind]]
                sound = filter(self._can_be_read, held or (*unused, *found))
                self.state["held_" + kind] = list(sound) if held else list(itertools.islice(sound, 1))
            used, held = self.state[kind], self.state["held_" + kind]
            free = [p for p in found if p not in held]
            used[:] = [p for p in used if p in free] + [p for p in free if p not in used]
        for kind, other in (("crops", "frames"), ("frames", "crops")):
            if kind in chosen and self.state[other] and not self.state[kind]:
                self.state[kind], self.state["held_" + kind] = self.state["held_" + kind], []
        if not (self.state["crops"] or self.state["frames"]):
            held = ", ".join(self.state["held_crops"] + self.state["held_frames"]) or "none"
            raise DataError(f"{self.folder} holds no crops*.tar or frames*.tar to train on beside those held out "
                            f"({held}): render more. At least two of a kind are needed, since the first is held out; "
                            "one holds 500 pictures as rendered")

    def _can_be_read(self, path: str) -> bool:
        """Whether a shard is there and sound; looked into once."""
        if path not in self._sound and os.path.isfile(path):
            try:
                shards.Shard(path)
                self._sound[path] = True
            except DataError as error:
                _log.warning("%s", error)
                self._sound[path] = False
        return os.path.isfile(path) and self._sound[path]


class _Keys(Sampler):
    """Endless (batch number, size, shard lists); ``size_of(batch number)`` decides the size."""

    def __init__(self, shelf: Shelf, first: int, size_of):
        self.shelf, self.first, self.size_of = shelf, first, size_of

    def __iter__(self):
        n = self.first
        while True:
            if n % RESCAN_BATCHES == 0:
                self.shelf.rescan()
            yield n, self.size_of(n), tuple(self.shelf.state["crops"]), tuple(self.shelf.state["frames"])
            n += 1


class _Samples(Dataset):
    def __init__(self, settings: Settings, rank: int):
        self.settings, self.rank, self.pool = settings, rank, None

    def __getitem__(self, key):
        if self.pool is None:
            cv2.setNumThreads(1)
            self.pool = shards.Pool()
        try:
            return make_batch(self.pool, self.settings, self.rank, *key)
        except DataError as error:                      # raised in a worker it would bury its words in two tracebacks
            return {"error": str(error)}


def make_batch(pool: shards.Pool, settings: Settings, rank: int, n: int, size, crops, frames) -> dict:
    """Batch number ``n`` as tensors, "batch" among them (n)."""
    rng = np.random.default_rng((settings.seed, rank, n))

    def draw() -> dict:
        if settings.kind == "pose":
            return pose_sample(pool, crops or frames, size[0], rng, settings.augmentation, frames)
        return detector_sample(pool, frames, crops, size, rng, settings.augmentation)

    return {**collate([readable(draw, pool) for _ in range(settings.batch)]), "batch": n}


def readable(draw, pool: shards.Pool) -> dict:
    """A sample of ``draw``, which takes pictures from the pool; another one where a picture or label is damaged or no
    crop can be made of it. Raises DataError if that goes on."""
    for left in reversed(range(MAX_DAMAGED)):
        pool.first = None
        try:
            return draw()
        except (DataError, FrameError) as error:
            text = str(error)
            if isinstance(error, FrameError):           # knows no shard; the picture of the hand is drawn first
                text = "picture {1} of shard {0}: ".format(*pool.first) + text
            if not left:
                raise DataError(text) from error
            if text not in _told:
                _told.add(text)
                _log.warning("left out: %s", text)


_told: set[str] = set()
PREFETCH = 2
"""Batches that each worker has ready, in shared memory: containers often have 64 MB of it."""


def collate(rows) -> dict:
    """A list of samples -> one dict of stacked tensors."""
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}


def stream(settings: Settings, shelf: Shelf, first: int, size_of, workers: int, rank: int = 0, pinned: bool = False):
    """Iterator over batches from number ``first``; {"error": why} where none can be made. ``workers`` 0 makes them in
    this process; ``pinned`` ones are copied to a GPU while it computes."""
    cv2.setNumThreads(1)                                # a forked worker cannot end the threads of its parent's OpenCV
    loader = DataLoader(_Samples(settings, rank), batch_size=None, sampler=_Keys(shelf, first, size_of),
                        num_workers=workers, prefetch_factor=PREFETCH if workers else None, persistent_workers=False,
                        pin_memory=pinned, worker_init_fn=_leave_interrupts)
    return iter(loader)


def _leave_interrupts(_) -> None:
    """Ctrl-C and what ends a job reach workers too, but are the trainer's, which may need their batch to come to its
    checkpoint. SIGTERM is also how a process ends its children at its own end, and waits for them: then a worker ends,
    only later."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(LAST_BATCHES_S))
