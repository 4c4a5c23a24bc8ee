"""Columns of a prepared split, read with explicit reads: memory-mapped pages would count as memory of the process.

Legend: R samples of the split, B rows that are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from stemlab.array_types import AnyArray
from stemlab.data.store import ColumnStore, column_offsets
from stemlab.errors import StemlabError


class ColumnFile:
    """Reader of ranges of rows.

    Args:
        path: file of a prepared split.

    Raises:
        StemlabError: the file is missing or not a prepared split.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        store = ColumnStore(path)
        self._rows = len(store)
        self._columns: dict[str, tuple[int, np.dtype[Any], tuple[int, ...]]] = {
            name: (offset, dtype, store.column(name).shape[1:])
            for name, (offset, dtype) in column_offsets(path).items()
        }
        self._file = path.open("rb", buffering=0)

    def __len__(self) -> int:
        return self._rows

    def read(self, ranges: Iterable[tuple[int, int]]) -> dict[str, AnyArray]:
        """Return column name -> the rows of the given ranges one after the other, (B, ...) in new arrays.

        Args:
            ranges: first row and the row after the last one of each range.

        Raises:
            StemlabError: the file has become shorter.
        """
        ranges = list(ranges)
        total = sum(stop - first for first, stop in ranges)
        found: dict[str, AnyArray] = {}
        for name, (offset, dtype, shape) in self._columns.items():
            found[name] = column = np.empty((total, *shape), dtype=dtype)
            width, done = dtype.itemsize * int(np.prod(shape, dtype=np.int64)), 0
            for first, stop in ranges:
                part = column[done : done + stop - first]
                self._fill(part.reshape(-1).view(np.uint8).data, offset + first * width)
                done += stop - first
        return found

    def _fill(self, view: memoryview, offset: int) -> None:
        while view.nbytes:
            size = os.preadv(self._file.fileno(), [view], offset)
            if not size:
                raise StemlabError(f"{self.path} became shorter while it was read; prepare the dataset again.")
            view, offset = view[size:], offset + size
