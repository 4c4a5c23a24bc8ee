"""Where the lists of a dataset are in ``ImpressionBatch.list_ids_BK`` and ``list_weights_BW``.

Each list of at most L values has a block of L columns of ids; if its values have times, L columns of ages follow. A
weighted list also has L columns of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stemlab.data.spec import Field, ValueList


@dataclass(frozen=True, slots=True)
class ListColumns:
    """Columns of one list.

    Attributes:
        ids: of ``list_ids_BK``.
        ages: of ``list_ids_BK``, or ``None``.
        weights: of ``list_weights_BW``, or ``None``.
    """

    ids: slice
    ages: slice | None
    weights: slice | None


def list_columns(lists: Sequence[Field]) -> tuple[list[ListColumns], tuple[int, int]]:
    """Return the columns of each list, and the number of columns (K, W) of all of them."""
    found, ids, weights = [], 0, 0
    for field in lists:
        values = values_of(field)
        length = values.max_length
        own = slice(ids, ids + length)
        ids += length
        ages = slice(ids, ids + length) if values.times else None
        ids += length if values.times else 0
        weight = slice(weights, weights + length) if values.weighted else None
        weights += length if values.weighted else 0
        found.append(ListColumns(own, ages, weight))
    return found, (ids, weights)


def list_widths(lists: Sequence[Field]) -> dict[str, int]:
    """Return stored column (``stemlab.data.target_columns``) -> its number of columns, K or W, if there are any."""
    _, (ids, weights) = list_columns(lists)
    return {name: width for name, width in (("list_ids", ids), ("list_weights", weights)) if width}


def values_of(field: Field) -> ValueList:
    """Return how a list is stored and pooled; raise ValueError for a field of another kind."""
    if field.values is None:
        raise ValueError(f"field {field.name!r} holds no list")
    return field.values
