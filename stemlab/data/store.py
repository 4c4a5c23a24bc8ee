"""Prepared splits on disk: one uncompressed Arrow IPC file per split, memory-mapped as NumPy columns.

A file holds one record batch: ``ids`` fixed_size_list<int32>[F] (row-major: a row is one or two cache lines),
``labels`` fixed_size_list<int8>[T] and, if the dataset has them, ``group`` int64, ``dense``
fixed_size_list<float32>[N], ``scenario`` int32 and the columns of ``stemlab.data.target_columns``.

Legend: R samples (rows), F fields, T tasks, N numerical columns.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from stemlab.array_types import AnyArray, Float32Array, Int8Array, Int32Array, Int64Array
from stemlab.data.io.arrow import as_numpy
from stemlab.data.reserved_file import blank_column, blank_lists, reserve_file, write_at
from stemlab.data.target_columns import BATCH_FIELDS, column_type
from stemlab.errors import StemlabError


class ColumnStore:
    """Read-only, memory-mapped columns of one split.

    Only the path is pickled; pickling a memory map would copy all columns.

    Args:
        path: file written by :class:`StoreWriter`.

    Attributes:
        path: that file.
        fields: names of the columns of ``ids``.
        tasks: names of the columns of ``labels``.
        numericals: names of the columns of ``dense``.
        ids: (R, F) int32; 0 is padding, the last id of a field out-of-vocabulary.
        labels: (R, T) int8 in {0, 1}; 0 for regression tasks and where the mask is 0.
        group: (R,) int64 raw (unencoded) group keys, ``MISSING_GROUP`` for an empty cell; ``None`` without a group.
        dense: (R, N) float32 scaled numerical columns, or ``None`` if the dataset has none.
        scenario: (R,) int32 scenario ids, or ``None`` for a single scenario.
        targets: the stored columns that ``stemlab.data.target_columns`` describes, such as ``values`` or ``list_ids``.

    Raises:
        StemlabError: the file is missing or not a prepared split.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._open()

    def _open(self) -> None:
        batch = map_batch(self.path)[0]
        names = batch.schema.metadata or {}
        self.fields: tuple[str, ...] = tuple(json.loads(names[b"fields"]))
        self.tasks: tuple[str, ...] = tuple(json.loads(names[b"tasks"]))
        self.ids: Int32Array = _matrix(batch.column("ids"), len(self.fields))
        self.labels: Int8Array = _matrix(batch.column("labels"), len(self.tasks))
        self.numericals: tuple[str, ...] = tuple(json.loads(names[b"numericals"]))
        stored = set(batch.schema.names)
        self.group: Int64Array | None = as_numpy(batch.column("group")) if "group" in stored else None
        self.scenario: Int32Array | None = as_numpy(batch.column("scenario")) if "scenario" in stored else None
        dense = _matrix(batch.column("dense"), len(self.numericals)) if "dense" in stored else None
        self.dense: Float32Array | None = dense
        self.targets: dict[str, AnyArray] = {
            name: _values(batch.column(name)) for name in BATCH_FIELDS if name in stored
        }

    def column(self, name: str) -> AnyArray:
        """Return a stored column by its name in the file."""
        found: AnyArray = self.targets[name] if name in self.targets else getattr(self, name)
        return found

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._open()


class StoreWriter:
    """Writer of one split in constant memory. Use as a context manager.

    The final file size is reserved as holes (a sparse file); rows are then written in place, so only the current rows
    are in memory and no memory-mapped page is dirty.

    Args:
        path: file to create.
        rows: exact number of rows that will be appended.
        fields: names of the id columns.
        tasks: names of the label columns.
        grouped: whether a group column is stored.
        numericals: names of the numerical columns.
        scenario: whether a scenario column is stored.
        targets: stored column -> its number of columns (``stemlab.data.target_columns.target_widths``).

    Raises:
        StemlabError: at the end of the context, if the number of appended rows is not ``rows``.
    """

    def __init__(
        self,
        path: Path,
        rows: int,
        fields: Sequence[str],
        tasks: Sequence[str],
        *,
        grouped: bool = True,
        numericals: Sequence[str] = (),
        scenario: bool = False,
        targets: Mapping[str, int] | None = None,
    ) -> None:
        self.path, self.rows, self._done = Path(path), rows, 0
        reserve_file(self.path, _empty_batch(rows, fields, tasks, grouped, numericals, scenario, targets or {}))
        self._columns = column_offsets(self.path)
        self._file = os.open(self.path, os.O_RDWR)

    def append(
        self,
        ids_BF: Int32Array,
        labels_BT: Int8Array,
        group_B: Int64Array | None = None,
        dense_BN: Float32Array | None = None,
        scenario_B: Int32Array | None = None,
        targets: Mapping[str, AnyArray] | None = None,
    ) -> None:
        """Write the next rows, in exactly the stored dtypes (nothing is cast).

        Args:
            ids_BF: (B, F) int32.
            labels_BT: (B, T) int8.
            group_B: (B,) int64.
            dense_BN: (B, N) float32.
            scenario_B: (B,) int32.
            targets: stored column -> its values.

        Raises:
            ValueError: a stored column is missing or has another length, or there are more rows than were reserved.
            TypeError: a column has another dtype.
        """
        if self._done + len(ids_BF) > self.rows:
            raise ValueError(f"{self.path} was reserved for {self.rows} rows")
        parts: dict[str, AnyArray | None] = {
            "ids": ids_BF,
            "labels": labels_BT,
            "group": group_B,
            "dense": dense_BN,
            "scenario": scenario_B,
            **(targets or {}),
        }
        for name, (offset, dtype) in self._columns.items():
            part = parts.get(name)
            if part is None or len(part) != len(ids_BF):
                raise ValueError(f"column {name!r} needs {len(ids_BF)} rows")
            if part.dtype != dtype:
                raise TypeError(f"column {name!r} is {part.dtype} instead of {dtype}")
            block = np.ascontiguousarray(part)
            width = block.nbytes // max(len(block), 1)
            write_at(self._file, block, offset + self._done * width)
        self._done += len(ids_BF)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        os.fsync(self._file)
        os.close(self._file)
        if kind is None and self._done != self.rows:
            raise StemlabError(
                f"{self.path} has {self._done} of {self.rows} rows: the raw data changed while being read."
            )


def write_store(
    path: Path,
    fields: Sequence[str],
    tasks: Sequence[str],
    ids_RF: Int32Array,
    labels_RT: Int8Array,
    group_R: Int64Array | None = None,
) -> ColumnStore:
    """Write a split from arrays in memory and open it."""
    with StoreWriter(path, len(ids_RF), fields, tasks, grouped=group_R is not None) as writer:
        writer.append(ids_RF, labels_RT, group_R)
    return ColumnStore(path)


def map_batch(path: Path) -> tuple[Any, Any]:
    """Return the record batch of a file and the memory-mapped buffer that holds it.

    Raises:
        StemlabError: the file is missing or not a prepared split.
    """
    try:
        with pa.memory_map(str(path)) as mapped:
            buffer = mapped.read_buffer()
        reader = pa.ipc.open_file(buffer)
        return reader.get_batch(0), buffer
    except (OSError, pa.ArrowInvalid) as error:
        raise StemlabError(f"{path} is not a prepared split ({error}); delete its folder and prepare again.") from error


def _matrix(column: Any, width: int) -> AnyArray:
    return as_numpy(column.values).reshape(-1, width)


def _values(column: Any) -> AnyArray:
    """Return a column of numbers, or of lists of equal length as a matrix."""
    return _matrix(column, column.type.list_size) if pa.types.is_fixed_size_list(column.type) else as_numpy(column)


def _empty_batch(
    rows: int,
    fields: Sequence[str],
    tasks: Sequence[str],
    grouped: bool,
    numericals: Sequence[str],
    scenario: bool,
    targets: Mapping[str, int],
) -> Any:
    """Return a batch of ``rows`` rows over untouched virtual memory."""
    columns = {
        "ids": blank_lists(pa.int32(), rows, len(fields)),
        "labels": blank_lists(pa.int8(), rows, len(tasks)),
    }
    if grouped:
        columns["group"] = blank_column(pa.int64(), rows)
    if numericals:
        columns["dense"] = blank_lists(pa.float32(), rows, len(numericals))
    if scenario:
        columns["scenario"] = blank_column(pa.int32(), rows)
    for name, width in targets.items():
        kind = column_type(name)
        columns[name] = blank_lists(kind, rows, width) if width else blank_column(kind, rows)
    batch = pa.record_batch(list(columns.values()), names=list(columns))
    names = {"fields": fields, "tasks": tasks, "numericals": numericals}
    return batch.replace_schema_metadata({key: json.dumps(list(value)) for key, value in names.items()})


def column_offsets(path: Path) -> dict[str, tuple[int, np.dtype[Any]]]:
    """Return column -> (byte offset of its values in the file, dtype)."""
    batch, mapped = map_batch(path)
    found = {}
    for name in batch.schema.names:
        column = batch.column(name)
        values = column.values if pa.types.is_fixed_size_list(column.type) else column
        found[name] = (values.buffers()[1].address - mapped.address, values.type.to_pandas_dtype())
    return {name: (offset, np.dtype(kind)) for name, (offset, kind) in found.items()}
