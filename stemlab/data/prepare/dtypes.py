"""Dtypes of integer columns by kind, and the conversion to small codes.

=====================  ========  ====================================================================
column                 dtype     where
=====================  ========  ====================================================================
raw integers, groups   int64     readers, column cache, vocabularies, stored group keys
split codes            uint8     one per cached row (0 train, 1 valid, 2 test, 3 dropped)
ids, scenario ids      int32     encoders, stored columns, batches
labels                 int8      stored columns, batches
=====================  ========  ====================================================================

Numerical columns are float32. A column is converted only where its kind changes, so a Python integer is never combined
with an array too narrow for it (NumPy 2.5 raises OverflowError there, older versions wrap around).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from stemlab.array_types import AnyArray, IntegerArray, UInt8Array

OUTSIDE = 255
"""Code of values that are not between 0 and 254."""


def check_raw_integers(name: str, values: AnyArray) -> None:
    """Check the dtype of a raw integer column.

    Raises:
        TypeError: the dtype is not int64.
    """
    if values.dtype != np.int64:
        raise TypeError(f"column {name!r} is {values.dtype}: readers yield integer columns as int64")


def to_small_codes(chunks: Iterable[IntegerArray], rows: int) -> UInt8Array:
    """Join a column of small codes (labels, scenario ids, split codes).

    Args:
        chunks: the column in chunks, of any integer dtype.
        rows: its length.

    Returns:
        (rows,) uint8; values below 0 or above 254 become ``OUTSIDE``.
    """
    codes, row = np.empty(rows, dtype=np.uint8), 0
    for chunk in chunks:
        wide = np.asarray(chunk, dtype=np.int64)
        codes[row : row + len(chunk)] = np.where((wide < 0) | (wide > OUTSIDE), OUTSIDE, wide)
        row += len(chunk)
    return codes
