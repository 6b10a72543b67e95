"""One program at a time fills a folder. The lock is the system's: it ends with the program, however that ends."""
from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from hand_pose_ros.errors import ConfigError

_held: set[int] = set()


@contextlib.contextmanager
def sole(folder: str | Path, command: str) -> Iterator[None]:
    """Within the block no other block of ours has the folder, which is made if it is not there.

    Raises ConfigError if another program has it, naming the remedy. A file system without locks is taken as it is.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)          # the folder itself: nothing is left in it
    _held.add(held)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise ConfigError(f"another {command} is writing into {folder}: wait until it ends, or give another "
                                  "folder") from error
        yield
    finally:
        if held in _held:
            _held.remove(held)
            os.close(held)


def _let_go() -> None:
    """In a process that was forked: a lock lasts as long as somebody has it open, and workers may outlive us."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)
