"""Work in a thread of its own, in order: the networks need not wait while pictures are read and results are written.

Reading stays in the thread that opened the source, the pipeline gets one lane, drawing and encoding another. The order
in each lane is that of the calls, so the results do not depend on how fast a lane is.
"""
from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

WAITING = 12
"""Calls that may wait in a lane; the caller stands still beyond that, so memory stays bounded. With four the networks
waited for a tenth of the time: drawing and encoding get a core only now and then."""


class Lane:
    """Calls functions one after another in one thread; use it as a context manager.

    The first exception of a call ends the lane: later calls are not made, and it is raised at the next call or at the
    end of the block.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._room = threading.Semaphore(WAITING)
        self._error: BaseException | None = None

    def __enter__(self) -> Lane:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._pool.shutdown(wait=True)
        if kind is None and self._error is not None:
            raise self._error

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have function(*arguments) called. Raises what an earlier call has raised."""
        self._room.acquire()
        if self._error is not None:
            self._room.release()
            raise self._error
        self._pool.submit(self._call, function, arguments)

    def _call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        try:
            if self._error is None:
                function(*arguments)
        except BaseException as error:      # whatever it is, it belongs to the thread that waits for the results
            self._error = error
        finally:
            self._room.release()


class Here:
    """The same without a thread, for runs in which the time of each call matters."""

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> None:
        """function(*arguments), now."""
        function(*arguments)
