"""Embedding tables of a network, with the range of their token rows.

Legend: V rows, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from stemlab.array_types import AnyArray, Int32Array, Int64Array
from stemlab.data.spec import DatasetSpec, SequenceSpec
from stemlab.errors import StemlabError, nearest


@dataclass(frozen=True)
class FieldTable:
    """One embedding table.

    Attributes:
        field: field of the table.
        role: ``shared``, ``task:<name>`` or ``expert:<m>``.
        weight_VD: (V, D) float view of the weights.
        first: index of the first token row (after padding).
        last: index after the last token row (the out-of-vocabulary row, if there is one).
    """

    field: str
    role: str
    weight_VD: AnyArray
    first: int
    last: int

    @property
    def tokens(self) -> AnyArray:
        """Token rows, without padding and out-of-vocabulary."""
        return self.weight_VD[self.first : self.last]


def field_tables(net: nn.Module, spec: DatasetSpec | SequenceSpec) -> list[FieldTable]:
    """Return the embedding tables of a network, in the order of ``embedding_tables()``.

    Args:
        net: network with ``embedding_tables()``.
        spec: dataset of the network.

    Raises:
        StemlabError: the network has no tables, or the number of rows of a table differs from the dataset.
    """
    tables: Mapping[str, Mapping[str, Tensor]] = cast(Any, net).embedding_tables()
    found = []
    for field, roles in tables.items():
        for role, view in roles.items():
            weight_VD = view.detach().cpu().numpy()
            first, last = _tokens(field, len(weight_VD), spec)
            found.append(FieldTable(field, role, weight_VD, first, last))
    if not found:
        raise StemlabError(f"{type(net).__name__} has no embedding tables.")
    return found


def _tokens(field: str, rows: int, spec: DatasetSpec | SequenceSpec) -> tuple[int, int]:
    """Return the range of token rows: padding is first; impression datasets have out-of-vocabulary last."""
    if isinstance(spec, SequenceSpec):
        sizes = {"item_id": spec.items, "user_id": spec.users}
        return (1, rows) if sizes.get(field, rows) < rows else (0, rows)
    size = spec.field_sizes.get(field)
    if size is not None and size != rows:
        raise StemlabError(
            f"field {field!r} has {size:,} ids in dataset {spec.name}, but its embedding table in the checkpoint has "
            f"{rows:,} rows: the vocabularies differ."
        )
    return 1, max(rows - 1, 1)


def chosen(tables: Sequence[FieldTable], fields: Sequence[str], key: str) -> list[FieldTable]:
    """Return the tables of the given fields, or all tables if ``fields`` is empty.

    Args:
        tables: embedding tables.
        fields: field names.
        key: config key for the error message.

    Raises:
        StemlabError: the network has no such field.
    """
    known = list(dict.fromkeys(table.field for table in tables))
    for field in fields:
        if field not in known:
            raise StemlabError(
                f"{key}: there is no field {field!r}; there are {', '.join(known)}.{nearest(field, known)}"
            )
    return [table for table in tables if not fields or table.field in fields]


def training_counts(ids_R: Int32Array, rows: int) -> Int64Array:
    """Return (V,) int64 counts of each id of a field; the (R,) ids are read in blocks.

    Args:
        ids_R: ids of the training samples, memory-mapped.
        rows: V, number of ids of the field.
    """
    counts = np.zeros(rows, dtype=np.int64)
    for start in range(0, len(ids_R), 1 << 20):
        counts += np.bincount(ids_R[start : start + (1 << 20)], minlength=rows)
    return counts
