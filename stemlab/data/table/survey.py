"""Statistics of a table's columns: kinds of cells, distinct values, ranges, missing values.

At most the first ``MAX_BYTES`` of a file are read, and at most ``MAX_DISTINCT`` distinct values are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stemlab.array_types import BoolArray, Float64Array, Int64Array
from stemlab.data.io.progress import ProgressBars
from stemlab.data.table.cells import LABEL_SPELLINGS, as_strings, read_labels, read_numbers, read_times, without_missing
from stemlab.data.table.file import TableFile

CellKind = Literal["empty", "integer", "number", "datetime", "boolean", "text"]
MAX_BYTES = 1 << 28
MAX_DISTINCT = 1 << 20
MAX_LISTED = 100
PAIRED_ROWS = 200_000
MISSING_SPELLINGS = ("NA", "N/A", "NaN", "nan", "null", "NULL", "None", "\\N", "?")
"""Spellings of a missing value in columns of numbers or times."""


@dataclass(slots=True)
class ColumnSurvey:
    """Statistics of one column.

    Attributes:
        name: name of the column.
        missing: number of empty cells.
        spellings: counts of cells that are spellings of a missing value.
        kind: kind of all other cells.
        low: smallest number, if the cells are numbers.
        high: largest number.
        longest: length of the longest text in characters.
        first_date: smallest date, if the cells are dates; ``last_date`` is the largest.
        listed: counts of the values, or ``None`` if there are more than ``MAX_LISTED``.
        hashes: hashes of the distinct values, at most ``MAX_DISTINCT``.
    """

    name: str
    missing: int = 0
    spellings: Counter[str] = field(default_factory=Counter)
    kind: CellKind = "empty"
    low: float = np.inf
    high: float = -np.inf
    longest: int = 0
    first_date: str = "9"
    last_date: str = ""
    listed: Counter[str] | None = field(default_factory=Counter)
    hashes: Int64Array = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def distinct(self) -> int:
        """Number of distinct values."""
        return len(self.hashes)

    @property
    def full(self) -> bool:
        """Whether there may be more than ``MAX_DISTINCT`` distinct values."""
        return self.distinct >= MAX_DISTINCT

    @property
    def binary(self) -> bool:
        """Whether every cell is a label and both labels occur."""
        if self.listed is None or self.missing or self.spellings:
            return False
        return {LABEL_SPELLINGS.get(text.lower(), -1) for text in self.listed} == {0, 1}

    @property
    def ones(self) -> int:
        """Number of rows with label 1, for a binary column."""
        return sum(count for text, count in (self.listed or {}).items() if LABEL_SPELLINGS.get(text.lower()) == 1)

    def add(self, column: Any) -> None:
        """Update the statistics with a chunk of the column."""
        coded = column.dictionary_encode()
        strings = as_strings(coded.dictionary)
        codes = pc.fill_null(coded.indices, len(strings))
        counts = np.bincount(codes.to_numpy(zero_copy_only=False), minlength=len(strings) + 1)
        texts = strings.to_pylist()
        found = Counter({text: int(n) for text, n in zip(texts, counts[:-1], strict=True) if text})
        self.missing += int(counts.sum()) - found.total()
        for text in MISSING_SPELLINGS:
            if text in found:
                self.spellings[text] += found.pop(text)
        self._update_kind(list(found))
        if self.listed is not None:
            self.listed += found
            self.listed = self.listed if len(self.listed) <= MAX_LISTED else None
        if not self.full:
            more = np.fromiter(map(hash, found), dtype=np.int64, count=len(found))
            self.hashes = np.union1d(self.hashes, more)[:MAX_DISTINCT]

    def _update_kind(self, strings: list[str]) -> None:
        if not strings:
            return
        self.longest = max(self.longest, *map(len, strings))
        values = pa.array(strings, pa.string())
        kind = _kind(values)
        same = self.kind in ("empty", kind)
        numeric = {self.kind, kind} == {"integer", "number"}
        self.kind = kind if same else "number" if numeric else "text"
        if self.kind == "datetime":
            self.first_date, self.last_date = (
                min(self.first_date, min(strings)[:10]),
                max(self.last_date, max(strings)[:10]),
            )
        if self.kind in ("integer", "number"):
            numbers = pc.min_max(pc.cast(pc.utf8_trim_whitespace(values), pa.float64())).as_py()
            self.low, self.high = min(self.low, numbers["min"]), max(self.high, numbers["max"])


@dataclass(slots=True)
class Survey:
    """Statistics of a table.

    Attributes:
        rows: number of rows read.
        whole: whether all rows were read.
        columns: statistics of each column, in file order.
        first: the first rows, column -> Arrow array.
        unreadable: name -> type of the columns whose cells are neither scalar nor lists of scalars.
        lists: columns whose cells are lists of scalars, in a Parquet file.
        names: all columns, in file order.
        malformed: line and problem of each line that is no row.
    """

    rows: int
    whole: bool
    columns: list[ColumnSurvey]
    first: dict[str, Any]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    lists: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    malformed: list[tuple[int, str]] = field(default_factory=list)


def survey_table(table: TableFile) -> Survey:
    """Compute the statistics of a table.

    Raises:
        StemlabError: the table is empty or cannot be parsed.
    """
    columns = [ColumnSurvey(name) for name in table.readable]
    unreadable = {name: kind for name, kind in table.unreadable.items() if name not in table.lists}
    survey = Survey(0, True, columns, {}, unreadable, table.lists, table.names)
    wanted = (*table.readable, *table.lists)
    size, consumed = table.path.stat().st_size, 0
    with ProgressBars() as progress:
        show = progress.bytes("inspecting the table", min(size, MAX_BYTES))

        def advance(amount: int) -> None:
            nonlocal consumed
            consumed += amount
            show(amount)

        for chunk in table.chunks(wanted, advance, lists=table.lists):
            if survey.rows and consumed > MAX_BYTES:
                survey.whole = False
                break
            survey.first = survey.first or {name: chunk.columns[name].slice(0, PAIRED_ROWS) for name in wanted}
            survey.rows += len(chunk.lines)
            survey.malformed += chunk.malformed
            for column in columns:
                column.add(chunk.columns[column.name])
    return survey


def single_column_auc(survey: Survey, column: ColumnSurvey, label: str) -> float:
    """Return the AUC of a single column as predictor of a label on the first rows, 0.5 to 1.

    Numbers are scores themselves; categories of a column with few values are scored by their mean label; columns with
    many categories return 0.5, because they would fit by chance.
    """
    labels, bad = read_labels(survey.first[label])
    cells = survey.first[column.name]
    if bad.any() or len(np.unique(labels)) < 2 or (column.listed is None and column.kind == "text"):
        return 0.5
    if column.listed is None:
        score = np.nan_to_num(read_numbers(without_missing(cells, ("", *MISSING_SPELLINGS)))[0]).astype(np.float64)
    else:
        codes = pc.fill_null(cells.dictionary_encode().indices, -1).to_numpy(zero_copy_only=False) + 1
        score = (np.bincount(codes, labels) / np.maximum(np.bincount(codes), 1))[codes]
    auc = _auc(score, labels == 1)
    return max(auc, 1 - auc)


def _auc(score: Float64Array, positive: BoolArray) -> float:
    values, rank = np.unique(score, return_inverse=True)
    ones = np.bincount(rank[positive], minlength=len(values))
    zeros = np.bincount(rank[~positive], minlength=len(values))
    below = np.cumsum(zeros) - zeros
    return float((ones * (below + zeros / 2)).sum() / (ones.sum() * zeros.sum()))


def _kind(values: Any) -> CellKind:
    """Return the kind of distinct strings."""
    if pc.all(pc.match_substring_regex(values, r"^\s*[+-]?[0-9]{1,18}\s*$")).as_py():
        return "integer"
    if pc.all(pc.match_substring_regex(values, r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$")).as_py():
        return "number"
    if pc.all(pc.match_substring_regex(values, r"^[0-9]{4}-[0-9]{2}-[0-9]{2}")).as_py():
        return "text" if read_times(values)[1].any() else "datetime"
    lower = set(pc.utf8_lower(values).to_pylist())
    return "boolean" if lower <= {"true", "false"} else "text"
