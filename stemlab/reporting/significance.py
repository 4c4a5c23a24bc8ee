"""Significance of the differences in a report table: every row against the best row on the same data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from stemlab.metric_directions import metric_direction
from stemlab.reporting.statistics import TestedDifference, blocked_t, detectable_difference, holm
from stemlab.types import Mode

SeedValues = Mapping[int, float]
"""Seed -> value."""


@dataclass(frozen=True)
class Cell:
    """Test of a cell of the table against the best row of its column.

    Attributes:
        test: difference from the best row, and the p-value of this test alone.
        adjusted: p-value adjusted over the whole table.
    """

    test: TestedDifference
    adjusted: float


@dataclass(frozen=True)
class Significance:
    """Tests of a table.

    Attributes:
        method: name of the test, for the note below the table.
        level: significance level of all tests together.
        best: row and column of the best values with at least one test.
        cells: row and column -> test.
        detectable: column -> smallest difference that one of its tests finds with a power of 0.8, median over its rows.
        untested: columns whose best row has no two seeds in common with another row.
    """

    method: str
    level: float
    best: frozenset[tuple[int, str]]
    cells: Mapping[tuple[int, str], Cell]
    detectable: Mapping[str, float]
    untested: Sequence[str] = ()

    def is_best(self, row: int, column: str) -> bool:
        """Return whether a row is the best of a column or not significantly worse."""
        cell = self.cells.get((row, column))
        return (row, column) in self.best or (cell is not None and cell.adjusted >= self.level)

    def flat(self, row: int, columns: Sequence[str]) -> dict[str, Any]:
        """Return for CSV and JSON: whether the row is among the best, difference from the best, adjusted p-value."""
        found: dict[str, Any] = {}
        for name in columns:
            cell = self.cells.get((row, name))
            if cell is not None or (row, name) in self.best:
                found[f"{name} among best"] = self.is_best(row, name)
                found[f"{name} difference from best"] = 0.0 if cell is None else cell.test.difference
                found[f"{name} adjusted p"] = None if cell is None else cell.adjusted
        return found


def over_seeds(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, SeedValues]],
    data: Sequence[str],
    level: float = 0.05,
    own: Mapping[str, Mode | None] | None = None,
) -> Significance:
    """Compare rows by t-tests over seeds, adjusted by Holm's method over all tests of the table.

    A row is compared with the best row on the same data if both have two seeds or more in common. Rows with the same
    seeds share the estimate of the variance (``blocked_t``). A metric without direction is not tested.

    Args:
        columns: columns of the table (``auc/like``).
        rows: per row: column -> seed -> value.
        data: per row: the prepared dataset; only rows with equal data are compared.
        level: significance level.
        own: directions of metrics of the user.
    """
    tests: dict[tuple[int, str], TestedDifference] = {}
    best, least, untested = set(), {}, []
    for column in columns:
        direction, found = metric_direction(f"test/{column}", own), []
        for name in dict.fromkeys(data) if direction is not None else ():
            values = {row: one[column] for row, one in enumerate(rows) if data[row] == name and one[column]}
            if len(values) < 2:
                continue
            chosen = best_row(column, values, own)
            compared = _against(chosen, values)
            tests |= {(row, column): test for row, (test, _) in compared.items()}
            best |= {(chosen, column)} if compared else set()
            untested += [] if compared else [column]
            found += [detectable_difference(test.standard_error, df, level) for test, df in compared.values()]
        if found:
            least[column] = median(found)
    adjusted = holm([test.p for test in tests.values()])
    cells = {key: Cell(test, p) for (key, test), p in zip(tests.items(), adjusted, strict=True)}
    return Significance("t-test over common seeds", level, frozenset(best), cells, least, list(dict.fromkeys(untested)))


def best_row(column: str, values: Mapping[int, SeedValues], own: Mapping[str, Mode | None] | None = None) -> int:
    """Return the row with the best mean over seeds of a column whose metric has a direction."""
    best = max if metric_direction(f"test/{column}", own) == "max" else min
    return best(values, key=lambda row: float(np.mean([*values[row].values()])))


def _against(best: int, values: Mapping[int, SeedValues]) -> dict[int, tuple[TestedDifference, int]]:
    """Return row -> its difference from the best row, and degrees of freedom; for rows with two common seeds."""
    found = {}
    complete = [row for row in values if values[row].keys() == values[best].keys()]
    for row in values.keys() - {best}:
        block = complete if row in complete else [row, best]
        seeds = sorted(set.intersection(*(set(values[one]) for one in block)))
        if len(seeds) > 1:
            matrix_KN = np.array([[values[one][seed] for seed in seeds] for one in block])
            found[row] = blocked_t(matrix_KN, block.index(row), block.index(best))
    return {row: one for row, one in sorted(found.items()) if not math.isnan(one[0].p)}
