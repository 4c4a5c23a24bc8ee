"""Cells of rows to score that cannot be read: located, left out, or replaced, and counted.

Legend: B rows of a chunk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stemlab.array_types import BoolArray
from stemlab.data.cell_rules import CellRules
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.io.arrow import as_numpy, inexact_integers
from stemlab.data.prepare.vocabulary import as_tokens
from stemlab.data.spec import DatasetSpec
from stemlab.data.table.cells import as_strings, read_numbers, without_missing
from stemlab.errors import StemlabError, nearest

OnBadCell = Literal["error", "skip", "default"]
_SHOWN = 40
_LISTED_SCENARIOS = 20


@dataclass(frozen=True, eq=False)
class BadCells:
    """Bad cells of a column.

    Attributes:
        column: the column.
        bad_B: (B,) mask of its bad cells.
        problem: what is wrong with them.
        belonging: columns that become missing together with it.
    """

    column: str
    bad_B: BoolArray
    problem: str
    belonging: tuple[str, ...] = ()


@dataclass(slots=True)
class CellCounts:
    """Counts over a whole file.

    Attributes:
        skipped_rows: rows without a score.
        bad_cells: column -> cells that could not be read.
        unknown_scenarios: scenario of the file -> rows that were scored with the fallback.
    """

    skipped_rows: int = 0
    bad_cells: Counter[str] = field(default_factory=Counter)
    unknown_scenarios: Counter[str] = field(default_factory=Counter)


class InputCells:
    """Checks the cells of rows before they are encoded.

    Args:
        data: the prepared dataset.
        spec: its fields and scenarios.
        on_bad_cell: what to do with rows that have a bad cell.
        unknown_scenario: scenario of rows whose scenario is unknown; ``None``: their cell is bad.

    Attributes:
        counts: counts of all rows so far.

    Raises:
        StemlabError: ``unknown_scenario`` is not a scenario of the dataset.
    """

    def __init__(
        self, data: ImpressionDataModule, spec: DatasetSpec, on_bad_cell: OnBadCell, unknown_scenario: str | None
    ) -> None:
        self._data, self._spec, self._policy, self._fallback = data, spec, on_bad_cell, unknown_scenario
        self._rules = data.cell_rules() or CellRules()
        self.counts = CellCounts()
        if unknown_scenario is not None and unknown_scenario not in spec.scenarios:
            known = f"the scenarios are {', '.join(spec.scenarios)}" if spec.scenarios else "it has no scenarios"
            raise StemlabError(
                f"unknown_scenario={unknown_scenario} is not a scenario of the dataset ({known})."
                + nearest(unknown_scenario, spec.scenarios)
            )

    @property
    def checks_first(self) -> bool:
        """Whether rows are checked before they are encoded; otherwise only if they cannot be encoded."""
        return self._policy != "error" or self._fallback is not None

    def clean(self, table: Any, path: str, lines: Any, unit: str) -> tuple[Any, BoolArray]:
        """Return the rows without bad cells, and the (B,) mask of the rows that are left.

        Args:
            table: raw rows.
            path: the file, for messages.
            lines: (B,) line numbers.
            unit: ``line`` or ``row``.

        Raises:
            StemlabError: a bad cell that is not skipped or replaced; file, line and column are named.
        """
        table = self._with_fallback(table)
        found = [bad for bad in self._bad_cells(table) if bad.bad_B.any()]
        if self._policy == "error":
            self._refuse(found, table, path, lines, unit)
            return table, np.ones(table.num_rows, dtype=np.bool_)
        for bad in found:
            self.counts.bad_cells[bad.column] += int(bad.bad_B.sum())
        if self._policy == "skip":
            kept_B = ~np.logical_or.reduce([bad.bad_B for bad in found] or [np.zeros(table.num_rows, dtype=np.bool_)])
            self.counts.skipped_rows += int((~kept_B).sum())
            return table.filter(pa.array(kept_B)), kept_B
        self._refuse([bad for bad in found if bad.column == self._scenario_column(table)], table, path, lines, unit)
        for bad in found:
            for name in (bad.column, *bad.belonging):
                table = _replaced(table, name, _nulled(table[name], bad.bad_B))
        return table, np.ones(table.num_rows, dtype=np.bool_)

    def _refuse(self, found: list[BadCells], table: Any, path: str, lines: Any, unit: str) -> None:
        """Raise StemlabError for the first bad cell."""
        if not found:
            return
        first = min(found, key=lambda bad: int(np.argmax(bad.bad_B)))
        row = int(np.argmax(first.bad_B))
        cell = table[first.column].slice(row, 1)
        value = cell[0].as_py()
        shown = "empty" if value in (None, "") else repr(str(value)[:_SHOWN])
        scenario = first.column == self._scenario_column(table)
        advice = "unknown_scenario=<one of them> or on_bad_cell=skip" if scenario else "on_bad_cell=skip or default"
        raise StemlabError(
            f"{path}, {unit} {lines[row]}: column {first.column!r} is {shown}, {first.problem}; correct the {unit} or "
            f"set {advice}."
        )

    def _bad_cells(self, table: Any) -> Iterator[BadCells]:
        present = set(table.column_names)
        numbers: dict[str, BoolArray] = {}
        for name in (numerical.name for numerical in self._spec.numericals):
            if name in present and self._rules.numbers != "lenient":
                numbers[name] = self._bad_numbers(table[name])
                yield BadCells(name, numbers[name], "not a finite number")
        for name, bad_B, problem in self._data.bad_sources(table):
            yield BadCells(name, bad_B & ~numbers.get(name, np.zeros_like(bad_B)), problem)
            numbers[name] = bad_B | numbers.get(name, False)
        for name in self._spec.field_sizes:
            if name in present:
                yield BadCells(name, self._bad_ids(table[name]), "not an id that is held exactly")
        column = self._scenario_column(table)
        if column in present:
            known = ", ".join(self._spec.scenarios)
            yield BadCells(column, self._unknown_scenarios(table), f"which is not a scenario ({known})")
        for names, bad_B in self._data.bad_lists(table):
            yield BadCells(names[0], bad_B, "a list that does not fit its weights, times or categories", names[1:])

    def _bad_numbers(self, values: Any) -> BoolArray:
        strict = self._rules.numbers == "strict"
        if pa.types.is_boolean(values.type) and not strict:
            return np.zeros(len(values), dtype=np.bool_)
        column = without_missing(values, self._rules.missing if strict else ("", *self._rules.missing))
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = pc.utf8_trim_whitespace(column)
            column = column if strict else without_missing(column, ("", "nan", "NaN"))
        return read_numbers(column)[1]

    def _bad_ids(self, values: Any) -> BoolArray:
        column = without_missing(values, ())
        bad_B = inexact_integers(column)
        if pa.types.is_floating(column.type) and not self._rules.fractions:
            numbers = as_numpy(pc.fill_null(column, 0.0))
            bad_B = bad_B | ~((numbers == np.floor(numbers)) | np.isnan(numbers)) | np.isinf(numbers)
        return bad_B

    def _scenario_column(self, table: Any) -> str:
        """Return the column of the scenario in raw rows; an empty text if there is none."""
        if not self._spec.scenarios:
            return ""
        column = self._rules.scenario or self._data.manifest.get("scenario_column") or ""
        made_from = self._rules.scenario_from
        return made_from[0] if made_from is not None and column not in table.column_names else column

    def _prefix(self, column: str) -> str:
        """Return what names of scenarios have in front of the cells of a column."""
        made_from = self._rules.scenario_from
        return made_from[1] if made_from is not None and column == made_from[0] else ""

    def _unknown_scenarios(self, table: Any) -> BoolArray:
        column = self._scenario_column(table)
        prefix = self._prefix(column)
        scenarios = self._spec.scenarios
        known = as_tokens(column, pa.array(scenarios, pa.string())).to_pylist()
        if not any(name.lstrip("-").isdigit() for name in scenarios):
            known += [str(number) for number in range(len(scenarios))]
        allowed = [name.removeprefix(prefix) for name in known if name.startswith(prefix)]
        tokens = _scenario_tokens(column, without_missing(table[column], self._rules.missing))
        found: BoolArray = as_numpy(pc.cast(pc.is_in(tokens, pa.array(allowed, pa.string())), pa.int8())) == 0
        return found

    def _with_fallback(self, table: Any) -> Any:
        """Return the rows with the fallback instead of unknown scenarios."""
        column = self._scenario_column(table)
        if self._fallback is None or column not in table.column_names:
            return table
        unknown_B = self._unknown_scenarios(table)
        if not unknown_B.any():
            return table
        tokens = _scenario_tokens(column, table[column])
        for value, count in Counter(tokens.filter(pa.array(unknown_B)).to_pylist()).items():
            self.counts.unknown_scenarios["" if value is None else str(value)[:_SHOWN]] += count
        prefix = self._prefix(column)
        fallback = pa.scalar(self._fallback.removeprefix(prefix), pa.string())
        return _replaced(table, column, pc.if_else(pa.array(unknown_B), fallback, tokens))

    def words(self) -> str:
        """Return what was counted, for the summary of the command; an empty text if nothing was."""
        counts, parts = self.counts, []
        cells = ", ".join(f"{name} {count:,}" for name, count in counts.bad_cells.items())
        if counts.skipped_rows:
            parts.append(f"{counts.skipped_rows:,} rows have no score because of a bad cell: {cells}")
        elif cells:
            parts.append(f"{counts.bad_cells.total():,} bad cells were read as missing values: {cells}")
        if counts.unknown_scenarios:
            names = ", ".join(name or "empty" for name in list(counts.unknown_scenarios)[:_LISTED_SCENARIOS])
            total = counts.unknown_scenarios.total()
            parts.append(f"{total:,} rows of unknown scenarios ({names}) were scored as {self._fallback}")
        return "; ".join(parts)

    def facts(self) -> Mapping[str, Any]:
        """Return the counts as plain values."""
        counts = self.counts
        return {
            "on_bad_cell": self._policy,
            "rows_without_score": counts.skipped_rows,
            "bad_cells": dict(counts.bad_cells),
            "unknown_scenario": self._fallback,
            "unknown_scenarios": dict(counts.unknown_scenarios.most_common(_LISTED_SCENARIOS)),
            "rows_of_unknown_scenarios": counts.unknown_scenarios.total(),
        }


def _scenario_tokens(name: str, values: Any) -> Any:
    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return as_strings(column) if pa.types.is_floating(column.type) else as_tokens(name, column)


def _nulled(values: Any, bad_B: BoolArray) -> Any:
    """Return a column of any type with nulls at the bad cells."""
    return values.take(pa.array(np.arange(len(bad_B)), mask=bad_B))


def _replaced(table: Any, name: str, values: Any) -> Any:
    return table.set_column(table.column_names.index(name), name, values)
