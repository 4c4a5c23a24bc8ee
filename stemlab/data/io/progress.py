"""Progress bars of long operations; nothing is printed if standard error is not a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[[int], None]
_AMOUNT = "{task.completed:>13,.0f} / {task.total:,.0f} {task.fields[unit]}"


class ProgressBars:
    """One progress bar per step, on standard error, removed at the end. Use as a context manager."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        description = TextColumn("{task.description:<22}", markup=False)
        columns = (description, BarColumn(30), TextColumn(_AMOUNT), TimeElapsedColumn())
        self._bars = Progress(
            *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
        )

    def __enter__(self) -> ProgressBars:
        self._bars.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._bars.stop()

    def rows(self, description: str, total: int) -> Advance:
        """Add a bar of ``total`` rows; return a function that advances it by a number of rows."""
        return self._step(description, total, "rows", 1)

    def bytes(self, description: str, total: int) -> Advance:
        """Add a bar of ``total`` bytes; return a function that advances it by a number of bytes."""
        return self._step(description, total, "MB", 10**6)

    def _step(self, description: str, total: int, unit: str, scale: int) -> Advance:
        bar = self._bars.add_task(description, total=total / scale, unit=unit)
        return lambda amount: self._bars.advance(bar, amount / scale)
