"""What every runtime gives back, and the choices that all of them take."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable

import numpy as np

from ..errors import ModelError
from .cache import EngineCache, Entry
from .source import NetworkSource


HALF_REFUSED = "half_precision_refused"
"""Entry of ``Runtime.info``: why single precision serves where half was wanted."""
PART_ENDS, REASON_ENDS = (100, 200), (200, 500)
"""Characters kept of the beginning, which says what failed, and of the end, which often says why: of one error's text,
and of a whole reason."""


def brief(reason: str, ends: tuple[int, int] = REASON_ENDS) -> str:
    """A reason in one line that fits a log and every message: what failed, "...", why."""
    line = " ".join(reason.split())
    first, last = ends
    return line if len(line) <= first + last + 5 else f"{line[:first]} ... {line[-last:]}"


def _silent(line: str) -> None:
    """Default for ``Options.report``."""


@dataclass(frozen=True)
class Options:
    """Choices of all runtimes; each runtime reads those that concern it."""

    threads: int = 0                                 # CPU threads inside one network call; 0: all cores but at most 4
    spinning: bool = False                           # threads poll within a call: faster, but only on idle cores
    precision: str = "auto"                          # of GPU runtimes: auto | fp32 | fp16
    max_batch: int = 4                               # largest number of hands in one call
    cache: EngineCache = field(default_factory=EngineCache)
    live: bool = False                               # a camera waits: missing engines are built in the background, and
                                                     # "auto" takes 8 bits on a CPU; else answers never change midway
    report: Callable[[str], None] = _silent          # one line of progress for people


class Refused(ModelError):
    """The network cannot serve so on this machine, however often it is built. The cache keeps that, so that not every
    start tries again."""


class Disagreement(Refused):
    """What was built does not say what torch eager says, and must not serve."""


def not_refused(entry: Entry, source: NetworkSource, precision: str) -> Entry:
    """The entry. Raises Refused, with the command that builds it again in this precision, if it only says why nothing
    may serve."""
    if entry.refused:
        asked = "" if precision == "auto" else f" --precision {precision}"
        raise Refused(f"{entry.refused} (hand-pose build-engine --kind {source.kind} --model {source.model}{asked} "
                      "builds it again)")
    return entry


class NotBuilt(ModelError):
    """The runtime can run here, but its engine is not in the cache and nobody wants to wait for it now."""


class Runtime:
    """A network that runs: ``(N, H, W, 3) uint8`` in, a tuple of float32 arrays out.

    name: the rung, for logs and messages. passed_over: why higher rungs were not taken, "" if none failed. reason: that
    and what is to be said of this rung itself.
    """

    name = ""
    device = "cpu"                                   # where crops are best made; "cuda": there is run_on_device

    def __init__(self, source: NetworkSource, max_batch: int) -> None:
        self.source = source
        self.max_batch = max_batch
        self.passed_over = self.reason = ""
        self.info: dict[str, object] = {}

    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """batch: (N, H, W, 3) uint8 RGB, N >= 0. Returns one float32 array of first dimension N per output.

        A batch above ``max_batch`` runs in parts. Raises ModelError if the shape or type is another.
        """
        batch = np.asarray(batch)
        if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] != tuple(self.source.input_shape):
            raise ModelError(f"{self.source.model} takes (N, {', '.join(map(str, self.source.input_shape))}) uint8, "
                             f"got {batch.shape} {batch.dtype}: crop to the size in the model's card")
        if len(batch) <= self.max_batch:
            return self.run(batch) if len(batch) else self._nothing()
        parts = [self.run(batch[start:start + self.max_batch]) for start in range(0, len(batch), self.max_batch)]
        return tuple(np.concatenate(columns) for columns in zip(*parts))

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """``__call__`` for 1 <= N <= max_batch, input checked."""
        raise TypeError(f"{type(self).__name__} has no run()")

    def _nothing(self) -> tuple[np.ndarray, ...]:
        one = self.run(np.zeros((1, *self.source.input_shape), np.uint8))
        return tuple(output[:0] for output in one)
