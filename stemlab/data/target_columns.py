"""Optional columns of a split: about its labels, beside the binary labels, and lists of values.

Legend: R samples of the split, B samples in the batch, T tasks, V regression tasks, K columns of all lists of ids,
W columns of all lists of weights.

============  ==================  ===================  ===========================================================
column        stored              batch                content
============  ==================  ===================  ===========================================================
values        (R, V) float32      ``values_BV``        labels of the regression tasks; 0 where the mask is 0
mask          (R, T) int8         ``mask_BT``          1 where the label of the task counts
weight        (R,) float32        ``weight_B``         sample weights, at least 0
list_ids      (R, K) int32        ``list_ids_BK``      lists in blocks of fixed width (``stemlab.data.list_layout``)
list_weights  (R, W) float32      ``list_weights_BW``  weights of their values
============  ==================  ===================  ===========================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from stemlab.array_types import AnyArray
from stemlab.data.spec import Label

BATCH_FIELDS = {
    "values": "values_BV",
    "mask": "mask_BT",
    "weight": "weight_B",
    "list_ids": "list_ids_BK",
    "list_weights": "list_weights_BW",
}
"""Stored column -> field of ``ImpressionBatch``."""
_MASK, _WEIGHT = " as mask", " as weight"
_TYPES = {
    "values": pa.float32(),
    "mask": pa.int8(),
    "weight": pa.float32(),
    "list_ids": pa.int32(),
    "list_weights": pa.float32(),
}


def target_widths(tasks: int, labels: tuple[Label, ...], weighted: bool) -> dict[str, int]:
    """Return stored column -> its number of columns (0: one value per sample, no list) for the labels of a dataset.

    Args:
        tasks: T.
        labels: labels that are not binary labels of all samples.
        weighted: whether samples have weights.
    """
    regression = sum(label.kind == "regression" for label in labels)
    conditional = any(label.given is not None for label in labels)
    widths = {"values": regression, "mask": tasks if conditional else 0}
    return {name: width for name, width in widths.items() if width} | ({"weight": 0} if weighted else {})


def mask_of(task: str) -> str:
    """Return the name under which a reader yields the mask of a conditional label: int64, 1 where the label counts."""
    return f"{task}{_MASK}"


def weight_of(column: str) -> str:
    """Return the name under which a reader yields the weights of a column that may have another role as well."""
    return f"{column}{_WEIGHT}"


def weight_column(name: str) -> str:
    """Return the column of the file behind ``weight_of``."""
    return name.removesuffix(_WEIGHT)


def column_type(name: str) -> Any:
    """Return the Arrow type of the values of a column."""
    return _TYPES[name]


def batch_columns(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns under the names of the fields of ``ImpressionBatch``."""
    return {BATCH_FIELDS[name]: column for name, column in columns.items() if name in BATCH_FIELDS}


def some_rows(columns: Mapping[str, AnyArray], rows: AnyArray) -> dict[str, AnyArray]:
    """Return the given rows of each column."""
    return {name: column[rows] for name, column in columns.items()}
