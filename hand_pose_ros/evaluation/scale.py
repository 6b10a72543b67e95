"""Units of work spread over processes of this machine, or over machines by Ray; the order of finishing does not matter.

An engine is a context manager; what it gives does ``work(unit, run)`` for each unit and yields (unit, result, error) as
they finish, one of the two None. To add one: a function and a line in ENGINES.
"""
from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ..errors import ConfigError, HandPoseError, pip_install

Unit = dict[str, Any]
Work = Callable[[Unit, dict[str, Any]], Any]
Done = tuple[Unit, Any, Exception | None]
Spread = Callable[[Work, Sequence[Unit], dict[str, Any]], Iterator[Done]]
CONNECT_S = 5.0
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def local(jobs: int, address: str | None) -> Iterator[Spread]:
    """jobs processes on this machine, which keep their networks; one job runs here, without a process of its own.

    Raises ConfigError if one of them is killed.
    """
    if jobs <= 1:
        yield lambda work, units, run: (_done(unit, lambda: work(unit, run)) for unit in units)
        return
    share = str(max(1, len(os.sched_getaffinity(0)) // jobs))
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update({name: before[name] or share for name in THREAD_VARIABLES})   # processes must not fight for cores
    # "spawn": a fork of a process that has CUDA or threads of a runtime open would hang
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _limit_threads, (int(share),))

    def spread(work: Work, units: Sequence[Unit], run: dict[str, Any]) -> Iterator[Done]:
        waiting = {pool.submit(work, unit, run): unit for unit in units}
        for future in as_completed(waiting):
            try:
                yield _done(waiting[future], future.result)
            except BrokenProcessPool as error:
                raise ConfigError(f"one of {jobs} processes was killed, most likely for want of memory: run the same "
                                  f"command with fewer --jobs; parts that are finished are kept") from error

    try:
        yield spread
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _limit_threads(count: int) -> None:
    import cv2

    cv2.setNumThreads(count)


@contextmanager
def ray(jobs: int, address: str | None) -> Iterator[Spread]:
    """Ray: embedded on this machine without an address, else the cluster there (which must see the same files).

    Raises ConfigError if Ray is not installed, or no cluster answers at the address.
    """
    try:
        import ray as engine
    except ImportError as error:
        raise ConfigError(f"the engine ray needs the Python package ray: {pip_install('-r requirements/ray.txt')}, or "
                          "use --engine local") from error
    if not engine.is_initialized():
        # _node_ip_address: an embedded cluster listens on this machine only
        embedded = {} if address else {"num_cpus": max(jobs, 1), "_node_ip_address": "127.0.0.1"}
        try:
            if address:
                _reach(address)
            engine.init(address=address, include_dashboard=False, log_to_driver=False, configure_logging=False,
                        **embedded)
        except (OSError, ValueError) as error:
            if not address:
                raise
            raise ConfigError(f"no Ray cluster answers at {address}: {str(error).splitlines()[0]}. Give HOST:PORT of "
                              "its head as `ray start` there has said it; a cluster with a token wants RAY_AUTH_MODE="
                              "token and RAY_AUTH_TOKEN here too") from error

    def result(reference: Any) -> Any:
        try:
            return engine.get(reference)
        except engine.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from error

    def spread(work: Work, units: Sequence[Unit], run: dict[str, Any]) -> Iterator[Done]:
        remote = engine.remote(num_cpus=1)(work)
        waiting = {remote.remote(unit, run): unit for unit in units}
        while waiting:
            (done,), _ = engine.wait(list(waiting), num_returns=1)
            yield _done(waiting.pop(done), lambda: result(done))

    yield spread


def _reach(address: str) -> None:
    """Raises OSError if nobody listens at HOST:PORT, ValueError for anything else: Ray would end this process."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("that is not HOST:PORT")
    socket.create_connection((host, int(port)), CONNECT_S).close()


ENGINES = {"local": local, "ray": ray}
"""Name: engine."""


def workers(jobs: int = 1, engine: str = "local", address: str | None = None) -> AbstractContextManager[Spread]:
    """Who does units. Of the errors, those this package raises on purpose are given with their unit, any other is
    raised. Raises ConfigError for an unknown engine."""
    if engine not in ENGINES:
        raise ConfigError(f"engine {engine!r} is not known; choose one of {', '.join(ENGINES)}")
    return ENGINES[engine](jobs, address)


def _done(unit: Unit, result: Callable[[], Any]) -> Done:
    try:
        return unit, result(), None
    except HandPoseError as error:
        return unit, None, error
