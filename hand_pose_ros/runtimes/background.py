"""Serve now, build meanwhile, swap without losing a frame."""
from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Callable

import numpy as np

from ..errors import ModelError
from .base import Options, Runtime, brief


_ONE_AT_A_TIME = threading.Lock()
"""A build may need gigabytes: detector and pose network are not built side by side."""


class Swapping(Runtime):
    """Answers through ``current`` until ``prepare() -> Runtime`` has finished in a thread, then through its result.

    The new runtime is opened and warmed up before the swap, and the swap is one assignment: a call under way finishes
    in the runtime it began in, the next one starts in the new. If ``prepare`` fails, ``current`` stays and ``reason``
    says why.
    """

    def __init__(self, current: Runtime, prepare: Callable[[], Runtime], report: Callable[[str], None],
                 target: str) -> None:
        super().__init__(current.source, current.max_batch)
        self._serving = current
        self._prepare = prepare
        self._report = report
        self.target = target                                # the runtime that is being built
        self.passed_over = current.passed_over              # why the rungs above both do not serve
        self.reason = _joined(current.reason, f"{target}: engine is being built in the background")
        self._thread = threading.Thread(target=self._build, name=f"build {current.source.model}", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        return self._serving.name

    @property
    def device(self) -> str:
        return self._serving.device

    def run_on_device(self, images) -> tuple[np.ndarray, ...]:
        """As ``__call__`` for crops that are on the GPU; only where ``device`` says so."""
        return self._serving.run_on_device(images)

    @property
    def building(self) -> bool:
        """True until the swap, or until the build has failed."""
        return self._thread.is_alive()

    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        return self._serving(batch)

    def wait(self, timeout_s: float | None = None) -> None:
        """Returns when the build has ended, well or badly, or the time is over."""
        self._thread.join(timeout_s)

    def _build(self) -> None:
        try:
            ready = self._prepare()
            ready(np.zeros((1, *self.source.input_shape), np.uint8))
        except Exception as error:                   # a thread's error would vanish; the rung that serves goes on
            why = brief(str(error))
            self.reason = _joined(self._serving.reason, f"{self.target}: {why}")
            self._report(f"{self.source.model}: stays on {self.name}: {why}")
            return
        self.info = ready.info
        self._serving, self.reason = ready, _joined(self.passed_over, ready.reason)
        self._report(f"{self.source.model}: now serving through {self.name}")


def _joined(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))


def build_in_another_process(kind: str, model: str, runtime: str, options: Options) -> None:
    """Builds an engine into the cache through ``hand-pose build-engine``, at low priority.

    A process of its own, since export and compilation are Python that would hold up the frames of this one. It ends
    when this process does, however that ends. Raises ModelError with the last lines it printed if it fails.
    """
    command = ["nice", "-n", "10", sys.executable, "-m", f"{__package__}.with_parent", "build-engine", "--kind", kind,
               "--model", model, "--runtime", runtime, "--precision", options.precision,
               "--max-batch", str(options.max_batch), "--cache", str(options.cache.folder), "--if-missing"]
    package = str(Path(__file__).resolve().parents[2])       # where this process found it, installed or not
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])}
    with _ONE_AT_A_TIME:
        alive, ours = os.pipe()                              # the kernel closes our end when this process is gone
        try:
            done = subprocess.run(command, stdin=alive, capture_output=True, text=True, env=environment, check=False,
                                  start_new_session=True)
        finally:
            os.close(alive)
            os.close(ours)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise ModelError(f"building the engine failed ({done.returncode}): {' / '.join(lines)}")
