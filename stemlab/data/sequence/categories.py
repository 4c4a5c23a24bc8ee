"""Item categories and the reader of the text files that hold them.

Source: docs/methods/datasets.md#item-categories.

Legend: I items, C categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemlab.array_types import BoolArray, Int64Array
from stemlab.data.io.text_blocks import read_blocks, refuse_bare_returns
from stemlab.errors import StemlabError


@dataclass(frozen=True, slots=True, eq=False)
class ItemCategories:
    """At most one category per item.

    Attributes:
        code_I: (I+1,) int64 category ids, 1 to C; 0 for items without a category and for padding (item 0).
        names: names of the categories 1 to C.
    """

    code_I: Int64Array
    names: tuple[str, ...]

    @property
    def count(self) -> int:
        """C, the number of categories."""
        return len(self.names)

    @property
    def member_IC(self) -> BoolArray:  # noqa: N802 - the letters are its shape
        """(I+1, C) membership matrix: True where the item has the category."""
        return np.asarray(self.code_I[:, None] == np.arange(1, self.count + 1))

    @classmethod
    def of(cls, name_of: Mapping[str, str], item_tokens: Sequence[str]) -> ItemCategories:
        """Return the categories of a dataset's items; category ids follow numerical, then alphabetical order.

        Args:
            name_of: original item id -> category name; items that are absent have no category.
            item_tokens: original ids of items 1, 2, ...
        """
        found = [name_of.get(token) for token in item_tokens]
        names = sorted({name for name in found if name is not None}, key=_numbers_first)
        code = {name: index for index, name in enumerate(names, start=1)}
        codes = [0, *(0 if name is None else code[name] for name in found)]
        return cls(np.array(codes, dtype=np.int64), tuple(names))


def _numbers_first(name: str) -> tuple[int, int, str]:
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def read_columns(path: Path, member: str, separator: str, least: int) -> list[list[str]]:
    """Read the cells of every line of a text file (latin-1): plain, gzip or inside an archive.

    Args:
        path: the file.
        member: name of the file inside an archive.
        separator: separator of the cells.
        least: minimum number of cells per line.

    Returns:
        One list of cells per line.

    Raises:
        StemlabError: a line has fewer cells, or the file is damaged.
    """
    data = b"".join(block.data for block in read_blocks(path, member))
    refuse_bare_returns(path, data, 1)
    lines = data.decode("latin-1").removesuffix("\n").split("\n")
    rows = [line.removesuffix("\r").split(separator) for line in lines]
    for number, row in enumerate(rows, start=1):
        if len(row) < least:
            raise StemlabError(f"{path}, line {number}: {len(row)} columns instead of {least}; correct the line.")
    return rows
