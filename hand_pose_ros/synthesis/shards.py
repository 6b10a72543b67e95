"""Sharded storage of labelled pictures: tar files in WebDataset order, written whole or not at all.

A shard ``<kind>-<first index>.tar`` holds, for each picture index, ``<index>.jpg``, ``<index>.json`` and optionally
``<index>.mask.png`` and ``<index>.depth.png`` (uint16, 0.1 mm, 0 unknown, as beyond 6.5535 m). A shard gets its final
name only when it is complete, so what a finished name holds can be trusted and an interrupted run continues where it
stopped.
"""
from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from hand_pose_ros.errors import DataError
from hand_pose_ros.types import Camera, Sample

JPEG_QUALITY = 92
_RUN_LENGTHS = cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE
PER_SHARD = 500
DEPTH_UNIT_M = 1e-4
HANDS_VERSION = 3
"""Kept with every picture. To be raised whenever a joint of the same pose lies elsewhere, or ``hand_length`` measures
otherwise: pictures of two such hands would teach two answers. 2: fingers turn where X-rays have their joints; 3:
thumbs, too."""
ABANDONED_AFTER_S = 600.0


def name(kind: str, first: int) -> str:
    """File name of the shard whose first picture has index ``first``."""
    return f"{kind}-{first:09d}.tar"


def first_index(path: Path) -> int | None:
    """Index of the first picture of a shard by its file's name; None if it is none that ``name`` gives."""
    number = path.stem.rpartition("-")[2]
    return int(number) if number.isdecimal() else None


def ranges(start: int, count: int, per_shard: int = PER_SHARD) -> list[tuple[int, int]]:
    """Index ranges [first, last) that cover start .. start + count, cut at multiples of ``per_shard``."""
    edges = [start, *range((start // per_shard + 1) * per_shard, start + count, per_shard), start + count]
    return list(zip(edges[:-1], edges[1:]))


class ShardWriter:
    """Writes one shard; use it as a context manager. Raises DataError when the disk does not take it."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self._partial = self.path.with_suffix(f".partial{os.getpid()}")

    def __enter__(self) -> ShardWriter:
        try:
            self._tar = tarfile.open(self._partial, "w", format=tarfile.USTAR_FORMAT)
        except OSError as error:
            raise DataError(f"cannot write {self._partial}: {error}; choose another --out") from None
        return self

    def add(self, index: int, image: np.ndarray, meta: dict, mask: np.ndarray | None = None,
            depth_m: np.ndarray | None = None) -> None:
        """Append one picture: image (H, W, 3) uint8 RGB, mask (H, W) uint8, depth_m (H, W) metres, 0 or NaN unknown."""
        key = f"{index:09d}"
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        files = [(".jpg", _encode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])),
                 (".json", json.dumps(meta, separators=(",", ":")).encode())]
        if mask is not None:
            files.append((".mask.png", _encode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 4, *_RUN_LENGTHS])))
        if depth_m is not None:
            units = np.nan_to_num(depth_m) / DEPTH_UNIT_M + 0.5
            units = np.where((units >= 0) & (units < 65536), units, 0).astype(np.uint16)
            files.append((".depth.png", _encode(".png", units, [cv2.IMWRITE_PNG_COMPRESSION, 1, *_RUN_LENGTHS])))
        try:
            for suffix, data in files:
                entry = tarfile.TarInfo(key + suffix)
                entry.size = len(data)
                self._tar.addfile(entry, io.BytesIO(data))
        except OSError as error:
            raise DataError(f"cannot write {self._partial}: {error}; free some space and run the same command again: "
                            "finished shards are kept") from None

    def __exit__(self, failure, *_) -> None:
        try:
            self._tar.close()
            if failure is None:
                with open(self._partial, "rb+") as stream:
                    os.fsync(stream.fileno())
                os.replace(self._partial, self.path)
        except OSError as error:
            raise DataError(f"cannot finish {self.path}: {error}; free some space and run the same command again: "
                            "finished shards are kept") from None
        finally:
            self._partial.unlink(missing_ok=True)


def _encode(suffix: str, image: np.ndarray, options: list) -> bytes:
    done, data = cv2.imencode(suffix, image, options)
    if not done:
        raise DataError(f"OpenCV cannot encode {suffix} images of shape {image.shape}")
    return data.tobytes()


def files(folder: Path, kind: str) -> list[Path]:
    """The finished shards of a kind, in index order. Raises DataError if there is none."""
    found = sorted(Path(folder).glob(f"{kind}-*.tar"))
    if not found:
        raise DataError(f"no {kind} shards in {folder}; make some with: hand-pose render --kind {kind} --out {folder}")
    return found


def describe(path: Path) -> tuple[int, dict, bool]:
    """(pictures, meta of the first one, is there depth) of a shard. Raises DataError if it is none."""
    try:
        with tarfile.open(path, "r:") as tar:
            entries = tar.getmembers()
            check_end(tar)
            first = next(entry for entry in entries if entry.name.endswith(".json"))
            meta = json.loads(tar.extractfile(first).read())
    except (tarfile.TarError, ValueError, OSError, StopIteration) as error:
        raise DataError(f"shard {path} cannot be read ({error!r}); delete it and render it again") from None
    names = [entry.name for entry in entries]
    return sum(name.endswith(".jpg") for name in names), meta, any(name.endswith(".depth.png") for name in names)


def check_end(tar: tarfile.TarFile) -> None:
    """Raises tarfile.ReadError if the archive, read to its end from a file, does not end with the empty block of one:
    where a header is damaged tarfile takes what follows for no more members, and says nothing."""
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"it is damaged or cut off at byte {tar.offset}")


def remove_abandoned(folder: Path, kind: str) -> None:
    """Delete unfinished shards whose writer is gone, as after a kill or a loss of power: to which nothing was added
    for a while, since the writer may be a process of another machine."""
    for path in Path(folder).glob(f"{kind}-*.partial*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED_AFTER_S:
                path.unlink()


def read(path: Path) -> Iterator[dict]:
    """Pictures of one shard: {"index", "meta", "jpg" bytes, and "mask", "depth" PNG bytes if stored}.

    Raises DataError if the file is no shard or is cut off.
    """
    current: dict = {}
    try:
        if Path(path).stat().st_size % tarfile.RECORDSIZE:
            raise tarfile.ReadError("it is cut off")
        with tarfile.open(path, "r:") as tar:
            for entry in tar:
                key, _, suffix = entry.name.partition(".")
                if current and int(key) != current["index"]:
                    yield current
                    current = {}
                data = tar.extractfile(entry).read()
                if len(data) != entry.size:
                    raise tarfile.ReadError("it is cut off")
                current["index"] = int(key)
                current.update({"meta": json.loads(data)} if suffix == "json" else {suffix.removesuffix(".png"): data})
            check_end(tar)
    except (tarfile.TarError, ValueError, AttributeError, OSError) as error:
        raise DataError(f"shard {path} cannot be read ({error}); delete it and render it again") from None
    if current:
        yield current


def decode(record: dict, hand: int = 0) -> Sample:
    """One record of ``read`` as a Sample of its hand number ``hand``. Raises DataError for damaged images.

    Its parts (H, W), 0 elsewhere and as in ``labels.crop_mask`` on the hand, are None in frames that were rendered
    before their labels said which part of the mask is whose.
    """
    meta = record["meta"]
    image = cv2.imdecode(np.frombuffer(record["jpg"], np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"picture {record['index']} is damaged; delete its shard and render it again")
    camera = Camera(meta["width"], meta["height"], np.array(meta["K"]), meta["distortion_model"], np.array(meta["D"]))
    label = meta["hands"][hand]
    depth = parts = None
    if "depth" in record:
        units = cv2.imdecode(np.frombuffer(record["depth"], np.uint8), cv2.IMREAD_UNCHANGED)
        depth = np.where(units > 0, units * np.float32(DEPTH_UNIT_M), np.nan).astype(np.float32)
    base = label.get("mask_base", 0 if meta["kind"] == "crops" else None)
    if "mask" in record and base is not None:
        mask = cv2.imdecode(np.frombuffer(record["mask"], np.uint8), cv2.IMREAD_UNCHANGED)
        own = mask.astype(int) - base
        parts = np.where((own >= 1) & (own <= 7), own, 0).astype(np.uint8)
    return Sample(np.ascontiguousarray(image[..., ::-1]), camera, np.array(label["joints_m"]),
                  np.array(label["joints_px"]), np.array(label["state"], np.uint8), label["is_right"], depth, parts)
