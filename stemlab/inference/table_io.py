"""Read and write tables in chunks, so that files larger than memory are scored in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from stemlab.data.io.csv_cells import escape_formula
from stemlab.data.io.output_file import complete_file, write_errors
from stemlab.data.table.file import TextTable
from stemlab.errors import StemlabError

_PARQUET_BATCH_ROWS = 1 << 16
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


class TableReader:
    """Chunked reader of a text or parquet file.

    Columns of a text file are read as text (the id ``007`` stays ``007``); columns of a parquet file keep their types.

    Args:
        path: ``.csv`` or ``.tsv`` with a header, ``.txt`` in the raw format without a header, or ``.parquet``.
        raw_columns: column names of ``.txt`` files; empty if the dataset has no raw format without a header.
        separator: cell separator of ``.csv`` and ``.txt``, if the dataset has its own.

    Attributes:
        total: size of the file in bytes.
        read: bytes read so far.

    Raises:
        StemlabError: the file is missing or has an unsupported suffix.
    """

    def __init__(self, path: Path, raw_columns: Sequence[str], separator: str | None = None) -> None:
        if not path.is_file():
            raise StemlabError(f"input={path} does not exist.")
        if path.suffix not in (*_SEPARATORS, ".parquet"):
            raise StemlabError(f"input={path} must end in .csv, .tsv, .txt or .parquet.")
        if path.suffix == ".txt" and not raw_columns:
            raise StemlabError(
                f"input={path}: this dataset has no raw format without a header: give a .csv or .parquet file."
            )
        self.path = path
        self.total = path.stat().st_size
        usual = _SEPARATORS.get(path.suffix, "")
        self._separator = usual if separator is None or path.suffix == ".tsv" else separator
        self._names = list(raw_columns) if path.suffix == ".txt" else []
        self.read = 0

    def chunks(self) -> Iterator[Any]:
        """Yield Arrow tables with the same columns, at least one (an empty table for a file without rows).

        Raises:
            StemlabError: the file cannot be parsed, has no header, or repeats a column name.
        """
        try:
            yield from self._parquet() if self.path.suffix == ".parquet" else self._text()
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
            rows += batch.num_rows
            self.read = self.total * rows // max(1, file.metadata.num_rows)
            yield pa.Table.from_batches([batch])
        if rows == 0:
            yield file.schema_arrow.empty_table()

    def _text(self) -> Iterator[Any]:
        if not self.total:
            raise StemlabError(f"{self.path} is empty: it needs a header line.")
        table = TextTable(self.path, self._separator, self._names or None)
        _check_unique(self.path, table.names)
        chunk = None
        for chunk in table.chunks(table.names, self._advance, allow_empty=True):
            for line, problem in chunk.malformed:
                raise StemlabError(f"{self.path}, line {line}: {problem}; correct the line.")
            yield pa.table(dict(chunk.columns))
        if chunk is None:
            yield pa.table({name: pa.array([], pa.string()) for name in table.names})

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


@contextmanager
def _csv_writer(part: Path, path: Path, *, escape: bool) -> Iterator[TableWriter]:
    header = True

    def write(table: Any) -> None:
        nonlocal header
        with write_errors(path):
            # pandas quotes only where necessary; the writer of Arrow quotes every text
            frame = table.to_pandas()
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
