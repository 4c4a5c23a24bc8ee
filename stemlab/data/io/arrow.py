"""Zero-copy conversion between NumPy and Arrow without pandas.

``pyarrow.array`` and ``to_numpy`` import pandas, which takes as long as parsing a million rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stemlab.array_types import AnyArray, BoolArray, Int64Array

_WHOLE_FLOAT = r"^(-?[0-9]+)\.0+$"
_EXACT = {pa.float16(): 1 << 11, pa.float32(): 1 << 24, pa.float64(): 1 << 53}


def as_numpy(column: Any) -> AnyArray:
    """Return a numeric column without nulls as a read-only NumPy array that shares its memory."""
    contiguous = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    numbers: AnyArray = np.from_dlpack(contiguous)
    return numbers


def as_arrow(values: Int64Array) -> Any:
    """Return int64 values as an Arrow array that shares their memory."""
    contiguous = np.ascontiguousarray(values, dtype=np.int64)
    return pa.Array.from_buffers(pa.int64(), len(contiguous), [None, pa.py_buffer(contiguous)], null_count=0)


def whole_floats_as_integers(texts: Any) -> Any:
    """Return a text column with whole floats (5.0) written as integers (5); programs write ids so if some are missing.

    Other texts (007, 5.5) are unchanged.
    """
    if not pc.any(pc.match_substring(texts, ".0")).as_py():
        return texts
    return pc.replace_substring_regex(texts, _WHOLE_FLOAT, r"\1")


def inexact_integers(column: Any) -> BoolArray:
    """Return which cells of a float column are above the largest integer range that its dtype holds exactly, (R,)."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if kind not in _EXACT:
        return np.zeros(len(column), dtype=np.bool_)
    values = as_numpy(pc.fill_null(column.dictionary_decode() if kind is not column.type else column, 0.0))
    found: BoolArray = np.isfinite(values) & (np.abs(values) > _EXACT[kind])
    return found
