"""A table's rows as integer and float columns, its bad rows told by line and column."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stemlab.array_types import AnyArray, BoolArray
from stemlab.data.io.csv_integers import OnBadRow
from stemlab.data.io.progress import Advance
from stemlab.data.table import cells
from stemlab.data.table.columns import ColumnRoles
from stemlab.data.table.file import TableChunk, TableFile
from stemlab.data.table.tokens import TokenCodes
from stemlab.errors import StemlabError

Read = Callable[[Any], cells.ParsedCells]
SHOWN_CHARACTERS = 40
_AS = " as "


class RawTable:
    """The table as integer and float columns; roles that read a column in their own way have names of their own.

    Args:
        table: the file.
        columns: what its columns are.
        on_bad_row: raise at a bad row, or leave it out and count it.
    """

    sample = False

    def __init__(self, table: TableFile, columns: ColumnRoles, *, on_bad_row: OnBadRow) -> None:
        self.files: Sequence[Path] = (table.path,)
        self.skipped = 0
        self._table, self._columns, self._on_bad_row = table, columns, on_bad_row
        own = {name: TokenCodes() for name in columns.tokens}
        self._codes = {name: own[columns.shared.get(name, name)] for name in columns.tokens}
        self._rows, self._ones = 0, np.zeros(len(columns.tasks), dtype=np.int64)
        self._seen = np.zeros(len(columns.scenarios), dtype=np.int64)

    @property
    def kind(self) -> str:
        """Name and version of the reader, and everything besides the recipe that tells how the file is read."""
        reading = {"separator": getattr(self._table, "separator", None), "names": self._table.names}
        return f"table/1 {json.dumps({**reading, **self._columns.to_dict()})}"

    @property
    def tokens(self) -> Mapping[str, Sequence[str]]:
        """Column -> its categories."""
        return self._codes

    def chunks(self, advance: Advance) -> Iterator[Mapping[str, AnyArray]]:
        """Yield the columns piece by piece.

        Raises:
            StemlabError: a bad row, a label that is the same in all rows, a scenario without rows.
        """
        readers = self._readers()
        for piece in self._table.chunks(self._columns.needed, advance):
            read = {role: reader(self._cells(piece, name)) for role, (name, reader) in readers.items()}
            kept = self._check(piece, {role: bad for role, (_, bad) in read.items()})
            chunk = {role: values if kept.all() else values[kept] for role, (values, _) in read.items()}
            self._count(chunk)
            yield chunk
        self._check_counts()

    def _readers(self) -> dict[str, tuple[str, Read]]:
        """Name in the recipe -> column, and how its cells are read."""
        columns = self._columns
        readers: dict[str, tuple[str, Read]] = {}
        readers |= {name: (name, partial(cells.read_token_codes, codes=codes)) for name, codes in self._codes.items()}
        readers |= {name: (name, cells.read_numbers) for name in columns.numericals}
        readers |= {name: (name, cells.read_labels) for name in columns.tasks}
        if columns.scenario is not None:
            read = partial(cells.read_names, names=columns.scenarios)
            readers[scenario_of(columns.scenario)] = (columns.scenario, read)
        if columns.time is not None:
            readers[time_of(columns.time)] = (columns.time, cells.read_times)
        if columns.split is not None:
            readers[split_of(columns.split)] = (columns.split, cells.read_splits)
        return readers

    def _cells(self, piece: TableChunk, name: str) -> Any:
        return cells.without_missing(piece.columns[name], self._columns.missing)

    def _check(self, piece: TableChunk, bad: Mapping[str, BoolArray]) -> BoolArray:
        """Return which rows are good; raise at the first bad one, or count them."""
        any_bad: BoolArray = np.logical_or.reduce(list(bad.values()))
        self.skipped += int(any_bad.sum()) + len(piece.malformed)
        if self._on_bad_row == "error":
            problems = list(piece.malformed)
            if any_bad.any():
                row = int(np.argmax(any_bad))
                role = next(role for role, flags in bad.items() if flags[row])
                problems.append((int(piece.lines[row]), self._problem(piece, row, role)))
            if problems:
                line, problem = min(problems)
                raise StemlabError(
                    f"{self._table.path}, {self._table.counted} {line}: {problem}; mend the {self._table.counted} or "
                    "set dataset.on_bad_row=skip."
                )
        good: BoolArray = ~any_bad
        return good

    def _problem(self, piece: TableChunk, row: int, role: str) -> str:
        """Return what is wrong with a cell."""
        columns, name = self._columns, self._readers()[role][0]
        cell = cells.words_of(self._cells(piece, name).slice(row, 1))[0].as_py()
        listed = ", ".join(columns.scenarios[:8]) + (", ..." if len(columns.scenarios) > 8 else "")
        wanted = dict.fromkeys(columns.numericals, "no number") | dict.fromkeys(columns.tasks, "neither 0 nor 1")
        wanted |= {
            scenario_of(columns.scenario or ""): f"none of dataset.scenarios ({listed})",
            time_of(columns.time or ""): "neither an integer nor an ISO date",
            split_of(columns.split or ""): "none of train, valid, test, 0, 1, 2",
        }
        return f"column {name!r} is {'empty' if cell is None else repr(cell[:SHOWN_CHARACTERS])}, {wanted[role]}"

    def _count(self, chunk: Mapping[str, AnyArray]) -> None:
        self._rows += len(next(iter(chunk.values())))
        self._ones += [int(chunk[name].sum()) for name in self._columns.tasks]
        if self._columns.scenario is not None:
            found = chunk[scenario_of(self._columns.scenario)]
            self._seen += np.bincount(found, minlength=len(self._seen))

    def _check_counts(self) -> None:
        for name, ones in zip(self._columns.tasks, self._ones, strict=True):
            if self._rows and ones in (0, self._rows):
                raise StemlabError(
                    f"{self._table.path}: label {name!r} is {int(ones > 0)} in all {self._rows:,} rows, and a constant "
                    "cannot be learnt; take it out of dataset.tasks."
                )
        for name, seen in zip(self._columns.scenarios, self._seen, strict=True):
            if self._rows and not seen:
                raise StemlabError(
                    f"{self._table.path}: no row has {name!r} in column {self._columns.scenario!r}; "
                    "take it out of dataset.scenarios."
                )


def scenario_of(name: str) -> str:
    """Return the name under which a column is read as scenario."""
    return f"{name}{_AS}scenario"


def time_of(name: str) -> str:
    """Return the name under which a column is read as time."""
    return f"{name}{_AS}time"


def split_of(name: str) -> str:
    """Return the name under which a column is read as split."""
    return f"{name}{_AS}split"
