"""Prefetching in a background thread: the next chunks are read and parsed while the current one is processed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

_T = TypeVar("_T")
THREAD_NAME = "stemlab-prefetch"


def prefetch(items: Iterable[_T], depth: int = 2) -> Iterator[_T]:
    """Yield the same items in the same order, computed up to ``depth`` items ahead in a thread.

    An exception of ``items`` is raised at the position of the failed item. The thread ends when the iterator is
    exhausted or closed.
    """
    ready: queue.Queue[tuple[_T] | BaseException | None] = queue.Queue(depth)
    stop = threading.Event()

    def put(entry: tuple[_T] | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item,)):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, daemon=True, name=THREAD_NAME)
    thread.start()
    try:
        while (entry := ready.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry[0]
    finally:
        stop.set()
        thread.join()
