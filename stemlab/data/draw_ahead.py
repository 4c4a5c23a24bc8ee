"""Random draws for a whole epoch, made in a thread while the epoch before is used."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

_T = TypeVar("_T")


class DrawAhead(Generic[_T]):
    """Draws of one epoch at a time; the next ones may be drawn in a thread.

    Args:
        draw: returns the draws of an epoch, which depend on nothing else.
    """

    def __init__(self, draw: Callable[[int], _T]) -> None:
        self._draw = draw
        self._known: tuple[int, Future[_T]] | None = None
        self._next: tuple[int, Future[_T]] | None = None

    def of(self, epoch: int) -> _T:
        """Return the draws of an epoch, and forget those of other epochs."""
        if self._known is None or self._known[0] != epoch:
            self._known, self._next = self._next, None  # frees the draws of the epoch before
            if self._known is None or self._known[0] != epoch:
                self._known = epoch, self._drawn(epoch)
        return self._known[1].result()

    def start(self, epoch: int) -> None:
        """Draw for an epoch in a thread, unless that was started before."""
        if self._next is None or self._next[0] != epoch:
            self._next = epoch, Future()
            threading.Thread(target=self._fulfil, args=self._next, daemon=True).start()

    def _drawn(self, epoch: int) -> Future[_T]:
        future: Future[_T] = Future()
        self._fulfil(epoch, future)
        return future

    def _fulfil(self, epoch: int, future: Future[_T]) -> None:
        try:
            future.set_result(self._draw(epoch))
        except BaseException as error:
            future.set_exception(error)
