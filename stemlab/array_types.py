"""Type aliases of NumPy arrays by dtype; shapes are given in docstrings and in name suffixes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

AnyArray = NDArray[Any]
BoolArray = NDArray[np.bool_]
Int8Array = NDArray[np.int8]
Int32Array = NDArray[np.int32]
Int64Array = NDArray[np.int64]
UInt8Array = NDArray[np.uint8]
UInt32Array = NDArray[np.uint32]
UInt64Array = NDArray[np.uint64]
IndexArray = NDArray[np.intp]  # positions, as np.argsort and np.flatnonzero return them
StringArray = NDArray[np.str_]
IntegerArray = NDArray[np.integer[Any]]  # any width, signed or unsigned
Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
