"""A slot for one item: the newest wins. This is why the node can never fall behind the camera."""
from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """Hand-over from a callback to a worker thread without a queue; counts what was replaced before it was taken."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._replaced = 0

    def put(self, item: T) -> None:
        with self._changed:
            if self._item is not None:
                self._replaced += 1
            self._item = item
            self._changed.notify()

    def take(self, timeout_s: float) -> tuple[T | None, int]:
        """The item (None after timeout_s without one) and how many were replaced since the last one was taken."""
        with self._changed:
            if self._item is None:
                self._changed.wait(timeout_s)
            item, self._item = self._item, None
            if item is None:
                return None, 0
            replaced, self._replaced = self._replaced, 0
            return item, replaced

    def clear(self) -> None:
        with self._changed:
            self._item, self._replaced = None, 0
