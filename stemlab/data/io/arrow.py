"""Zero-copy conversion between NumPy and Arrow without pandas.

``pyarrow.array`` and ``to_numpy`` import pandas, which takes as long as parsing a million rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from stemlab.array_types import AnyArray, Int64Array


def as_numpy(column: Any) -> AnyArray:
    """Return a numeric column without nulls as a read-only NumPy array that shares its memory."""
    contiguous = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    numbers: AnyArray = np.from_dlpack(contiguous)
    return numbers


def as_arrow(values: Int64Array) -> Any:
    """Return int64 values as an Arrow array that shares their memory."""
    contiguous = np.ascontiguousarray(values, dtype=np.int64)
    return pa.Array.from_buffers(pa.int64(), len(contiguous), [None, pa.py_buffer(contiguous)], null_count=0)
