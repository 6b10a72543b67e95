"""Checkpoints that survive being cut off: written beside and renamed, in pieces where the host wants small files."""
from __future__ import annotations

import hashlib
import io
import os
import shutil
from pathlib import Path

import torch

from hand_pose_ros.errors import DataError, ModelError

PIECE_BYTES = 15_000_000
"""Pieces stay below 16 MB, what some GPU hosts carry in one file."""


def save(path: str | Path, state: dict, pieces: bool = False) -> None:
    """Write ``state`` atomically to ``path``, or to ``path``.0.000, .0.001, ... of PIECE_BYTES each and ``path``.count.

    Pieces of a checkpoint never take the place of those of the one before (.1.000, ...): a cut leaves that one whole.
    Raises DataError if it cannot be written, as on a full disk; then, too, the one before stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not pieces:
        _write(path, lambda file: torch.save(state, file))
        return
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getbuffer()
    parts = cut(data)
    count = Path(f"{path}.count")
    turn = "1" if count.is_file() and count.read_text().split()[:1] == ["0"] else "0"
    for k, part in enumerate(parts):
        _write(path.with_name(f"{path.name}.{turn}.{k:03d}"), lambda file, part=part: file.write(part))
    line = f"{turn} {len(parts)} {hashlib.sha256(data).hexdigest()}\n".encode()
    _write(count, lambda file: file.write(line))
    kept = {f"{path.name}.{turn}.{k:03d}" for k in range(len(parts))}
    for piece in path.parent.glob(f"{path.name}.[01].[0-9][0-9][0-9]"):
        if piece.name not in kept:
            piece.unlink()


def cut(data) -> list:
    """Pieces of PIECE_BYTES each, in order, of bytes or a view of them."""
    return [data[k:k + PIECE_BYTES] for k in range(0, len(data), PIECE_BYTES)]


def exists(path: str | Path) -> bool:
    """Whether there is a checkpoint at ``path``, whole or in pieces, damaged or not."""
    return Path(path).is_file() or Path(f"{path}.count").is_file()


def load(path: str | Path) -> dict | None:
    """The state at ``path`` (whole or in pieces), None if there is none. Raises ModelError if it is damaged."""
    path, count = Path(path), Path(f"{path}.count")
    try:
        if path.is_file():
            return torch.load(path, map_location="cpu", weights_only=False)
        if not count.is_file():
            return None
        turn, number, digest = count.read_text().split()
        data = b"".join(path.with_name(f"{path.name}.{turn}.{k:03d}").read_bytes() for k in range(int(number)))
        if hashlib.sha256(data).hexdigest() != digest:
            raise EOFError(f"its pieces are not those that {count.name} names")
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
    except Exception as error:                          # torch.load raises many kinds for a damaged file
        raise ModelError(f"checkpoint {path} is damaged ({error}): remove it to begin anew") from error


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
