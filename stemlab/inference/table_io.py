"""Read and write tables in chunks, so that files larger than memory are scored in constant memory."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from stemlab.errors import StemlabError

_CSV_BLOCK_BYTES = 1 << 22
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
        except pa.ArrowInvalid as error:
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
        names = self._names or self._header()
        _check_unique(self.path, names)
        as_text = pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        reading = pa_csv.ReadOptions(block_size=_CSV_BLOCK_BYTES, column_names=self._names or None, use_threads=False)
        parsing = pa_csv.ParseOptions(delimiter=self._separator, newlines_in_values=False)
        with self.path.open("rb") as file:
            # pyarrow.csv cannot open a file that has only a header
            if self._has_no_rows(names, file):
                yield pa.table({name: pa.array([], pa.string()) for name in names})
                return
            for batch in pa_csv.open_csv(file, reading, parsing, as_text):
                self.read = file.tell()
                yield pa.Table.from_batches([batch])

    def _header(self) -> list[str]:
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            names = next(csv.reader(file, delimiter=self._separator), None)
        if not names:
            raise StemlabError(f"{self.path} is empty: it needs a header line.")
        return names

    def _has_no_rows(self, names: Sequence[str], file: Any) -> bool:
        """Return whether the file contains only the header; reset its position to the start."""
        if not self._names:
            file.readline()
        rest = file.read(1 << 12)
        file.seek(0)
        return not rest.strip()


def _check_unique(path: Path, names: Sequence[str]) -> None:
    repeated = [name for name in names if list(names).count(name) > 1]
    if repeated:
        raise StemlabError(f"{path} has several columns {repeated[0]!r}: rename them.")


class TableWriter(Protocol):
    """Function that appends the rows of an Arrow table; all tables have one schema."""

    def __call__(self, table: Any) -> None:
        """Append rows."""


@contextmanager
def table_writer(path: Path) -> Iterator[TableWriter]:
    """Yield a function that writes Arrow tables to a file, which appears only when it is complete.

    Args:
        path: a ``.parquet`` or ``.csv`` file.

    Raises:
        StemlabError: the file has another suffix.
    """
    writers = {".parquet": _parquet_writer, ".csv": _csv_writer}
    if path.suffix not in writers:
        raise StemlabError(f"output={path} must end in .parquet or .csv.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        with writers[path.suffix](part) as write:
            yield write
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _parquet_writer(path: Path) -> Iterator[TableWriter]:
    opened: list[Any] = []

    def write(table: Any) -> None:
        if not opened:
            opened.append(pq.ParquetWriter(path, table.schema))
        opened[0].write_table(table)

    try:
        yield write
    finally:
        for writer in opened:
            writer.close()


@contextmanager
def _csv_writer(path: Path) -> Iterator[TableWriter]:
    with path.open("w", encoding="utf-8", newline="") as file:

        def write(table: Any) -> None:
            # pandas quotes only where necessary; the writer of Arrow quotes every text
            table.to_pandas().to_csv(file, header=file.tell() == 0, index=False)

        yield write
