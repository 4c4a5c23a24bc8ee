"""Readers of CSV and Parquet files in chunks of Arrow columns, with the line number (Parquet: row number) of each row.

Cells of a text file are strings (an id ``007`` stays ``007``); columns of a Parquet file keep their types.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from stemlab.array_types import BoolArray, Int64Array
from stemlab.data.io.progress import Advance
from stemlab.data.io.text_blocks import TextBlock, read_blocks, refuse_bare_returns
from stemlab.errors import StemlabError

SEPARATORS = (",", "\t", ";", "|")
TABLE_BLOCK_BYTES = 1 << 24
PARQUET_ROWS = 1 << 17
_LIST_BLOCK_BYTES, _LIST_PARQUET_ROWS = 1 << 21, 1 << 14  # of chunks with lists, which take L integers per row and list


@dataclass(frozen=True, slots=True)
class TableChunk:
    """Chunk of rows of a table file.

    Attributes:
        columns: column name -> Arrow array, (R,).
        lines: (R,) int64 line numbers (Parquet: row numbers), from 1.
        malformed: (line, problem) of the lines that could not be parsed.
    """

    columns: Mapping[str, Any]
    lines: Int64Array
    malformed: Sequence[tuple[int, str]] = field(default=())


class TableFile(Protocol):
    """Table file.

    Attributes:
        path: the file.
        names: column names in file order.
        readable: columns with scalar cells.
        lists: columns whose cells are lists of scalars.
        unreadable: name -> type of the other columns (Parquet may hold lists).
        row_unit: unit of ``TableChunk.lines``: ``line`` or ``row``.
    """

    path: Path
    names: tuple[str, ...]
    readable: tuple[str, ...]
    lists: tuple[str, ...]
    unreadable: Mapping[str, str]
    row_unit: str

    def chunks(
        self, columns: Sequence[str], advance: Advance, *, skip: int = 0, lists: Sequence[str] = ()
    ) -> Iterator[TableChunk]:
        """Yield the given columns in chunks, without the first ``skip``; call ``advance`` with the bytes read.

        Columns in ``lists`` may have lists as cells.
        """
        ...


def open_table(path: Path, *, separator: str | None = None, names: Sequence[str] | None = None) -> TableFile:
    """Open a CSV (plain, ``.gz``, ``.tgz`` or ``.zip``) or Parquet file.

    Args:
        path: the file; its format is detected from its first bytes.
        separator: separator of a text file; ``None`` takes the most frequent one of its first line.
        names: column names of a text file without a header.

    Raises:
        StemlabError: the file does not exist or is empty, or two columns have the same name.
    """
    if not path.is_file():
        what = "is a folder: give the file in it" if path.is_dir() else "does not exist: give a .csv or .parquet file"
        raise StemlabError(f"dataset.path={path} {what}.")
    with path.open("rb") as file:
        parquet = file.read(4) == b"PAR1"
    table = ParquetTable(path) if parquet else TextTable(path, separator, names)
    repeated = [name for name in table.names if table.names.count(name) > 1]
    if repeated:
        bare = "" if parquet or names else ", or, if line 1 is not a header, give the names with dataset.columns=[...]"
        raise StemlabError(f"{path} has two columns {repeated[0]!r}: rename one{bare}.")
    return table


class ParquetTable:
    """Parquet file, read in batches of rows."""

    row_unit = "row"

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise StemlabError(
                f"{path} is not a complete Parquet file ({_one_line(error)}); write it again."
            ) from error
        self.names = tuple(self._file.schema_arrow.names)
        self.readable = tuple(field.name for field in self._file.schema_arrow if _is_scalar(field.type))
        self.unreadable: Mapping[str, str] = {
            field.name: str(field.type) for field in self._file.schema_arrow if field.name not in self.readable
        }
        self.lists = tuple(field.name for field in self._file.schema_arrow if _is_list_of_scalars(field.type))
        if not self._file.metadata.num_rows:
            raise StemlabError(f"{path} is empty: it has columns and no rows.")

    def chunks(
        self, columns: Sequence[str], advance: Advance, *, skip: int = 0, lists: Sequence[str] = ()
    ) -> Iterator[TableChunk]:
        """Yield the given columns in chunks of at most ``PARQUET_ROWS`` rows, without the first ``skip`` chunks."""
        for name in set(columns) - set(self.readable) - (set(self.lists) & set(lists)):
            kind = self._file.schema_arrow.field(name).type
            raise StemlabError(f"{self.path}: column {name!r} holds {kind}, which is not a scalar type; leave it out.")
        rows, size, total = 0, self.path.stat().st_size, self._file.metadata.num_rows
        try:
            step = min(PARQUET_ROWS, _LIST_PARQUET_ROWS) if lists else PARQUET_ROWS
            for number, batch in enumerate(self._file.iter_batches(step, columns=list(columns))):
                lines = rows + 1 + np.arange(batch.num_rows)
                advance(size * (rows + batch.num_rows) // total - size * rows // total)
                rows += batch.num_rows
                if number >= skip:
                    yield TableChunk({name: batch.column(name) for name in columns}, lines)
        except MemoryError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise StemlabError(
                f"{self.path} is damaged after row {rows} ({_one_line(error)}); write it again."
            ) from error


class TextTable:
    """Text file with one row per line; cells may be quoted as in RFC 4180, but must not span several lines.

    With ``quoted=False``, a quote is a character like any other.
    """

    row_unit = "line"
    lists: tuple[str, ...] = ()

    def __init__(self, path: Path, separator: str | None, names: Sequence[str] | None, *, quoted: bool = True) -> None:
        self.path, self._quote = path, '"' if quoted else False
        self._member = path.name.removesuffix(".zip").removesuffix(".tgz").removesuffix(".tar.gz")
        first = next(read_blocks(path, self._member, block_bytes=1 << 16)).data
        refuse_bare_returns(path, first.split(b"\n", 1)[0], 1)
        try:
            line = first.split(b"\n", 1)[0].removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise StemlabError(f"{path}, line 1 is not UTF-8 text: give a .csv or .parquet file.") from None
        self.separator = separator or max(SEPARATORS, key=line.count)
        self.has_header = names is None
        try:
            quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
            header = next(csv.reader([line], delimiter=self.separator, quoting=quoting), []) if names is None else names
            self.names = tuple(header)
        except csv.Error as error:
            raise StemlabError(f"{path}, line 1 cannot be read as a header ({error}); correct it.") from None
        self.readable = self.names
        self.unreadable: Mapping[str, str] = {}
        if not self.names:
            raise StemlabError(f"{path}, line 1 is empty: it must name the columns.")

    def chunks(
        self,
        columns: Sequence[str],
        advance: Advance,
        *,
        skip: int = 0,
        lists: Sequence[str] = (),
        allow_empty: bool = False,
    ) -> Iterator[TableChunk]:
        """Yield the given columns in chunks, as strings, without the first ``skip``; empty lines are ignored."""
        rows, size = skip, min(TABLE_BLOCK_BYTES, _LIST_BLOCK_BYTES) if lists else TABLE_BLOCK_BYTES
        for block in islice(self._blocks(advance, size), skip, None):
            chunk = self._parse(block, list(columns))
            rows += len(chunk.lines) + len(chunk.malformed)
            yield chunk
        if not rows and not allow_empty:
            raise StemlabError(f"{self.path} is empty: it has {'a header and ' if self.has_header else ''}no rows.")

    def _blocks(self, advance: Advance, size: int) -> Iterator[TextBlock]:
        """Yield the lines below the header."""
        blocks = read_blocks(self.path, self._member, advance, size)
        first = next(blocks)
        data, line = first.data, first.first_line
        if self.has_header:
            data, line = data.partition(b"\n")[2], line + 1
        yield from chain([TextBlock(data, line)] if data else [], blocks)

    def _parse(self, block: TextBlock, columns: list[str]) -> TableChunk:
        data = block.data.replace(b"\r\n", b"\n") if b"\r" in block.data else block.data
        problems: dict[int, str] = {}  # by line within the block, from 0

        def keep_malformed(row: Any) -> str:
            problems[row.number - 1] = f"{row.actual_columns} columns instead of {row.expected_columns}"
            return "skip"

        try:
            table = pyarrow.csv.read_csv(pa.BufferReader(data), **self._options(columns, keep_malformed, len(data)))
        except pa.ArrowInvalid as error:
            raise StemlabError(self._parse_error(block, _one_line(error))) from error
        blank = _empty_lines(data)
        if table.num_rows + len(problems) != len(blank):
            raise StemlabError(self._parse_error(block, "its lines cannot be parsed as rows"))
        kept = np.ones(len(blank), dtype=bool)
        kept[list(problems)] = False
        lines = block.first_line + np.flatnonzero(kept & ~blank)
        malformed = [(block.first_line + line, problem) for line, problem in problems.items() if not blank[line]]
        if (kept & blank).any():
            table = table.filter(pa.array(~blank[kept]))
        return TableChunk({name: table[name].combine_chunks() for name in columns}, lines, malformed)

    def _options(self, columns: list[str], keep_malformed: Any, size: int) -> dict[str, Any]:
        return {
            # one thread and one block, because Arrow numbers malformed lines only then
            "read_options": pyarrow.csv.ReadOptions(
                column_names=list(self.names), use_threads=False, block_size=max(size, 1)
            ),
            "parse_options": pyarrow.csv.ParseOptions(
                delimiter=self.separator,
                quote_char=self._quote,
                invalid_row_handler=keep_malformed,
                ignore_empty_lines=False,
            ),
            "convert_options": pyarrow.csv.ConvertOptions(
                include_columns=columns, column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
            ),
        }

    def _parse_error(self, block: TextBlock, reason: str) -> str:
        """Return the error message of a block that cannot be parsed, with the line number."""
        refuse_bare_returns(self.path, block.data, block.first_line)
        for line, data in enumerate(block.data.split(b"\n"), start=block.first_line):
            try:
                data.decode()
            except UnicodeDecodeError:
                return f"{self.path}, line {line} is not UTF-8 text; convert the file (iconv -t UTF-8)."
            if self._quote and data.count(b'"') % 2:
                return f"{self.path}, line {line}: a quote is not closed; cells must not span several lines."
        return f"{self.path}, after line {block.first_line - 1}: {reason}."


def _empty_lines(data: bytes) -> BoolArray:
    """Return the mask of empty lines, (lines,) bool."""
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n"))
    if data and not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    blank: BoolArray = starts == ends
    return blank


def _is_scalar(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    simple = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string, pa.types.is_null)
    others = (pa.types.is_large_string, pa.types.is_decimal, pa.types.is_date, pa.types.is_timestamp)
    return any(test(kind) for test in (*simple, *others))


def _is_list_of_scalars(kind: Any) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in tests) and _is_scalar(kind.value_type)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
