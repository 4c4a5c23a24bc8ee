"""Comparison of a reproduction with published or recorded numbers, and its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stemlab.reporting.reference import NumberPair, ReferenceComparison
from stemlab.reporting.render import label_of

WITHIN, OUTSIDE, FAILED, NO_VERDICT = 0, 1, 2, 3
"""Exit statuses of ``stemlab.reproduce``."""


@dataclass(frozen=True, kw_only=True)
class NumberCheck(NumberPair):
    """Numbers of a reproduction; only those with a tolerance are part of the verdict.

    Attributes:
        row: model, or labels of the row of the table.
        column: metric and task.
    """

    row: str
    column: str

    @property
    def text(self) -> str:
        """Return the numbers on one line."""
        limit = "" if self.tolerance is None else f", tolerance {self.tolerance:g}"
        return (
            f"{self.row} {self.column}: {self.ours:.4f}, published {self.published:.4f} ({self.difference:+.4f}{limit})"
        )


def table_checks(comparisons: Sequence[ReferenceComparison]) -> list[NumberCheck]:
    """Return the checks of the numbers of a report table."""
    return [
        NumberCheck(
            row=" ".join(label_of(one.row)),
            column=one.name,
            ours=one.ours,
            published=one.published,
            tolerance=one.tolerance,
        )
        for one in comparisons
    ]


@dataclass
class Verdict:
    """Result of a reproduction.

    Attributes:
        checks: compared numbers.
        conditions: conditions on the results of analyses -> whether they hold.
        failures: run -> reason.
        missing: runs that are not finished.
        not_compared: why the numbers are not compared with published ones; empty if they are.
    """

    checks: list[NumberCheck] = field(default_factory=list)
    conditions: dict[str, bool] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    not_compared: list[str] = field(default_factory=list)

    @property
    def outside(self) -> list[str]:
        """Numbers outside of their tolerance, and conditions that do not hold."""
        texts = [check.text for check in self.checks if check.within is False]
        return texts + [condition for condition, holds in self.conditions.items() if not holds]

    @property
    def judged(self) -> int:
        """Number of checks with a tolerance, and of conditions."""
        return sum(check.within is not None for check in self.checks) + len(self.conditions)

    @property
    def status(self) -> int:
        """Exit status: 0 within tolerance, 1 outside, 2 a run failed, 3 no verdict."""
        if self.failures:
            return FAILED
        if self.outside:
            return OUTSIDE
        return NO_VERDICT if self.missing or self.not_compared or not self.judged else WITHIN

    @property
    def sentence(self) -> str:
        """Return the verdict in one sentence."""
        if self.failures:
            return f"FAILED: runs without result: {len(self.failures)}."
        if self.outside:
            return f"OUTSIDE: {len(self.outside)} of {self.judged} checks are outside of their tolerance."
        if self.missing:
            return f"NO VERDICT: runs that are missing: {len(self.missing)}."
        if self.not_compared:
            return f"NO VERDICT: not compared with published numbers ({'; '.join(self.not_compared)})."
        if not self.judged:
            return "NO VERDICT: there is no published number with a tolerance."
        return f"REPRODUCED: all {self.judged} checks are within their tolerance."
