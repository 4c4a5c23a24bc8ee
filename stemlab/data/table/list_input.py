"""Lists of values in files and in rows to score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from stemlab.array_types import BoolArray
from stemlab.data.prepare.preparation_settings import ages_of, weights_of
from stemlab.data.table.columns import ColumnRoles
from stemlab.data.table.list_settings import ListRole
from stemlab.data.table.lists import SplitLists, split_lists
from stemlab.errors import StemlabError, nearest


def refuse_lists(roles: ColumnRoles, lists: Sequence[str]) -> None:
    """Refuse columns of lists that are named where a column of single values is expected.

    Args:
        roles: roles of the columns.
        lists: columns whose cells are lists.

    Raises:
        StemlabError: the first such column.
    """
    allowed = {key for role in roles.lists for key, _ in role.columns()}
    for key, name in roles.named():
        if name in lists and key not in allowed:
            raise StemlabError(
                f"{key} has {name!r}, whose cells are lists: describe it in dataset.multivalued or dataset.sequences "
                "(docs/inputs.md)."
            )


def with_parsed_lists(table: Any, roles: Sequence[ListRole], missing: Sequence[str]) -> Any:
    """Return an Arrow table with the lists of each field as the columns that ``TableListEncoder`` reads.

    Args:
        table: raw rows.
        roles: columns of the lists.
        missing: cells and values that mean a missing value.

    Raises:
        StemlabError: a column is missing, or a cell cannot be read.
    """
    for role in roles:
        for _, name in role.columns():
            if name not in table.column_names:
                raise StemlabError(
                    f"the input has no column {name!r} (it has: {', '.join(table.column_names)})."
                    + nearest(name, tuple(table.column_names))
                )
    parsed = [split_lists(role, {name: table[name] for _, name in role.columns()}, missing) for role in roles]
    for role, lists in zip(roles, parsed, strict=True):
        bad_B = lists.bad_rows()
        if bad_B.any():
            raise StemlabError(f"the input: {lists.problem(int(np.argmax(bad_B)))}.")
        table = _with_columns(table, role, lists)
    return table


def bad_list_rows(
    table: Any, roles: Sequence[ListRole], missing: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], BoolArray]]:
    """Yield the columns of each list field whose columns exist, and the mask of rows that cannot be read.

    Args:
        table: raw rows.
        roles: columns of the lists.
        missing: cells and values that mean a missing value.
    """
    for role in roles:
        names = tuple(dict.fromkeys(name for _, name in role.columns()))
        if set(names) <= set(table.column_names):
            yield names, split_lists(role, {name: table[name] for name in names}, missing).bad_rows()


def _with_columns(table: Any, role: ListRole, lists: SplitLists) -> Any:
    offsets = pa.array(np.append(0, np.cumsum(lists.lengths_B)), pa.int32())
    found = {
        role.name: lists.tokens,
        role.category_field: lists.categories,
        ages_of(role.name): lists.ages_N,
        weights_of(role.name): lists.weights_N,
    }
    for name, values in found.items():
        if values is not None:
            values = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
            column = pa.ListArray.from_arrays(offsets, _whole(values))
            if name in table.column_names:
                table = table.drop_columns([name])
            table = table.append_column(name, column)
    return table


def _whole(values: Any) -> Any:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
