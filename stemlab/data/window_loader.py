"""Loader of impression batches from a split that is read in blocks, for splits larger than memory.

Legend: B samples in the batch.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from torch import Tensor

from stemlab.array_types import AnyArray
from stemlab.data.batch import ImpressionBatch
from stemlab.data.batch_order import BatchOrder
from stemlab.data.column_file import ColumnFile
from stemlab.data.draw_ahead import DrawAhead
from stemlab.data.loader import BatchLoader
from stemlab.data.resident import RowSelection
from stemlab.data.store import ColumnStore
from stemlab.data.target_columns import batch_columns
from stemlab.data.window_order import WindowedOrder


class WindowLoader(BatchLoader):
    """Loader that reads with explicit reads: windows of a ``WindowedOrder`` in a thread, slices when they are taken.

    Args:
        columns: columns of the split; its file is read.
        order: samples of each batch, of the training or of an evaluation.
        pin_memory: put batches into page-locked memory, for asynchronous copies to a GPU.
    """

    def __init__(self, columns: ColumnStore, order: BatchOrder, pin_memory: bool = False) -> None:
        super().__init__(columns, order, pin_memory)
        self._file = ColumnFile(columns.path)
        self._windows = _WindowReader(self._file, order) if isinstance(order, WindowedOrder) else None

    def take(self, rows: RowSelection) -> ImpressionBatch:
        """Return a batch of the given rows in new, writable tensors.

        Row numbers must be samples of the current epoch in its order, otherwise windows are read more than once.
        """
        if isinstance(rows, slice):
            found = self._file.read([(rows.start, min(rows.stop, len(self._file)))])
        elif self._windows is None:
            return super().take(rows)
        else:
            found = self._windows.take(rows)
        tensors: dict[str, Tensor] = {name: self._tensor(column) for name, column in found.items()}
        return ImpressionBatch(
            ids_BF=tensors["ids"],
            labels_BT=tensors["labels"],
            dense_BN=tensors.get("dense"),
            scenario_B=tensors.get("scenario"),
            group_B=tensors.get("group"),
            **batch_columns(tensors),
        )


class _WindowReader:
    """Windows in memory: the one in use, and the next one, which a thread reads.

    Args:
        file: columns of the split.
        order: samples of the epochs.
    """

    def __init__(self, file: ColumnFile, order: WindowedOrder) -> None:
        self._file, self._order = file, order
        self._windows = DrawAhead(self._read)

    def take(self, rows_B: AnyArray) -> dict[str, AnyArray]:
        """Return column name -> the given rows, which are in one window or in several consecutive ones."""
        order, windows = self._order, self._order.windows_of(self._order.epoch)
        block_B = rows_B // order.block_rows
        window_B = windows.window_of_block[block_B]
        position_B = windows.position_of_block[block_B] + rows_B % order.block_rows
        edges = [0, *(np.flatnonzero(np.diff(window_B)) + 1).tolist(), len(rows_B)]
        parts = [self._gather(int(window_B[a]), position_B[a:b]) for a, b in pairwise(edges)]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _gather(self, window: int, position_B: AnyArray) -> dict[str, AnyArray]:
        key = self._order.key(window)
        columns = self._windows.of(key)
        if window + 1 < self._order.windows:
            self._windows.start(key + 1)
        return {name: np.take(column, position_B, axis=0, mode="clip") for name, column in columns.items()}

    def _read(self, key: int) -> dict[str, AnyArray]:
        epoch, window = divmod(key, self._order.windows)
        size, rows = self._order.block_rows, self._order.rows
        blocks = self._order.windows_of(epoch).blocks[window].tolist()
        return self._file.read((block * size, min((block + 1) * size, rows)) for block in blocks)
