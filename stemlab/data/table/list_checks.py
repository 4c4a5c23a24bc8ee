"""Checks of text cells that hold several values: whether the separator of the description divides them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stemlab.data.table.list_settings import ListRole
from stemlab.data.table.multivalued import list_form
from stemlab.errors import StemlabError

_log = logging.getLogger(__name__)
_SHOWN = 40


def check_separators(roles: Sequence[ListRole], columns: Mapping[str, Any], path: Path) -> None:
    """Check the list columns of the first rows of a table; a whole cell would be one category.

    Cells that seem to have another separator are warned of.

    Args:
        roles: columns of the lists.
        columns: column of the file -> its cells.
        path: the file, for messages.

    Raises:
        StemlabError: the cells are lists in brackets, as JSON or ``str`` of Python writes them.
    """
    for role in roles:
        column = columns[role.values]
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        form = list_form(column) if pa.types.is_string(kind) or pa.types.is_large_string(kind) else None
        if form is None:
            continue
        bracketed = form.startswith("in ")
        texts = pc.unique(column.cast(kind)).drop_null()
        if bracketed:
            cell = max((text.strip()[:_SHOWN] for text in texts.to_pylist() if text.strip()[:1] == form[3]), key=len)
            raise StemlabError(
                f"{path}: column {role.values!r} ({role.key}) has lists in brackets, such as {cell!r}, which "
                f"are not read: write the values as a{role.separator}b, or a Parquet file with a column of lists."
            )
        if not pc.any(pc.match_substring(texts, role.separator)).as_py():
            _log.warning(
                f"{path}: no cell of column {role.values!r} has {role.key}.separator={role.separator!r}, and they seem "
                f"{form}: each cell is read as one value."
            )
