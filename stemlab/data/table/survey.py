"""What a first look at a table's columns finds: kinds of cells, distinct values, ranges, missing shares.

The look is bounded: files beyond ``MOST_BYTES`` are read from their beginning up to there, distinct values are counted
up to ``MOST_DISTINCT``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stemlab.array_types import BoolArray, Float64Array, Int64Array
from stemlab.data.io.progress import ProgressBars
from stemlab.data.table.cells import LABEL_SPELLINGS, read_labels, read_numbers, read_times, without_missing, words_of
from stemlab.data.table.file import TableFile

CellKind = Literal["empty", "integer", "number", "moment", "truth", "text"]
MOST_BYTES = 1 << 28
MOST_DISTINCT = 1 << 20
MOST_LISTED = 100
PAIRED_ROWS = 200_000
MISSING_SPELLINGS = ("NA", "N/A", "NaN", "nan", "null", "NULL", "None", "\\N", "?")
"""Spellings of a missing value, where the other cells of the column are numbers or times."""


@dataclass(slots=True)
class ColumnSurvey:
    """One column.

    Attributes:
        name: its name.
        missing: empty cells.
        spellings: cells that seem to stand for missing values, and how many.
        kind: what all other cells are.
        low: least number, where they are numbers.
        high: greatest number.
        longest: characters of the longest text.
        listed: the values and their counts, while there are at most ``MOST_LISTED``; else ``None``.
        hashes: of the distinct values; at most ``MOST_DISTINCT``.
    """

    name: str
    missing: int = 0
    spellings: Counter[str] = field(default_factory=Counter)
    kind: CellKind = "empty"
    low: float = np.inf
    high: float = -np.inf
    longest: int = 0
    listed: Counter[str] | None = field(default_factory=Counter)
    hashes: Int64Array = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def distinct(self) -> int:
        """Distinct values seen."""
        return len(self.hashes)

    @property
    def full(self) -> bool:
        """Whether there may be more distinct values than were counted."""
        return self.distinct >= MOST_DISTINCT

    @property
    def binary(self) -> bool:
        """Whether it holds both labels, nothing else, and in every row."""
        if self.listed is None or self.missing or self.spellings:
            return False
        return {LABEL_SPELLINGS.get(word.lower(), -1) for word in self.listed} == {0, 1}

    @property
    def ones(self) -> int:
        """Rows with label 1 of a binary column."""
        return sum(count for word, count in (self.listed or {}).items() if LABEL_SPELLINGS.get(word.lower()) == 1)

    def add(self, column: Any) -> None:
        """Look at some more rows."""
        coded = column.dictionary_encode()
        words = words_of(coded.dictionary)
        codes = pc.fill_null(coded.indices, len(words))
        counts = np.bincount(codes.to_numpy(zero_copy_only=False), minlength=len(words) + 1)
        texts = words.to_pylist()
        found = Counter({word: int(n) for word, n in zip(texts, counts[:-1], strict=True) if word})
        self.missing += int(counts.sum()) - found.total()
        for word in MISSING_SPELLINGS:
            if word in found:
                self.spellings[word] += found.pop(word)
        self._widen(list(found))
        if self.listed is not None:
            self.listed += found
            self.listed = self.listed if len(self.listed) <= MOST_LISTED else None
        if not self.full:
            more = np.fromiter(map(hash, found), dtype=np.int64, count=len(found))
            self.hashes = np.union1d(self.hashes, more)[:MOST_DISTINCT]

    def _widen(self, words: list[str]) -> None:
        if not words:
            return
        self.longest = max(self.longest, *map(len, words))
        values = pa.array(words, pa.string())
        kind = _kind(values)
        same = self.kind in ("empty", kind)
        numeric = {self.kind, kind} == {"integer", "number"}
        self.kind = kind if same else "number" if numeric else "text"
        if self.kind in ("integer", "number"):
            numbers = pc.min_max(pc.cast(pc.utf8_trim_whitespace(values), pa.float64())).as_py()
            self.low, self.high = min(self.low, numbers["min"]), max(self.high, numbers["max"])


@dataclass(slots=True)
class Survey:
    """A table.

    Attributes:
        rows: rows looked at.
        whole: whether these are all.
        columns: in file order.
        first: the first rows, column -> Arrow array.
    """

    rows: int
    whole: bool
    columns: list[ColumnSurvey]
    first: dict[str, Any]


def survey_table(table: TableFile) -> Survey:
    """Look at a table.

    Raises:
        StemlabError: it is empty, or no text.
    """
    columns = [ColumnSurvey(name) for name in table.readable]
    survey = Survey(0, True, columns, {})
    size, consumed = table.path.stat().st_size, 0
    with ProgressBars() as progress:
        show = progress.bytes("looking at the table", min(size, MOST_BYTES))

        def advance(amount: int) -> None:
            nonlocal consumed
            consumed += amount
            show(amount)

        for piece in table.chunks(table.readable, advance):
            if survey.rows and consumed > MOST_BYTES:
                survey.whole = False
                break
            survey.first = survey.first or {name: piece.columns[name].slice(0, PAIRED_ROWS) for name in table.readable}
            survey.rows += len(piece.lines)
            for column in columns:
                column.add(piece.columns[column.name])
    return survey


def single_column_auc(survey: Survey, column: ColumnSurvey, label: str) -> float:
    """Return how well a column alone orders the first rows by a label: AUC, 0.5 to 1.

    Numbers count as they are, a few categories by their mean label; many categories would tell by chance (0.5).
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
    area = _area(score, labels == 1)
    return max(area, 1 - area)


def _area(score: Float64Array, positive: BoolArray) -> float:
    values, place = np.unique(score, return_inverse=True)
    ones = np.bincount(place[positive], minlength=len(values))
    zeros = np.bincount(place[~positive], minlength=len(values))
    below = np.cumsum(zeros) - zeros
    return float((ones * (below + zeros / 2)).sum() / (ones.sum() * zeros.sum()))


def _kind(values: Any) -> CellKind:
    """What distinct words are."""
    if pc.all(pc.match_substring_regex(values, r"^\s*[+-]?[0-9]{1,18}\s*$")).as_py():
        return "integer"
    if pc.all(pc.match_substring_regex(values, r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$")).as_py():
        return "number"
    if pc.all(pc.match_substring_regex(values, r"^[0-9]{4}-[0-9]{2}-[0-9]{2}")).as_py():
        return "text" if read_times(values)[1].any() else "moment"
    lower = set(pc.utf8_lower(values).to_pylist())
    return "truth" if lower <= {"true", "false"} else "text"
