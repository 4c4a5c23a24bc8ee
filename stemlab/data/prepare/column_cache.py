"""Temporary on-disk cache of parsed columns: raw text is parsed once, and later passes read chunks from the cache.

A cache with a journal outlives its process: the next preparation with the same key continues after its last chunk.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from stemlab.array_types import AnyArray
from stemlab.data.prepare.block_journal import BlockJournal
from stemlab.data.prepare.dtypes import check_raw_integers
from stemlab.data.prepare.scaling import check_finite

_WIDTHS: tuple[np.dtype[Any], ...] = tuple(np.dtype(width) for width in (np.int8, np.int16, np.int32, np.int64))


class ColumnCache:
    """Columns on disk, one file per column, written and read in chunks.

    Use as a context manager; without a key, the files are deleted at its end. Callers append and read int64 and
    float32. To save disk space, each chunk of an integer column is stored in the narrowest signed dtype that holds its
    values; it is int64 again when read (``stemlab.data.prepare.dtypes``).

    Args:
        directory: directory of the files; created.
        columns: names of the integer columns.
        numericals: names of the float columns.
        widths: column with several values per row -> number of values; its chunks are (R, width).
        key: everything that determines the columns; the cache then has a journal and is kept at the end. Intact chunks
            that an interrupted process wrote under the same key are reused, others are removed.

    Attributes:
        rows: number of rows of each chunk appended so far.
        states: state of the reader after each reused chunk.
        complete: whether the reused chunks are the whole dataset.
    """

    def __init__(
        self,
        directory: Path,
        columns: Sequence[str],
        numericals: Sequence[str] = (),
        key: str | None = None,
        widths: Mapping[str, int] | None = None,
    ) -> None:
        self._directory, self._widths = directory, dict(widths or {})
        self.rows: list[int] = []
        self.states: list[Any] = []
        self.complete = False
        names = [*columns, *numericals]
        self._journal: BlockJournal | None = None
        if key is None:
            directory.mkdir(parents=True)
        else:
            self._journal = BlockJournal(directory, json.dumps([key, names]))
        self._numericals = frozenset(numericals)
        self._dtypes: dict[str, list[np.dtype[Any]]] = {name: [] for name in names}
        self._ranges: dict[str, tuple[int, int]] = {}
        # Files are numbered because a column name may not be a valid file name ("a/b").
        self._files: dict[str, IO[bytes]] = {
            name: (directory / f"{number}.bin").open("a+b") for number, name in enumerate(names)
        }
        if self._journal is not None:
            self._reuse_chunks(self._journal)

    def __len__(self) -> int:
        return sum(self.rows)

    def append(self, columns: Mapping[str, AnyArray], state: Any = None) -> None:
        """Write the next chunk, integer columns as (R,) int64; columns of other names are ignored.

        Args:
            columns: the chunk.
            state: state of the reader after the chunk, as plain JSON values; only stored in a journal.

        Raises:
            TypeError: an integer column is not int64.
            StemlabError: a numerical column holds an infinite value.
        """
        rows, checksum = 0, 0
        for name, file in self._files.items():
            values = columns[name]
            dtype = self._stored_dtype(name, values)
            data = np.ascontiguousarray(values, dtype=dtype).data
            file.write(data)
            checksum = checksum if self._journal is None else zlib.crc32(data, checksum)
            self._dtypes[name].append(dtype)
            rows = len(values)
        self.rows.append(rows)
        if self._journal is not None:
            for file in self._files.values():
                file.flush()
            dtypes = [dtypes[-1].str for dtypes in self._dtypes.values()]
            self._journal.append(
                {"rows": rows, "dtypes": dtypes, "crc32": checksum, "ranges": self._ranges, "state": state}
            )

    def finish(self) -> None:
        """Record that all chunks are written."""
        if self._journal is not None and not self.complete:
            self._journal.append({"complete": True})
            self.complete = True

    def restart(self) -> None:
        """Remove all chunks."""
        self.rows, self.states, self.complete, self._ranges = [], [], False, {}
        self._dtypes = {name: [] for name in self._files}
        for file in self._files.values():
            file.truncate(0)
        if self._journal is not None:
            self._journal.cut(0)

    def _reuse_chunks(self, journal: BlockJournal) -> None:
        """Reuse the chunks of the journal up to the first damaged one; cut off what was written after them."""
        offsets = dict.fromkeys(self._files, 0)
        for entry in journal.found:
            if entry == {"complete": True}:
                self.complete = True
                break
            dtypes = dict(zip(self._files, map(np.dtype, entry["dtypes"]), strict=True))
            checksum = 0
            for name, file in self._files.items():
                size = self._size(name, entry["rows"], dtypes[name])
                checksum = zlib.crc32(os.pread(file.fileno(), size, offsets[name]), checksum)
            if checksum != entry["crc32"]:
                break
            for name, dtype in dtypes.items():
                self._dtypes[name].append(dtype)
                offsets[name] += self._size(name, entry["rows"], dtype)
            self.rows.append(entry["rows"])
            self.states.append(entry["state"])
            self._ranges = {name: (low, high) for name, (low, high) in entry["ranges"].items()}
        journal.cut(len(self.rows) + self.complete)
        for name, file in self._files.items():
            file.truncate(offsets[name])

    def _stored_dtype(self, name: str, values: AnyArray) -> np.dtype[Any]:
        """Return the dtype in which a chunk is stored, and update the range of the column."""
        if name in self._numericals:
            check_finite(name, values)
            return np.dtype(np.float32)
        check_raw_integers(name, values)
        low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
        if len(values):
            least, greatest = self._ranges.get(name, (low, high))
            self._ranges[name] = (min(low, least), max(high, greatest))
        return _narrowest(low, high)

    def _size(self, name: str, rows: int, dtype: np.dtype[Any]) -> int:
        """Return the bytes of a chunk of a column."""
        return rows * self._widths.get(name, 1) * dtype.itemsize

    def value_range(self, name: str) -> tuple[int, int]:
        """Return the smallest and the largest value of an integer column; (0, 0) without rows."""
        return self._ranges.get(name, (0, 0))

    def column(self, name: str) -> Iterator[AnyArray]:
        """Yield a column in chunks, (R,) or (R, width), int64 or float32."""
        for chunk in self.chunks([name]):
            yield chunk[name]

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, AnyArray]]:
        """Yield several columns in chunks, each (R,) or (R, width), int64 or float32."""
        offsets = dict.fromkeys(names, 0)
        for name in names:
            self._files[name].flush()
        for number, rows in enumerate(self.rows):
            chunk = {}
            for name in names:
                dtype = self._dtypes[name][number]
                size = self._size(name, rows, dtype)
                data = os.pread(self._files[name].fileno(), size, offsets[name])
                values = np.frombuffer(data, dtype=dtype)
                if name in self._widths:
                    values = values.reshape(rows, self._widths[name])
                chunk[name] = values if name in self._numericals else values.astype(np.int64)
                offsets[name] += size
            yield chunk

    def __enter__(self) -> ColumnCache:
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the files; delete the directory unless there is a journal."""
        for file in self._files.values():
            file.close()
        if self._journal is None:
            shutil.rmtree(self._directory, ignore_errors=True)
        else:
            self._journal.close()


def _narrowest(low: int, high: int) -> np.dtype[Any]:
    return next(width for width in _WIDTHS if np.iinfo(width).min <= low and high <= np.iinfo(width).max)
