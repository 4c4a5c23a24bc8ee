"""Parsed columns kept on disk between the passes of ``prepare``: the text is read once, memory holds one chunk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from stemlab.array_types import AnyArray
from stemlab.data.prepare.dtypes import check_raw_integers
from stemlab.data.prepare.scaling import check_finite

_KINDS: tuple[np.dtype[Any], ...] = tuple(np.dtype(kind) for kind in (np.int8, np.int16, np.int32, np.int64))


class ColumnCache:
    """Columns in one file each, chunk by chunk: integers in the narrowest type that holds them, floats as float32.

    Args:
        directory: where the files go; created.
        columns: names of the integer columns.
        numericals: names of the float columns.

    Attributes:
        rows: rows of every chunk appended so far.
    """

    def __init__(self, directory: Path, columns: Sequence[str], numericals: Sequence[str] = ()) -> None:
        directory.mkdir(parents=True)
        self.rows: list[int] = []
        names = [*columns, *numericals]
        # by number: a column of a user's table may be called "a/b"
        self._files: dict[str, IO[bytes]] = {
            name: (directory / f"{number}.bin").open("w+b") for number, name in enumerate(names)
        }
        self._numericals = frozenset(numericals)
        self._kinds: dict[str, list[np.dtype[Any]]] = {name: [] for name in names}
        self._spans: dict[str, tuple[int, int]] = {}

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
            kind = self._note(name, values)
            file.write(np.ascontiguousarray(values, dtype=kind).data)
            self._kinds[name].append(kind)
            rows = len(values)
        self.rows.append(rows)

    def _note(self, name: str, values: AnyArray) -> np.dtype[Any]:
        """Return the type in which a chunk of a column is kept, and widen the column's span."""
        if name in self._numericals:
            check_finite(name, values)
            return np.dtype(np.float32)
        check_raw_integers(name, values)
        low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
        if len(values):
            least, greatest = self._spans.get(name, (low, high))
            self._spans[name] = (min(low, least), max(high, greatest))
        return _narrowest(low, high)

    def span(self, name: str) -> tuple[int, int]:
        """Return the least and the greatest value of an integer column; (0, 0) without rows."""
        return self._spans.get(name, (0, 0))

    def column(self, name: str) -> Iterator[AnyArray]:
        """Yield a column chunk by chunk, (R,) int64 or float32."""
        for chunk in self.chunks([name]):
            yield chunk[name]

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, AnyArray]]:
        """Yield several columns chunk by chunk, each (R,) int64 or float32."""
        offsets = dict.fromkeys(names, 0)
        for name in names:
            self._files[name].flush()
        for number, rows in enumerate(self.rows):
            chunk = {}
            for name in names:
                kind = self._kinds[name][number]
                size = rows * kind.itemsize
                data = os.pread(self._files[name].fileno(), size, offsets[name])
                values = np.frombuffer(data, dtype=kind)
                chunk[name] = values if name in self._numericals else values.astype(np.int64)
                offsets[name] += size
            yield chunk

    def close(self) -> None:
        """Close and delete the files."""
        for file in self._files.values():
            file.close()
            os.unlink(file.name)


def _narrowest(low: int, high: int) -> np.dtype[Any]:
    return next(kind for kind in _KINDS if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
