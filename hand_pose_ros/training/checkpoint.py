"""Checkpoints that survive being cut off: written beside and renamed, in pieces where the host wants small files.

Of each there are two, the last and the one before: ``path`` and ``path``.old, or in pieces ``path``.count and
``path``.count.old, each of which names its pieces.
"""
from __future__ import annotations

import hashlib
import io
import os
import shutil
import zipfile
from pathlib import Path

import torch

from hand_pose_ros.errors import DataError, ModelError

PIECE_BYTES = 15_000_000
"""Pieces stay below 16 MB, what some GPU hosts carry in one file."""


def save(path: str | Path, state: dict, pieces: bool = False, sound: bool = True) -> None:
    """Write ``state`` to ``path``, or to ``path``.0.000, .0.001, ... of PIECE_BYTES each and ``path``.count.

    What was there becomes the one before, if it is ``sound``; else the one before stays. A cut at any time leaves one
    of the two whole. Raises DataError if it cannot be written, as on a full disk; then, too, what was there stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not pieces:
        fresh = path.with_name(f"{path.name}.new")
        _write(fresh, lambda file: torch.save(state, file))
        _step_back(path, sound)
        os.replace(fresh, path)
    else:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        data = buffer.getbuffer()
        parts = cut(data)
        turn = "1" if _turn(_count(path, before=not sound)) == "0" else "0"         # never that of the one to be kept
        for k, part in enumerate(parts):
            _write(path.with_name(f"{path.name}.{turn}.{k:03d}"), lambda file, part=part: file.write(part))
        line = f"{turn} {len(parts)} {hashlib.sha256(data).hexdigest()}\n".encode()
        fresh = _count(path).with_suffix(".new")
        _write(fresh, lambda file: file.write(line))
        _step_back(path, sound)
        os.replace(fresh, _count(path))
    kept = {name for count in (_count(path), _count(path, before=True)) if count.is_file()
            for name in _pieces(path, count)}
    for piece in path.parent.glob(f"{path.name}.[01].[0-9][0-9][0-9]"):
        if piece.name not in kept:
            piece.unlink()


def cut(data) -> list:
    """Pieces of PIECE_BYTES each, in order, of bytes or a view of them."""
    return [data[k:k + PIECE_BYTES] for k in range(0, len(data), PIECE_BYTES)]


def exists(path: str | Path) -> bool:
    """Whether there is a checkpoint at ``path`` or one before it, whole or in pieces, damaged or not."""
    return any(file(path, before).is_file() for file in (_whole, _count) for before in (False, True))


def load(path: str | Path, before: bool = False) -> dict | None:
    """The state at ``path``, or the one before it, whole or in pieces; None if there is none. Raises ModelError if it
    is damaged."""
    whole, count = _whole(path, before), _count(path, before)
    try:
        if whole.is_file():
            if damaged := zipfile.ZipFile(whole).testzip():             # torch.load does not compare checksums
                raise EOFError(f"{damaged} in it is not what was written")
            return torch.load(whole, map_location="cpu", weights_only=False)
        if not count.is_file():
            return None
        digest = count.read_text().split()[2]
        data = b"".join(count.with_name(name).read_bytes() for name in _pieces(path, count))
        if hashlib.sha256(data).hexdigest() != digest:
            raise EOFError(f"its pieces are not those that {count.name} names")
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
    except Exception as error:                          # torch.load raises many kinds for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"checkpoint {whole} is damaged ({reason}): to begin anew remove it and the other one beside "
                         "it") from error


def _whole(path: str | Path, before: bool = False) -> Path:
    return Path(f"{path}.old" if before else path)


def _count(path: str | Path, before: bool = False) -> Path:
    return Path(f"{path}.count.old" if before else f"{path}.count")


def _turn(count: Path) -> str:
    return count.read_text(errors="replace").partition(" ")[0] if count.is_file() else ""


def _pieces(path: str | Path, count: Path) -> list[str]:
    """Names of the pieces that a count file names; empty if it is damaged, which ``load`` then says."""
    fields = count.read_text(errors="replace").split()
    if len(fields) != 3 or not fields[1].isdigit():
        return []
    return [f"{Path(path).name}.{fields[0]}.{k:03d}" for k in range(int(fields[1]))]


def _step_back(path: Path, sound: bool) -> None:
    """What lies at ``path`` becomes the one before if it is sound, and is gone if not."""
    forms = ((_whole(path), _whole(path, True), _count(path, True)),
             (_count(path), _count(path, True), _whole(path, True)))
    now = next((form for form in forms if form[0].is_file()), None)
    if now is not None and sound:
        os.replace(now[0], now[1])
        now[2].unlink(missing_ok=True)                  # of the other form: older
    for form in forms:
        form[0].unlink(missing_ok=True)


def _write(path: Path, fill) -> None:
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:            # RuntimeError: how torch tells that a write fell short
        raise DataError(f"{path} cannot be written ({str(error).splitlines()[0]}); is there no space left? "
                        f"{shutil.disk_usage(path.parent).free / 1e6:.0f} MB are free: free some and start the same "
                        "command again, it goes on from the checkpoint before") from error
    finally:
        temporary.unlink(missing_ok=True)               # part of one would fill the disk further
