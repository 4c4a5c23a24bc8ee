"""Categories of the items of a sequence dataset: one or several each.

A dataset's own are one each (of MovieLens the first genre, of Amazon the leaf). Others, or several each, are read from
a file: MovieLens' ``movies.dat`` (all genres) or a table with the columns ``item`` and ``category``.

Legend: I items, C categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stemlab.array_types import BoolArray
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.data.sources.item_categories import MOVIES, all_genres
from stemlab.errors import StemlabError, nearest

SEVERAL = "|"


@dataclass(frozen=True)
class ItemCategories:
    """Which item has which categories.

    Attributes:
        names: C names.
        member_IC: (I + 1, C) booleans; row 0 is padding and has none.
    """

    names: tuple[str, ...]
    member_IC: BoolArray

    def place(self, name: str, key: str) -> int:
        """Return the column of a category.

        Raises:
            StemlabError: there is no such category.
        """
        if name not in self.names:
            told = f"{key}: there is no category {name!r}; there are {', '.join(self.names[:20])}"
            raise StemlabError(f"{told}{', ...' if len(self.names) > 20 else ''}.{nearest(name, self.names)}")
        return self.names.index(name)


def item_categories(data: SequenceDataModule, file: str | None) -> ItemCategories:
    """Return the categories of a dataset's items.

    Args:
        data: prepared.
        file: where they stand; ``None``: the dataset's own.

    Raises:
        StemlabError: there is no such file, it cannot be read, or no item of the dataset is in it.
    """
    if file is None:
        known = data.item_categories
        if known is None:
            raise StemlabError(
                f"dataset {data.name} says nothing of its items' categories: write analysis.categories=<file with the "
                "columns item and category>."
            )
        return ItemCategories(known.names, known.member_IC)
    path = Path(file)
    if not path.is_file():
        raise StemlabError(f"analysis.categories={path}: there is no such file.")
    return from_table(read_categories(path), data.item_tokens, path)


def read_categories(path: Path) -> dict[str, list[str]]:
    """Return original item id -> its categories, from ``movies.dat`` or a csv, tsv or parquet table."""
    if path.name == MOVIES:
        return all_genres(path)
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, sep=None, engine="python")
    except (OSError, ValueError) as error:
        raise StemlabError(f"analysis.categories={path} cannot be read ({error}).") from None
    missing = [name for name in ("item", "category") if name not in table.columns]
    if missing:
        raise StemlabError(
            f"analysis.categories={path} has no column {missing[0]!r}; it has {', '.join(table.columns)}."
        )
    pairs = zip(table["item"].astype(str), table["category"].astype(str), strict=True)
    return {item: category.split(SEVERAL) for item, category in pairs}


def from_table(categories: Mapping[str, Sequence[str]], tokens: Sequence[str], path: Path) -> ItemCategories:
    """Return the categories of items 1, 2, ... with the original ids ``tokens``."""
    names = tuple(sorted({name for told in categories.values() for name in told}))
    place = {name: number for number, name in enumerate(names)}
    member_IC = np.zeros((len(tokens) + 1, len(names)), dtype=np.bool_)
    for item, token in enumerate(tokens, start=1):
        member_IC[item, [place[name] for name in categories.get(str(token), ())]] = True
    if not member_IC.any():
        raise StemlabError(f"{path} knows none of the dataset's items: is it the file of another collection?")
    return ItemCategories(names, member_IC)


def most_frequent(member_IC: BoolArray, item_R: Any, count: int) -> list[int]:
    """Return the places of the categories that occur most often among some items, most frequent first."""
    times_I = np.bincount(item_R, minlength=len(member_IC))
    times_C = times_I @ member_IC
    order = np.lexsort((np.arange(len(times_C)), -times_C))
    return [int(place) for place in order[:count] if times_C[place] > 0]
