"""Reader of the user's table: int64 and float32 columns; bad rows are reported by line and column."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stemlab.array_types import AnyArray, BoolArray
from stemlab.data.io.csv_integers import OnBadRow
from stemlab.data.io.progress import Advance
from stemlab.data.table import cells
from stemlab.data.table.columns import ColumnRoles
from stemlab.data.table.file import TableChunk, TableFile
from stemlab.data.table.label_checks import stored_labels
from stemlab.data.table.labels import LabelReader
from stemlab.data.table.list_checks import check_separators
from stemlab.data.table.lists import ListReaders
from stemlab.data.table.tokens import TokenCodes
from stemlab.errors import StemlabError

Read = Callable[[Any], cells.ParsedCells]
SHOWN_CHARACTERS = 40
_AS = " as "


class RawTable:
    """Reader of a table file (``RawImpressions``): int64 columns, and float32 for numerical columns.

    The scenario, time and split columns have names of their own (``scenario_of``, ``time_of``, ``split_of``), because
    the same column may also be a field.

    Args:
        table: the file.
        roles: roles of its columns.
        on_bad_row: ``error`` raises at a bad row, ``skip`` drops and counts it.
        numbers: fields whose numbers are read as ``ordered_keys``, for quantile buckets.
        exact_times: whether dates of the time column keep their order within a second (``cells.TimeParser``).
    """

    sample = False

    def __init__(
        self,
        table: TableFile,
        roles: ColumnRoles,
        *,
        on_bad_row: OnBadRow,
        numbers: Collection[str] = (),
        exact_times: bool = False,
    ) -> None:
        self.files: Sequence[Path] = (table.path,)
        self.skipped = 0
        self._table, self._roles, self._on_bad_row = table, roles, on_bad_row
        self._numbers = tuple(numbers)
        self._owners = {name: owner for name, owner in roles.owners.items() if name not in self._numbers}
        self._own = {name: TokenCodes() for name, owner in self._owners.items() if name == owner}
        self._codes = {name: self._own[owner] for name, owner in self._owners.items()}
        self._lists = ListReaders(roles.lists, roles.missing)
        self._done = 0
        self._times = cells.TimeParser(exact=exact_times)
        self._rows = 0
        self._labels = LabelReader(roles.tasks, stored_labels(roles.tasks, roles.labels), roles.weight)
        self._seen = np.zeros(len(roles.scenarios), dtype=np.int64)

    @property
    def kind(self) -> str:
        """Name and version of the reader, with its settings that are not in PreparationSettings."""
        reading = {"separator": getattr(self._table, "separator", None), "names": self._table.names}
        reading |= {"code": code} if (code := getattr(self._table, "code", None)) else {}
        return f"table/2 {json.dumps({**reading, **self._roles.to_dict()})}"

    @property
    def notes(self) -> dict[str, Any]:
        """What the manifest says of the lists: field -> number of rows with more values than are kept."""
        return {"truncated": dict(self._lists.truncated)} if self._roles.lists else {}

    @property
    def tokens(self) -> Mapping[str, Sequence[str]]:
        """Column -> its distinct strings, by code."""
        return self._codes

    def chunks(self, advance: Advance) -> Iterator[Mapping[str, AnyArray]]:
        """Yield the columns in chunks.

        Raises:
            StemlabError: a bad row, a constant label, or a scenario without rows.
        """
        return (chunk for chunk, _ in self.chunks_with_state(advance))

    def chunks_with_state(self, advance: Advance) -> Iterator[tuple[Mapping[str, AnyArray], dict[str, Any]]]:
        """Yield the columns in chunks, and the state of the reader after each of them; errors as in ``chunks``."""
        readers = self._readers()
        lists = [name for role in self._roles.lists for _, name in role.columns()]
        for number, rows in enumerate(
            self._table.chunks(self._roles.needed, advance, skip=self._done, lists=lists), start=self._done
        ):
            if number == 0:
                check_separators(self._roles.lists, rows.columns, self._table.path)
            known = {name: len(codes) for name, codes in self._own.items()}
            read = {role: reader(self._cells(rows, name)) for role, (name, reader) in readers.items()}
            self._labels.resolve(read)
            read |= self._lists.read(rows.columns, self._codes)
            kept = self._check(rows, {role: bad for role, (_, bad) in read.items()})
            chunk = {role: values if kept.all() else values[kept] for role, (values, _) in read.items()}
            self._count(chunk)
            yield chunk, self._state(known)
        self._check_counts()

    def _state(self, known: Mapping[str, int]) -> dict[str, Any]:
        """Return what ``restore`` needs; ``known``: column -> number of its distinct strings before the chunk."""
        return {
            "counts": [self.skipped, self._rows, self._labels.ones, self._seen.tolist()],
            **self._labels.state(),
            "dates": self._times.dates,
            "tokens": {name: list(codes[known[name] :]) for name, codes in self._own.items()},
            **({"truncated": dict(self._lists.truncated)} if self._roles.lists else {}),
        }

    def restore(self, states: Sequence[dict[str, Any]]) -> bool:
        """Continue after the chunks with these states; return False, unchanged, if two strings have the same hash."""
        own = {name: TokenCodes() for name in self._own}
        for name, codes in own.items():
            strings = pa.array([text for state in states for text in state["tokens"][name]], pa.string())
            first = len(codes)
            if not np.array_equal(codes.encode(strings), np.arange(first, first + len(strings))):
                return False
        self._own.update(own)
        self._codes.update({name: own[owner] for name, owner in self._owners.items()})
        if states:
            self._done, self._times.dates = len(states), states[-1]["dates"]
            self.skipped, self._rows, ones, seen = states[-1]["counts"]
            self._labels.restore(ones, states[-1])
            self._seen = np.array(seen, dtype=np.int64)
            self._lists.truncated |= states[-1].get("truncated", {})
        return True

    def _readers(self) -> dict[str, tuple[str, Read]]:
        """Return yielded name -> (column of the file, parser of its cells)."""
        roles = self._roles
        readers: dict[str, tuple[str, Read]] = {}
        tokens = (name for name in roles.tokens if name not in self._numbers)
        readers |= {n: (n, partial(cells.read_token_codes, codes=self._codes[n])) for n in tokens}
        readers |= {name: (name, cells.read_ordered_keys) for name in self._numbers}
        readers |= {name: (name, cells.read_numbers) for name in roles.numericals}
        readers |= dict(self._labels.readers())
        if roles.scenario is not None:
            read = partial(cells.read_names, names=roles.scenarios)
            readers[scenario_of(roles.scenario)] = (roles.scenario, read)
        if roles.time is not None:
            readers[time_of(roles.time)] = (roles.time, self._times)
        if roles.split is not None:
            readers[split_of(roles.split)] = (roles.split, cells.read_splits)
        return readers

    def _cells(self, rows: TableChunk, name: str) -> Any:
        return cells.without_missing(rows.columns[name], self._roles.missing)

    def _check(self, rows: TableChunk, bad: Mapping[str, BoolArray]) -> BoolArray:
        """Return the mask of valid rows; raise at the first bad row, or count bad rows."""
        any_bad: BoolArray = np.logical_or.reduce(list(bad.values()))
        self.skipped += int(any_bad.sum()) + len(rows.malformed)
        if self._on_bad_row == "error":
            problems = list(rows.malformed)
            if any_bad.any():
                row = int(np.argmax(any_bad))
                role = next(role for role, flags in bad.items() if flags[row])
                problems.append((int(rows.lines[row]), self._problem(rows, row, role)))
            if problems:
                (line, problem), unit = min(problems), self._table.row_unit
                raise StemlabError(
                    f"{self._table.path}, {unit} {line}: {problem}; correct the {unit} or set dataset.on_bad_row=skip."
                )
        valid: BoolArray = ~any_bad
        return valid

    def _problem(self, rows: TableChunk, row: int, role: str) -> str:
        """Return the description of a bad cell."""
        if role in self._lists.problems:
            return self._lists.problems[role](row)
        roles, name = self._roles, self._readers()[role][0]
        cell = cells.as_strings(self._cells(rows, name).slice(row, 1))[0].as_py()
        listed = ", ".join(roles.scenarios[:8]) + (", ..." if len(roles.scenarios) > 8 else "")
        wanted = dict.fromkeys(
            self._codes, "an id that floats do not hold exactly; store the column as integers or text"
        )
        wanted |= dict.fromkeys(roles.numericals, "not a number that float32 holds") | self._labels.problems()
        wanted |= {
            scenario_of(roles.scenario or ""): f"none of dataset.scenarios ({listed})",
            time_of(roles.time or ""): "neither an integer nor an ISO date (as the cells before it)",
            split_of(roles.split or ""): "none of train, valid, test, 0, 1, 2",
        }
        return f"column {name!r} is {'empty' if cell is None else repr(cell[:SHOWN_CHARACTERS])}, {wanted[role]}"

    def _count(self, chunk: Mapping[str, AnyArray]) -> None:
        self._rows += len(next(iter(chunk.values())))
        self._labels.count(chunk)
        if self._roles.scenario is not None:
            found = chunk[scenario_of(self._roles.scenario)]
            self._seen += np.bincount(found, minlength=len(self._seen))

    def _check_counts(self) -> None:
        self._labels.check_counts(self._table.path, self._rows)
        for name, seen in zip(self._roles.scenarios, self._seen, strict=True):
            if self._rows and not seen:
                raise StemlabError(
                    f"{self._table.path}: no row has {name!r} in column {self._roles.scenario!r}; "
                    "remove it from dataset.scenarios."
                )


def scenario_of(name: str) -> str:
    """Return the name under which the scenario column is yielded."""
    return f"{name}{_AS}scenario"


def time_of(name: str) -> str:
    """Return the name under which the time column is yielded."""
    return f"{name}{_AS}time"


def split_of(name: str) -> str:
    """Return the name under which the split column is yielded."""
    return f"{name}{_AS}split"
