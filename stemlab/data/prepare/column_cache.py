"""Temporary on-disk cache of parsed columns: raw text is parsed once, and later passes read chunks from the cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from stemlab.array_types import AnyArray
from stemlab.data.prepare.dtypes import check_raw_integers
from stemlab.data.prepare.scaling import check_finite

_WIDTHS: tuple[np.dtype[Any], ...] = tuple(np.dtype(width) for width in (np.int8, np.int16, np.int32, np.int64))


class ColumnCache:
    """Columns on disk, one file per column, written and read in chunks.

    Use as a context manager; the files are deleted at its end. Callers append and read int64 and float32. To save disk
    space, each chunk of an integer column is stored in the narrowest signed dtype that holds its values; it is int64
    again when read (``stemlab.data.prepare.dtypes``).

    Args:
        directory: directory of the files; created.
        columns: names of the integer columns.
        numericals: names of the float columns.

    Attributes:
        rows: number of rows of each chunk appended so far.
    """

    def __init__(self, directory: Path, columns: Sequence[str], numericals: Sequence[str] = ()) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self.rows: list[int] = []
        names = [*columns, *numericals]
        # Files are numbered because a column name may not be a valid file name ("a/b").
        self._files: dict[str, IO[bytes]] = {
            name: (directory / f"{number}.bin").open("w+b") for number, name in enumerate(names)
        }
        self._numericals = frozenset(numericals)
        self._dtypes: dict[str, list[np.dtype[Any]]] = {name: [] for name in names}
        self._ranges: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return sum(self.rows)

    def append(self, columns: Mapping[str, AnyArray]) -> None:
        """Write the next chunk, integer columns as (R,) int64; columns of other names are ignored.

        Raises:
            TypeError: an integer column is not int64.
            StemlabError: a numerical column holds an infinite value.
        """
        rows = 0
        for name, file in self._files.items():
            values = columns[name]
            dtype = self._stored_dtype(name, values)
            file.write(np.ascontiguousarray(values, dtype=dtype).data)
            self._dtypes[name].append(dtype)
            rows = len(values)
        self.rows.append(rows)

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

    def value_range(self, name: str) -> tuple[int, int]:
        """Return the smallest and the largest value of an integer column; (0, 0) without rows."""
        return self._ranges.get(name, (0, 0))

    def column(self, name: str) -> Iterator[AnyArray]:
        """Yield a column in chunks, (R,) int64 or float32."""
        for chunk in self.chunks([name]):
            yield chunk[name]

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, AnyArray]]:
        """Yield several columns in chunks, each (R,) int64 or float32."""
        offsets = dict.fromkeys(names, 0)
        for name in names:
            self._files[name].flush()
        for number, rows in enumerate(self.rows):
            chunk = {}
            for name in names:
                dtype = self._dtypes[name][number]
                size = rows * dtype.itemsize
                data = os.pread(self._files[name].fileno(), size, offsets[name])
                values = np.frombuffer(data, dtype=dtype)
                chunk[name] = values if name in self._numericals else values.astype(np.int64)
                offsets[name] += size
            yield chunk

    def __enter__(self) -> ColumnCache:
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the files and delete the directory."""
        for file in self._files.values():
            file.close()
        shutil.rmtree(self._directory, ignore_errors=True)


def _narrowest(low: int, high: int) -> np.dtype[Any]:
    return next(width for width in _WIDTHS if np.iinfo(width).min <= low and high <= np.iinfo(width).max)
