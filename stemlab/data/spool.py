"""Parsed columns kept on disk between the passes of ``prepare``: the text is read once, memory holds one chunk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.signedinteger[Any]]
_KINDS: tuple[np.dtype[Any], ...] = tuple(np.dtype(kind) for kind in (np.int8, np.int16, np.int32, np.int64))


class Spool:
    """Integer columns in one file each, chunk by chunk, every chunk in the narrowest type that holds its values.

    Args:
        directory: where the files go; created.
        columns: names of the columns.

    Attributes:
        rows: rows of every chunk appended so far.
    """

    def __init__(self, directory: Path, columns: Sequence[str]) -> None:
        directory.mkdir(parents=True)
        self.rows: list[int] = []
        self._files: dict[str, IO[bytes]] = {name: (directory / f"{name}.bin").open("w+b") for name in columns}
        self._kinds: dict[str, list[np.dtype[Any]]] = {name: [] for name in columns}
        self._spans: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return sum(self.rows)

    def append(self, columns: Mapping[str, Ints]) -> None:
        """Write the next chunk; columns of other names are left out."""
        for name, file in self._files.items():
            values = columns[name]
            low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
            kind = _narrowest(low, high)
            file.write(np.ascontiguousarray(values, dtype=kind).data)
            self._kinds[name].append(kind)
            if len(values):
                least, greatest = self._spans.get(name, (low, high))
                self._spans[name] = (min(low, least), max(high, greatest))
        self.rows.append(len(values))

    def span(self, name: str) -> tuple[int, int]:
        """Return the least and the greatest value of a column; (0, 0) without rows."""
        return self._spans.get(name, (0, 0))

    def column(self, name: str) -> Iterator[Ints]:
        """Yield a column chunk by chunk, (R,) of any signed integer type."""
        for chunk in self.chunks([name]):
            yield chunk[name]

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, Ints]]:
        """Yield several columns chunk by chunk, each (R,) of any signed integer type."""
        offsets = dict.fromkeys(names, 0)
        for name in names:
            self._files[name].flush()
        for number, rows in enumerate(self.rows):
            chunk = {}
            for name in names:
                kind = self._kinds[name][number]
                size = rows * kind.itemsize
                data = os.pread(self._files[name].fileno(), size, offsets[name])
                chunk[name] = np.frombuffer(data, dtype=kind)
                offsets[name] += size
            yield chunk

    def close(self) -> None:
        """Close and delete the files."""
        for file in self._files.values():
            file.close()
            os.unlink(file.name)


def _narrowest(low: int, high: int) -> np.dtype[Any]:
    return next(kind for kind in _KINDS if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
