"""Units of work spread over processes of this machine, or over machines by Ray; the order of finishing does not matter.

An engine takes units, does ``work(unit, run)`` for each and yields (unit, error) as they finish. To add one: a function
and a line in ENGINES.
"""
from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from ..errors import ConfigError, HandPoseError

Unit = dict[str, Any]
Work = Callable[[Unit, dict[str, Any]], str]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def local(units: Sequence[Unit], work: Work, run: dict[str, Any], jobs: int, address: str | None) \
        -> Iterator[tuple[Unit, Exception | None]]:
    """jobs processes on this machine; one job runs here, without a process of its own."""
    if jobs <= 1 or len(units) <= 1:
        for unit in units:
            yield unit, _attempt(unit, work, run)
        return
    share = str(max(1, (os.cpu_count() or 1) // jobs))
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update({name: before[name] or share for name in THREAD_VARIABLES})   # processes must not fight for cores
    try:
        # "spawn": a fork of a process that has CUDA or threads of a runtime open would hang
        with ProcessPoolExecutor(min(jobs, len(units)), multiprocessing.get_context("spawn"), _limit_threads,
                                 (int(share),)) as pool:
            waiting = {pool.submit(work, unit, run): unit for unit in units}
            for future in as_completed(waiting):
                yield waiting[future], _known(future.exception())
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _limit_threads(count: int) -> None:
    import cv2

    cv2.setNumThreads(count)


def ray(units: Sequence[Unit], work: Work, run: dict[str, Any], jobs: int, address: str | None) \
        -> Iterator[tuple[Unit, Exception | None]]:
    """Ray: embedded on this machine without an address, else the cluster there (which must see the same files).

    Raises ConfigError if Ray is not installed.
    """
    try:
        import ray as engine
    except ImportError as error:
        raise ConfigError("the engine ray needs the Python package ray: pip install ray, or use --engine local") \
            from error
    if not engine.is_initialized():
        # _node_ip_address: an embedded cluster listens on this machine only
        engine.init(address=address, include_dashboard=False, log_to_driver=False, configure_logging=False,
                    **({} if address else {"num_cpus": max(jobs, 1), "_node_ip_address": "127.0.0.1"}))
    remote = engine.remote(num_cpus=1)(work)
    waiting = {remote.remote(unit, run): unit for unit in units}
    while waiting:
        (done,), _ = engine.wait(list(waiting), num_returns=1)
        unit = waiting.pop(done)
        try:
            engine.get(done)
            yield unit, None
        except engine.exceptions.RayTaskError as error:
            yield unit, _known(error.cause if isinstance(error.cause, Exception) else error)


ENGINES = {"local": local, "ray": ray}
"""Name: engine."""


def spread(units: Sequence[Unit], work: Work, run: dict[str, Any], jobs: int = 1, engine: str = "local",
           address: str | None = None) -> Iterator[tuple[Unit, Exception | None]]:
    """Do all units, yielding each with None or the error that ended it (only errors this package raises on purpose; any
    other is raised). Raises ConfigError for an unknown engine."""
    if engine not in ENGINES:
        raise ConfigError(f"engine {engine!r} is not known; choose one of {', '.join(ENGINES)}")
    yield from ENGINES[engine](units, work, run, jobs, address)


def _attempt(unit: Unit, work: Work, run: dict[str, Any]) -> Exception | None:
    try:
        work(unit, run)
    except HandPoseError as error:
        return error
    return None


def _known(error: BaseException | None) -> Exception | None:
    if error is None or isinstance(error, HandPoseError):
        return error
    raise error
