"""Read and write tables in chunks, so that files larger than memory are scored in constant memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stemlab.array_types import Int64Array
from stemlab.data.io.csv_cells import escape_formula
from stemlab.data.io.json_lines import JsonLines
from stemlab.data.io.output_file import complete_file, write_errors
from stemlab.data.sources.interaction_format import without_type
from stemlab.data.table.file import TextTable
from stemlab.errors import StemlabError

_PARQUET_BATCH_ROWS = 1 << 16
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t", ".inter": "\t"}


class TableReader:
    """Chunked reader of a file of rows.

    Columns of a text file are read as text (the id ``007`` stays ``007``); columns of other files keep their types.

    Args:
        path: ``.csv`` or ``.tsv`` with a header, ``.txt`` in the raw format without a header, ``.parquet``, ``.jsonl``
            (one JSON object per line), or ``.inter`` (RecBole: tab-separated, header ``user_id:token``, ...).
        raw_columns: column names of ``.txt`` files; empty if the dataset has no raw format without a header.
        separator: cell separator of ``.csv`` and ``.txt``, if the dataset has its own.
        skip_malformed: whether lines that cannot be parsed are skipped and counted instead of raising.

    Attributes:
        total: size of the file in bytes.
        read: bytes read so far.
        lines: (R,) line numbers of the rows of the last chunk, from 1; row numbers of a parquet file.
        unit: unit of ``lines``: ``line`` or ``row``.
        malformed: number of skipped lines so far.

    Raises:
        StemlabError: the file is missing or has an unsupported suffix.
    """

    def __init__(
        self, path: Path, raw_columns: Sequence[str], separator: str | None = None, *, skip_malformed: bool = False
    ) -> None:
        if not path.is_file():
            raise StemlabError(f"input={path} does not exist.")
        if path.suffix not in (*_SEPARATORS, ".parquet", ".jsonl"):
            raise StemlabError(f"input={path} must end in .csv, .tsv, .txt or .parquet, .jsonl or .inter.")
        if path.suffix == ".txt" and not raw_columns:
            raise StemlabError(
                f"input={path}: this dataset has no raw format without a header: give a .csv or .parquet file."
            )
        self.path = path
        self.total = path.stat().st_size
        usual = _SEPARATORS.get(path.suffix, "")
        self._separator = usual if separator is None or path.suffix in (".tsv", ".inter") else separator
        self._names = list(raw_columns) if path.suffix == ".txt" else []
        self._skip_malformed, self.malformed, self.read = skip_malformed, 0, 0
        self.lines: Int64Array = np.empty(0, dtype=np.int64)
        self.unit = "row" if path.suffix == ".parquet" else "line"

    def chunks(self) -> Iterator[Any]:
        """Yield Arrow tables with the same columns, at least one (an empty table for a file without rows).

        Raises:
            StemlabError: the file cannot be parsed, has no header, or repeats a column name.
        """
        formats = {".parquet": self._parquet, ".jsonl": self._json}
        try:
            yield from formats.get(self.path.suffix, self._text)()
        except MemoryError:
            raise
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise StemlabError(f"{self.path} cannot be read: {' '.join(str(error).split())}") from None
        self.read = self.total

    def _parquet(self) -> Iterator[Any]:
        file = pq.ParquetFile(self.path)
        _check_unique(self.path, file.schema_arrow.names)
        rows = 0
        for batch in file.iter_batches(batch_size=_PARQUET_BATCH_ROWS):
            self.lines = rows + 1 + np.arange(batch.num_rows)
            rows += batch.num_rows
            self.read = self.total * rows // max(1, file.metadata.num_rows)
            yield pa.Table.from_batches([batch])
        if rows == 0:
            yield file.schema_arrow.empty_table()

    def _text(self) -> Iterator[Any]:
        if not self.total:
            raise StemlabError(f"{self.path} is empty: it needs a header line.")
        inter = self.path.suffix == ".inter"
        table = TextTable(self.path, self._separator, self._names or None, quoted=not inter)
        names = [without_type(name) for name in table.names] if inter else list(table.names)
        _check_unique(self.path, names)
        chunk = None
        for chunk in table.chunks(table.names, self._advance, allow_empty=True):
            self._count_malformed(chunk.malformed)
            self.lines = chunk.lines
            yield pa.table(dict(zip(names, chunk.columns.values(), strict=True)))
        if chunk is None:
            yield pa.table({name: pa.array([], pa.string()) for name in names})

    def _json(self) -> Iterator[Any]:
        if not self.total:
            raise StemlabError(f"{self.path} is empty: it needs one JSON object per line.")
        for table, lines, malformed in JsonLines(self.path).blocks(self._advance):
            self._count_malformed(malformed)
            self.lines = lines
            yield table

    def _count_malformed(self, malformed: Sequence[tuple[int, str]]) -> None:
        self.malformed += len(malformed)
        for line, problem in () if self._skip_malformed else malformed:
            raise StemlabError(f"{self.path}, line {line}: {problem}; correct the line.")

    def _advance(self, size: int) -> None:
        self.read += size


def _check_unique(path: Path, names: Sequence[str]) -> None:
    repeated = [name for name in names if list(names).count(name) > 1]
    if repeated:
        raise StemlabError(f"{path} has several columns {repeated[0]!r}: rename them.")


class TableWriter(Protocol):
    """Function that appends the rows of an Arrow table; all tables have one schema."""

    def __call__(self, table: Any) -> None:
        """Append rows."""


@contextmanager
def table_writer(path: Path, *, escape: bool = False) -> Iterator[TableWriter]:
    """Yield a function that writes Arrow tables to a file, which appears only when it is complete.

    Args:
        path: a ``.parquet`` or ``.csv`` file.
        escape: put ``'`` in front of texts of a CSV file that a spreadsheet would read as formulas.

    Raises:
        StemlabError: the file has another suffix or cannot be written.
    """
    writers: dict[str, Callable[[Path, Path], AbstractContextManager[TableWriter]]] = {
        ".parquet": _parquet_writer,
        ".csv": partial(_csv_writer, escape=escape),
    }
    if path.suffix not in writers:
        raise StemlabError(f"output={path} must end in .parquet or .csv.")
    with complete_file(path) as part, writers[path.suffix](part, path) as write:
        yield write


@contextmanager
def _parquet_writer(part: Path, path: Path) -> Iterator[TableWriter]:
    opened: list[Any] = []

    def write(table: Any) -> None:
        with write_errors(path):
            if not opened:
                opened.append(pq.ParquetWriter(part, table.schema))
            opened[0].write_table(table)

    try:
        yield write
    except BaseException:
        for writer in opened:
            with suppress(Exception):  # the file is deleted, and the first error is the one to report
                writer.close()
        raise
    with write_errors(path):
        for writer in opened:
            writer.close()


def _csv_frame(table: Any) -> Any:
    """Return a table as pandas writes it to CSV, which quotes only where necessary (Arrow quotes every text).

    Integers beside a null stay integers, and lists are JSON: NumPy would shorten long ones.
    """
    frame = table.to_pandas(integer_object_nulls=True)
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_nested(column.type):
            cells = column.to_pylist()
            frame[name] = [
                None if cell is None else json.dumps(cell, ensure_ascii=False, default=str) for cell in cells
            ]
    return frame


@contextmanager
def _csv_writer(part: Path, path: Path, *, escape: bool) -> Iterator[TableWriter]:
    header = True

    def write(table: Any) -> None:
        nonlocal header
        with write_errors(path):
            frame = _csv_frame(table)
            if escape:
                frame = frame.map(escape_formula).rename(columns=escape_formula)
            frame.to_csv(file, header=header, index=False)
        header = False

    with write_errors(path):
        file = part.open("w", encoding="utf-8", newline="")
    try:
        yield write
    except BaseException:
        with suppress(OSError):
            file.close()
        raise
    with write_errors(path):
        file.close()
