"""Table file with columns that a function of the user derives from those of the file, chunk by chunk."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from stemlab.data.io.progress import Advance
from stemlab.data.table.file import TableChunk, TableFile
from stemlab.errors import StemlabError

Derive = Callable[[Any], Any]
"""Arrow table of a chunk -> the same rows with further or other columns."""


class DerivedTable:
    """A table file whose chunks pass through a function.

    Args:
        table: the file.
        derive: receives all columns of a chunk; of a text file they are strings.
        code: identifies the function in the fingerprint of the prepared dataset.
    """

    def __init__(self, table: TableFile, derive: Derive, code: str) -> None:
        self._table, self._derive, self.code = table, derive, code
        self.path, self.row_unit = table.path, table.row_unit
        self.separator = getattr(table, "separator", None)
        first = next(self._chunks(lambda size: None, 0))[1].schema
        self.names = tuple(first.names)
        self.lists = tuple(name for name in self.names if pa.types.is_list(first.field(name).type))
        self.readable = tuple(name for name in self.names if name not in self.lists)
        self.unreadable: Mapping[str, str] = {}

    def chunks(
        self, columns: Sequence[str], advance: Advance, *, skip: int = 0, lists: Sequence[str] = ()
    ) -> Iterator[TableChunk]:
        """Yield the given columns in chunks, without the first ``skip``."""
        for name in set(columns) & set(self.lists) - set(lists):
            raise StemlabError(f"{self.path}: the derived column {name!r} holds lists; leave it out.")
        for chunk, table in self._chunks(advance, skip):
            found = {name: table[name].combine_chunks() for name in columns}
            yield TableChunk(found, chunk.lines, chunk.malformed)

    def _chunks(self, advance: Advance, skip: int) -> Iterator[tuple[TableChunk, pa.Table]]:
        names = [*self._table.readable, *self._table.lists]
        for chunk in self._table.chunks(names, advance, skip=skip, lists=self._table.lists):
            table = self._derive(pa.table(dict(chunk.columns)))
            if not isinstance(table, pa.Table) or table.num_rows != len(chunk.lines):
                raise StemlabError(f"{self.path}: derive() must return an Arrow table with the rows that it receives.")
            yield chunk, table


def code_of(target: type) -> str:
    """Return a hash of the module that defines a class: changed code derives other columns."""
    try:
        source = inspect.getsource(sys.modules[target.__module__])
    except (OSError, TypeError):  # a class of an interactive session
        source = f"{target.__module__}.{target.__qualname__}"
    return hashlib.sha256(source.encode()).hexdigest()[:16]
