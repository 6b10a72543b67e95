"""How far a long command is, on a terminal and in a log file."""
from __future__ import annotations

import sys
import time
from typing import TextIO

LOG_S, SHORT_S = 60.0, 5.0


class Progress:
    """Rate and time left, called with the number done: a bar that is written over; in a log file, which cannot do that,
    a line each LOG_S seconds and, if it took SHORT_S, at the end.

    total: what ``done`` reaches, 0 if nobody knows. stream: where it is written, standard output if None.
    """

    def __init__(self, total: int, stream: TextIO | None = None):
        self.total, self.begin, self._stream = total, time.monotonic(), stream
        self.told, self.ended, self._open = self.begin, False, False

    def __call__(self, done: int) -> None:
        now, stream = time.monotonic(), self._stream or sys.stdout
        bar, last = stream.isatty(), 0 < self.total <= done
        due = now - self.told >= LOG_S or last and now - self.begin >= SHORT_S
        if self.ended or not (bar or due):
            return
        self.told, self.ended, self._open = now, last, bar and not last
        rate = done / max(now - self.begin, 1e-6)
        left = f"  {(self.total - done) / rate / 60:.1f} min left" if done and self.total else ""
        text = f"{done}/{self.total or '?'}  {rate:.1f}/s{left or '  starting' if self.total else ''}"
        filled = 30 * min(done, self.total) // max(self.total, 1)
        print(f"\r[{'#' * filled}{'.' * (30 - filled)}] {text} " if bar else text,
              end="" if self._open else "\n", file=stream, flush=True)

    def close(self) -> None:
        """Ends a bar that did not come to its end, so that what follows begins a line."""
        if self._open:
            print(file=self._stream or sys.stdout, flush=True)
        self._open = False
