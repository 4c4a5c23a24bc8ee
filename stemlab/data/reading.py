"""How the columns of a prepared dataset are read during a run: memory-mapped, or in blocks if they exceed memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from torch import distributed

_log = logging.getLogger(__name__)

Reading = Literal["auto", "memory", "blocks"]
"""Memory-mapped and gathered at random, read in blocks, or ``blocks`` if the columns do not fit (``auto``)."""
FixedReading = Literal["memory", "blocks"]

MEMORY_SHARE = 0.5
"""``auto`` reads in blocks if the columns need more than this share of the memory."""
_CGROUP, _GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_LIMITS = ("memory.max", "memory.limit_in_bytes")  # of cgroup versions 2 and 1


class ReadingChoice:
    """The choice of one datamodule, made when the first loader of a run is created.

    Args:
        wanted: the setting ``dataset.reading``.
        window_rows: the setting ``dataset.window_rows``.

    Attributes:
        chosen: how the columns are read; ``None`` before.
    """

    def __init__(self, wanted: Reading, window_rows: int) -> None:
        self.wanted, self.window_rows = wanted, window_rows
        self.chosen: FixedReading | None = None

    def choose(self, column_bytes: Callable[[], int]) -> FixedReading:
        """Return how the columns are read, the same on all ranks.

        The memory is the physical memory or the limit of the control group, not what is free: a run that is resumed on
        the same kind of machine reads in the same order.

        Args:
            column_bytes: returns the size of the columns of all splits.
        """
        if self.chosen is None:
            self.chosen = self._choose(column_bytes) if self.wanted == "auto" else self.wanted
        return self.chosen

    def _choose(self, column_bytes: Callable[[], int]) -> FixedReading:
        needed, memory = column_bytes(), memory_limit()
        exceeds = needed > MEMORY_SHARE * memory
        if distributed.is_available() and distributed.is_initialized():
            answers: list[Any] = [None] * distributed.get_world_size()
            distributed.all_gather_object(answers, exceeds)
            exceeds = any(answers)
        if exceeds:
            _log.info(
                f"the prepared columns ({needed / 1e9:.3g} GB) need more than {MEMORY_SHARE:.0%} of the memory "
                f"({memory / 1e9:.3g} GB): they are read in blocks (dataset.reading=auto)."
            )
        return "blocks" if exceeds else "memory"

    def record(self) -> dict[str, Any]:
        """Return the entry of the record: how the columns are read, and the rows of a window."""
        return {"reading": self.chosen, **({"window_rows": self.window_rows} if self.chosen == "blocks" else {})}


def memory_limit() -> int:
    """Return the bytes that this process may use: physical memory, or a smaller limit of its control groups."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError):
        for line in _GROUPS.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)  # version 2 has no controllers
            if not controllers or "memory" in controllers.split(","):
                root = _CGROUP / "memory" if controllers else _CGROUP
                own = root / path.lstrip("/")
                limits += [limit for folder in (own, *own.parents) if (limit := _read_limit(folder)) is not None]
    return min(limits)


def _read_limit(folder: Path) -> int | None:
    for name in _LIMITS:
        with suppress(OSError, ValueError):  # no such file; "max": no limit
            return int((folder / name).read_text(encoding="ascii"))
    return None
