"""Parsers of the label columns of a table: binary, regression and conditional labels, sample weights.

A conditional label counts in the rows whose condition, another column, is 1; there it must not be missing. The
condition may itself be a conditional label.
Legend: R rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stemlab.array_types import AnyArray
from stemlab.data.spec import Label
from stemlab.data.table import cells
from stemlab.data.target_columns import mask_of, weight_of
from stemlab.errors import StemlabError

_MISSING = -1
_GIVEN = " as given"
ParsedColumns = dict[str, cells.ParsedCells]


class LabelReader:
    """Reader of the labels and weights of one table; counts what it has read.

    Args:
        tasks: label columns.
        labels: those that are not binary labels of all rows.
        weight: column of sample weights, or ``None``.
    """

    def __init__(self, tasks: Sequence[str], labels: Sequence[Label], weight: str | None) -> None:
        self._tasks, self._weight = tuple(tasks), weight
        self._regression = {label.name for label in labels if label.kind == "regression"}
        self._given = {label.name: label.given for label in labels if label.given is not None}
        self._special = [label.name for label in labels]
        self._ones = dict.fromkeys(tasks, 0)
        # samples, smallest and largest value per label that is not a binary label of all rows; sum of the weights
        self._ranges = {name: [0.0, float("inf"), float("-inf")] for name in self._special}
        self._weight_sum = 0.0

    def readers(self) -> Iterator[tuple[str, tuple[str, Any]]]:
        """Yield (yielded name, (column of the file, parser of its cells))."""
        for task in self._tasks:
            read = partial(cells.read_labels, missing=_MISSING) if task in self._given else cells.read_labels
            yield task, (task, cells.read_numbers if task in self._regression else read)
        for column in self._given.values():
            if column not in self._tasks:
                yield _given_of(column), (column, cells.read_labels)
        if self._weight is not None:
            yield weight_of(self._weight), (self._weight, cells.read_numbers)

    def resolve(self, read: ParsedColumns) -> None:
        """Set masks, labels outside the mask (0 or NaN) and the flags of missing labels; changes ``read``."""
        done: set[str] = set()
        for task in self._tasks:
            self._resolve(task, read, done)
        if self._weight is not None:
            values, bad = read[weight_of(self._weight)]
            read[weight_of(self._weight)] = values, bad | ~(values >= 0)

    def _resolve(self, task: str, read: ParsedColumns, done: set[str]) -> None:
        if task in done:
            return
        done.add(task)
        values, bad = read[task]
        given = self._given.get(task)
        if given is None:
            if task in self._regression:
                read[task] = values, bad | np.isnan(values)
            return
        if given in self._tasks:
            self._resolve(given, read, done)
        condition, _ = read[given if given in self._tasks else _given_of(given)]
        mask = condition == 1
        missing = np.isnan(values) if task in self._regression else values == _MISSING
        outside = np.float32(np.nan) if task in self._regression else np.int64(0)
        read[task] = np.where(mask & ~missing, values, outside), bad | (mask & missing)
        read[mask_of(task)] = mask.astype(np.int64), np.zeros(len(mask), dtype=bool)

    def problems(self) -> dict[str, str]:
        """Return yielded name -> what is wrong about a bad cell."""
        wanted = {task: "not a number" if task in self._regression else "neither 0 nor 1" for task in self._tasks}
        for task, given in self._given.items():
            wanted[task] += f" (needed where {given} is 1)"
        wanted |= {_given_of(column): "neither 0 nor 1" for column in self._given.values()}
        return wanted if self._weight is None else wanted | {weight_of(self._weight): "not a weight, at least 0"}

    def count(self, chunk: Mapping[str, AnyArray]) -> None:
        """Count the valid rows of a chunk."""
        for task in self._tasks:
            if task not in self._regression:
                self._ones[task] += int(chunk[task].sum())
        for name in self._special:
            values = chunk[name] if name not in self._given else chunk[name][chunk[mask_of(name)] == 1]
            if len(values):
                samples, low, high = self._ranges[name]
                low, high = min(low, float(values.min())), max(high, float(values.max()))
                self._ranges[name] = [samples + len(values), low, high]
        if self._weight is not None:
            self._weight_sum += float(chunk[weight_of(self._weight)].sum(dtype=np.float64))

    def state(self) -> dict[str, Any]:
        """Return the counts as plain values; empty if all labels are binary labels of all rows, without weights."""
        if not self._special and self._weight is None:
            return {}
        return {"labels": self._ranges, "weights": self._weight_sum}

    @property
    def ones(self) -> list[int]:
        """Number of positive labels per task, 0 for regression."""
        return list(self._ones.values())

    def restore(self, ones: Sequence[int], state: Mapping[str, Any]) -> None:
        """Restore ``ones`` and the counts of ``state``."""
        self._ones = dict(zip(self._tasks, ones, strict=True))
        self._ranges = {name: list(found) for name, found in state.get("labels", self._ranges).items()}
        self._weight_sum = state.get("weights", 0.0)

    def check_counts(self, path: Path, rows: int) -> None:
        """Check the counts of a whole table of ``rows`` rows.

        Raises:
            StemlabError: a label is constant where it counts, a condition is never 1, or all weights are 0.
        """
        for task in self._tasks:
            samples, low, high = self._ranges.get(task, (rows, self._ones[task] == rows, self._ones[task] > 0))
            if rows and not samples:
                raise StemlabError(
                    f"{path}: no row has {self._given[task]} = 1, on which label {task!r} depends; remove it from "
                    "dataset.tasks."
                )
            if rows and low == high:
                where = f" with {self._given[task]} = 1" if task in self._given else ""
                raise StemlabError(
                    f"{path}: label {task!r} is {float(low):g} in all {int(samples):,} rows{where}: a constant label "
                    "cannot be learned; remove it from dataset.tasks."
                )
        if self._weight is not None and rows and not self._weight_sum:
            raise StemlabError(f"{path}: dataset.weight={self._weight} is 0 in all rows; name another column.")


def _given_of(column: str) -> str:
    return f"{column}{_GIVEN}"
