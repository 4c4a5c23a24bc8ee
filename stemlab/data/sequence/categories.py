"""The category of every item, read from the file that a source keeps it in.

Legend: I items, C categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemlab.array_types import BoolArray, Int64Array
from stemlab.data.io.text_blocks import read_blocks
from stemlab.errors import StemlabError


@dataclass(frozen=True, slots=True, eq=False)
class ItemCategories:
    """One category an item.

    Attributes:
        code_I: (I+1,) int64; 1 to C, 0 for items without a category and for padding (item 0).
        names: of the categories 1 to C.
    """

    code_I: Int64Array
    names: tuple[str, ...]

    @property
    def count(self) -> int:
        """C."""
        return len(self.names)

    @property
    def member_IC(self) -> BoolArray:  # noqa: N802 - the letters are its shape
        """(I+1, C) whether an item has a category."""
        return np.asarray(self.code_I[:, None] == np.arange(1, self.count + 1))

    @classmethod
    def of(cls, name_of: Mapping[str, str], item_tokens: Sequence[str]) -> ItemCategories:
        """Number the categories of a dataset's items, in the order of numbers or of the alphabet.

        Args:
            name_of: original item id -> category; items that are missing have none.
            item_tokens: original ids of items 1, 2, ...
        """
        found = [name_of.get(token) for token in item_tokens]
        names = sorted({name for name in found if name is not None}, key=_by_number)
        code = {name: place for place, name in enumerate(names, start=1)}
        codes = [0, *(0 if name is None else code[name] for name in found)]
        return cls(np.array(codes, dtype=np.int64), tuple(names))


def _by_number(name: str) -> tuple[int, int, str]:
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def read_columns(path: Path, member: str, separator: str, least: int) -> list[list[str]]:
    """Return the cells of every line of a text file (latin-1), plain, gzip, or in an archive.

    Args:
        path: the file.
        member: its name inside an archive.
        separator: between cells.
        least: cells that a line has at least.

    Raises:
        StemlabError: a line with fewer cells, or a damaged file.
    """
    text = b"".join(block.data for block in read_blocks(path, member)).decode("latin-1")
    rows = [line.removesuffix("\r").split(separator) for line in text.removesuffix("\n").split("\n")]
    for number, row in enumerate(rows, start=1):
        if len(row) < least:
            raise StemlabError(f"{path}, line {number}: {len(row)} columns instead of {least}; mend the line.")
    return rows
