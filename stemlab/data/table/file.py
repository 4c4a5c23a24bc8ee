"""A user's own table, csv or parquet, piece by piece: Arrow columns, and the line (parquet: row) of each of their rows.

Cells of a text file stay the text they are (an id ``007`` stays ``007``); columns of a parquet file keep their types.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from stemlab.array_types import BoolArray, Int64Array
from stemlab.data.io.progress import Advance
from stemlab.data.io.text_blocks import TextBlock, read_blocks
from stemlab.errors import StemlabError

SEPARATORS = (",", "\t", ";", "|")
TABLE_BLOCK_BYTES = 1 << 24
PARQUET_ROWS = 1 << 17
_MARK = b"\xef\xbb\xbf"  # what spreadsheet programs put before UTF-8


@dataclass(frozen=True, slots=True)
class TableChunk:
    """Some rows of a table.

    Attributes:
        columns: column name -> Arrow array, (R,).
        lines: (R,) int64 number of the line (parquet: of the row), from 1.
        malformed: lines that are no rows, each with what is wrong.
    """

    columns: Mapping[str, Any]
    lines: Int64Array
    malformed: Sequence[tuple[int, str]] = field(default=())


class TableFile(Protocol):
    """A table on disk.

    Attributes:
        path: the file.
        names: its columns in file order.
        readable: those of them that hold cells (parquet may have lists and the like).
        counted: what ``TableChunk.lines`` are: ``line`` or ``row``.
    """

    path: Path
    names: tuple[str, ...]
    readable: tuple[str, ...]
    counted: str

    def chunks(self, columns: Sequence[str], advance: Advance) -> Iterator[TableChunk]:
        """Yield some columns piece by piece, telling ``advance`` the bytes of the file consumed."""
        ...


def open_table(path: Path, *, separator: str | None = None, names: Sequence[str] | None = None) -> TableFile:
    """Open a csv (plain, ``.gz``, ``.tgz`` or ``.zip``) or parquet file.

    Args:
        path: the file; what it is is told by its first bytes.
        separator: between the cells of a text file; ``None`` takes the one that its first line has most often.
        names: names of the columns of a text file without a header.

    Raises:
        StemlabError: there is no such file, it is empty, or two columns have the same name.
    """
    if not path.is_file():
        what = "is a folder: give the file in it" if path.is_dir() else "does not exist: give a .csv or .parquet file"
        raise StemlabError(f"dataset.path={path} {what}.")
    with path.open("rb") as file:
        parquet = file.read(4) == b"PAR1"
    table = ParquetTable(path) if parquet else TextTable(path, separator, names)
    repeated = [name for name in table.names if table.names.count(name) > 1]
    if repeated:
        bare = "" if parquet or names else ", or, where line 1 is no header, give the names, dataset.columns=[...]"
        raise StemlabError(f"{path} has two columns {repeated[0]!r}: rename one{bare}.")
    return table


class ParquetTable:
    """A parquet file, read by groups of rows."""

    counted = "row"

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise StemlabError(f"{path} is no whole parquet file ({_told(error)}); write it again.") from error
        self.names = tuple(self._file.schema_arrow.names)
        self.readable = tuple(field.name for field in self._file.schema_arrow if _holds_cells(field.type))
        if not self._file.metadata.num_rows:
            raise StemlabError(f"{path} is empty: it has columns and no rows.")

    def chunks(self, columns: Sequence[str], advance: Advance) -> Iterator[TableChunk]:
        """Yield some columns in pieces of at most ``PARQUET_ROWS`` rows."""
        for name in set(columns) - set(self.readable):
            kind = self._file.schema_arrow.field(name).type
            raise StemlabError(f"{self.path}: column {name!r} holds {kind}, which are no cells; leave it out.")
        rows, size, total = 0, self.path.stat().st_size, self._file.metadata.num_rows
        try:
            for batch in self._file.iter_batches(PARQUET_ROWS, columns=list(columns)):
                lines = rows + 1 + np.arange(batch.num_rows)
                advance(size * (rows + batch.num_rows) // total - size * rows // total)
                rows += batch.num_rows
                yield TableChunk({name: batch.column(name) for name in columns}, lines)
        except (OSError, pa.ArrowException) as error:
            raise StemlabError(f"{self.path} is damaged after row {rows} ({_told(error)}); write it again.") from error


class TextTable:
    """A text file with a line a row; cells may be quoted as in RFC 4180, but not go over several lines."""

    counted = "line"

    def __init__(self, path: Path, separator: str | None, names: Sequence[str] | None) -> None:
        self.path = path
        self._member = path.name.removesuffix(".zip").removesuffix(".tgz").removesuffix(".tar.gz")
        first = next(read_blocks(path, self._member, block_bytes=1 << 16)).data.removeprefix(_MARK)
        try:
            line = first.split(b"\n", 1)[0].removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise StemlabError(f"{path}, line 1 is no text in UTF-8: give a .csv or .parquet file.") from None
        self.separator = separator or max(SEPARATORS, key=line.count)
        self.headed = names is None
        self.names = tuple(next(csv.reader([line], delimiter=self.separator), []) if names is None else names)
        self.readable = self.names
        if not self.names:
            raise StemlabError(f"{path}, line 1 is empty: it must name the columns.")

    def chunks(self, columns: Sequence[str], advance: Advance) -> Iterator[TableChunk]:
        """Yield some columns block by block, as strings; empty lines are no rows."""
        rows = 0
        for block in self._blocks(advance):
            piece = self._parse(block, list(columns))
            rows += len(piece.lines) + len(piece.malformed)
            yield piece
        if not rows:
            raise StemlabError(f"{self.path} is empty: it has {'a header and ' if self.headed else ''}no rows.")

    def _blocks(self, advance: Advance) -> Iterator[TextBlock]:
        """The lines below the header."""
        blocks = read_blocks(self.path, self._member, advance, TABLE_BLOCK_BYTES)
        first = next(blocks)
        data, line = first.data.removeprefix(_MARK), first.first_line
        if self.headed:
            data, line = data.partition(b"\n")[2], line + 1
        yield from chain([TextBlock(data, line)] if data else [], blocks)

    def _parse(self, block: TextBlock, columns: list[str]) -> TableChunk:
        data = block.data.replace(b"\r\n", b"\n") if b"\r" in block.data else block.data
        wrong: dict[int, str] = {}  # by place in the block, from 0

        def set_aside(row: Any) -> str:
            wrong[row.number - 1] = f"{row.actual_columns} columns instead of {row.expected_columns}"
            return "skip"

        try:
            table = pyarrow.csv.read_csv(pa.BufferReader(data), **self._options(columns, set_aside, len(data)))
        except pa.ArrowInvalid as error:
            raise StemlabError(self._trouble(block, _told(error))) from error
        blank = _blank_lines(data)
        if table.num_rows + len(wrong) != len(blank):
            raise StemlabError(self._trouble(block, "its lines are not rows"))
        kept = np.ones(len(blank), dtype=bool)
        kept[list(wrong)] = False
        lines = block.first_line + np.flatnonzero(kept & ~blank)
        malformed = [(block.first_line + place, told) for place, told in wrong.items() if not blank[place]]
        if (kept & blank).any():
            table = table.filter(pa.array(~blank[kept]))
        return TableChunk({name: table[name].combine_chunks() for name in columns}, lines, malformed)

    def _options(self, columns: list[str], set_aside: Any, size: int) -> dict[str, Any]:
        return {
            # one thread and one block: only so are the lines that are set aside numbered
            "read_options": pyarrow.csv.ReadOptions(
                column_names=list(self.names), use_threads=False, block_size=max(size, 1)
            ),
            "parse_options": pyarrow.csv.ParseOptions(
                delimiter=self.separator, invalid_row_handler=set_aside, ignore_empty_lines=False
            ),
            "convert_options": pyarrow.csv.ConvertOptions(
                include_columns=columns, column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
            ),
        }

    def _trouble(self, block: TextBlock, told: str) -> str:
        """Return what is wrong with a block that cannot be parsed, with the line."""
        for line, data in enumerate(block.data.split(b"\n"), start=block.first_line):
            try:
                data.decode()
            except UnicodeDecodeError:
                return f"{self.path}, line {line} is no text in UTF-8; convert the file (iconv -t UTF-8)."
            if data.count(b'"') % 2:
                return f"{self.path}, line {line}: a quote is not closed; cells must not go over several lines."
        return f"{self.path}, after line {block.first_line - 1}: {told}."


def _blank_lines(data: bytes) -> BoolArray:
    """Return for every line whether it is empty."""
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n"))
    if data and not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    blank: BoolArray = starts == ends
    return blank


def _holds_cells(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    simple = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string, pa.types.is_null)
    others = (pa.types.is_large_string, pa.types.is_decimal, pa.types.is_date, pa.types.is_timestamp)
    return any(test(kind) for test in (*simple, *others))


def _told(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
