"""Embedding tables of any network, with the rows that stand for no token.

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
        field: whose values its rows are.
        role: ``shared``, ``task:<name>`` or ``expert:<m>``.
        weight_VD: (V, D) float view into the weights.
        first: row of the first token: behind padding.
        last: behind the row of the last token: before out-of-vocabulary.
    """

    field: str
    role: str
    weight_VD: AnyArray
    first: int
    last: int

    @property
    def tokens(self) -> AnyArray:
        """The rows of tokens, without padding and out-of-vocabulary."""
        return self.weight_VD[self.first : self.last]


def field_tables(net: nn.Module, spec: DatasetSpec | SequenceSpec) -> list[FieldTable]:
    """Return a network's tables in its own order.

    Args:
        net: with ``embedding_tables()``.
        spec: of the dataset it was built for.

    Raises:
        StemlabError: it has no tables, or they do not have the dataset's numbers of rows.
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
    """Rows of tokens: impressions keep padding first and out-of-vocabulary last, sequences padding first."""
    if isinstance(spec, SequenceSpec):
        sizes = {"item_id": spec.items, "user_id": spec.users}
        return (1, rows) if sizes.get(field, rows) < rows else (0, rows)
    size = spec.field_sizes.get(field)
    if size is not None and size != rows:
        raise StemlabError(
            f"field {field!r} has {size:,} ids in dataset {spec.name}, but its table in the checkpoint has {rows:,} "
            "rows: they belong to different vocabularies."
        )
    return 1, max(rows - 1, 1)


def chosen(tables: Sequence[FieldTable], fields: Sequence[str], key: str) -> list[FieldTable]:
    """Return the tables of some fields (of all where none is named).

    Raises:
        StemlabError: a field that the network does not have.
    """
    known = list(dict.fromkeys(table.field for table in tables))
    for field in fields:
        if field not in known:
            raise StemlabError(
                f"{key}: there is no field {field!r}; there are {', '.join(known)}.{nearest(field, known)}"
            )
    return [table for table in tables if not fields or table.field in fields]


def training_counts(ids_R: Int32Array, rows: int) -> Int64Array:
    """Return how often each id of a field occurs; ids (R,) memory-mapped, read piece by piece."""
    counts = np.zeros(rows, dtype=np.int64)
    for start in range(0, len(ids_R), 1 << 20):
        counts += np.bincount(ids_R[start : start + (1 << 20)], minlength=rows)
    return counts
