"""Time of training steps by part: every nanosecond belongs to exactly one part, so the parts add up to the steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

LOADER, COPY, FORWARD, BACKWARD = "loader", "copy to the device", "forward", "backward"
CLIPPING, OPTIMISER = "penalty and clipping", "optimiser"
REPLAY, WAIT, REST = "graph replay", "wait for the GPU", "Lightning and callbacks"
PARTS = (LOADER, COPY, FORWARD, BACKWARD, CLIPPING, OPTIMISER, REPLAY, WAIT, REST)
"""Parts of a step; ``REST`` is the time outside all other parts."""

P = ParamSpec("P")
R = TypeVar("R")
Annotate = Callable[[str], AbstractContextManager[object]]


@dataclass(slots=True)
class StepTimes:
    """Time of one batch of the training loop: a training step, or a block of steps.

    Attributes:
        phase: phase of the profile to which it belongs.
        steps: training steps.
        parts: part -> nanoseconds.
    """

    phase: str
    steps: int = 0
    parts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))

    @property
    def nanoseconds(self) -> int:
        """Time of all steps, the sum of the parts."""
        return sum(self.parts.values())


class StepClock:
    """Adds the time between two events to the innermost open part.

    Args:
        now: returns the time in nanoseconds.

    Attributes:
        batches: measured batches of the loop, in order.
        annotate: returns a context that marks a part in a trace.
    """

    def __init__(self, now: Callable[[], int] = time.perf_counter_ns) -> None:
        self._now = now
        self.batches: list[StepTimes] = []
        self.annotate: Annotate = nullcontext
        self._current: StepTimes | None = None
        self._open: list[tuple[str, AbstractContextManager[object]]] = []
        self._since = 0

    def begin(self, phase: str) -> None:
        """Start a batch of a phase."""
        self._current, self._since = StepTimes(phase), self._now()

    def count(self, steps: int) -> None:
        """Add training steps to the current batch."""
        if self._current is not None:
            self._current.steps += steps

    def end(self) -> None:
        """End the current batch; it is kept if it has steps. No effect between batches."""
        self._charge()
        if self._current is not None and self._current.steps:
            self.batches.append(self._current)
        self._current = None

    def enter(self, name: str) -> None:
        """Open a part: the time from now on belongs to it, except for parts that are opened inside it."""
        self._charge()
        mark = self.annotate(name)
        mark.__enter__()
        self._open.append((name, mark))

    def leave(self) -> None:
        """Close the part that was opened last."""
        self._charge()
        self._open.pop()[1].__exit__(None, None, None)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the block, without parts inside it, to a part."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def timed(self, name: str, function: Callable[P, R]) -> Callable[P, R]:
        """Return the function with its time added to a part."""

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with self.part(name):
                return function(*args, **kwargs)

        return call

    def _charge(self) -> None:
        now = self._now()
        if self._current is not None:
            self._current.parts[self._open[-1][0] if self._open else REST] += now - self._since
        self._since = now


def typical(batches: Sequence[StepTimes]) -> list[StepTimes]:
    """Return the batches without the fastest and the slowest quarter, on which other load of the machine acts most.

    Args:
        batches: at least one batch; of fewer than four, all are returned.
    """
    ordered = sorted(batches, key=lambda batch: batch.nanoseconds / batch.steps)
    cut = len(ordered) // 4
    return ordered[cut : len(ordered) - cut]


def mean_parts(batches: Sequence[StepTimes]) -> dict[str, float]:
    """Return part -> mean seconds per training step; parts without time are left out.

    Args:
        batches: at least one batch of the loop.
    """
    steps = sum(batch.steps for batch in batches)
    totals = {part: sum(batch.parts[part] for batch in batches) for part in PARTS}
    return {part: total / steps / 1e9 for part, total in totals.items() if total}
