"""Between numpy and Arrow without a copy, and without pandas.

``pyarrow.array`` and ``to_numpy`` import pandas, which takes as long as parsing a million rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def as_numpy(column: Any) -> NDArray[Any]:
    """Return a number column without nulls as a read-only numpy array over the same memory."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    numbers: NDArray[Any] = np.from_dlpack(whole)
    return numbers


def as_arrow(values: NDArray[np.int64]) -> Any:
    """Return int64 values as an Arrow array over the same memory."""
    whole = np.ascontiguousarray(values, dtype=np.int64)
    return pa.Array.from_buffers(pa.int64(), len(whole), [None, pa.py_buffer(whole)], null_count=0)
