"""Built networks on disk: one file per key, whole or not there.

A file is named by the sha256 of everything that went into it (``key_of``) and starts with its own header, so that a
truncated file, a file of another program and a file renamed to another key are all recognised and built anew, never
handed to a runtime. Files are written beside their final name and renamed, under a lock that the kernel releases when
its holder dies.
"""
from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator, Mapping

from ..errors import ModelError

MAGIC = b"HANDPOSE-ENGINE\n"
SUFFIX = ".engine"
OURS = re.compile(r"[0-9a-f]{64}\.engine|timing_cache\.[0-9a-f]{12}\.bin")
"""Names of what counts towards the limit and may go: a folder may hold engines of other programs, too."""
DEFAULT_LIMIT_BYTES = 2 * 1024**3
LOCK_TIMEOUT_S = 1800.0
ABANDONED_AFTER_S = 24 * 3600.0


def default_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Folder of built networks: below ROS_HOME if set, else below the user's cache folder (XDG_CACHE_HOME)."""
    if environ.get("ROS_HOME"):
        return Path(environ["ROS_HOME"]).expanduser() / "hand_pose_ros" / "engines"
    user_cache = environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(user_cache).expanduser() / "hand_pose_ros" / "engines"


def key_of(ingredients: Mapping[str, str]) -> str:
    """sha256 (64 hex digits) over names and values; any changed, added or missing ingredient gives another key."""
    text = json.dumps(dict(ingredients), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One built network: ``payload`` is the runtime's own file format, ``info`` what was measured when it was built."""

    key: str
    payload: bytes
    info: Mapping[str, object] = field(default_factory=dict)
    built_now: bool = False

    @property
    def refused(self) -> str:
        """Why what was built must not serve, "" if it may. Kept, so that the next start does not build it again."""
        return str(self.info.get("refused", ""))


def _header(entry: Entry, ingredients: Mapping[str, str]) -> bytes:
    text = json.dumps({
        "key": entry.key,
        "payload_bytes": len(entry.payload),
        "payload_sha256": hashlib.sha256(entry.payload).hexdigest(),
        "ingredients": dict(ingredients),
        "info": dict(entry.info),
    }, sort_keys=True).encode()
    return MAGIC + struct.pack("<Q", len(text)) + text


def read_header(path: Path) -> dict:
    """Header of one cache file. Raises ModelError if the file is none of ours or its header is cut off."""
    with open(path, "rb") as stream:
        return _read_header(stream, path)


def _read_header(stream, path: Path) -> dict:
    if stream.read(len(MAGIC)) != MAGIC:
        raise ModelError(f"{path} is not a built network of hand_pose_ros: delete it, it is built again")
    length = stream.read(8)
    size = struct.unpack("<Q", length)[0] if len(length) == 8 else 0
    left = os.fstat(stream.fileno()).st_size - stream.tell()
    if not 0 < size <= left:
        raise ModelError(f"{path} is cut off in its header: delete it, it is built again")
    try:
        header = json.loads(stream.read(size))
        header["payload_bytes"], header["payload_sha256"], header["key"], header["info"]    # all must be there
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} has a damaged header ({error}): delete it, it is built again") from error
    return header


class EngineCache:
    """A folder of built networks with a limit on its size; several processes may use it at once.

    folder: made on first use. limit_bytes: the least recently used files go when the sum is larger.
    """

    def __init__(self, folder: Path | str | None = None, limit_bytes: int = DEFAULT_LIMIT_BYTES,
                 lock_timeout_s: float = LOCK_TIMEOUT_S) -> None:
        self.folder = Path(folder) if folder else default_folder()
        self.limit_bytes = limit_bytes
        self.lock_timeout_s = lock_timeout_s

    def path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    def get(self, ingredients: Mapping[str, str]) -> Entry | None:
        """The entry of these ingredients, or None if there is none that is whole. Marks it as used now."""
        key = key_of(ingredients)
        path = self.path(key)
        try:
            with open(path, "rb") as stream:
                header = _read_header(stream, path)
                payload = stream.read()
        except (OSError, ModelError):
            return None
        whole = (header["key"] == key and header["payload_bytes"] == len(payload)
                 and header["payload_sha256"] == hashlib.sha256(payload).hexdigest())
        if not whole:
            return None
        with contextlib.suppress(OSError):                 # a read-only cache still serves
            os.utime(path)
        return Entry(key, payload, header["info"])

    def forget_refusal(self, ingredients: Mapping[str, str]) -> None:
        """Have what was refused once built and judged again. Does nothing for an entry that serves."""
        entry = self.get(ingredients)
        if entry and entry.refused:
            with contextlib.suppress(OSError):
                self.path(entry.key).unlink()

    def get_or_build(self, ingredients: Mapping[str, str],
                     build: Callable[[], tuple[bytes, Mapping[str, object]]]) -> Entry:
        """The entry of these ingredients, built by ``build() -> (payload, info)`` if there is no whole one.

        One process builds, the others wait for it. If the folder cannot be written the network is built for this
        process alone, and ``info["not_stored"]`` says why. Raises ModelError if another process holds the lock for
        longer than ``lock_timeout_s``, and whatever ``build`` raises.
        """
        entry = self.get(ingredients)
        if entry:
            return entry
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = self._lock(key_of(ingredients))
            lock.__enter__()
        except OSError as error:
            payload, info = build()
            reason = f"{self.folder} cannot be written ({error.strerror}); set ROS_HOME to a writable folder"
            return Entry(key_of(ingredients), payload, {**info, "not_stored": reason}, built_now=True)
        with contextlib.ExitStack() as stack:
            stack.push(lock.__exit__)
            entry = self.get(ingredients)                  # another process may have built it while this one waited
            if entry:
                return entry
            payload, info = build()
            return self._put(ingredients, payload, info)

    def replace(self, ingredients: Mapping[str, str], payload: bytes, info: Mapping[str, object]) -> Entry:
        """Stores an entry whatever was there. Raises ModelError if another process holds the lock for too long or the
        folder cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._lock(key_of(ingredients)):
                return self._put(ingredients, payload, info)
        except OSError as error:
            raise ModelError(f"{self.folder} cannot be written ({error.strerror}); set ROS_HOME to a writable folder"
                             ) from error

    def _put(self, ingredients: Mapping[str, str], payload: bytes, info: Mapping[str, object]) -> Entry:
        entry = Entry(key_of(ingredients), payload, dict(info), built_now=True)
        partial = self.folder / f".{entry.key}.{os.getpid()}.partial"
        try:
            with open(partial, "wb") as stream:
                stream.write(_header(entry, ingredients))
                stream.write(payload)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, self.path(entry.key))
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            reason = f"{self.folder}: {error.strerror}; free space there or set ROS_HOME to another folder"
            return Entry(entry.key, payload, {**info, "not_stored": reason}, built_now=True)
        self._remove_least_recently_used(keep=entry.key)
        return entry

    def entries(self) -> list[tuple[Path, int, float]]:
        """(path, bytes, last use in seconds since the epoch) of every built network, least recently used first."""
        return [entry for entry in self._files() if entry[0].suffix == SUFFIX]

    def _files(self) -> list[tuple[Path, int, float]]:
        """As ``entries``, with the timings that builds left."""
        found = []
        for path in self.folder.glob("*"):
            with contextlib.suppress(OSError):             # removed by another process meanwhile
                if OURS.fullmatch(path.name):
                    status = path.stat()
                    found.append((path, status.st_size, status.st_mtime))
        return sorted(found, key=lambda item: item[2])

    def _remove_least_recently_used(self, keep: str) -> None:
        now = time.time()
        for path in self.folder.glob(".*.partial"):        # of builders that died
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime > ABANDONED_AFTER_S:
                    path.unlink()
        files = self._files()
        total = sum(size for _, size, _ in files)
        for path, size, _ in files:
            if total <= self.limit_bytes:
                break
            if path != self.path(keep):
                with contextlib.suppress(OSError):
                    path.unlink()
                    total -= size

    @contextlib.contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        """Exclusive between threads and processes. flock: a holder that dies, dies with its lock."""
        path = self.folder / f"{key}.lock"
        deadline = time.monotonic() + self.lock_timeout_s
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same_file(descriptor, path):           # else the last holder removed it: take the new one
                    break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                    os.close(descriptor)
                    raise ModelError(
                        f"waited {self.lock_timeout_s:.0f} s for process {holder} to build {key[:12]} in {self.folder}:"
                        f" stop that process or wait for it") from None
                os.close(descriptor)
                time.sleep(0.05)
                continue
            os.close(descriptor)
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(descriptor)


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        on_disk = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (held.st_dev, held.st_ino) == (on_disk.st_dev, on_disk.st_ino)
