"""Parser of text blocks into int64 and float32 columns; bad rows are reported by file and line.

Blocks are parsed by Arrow's CSV reader. Blocks that Arrow rejects, or parses more leniently than the line parser, are
parsed again line by line. Only the line parser decides whether a row is bad, so the result is independent of the block
boundaries.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from stemlab.array_types import AnyArray, Float32Array, Int64Array
from stemlab.data.io.arrow import as_numpy
from stemlab.data.io.text_blocks import TextBlock
from stemlab.errors import StemlabError

OnBadRow = Literal["error", "skip"]
_INTEGER = re.compile(rb"-?[0-9]{1,40}")
_NUMBER = re.compile(rb"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_PARSE_BYTES = 1 << 21
_SHOWN = 40
_LARGEST = (1 << 63) - 1
_LARGEST_NUMBER = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class ParsedRows:
    """Parsed rows.

    Attributes:
        columns: column name -> (R,) int64, or float32 for the columns in ``float_columns``, NaN for an empty cell.
        lines: (R,) int64 line numbers in the file, from 1.
    """

    columns: dict[str, AnyArray]
    lines: Int64Array

    def __len__(self) -> int:
        return len(self.lines)


@dataclass(slots=True)
class IntegerReader:
    """Parser of lines of integers, optionally with float columns among them.

    Attributes:
        path: the file, for error messages.
        columns: column names in file order.
        separator: separator of the columns.
        ranges: column -> allowed (smallest, largest) value.
        on_bad_row: ``error`` raises at a bad row, ``skip`` drops and counts it.
        kept: columns that are parsed and returned; the others may hold anything. Empty: all columns.
        missing: spellings of a missing value, which is returned as -1.
        whole_floats: whether ``1.0`` is accepted as the integer 1.
        float_columns: columns that are parsed as float32; an empty cell is missing (NaN).
        skipped: number of bad rows dropped so far.
    """

    path: Path
    columns: Sequence[str]
    separator: bytes = b"\t"
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    on_bad_row: OnBadRow = "error"
    kept: Sequence[str] = ()
    missing: Sequence[str] = ()
    whole_floats: bool = False
    float_columns: Collection[str] = ()
    skipped: int = 0

    @property
    def _lenient_marks(self) -> list[bytes]:
        """Byte strings that Arrow accepts in an integer or as a separator, and the line parser does not."""
        marks = [b"\r", b" ", b"x", b"X", *([b"\t"] if self.separator != b"\t" else [])]
        if self.float_columns and self.whole_floats:  # removing ".0" must not empty the cell ".0"
            marks += [self.separator + b".0", b"\n.0"]
        return marks

    def parse(self, blocks: Iterable[TextBlock]) -> Iterator[ParsedRows]:
        """Yield the rows of each block.

        Raises:
            StemlabError: a bad row; the message gives file, line, column and problem.
        """
        for block in blocks:
            data = block.data
            if b"\r" in data:
                data = data.replace(b"\r\n", b"\n").removesuffix(b"\r")
            columns = self._parse_fast(data)
            if columns is None:
                yield self._parse_lines(data, block.first_line)
            else:
                rows = len(next(iter(columns.values())))
                yield ParsedRows(columns, np.arange(block.first_line, block.first_line + rows))

    def refuse(self, line: int, problem: str) -> None:
        """Raise StemlabError for a bad row, or count it if ``on_bad_row`` is ``skip``."""
        if self.on_bad_row == "error":
            raise StemlabError(f"{self.path}, line {line}: {problem}; correct the line or set dataset.on_bad_row=skip.")
        self.skipped += 1

    @property
    def _chosen(self) -> Sequence[str]:
        return self.kept or self.columns

    def _parse_fast(self, data: bytes) -> dict[str, AnyArray] | None:
        """Return the columns, or ``None`` if the block must be parsed line by line."""
        if any(mark in data for mark in self._lenient_marks) or data.startswith(b".0"):
            return None
        separator = self.separator if len(self.separator) == 1 else b"\t"
        text = data if len(self.separator) == 1 else data.replace(self.separator, separator)
        if self.whole_floats:
            text = text.replace(b".0" + separator, separator).replace(b".0\n", b"\n")
        try:
            table = pyarrow.csv.read_csv(pa.BufferReader(text), **self._options(separator.decode()))
        except pa.ArrowInvalid:
            return None
        columns: dict[str, AnyArray] = {}
        for name in self._chosen:
            column, number = table.column(name), name in self.float_columns
            if number and not np.isfinite(as_numpy(_filled(column, 0.0))).all():
                return None
            if column.null_count and not number and self.float_columns and "" not in self.missing:
                return None
            columns[name] = as_numpy(_filled(column, np.nan if number else -1))
        for name, (low, high) in self.ranges.items():
            if len(columns[name]) and (columns[name].min() < low or columns[name].max() > high):
                return None
        return columns

    def _parse_lines(self, data: bytes, first_line: int) -> ParsedRows:
        positions = {name: self.columns.index(name) for name in self._chosen}
        good: list[list[bytes]] = []
        lines: list[int] = []
        for number, text in enumerate(data.removesuffix(b"\n").split(b"\n"), start=first_line):
            cells = text.split(self.separator)
            problem = self._problem(cells)
            if problem and b"\r" in text:
                problem = "contains a carriage return that does not end the line (dos2unix -c mac converts line ends)"
            if problem:
                self.refuse(number, problem)
            else:
                good.append(cells)
                lines.append(number)
        columns = {
            name: self._column(name, [cells[position] for cells in good]) for name, position in positions.items()
        }
        return ParsedRows(columns, np.array(lines, dtype=np.int64))

    def _column(self, name: str, cells: Sequence[bytes]) -> AnyArray:
        if name in self.float_columns:
            return _floats([None if self._missing(cell) else cell for cell in cells])
        return np.array([self._value(cell) for cell in cells], dtype=np.int64)

    def _problem(self, cells: Sequence[bytes]) -> str | None:
        """Return the problem of a line, or ``None``."""
        if len(cells) != len(self.columns):
            return f"{len(cells)} columns instead of {len(self.columns)}"
        for name in self._chosen:
            cell = cells[self.columns.index(name)]
            shown = repr(cell[:_SHOWN].decode("utf-8", errors="replace"))
            if name in self.float_columns:
                if not self._missing(cell) and not (_NUMBER.fullmatch(cell) and abs(float(cell)) <= _LARGEST_NUMBER):
                    return f"column {name!r} is {shown}, not a number"
                continue
            value = self._value(cell)
            if value is None:
                return f"column {name!r} is {shown}, not an integer"
            low, high = self.ranges.get(name, (value, value))
            if not low <= value <= high:
                return f"column {name!r} is {shown}, not {_range(low, high)}"
        return None

    def _missing(self, cell: bytes) -> bool:
        """Return whether a cell of a float column is missing."""
        return not cell or any(cell == spelling.encode() for spelling in self.missing)

    def _value(self, cell: bytes) -> int | None:
        """Return the integer of a cell, -1 if it is missing, or ``None`` if it is not an int64."""
        text = cell.removesuffix(b".0") if self.whole_floats else cell
        if any(text == spelling.encode() for spelling in self.missing):
            return -1
        if not _INTEGER.fullmatch(text) or not -(1 << 63) <= int(text) < 1 << 63:
            return None
        return int(text)

    def _options(self, separator: str) -> dict[str, Any]:
        return {
            "read_options": pyarrow.csv.ReadOptions(column_names=list(self.columns), block_size=_PARSE_BYTES),
            "parse_options": pyarrow.csv.ParseOptions(delimiter=separator, quote_char=False, ignore_empty_lines=False),
            "convert_options": pyarrow.csv.ConvertOptions(
                include_columns=list(self._chosen),
                column_types={n: pa.float32() if n in self.float_columns else pa.int64() for n in self._chosen},
                null_values=[*self.missing, *([""] if self.float_columns else [])],
                strings_can_be_null=False,
            ),
        }


def _filled(column: Any, value: float) -> Any:
    return pc.fill_null(column, value) if column.null_count else column


def _floats(cells: Sequence[bytes | None]) -> Float32Array:
    """Return the nearest float32 of each cell, as Arrow parses it; NaN for ``None``."""
    texts = pa.array([None if cell is None else cell.decode() for cell in cells], pa.string())
    numbers: Float32Array = as_numpy(_filled(pc.cast(texts, pa.float32()), np.nan))
    return numbers


def _range(low: int, high: int) -> str:
    if high == _LARGEST:
        return f"{low} or more"
    return f"{low} {'or' if high == low + 1 else 'to'} {high}"
