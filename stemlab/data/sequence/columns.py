"""Memory-mapped integer columns.

A file is an Arrow IPC file with a single record batch; a matrix is a column of fixed-size lists (row-major).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stemlab.array_types import AnyArray
from stemlab.data.io.arrow import as_numpy
from stemlab.data.store import map_batch


def write_columns(path: Path, columns: Mapping[str, AnyArray]) -> None:
    """Write columns (R,) and matrices (R, K) of signed integers; each keeps its dtype."""
    batch = pa.record_batch([_as_column(values) for values in columns.values()], names=list(columns))
    options = pa.ipc.IpcWriteOptions(allow_64bit=True)
    with pa.ipc.new_file(str(path), batch.schema, options=options) as writer:
        writer.write_batch(batch)


def map_columns(path: Path) -> dict[str, AnyArray]:
    """Return the columns written by :func:`write_columns` as read-only memory-mapped arrays.

    Raises:
        StemlabError: the file is missing or damaged.
    """
    batch = map_batch(path)[0]
    return {name: _as_array(batch.column(name)) for name in batch.schema.names}


def _as_column(values: AnyArray) -> Any:
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(_as_column(values.reshape(-1)), values.shape[1])
    contiguous = np.ascontiguousarray(values)
    arrow_type = pa.from_numpy_dtype(contiguous.dtype)
    return pa.Array.from_buffers(arrow_type, len(contiguous), [None, pa.py_buffer(contiguous)], null_count=0)


def _as_array(column: Any) -> AnyArray:
    if pa.types.is_fixed_size_list(column.type):
        return as_numpy(column.values).reshape(len(column), column.type.list_size)
    return as_numpy(column)
