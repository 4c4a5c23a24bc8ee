"""Categories of the items of a sequence dataset, one or several per item.

The categories of the dataset are one per item (MovieLens: the first genre; Amazon: the leaf category). Other
categories, or several per item, are read from a file: ``movies.dat`` of MovieLens (all genres), or a table with the
columns ``item`` and ``category``.

Legend: I items, C categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stemlab.array_types import BoolArray
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.data.sources.item_categories import MOVIES, all_genres
from stemlab.data.table.cells import tokens_of
from stemlab.data.table.file import open_table
from stemlab.errors import StemlabError, nearest

_SEPARATOR = "|"


@dataclass(frozen=True)
class CategoryMembership:
    """Category membership of the items, one or several categories per item.

    Attributes:
        names: C names.
        member_IC: (I + 1, C) bool; row 0 is padding and has no category.
    """

    names: tuple[str, ...]
    member_IC: BoolArray

    def column(self, name: str, key: str) -> int:
        """Return the column index of a category.

        Args:
            name: category.
            key: config key for the error message.

        Raises:
            StemlabError: there is no such category.
        """
        if name not in self.names:
            first = f"{', '.join(self.names[:20])}{', ...' if len(self.names) > 20 else ''}"
            raise StemlabError(f"{key}: there is no category {name!r}; there are {first}.{nearest(name, self.names)}")
        return self.names.index(name)


def item_categories(data: SequenceDataModule, file: str | None) -> CategoryMembership:
    """Return the categories of the items of a dataset.

    Args:
        data: prepared dataset.
        file: file with the categories; ``None``: categories of the dataset.

    Raises:
        StemlabError: the dataset has no categories, or the file is missing, unreadable or has no item of the dataset.
    """
    if file is None:
        known = data.item_categories
        if known is None:
            raise StemlabError(
                f"dataset {data.name} has no item categories: set analysis.categories=<file with the columns item and "
                "category>."
            )
        return CategoryMembership(known.names, known.member_IC)
    path = Path(file)
    if not path.is_file():
        raise StemlabError(f"analysis.categories={path}: the file does not exist.")
    return from_table(read_category_file(path), data.item_tokens, path)


def read_category_file(path: Path) -> dict[str, list[str]]:
    """Return raw item id -> categories, from ``movies.dat`` or a CSV, TSV or Parquet table.

    Raises:
        StemlabError: the file cannot be read, or a column is missing.
    """
    if path.name == MOVIES:
        return all_genres(path)
    table = open_table(path)
    missing = [name for name in ("item", "category") if name not in table.readable]
    if missing:
        raise StemlabError(f"analysis.categories={path} has no column {missing[0]!r}; it has {', '.join(table.names)}.")
    found: dict[str, list[str]] = {}
    for chunk in table.chunks(("item", "category"), lambda size: None):
        for line, problem in chunk.malformed:
            raise StemlabError(f"{path}, line {line}: {problem}; correct the line.")
        item, category = (tokens_of(chunk.columns[name]).to_pylist() for name in ("item", "category"))
        found |= {one: several.split(_SEPARATOR) for one, several in zip(item, category, strict=True) if several}
    return found


def from_table(categories: Mapping[str, Sequence[str]], tokens: Sequence[str], path: Path) -> CategoryMembership:
    """Return the categories of items 1, 2, ... with the raw ids ``tokens``.

    Args:
        categories: raw item id -> categories.
        tokens: raw ids of the items of the dataset.
        path: file of the categories, for the error message.

    Raises:
        StemlabError: no item of the dataset has a category.
    """
    names = tuple(sorted({name for several in categories.values() for name in several}))
    column = {name: number for number, name in enumerate(names)}
    member_IC = np.zeros((len(tokens) + 1, len(names)), dtype=np.bool_)
    for item, token in enumerate(tokens, start=1):
        member_IC[item, [column[name] for name in categories.get(str(token), ())]] = True
    if not member_IC.any():
        raise StemlabError(f"{path} has no item of the dataset: it may belong to another dataset.")
    return CategoryMembership(names, member_IC)


def most_frequent(member_IC: BoolArray, item_R: Any, count: int) -> list[int]:
    """Return the column indices of the ``count`` most frequent categories, most frequent first.

    Args:
        member_IC: (I + 1, C) category membership.
        item_R: (R,) item ids in which categories are counted.
        count: number of categories.
    """
    count_I = np.bincount(item_R, minlength=len(member_IC))
    count_C = count_I @ member_IC
    order = np.lexsort((np.arange(len(count_C)), -count_C))
    return [int(column) for column in order[:count] if count_C[column] > 0]
