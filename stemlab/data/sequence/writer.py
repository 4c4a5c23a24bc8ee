"""Raw interactions -> files of a prepared directory.

``log.arrow`` (user, item, time, split), ``users.arrow`` (start, stop, unit), one file a split (row, and negatives where
stored), ``tokens/user.parquet`` and ``tokens/item.parquet``, and ``categories.parquet`` where the source hands any.

Legend: R interactions, U users.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stemlab.array_types import AnyArray, Int8Array, Int32Array, Int64Array
from stemlab.data.prepare.split import SPLITS
from stemlab.data.sequence.columns import write_columns
from stemlab.data.sequence.log import NO_GAP
from stemlab.data.sequence.raw import RawSequences
from stemlab.errors import StemlabError

CATEGORIES = "categories.parquet"


def write_log(directory: Path, raw: RawSequences) -> dict[str, Any]:
    """Write all files but the manifest.

    Args:
        directory: an empty directory.
        raw: checked interactions.

    Returns:
        What the manifest says of them: rows (instances) and interactions a split, negatives a row, rows whose positive
        is among them, users without an instance; where there are categories, their number and the items without one.
    """
    order = np.lexsort((raw.time, raw.user))  # stable: rows of the same user and second keep their order
    user, split = raw.user[order].astype(np.int32), raw.split[order].astype(np.int8)
    time = raw.time[order].astype(np.int64)
    item = raw.item[order].astype(np.int32)
    write_columns(directory / "log.arrow", {"user": user, "item": item, "time": time, "split": split})
    start, stop = _bounds(user, raw.users)
    write_columns(
        directory / "users.arrow", {"start": start, "stop": stop, "unit": smallest_gaps(user, time, raw.users)}
    )
    position = np.arange(len(user)) - start[user]
    rows = {name: _write_split(directory, raw, name, order, split, position) for name in SPLITS}
    _write_tokens(directory / "tokens", {"user": raw.user_tokens, "item": raw.item_tokens})
    lengths = (stop - start)[1:]
    told = {} if raw.categories is None else _write_categories(directory, raw.categories)
    return {
        "rows": rows,
        "interactions": {name: int((split == code).sum()) for code, name in enumerate(SPLITS)},
        "negatives": {name: int(values.shape[1]) for name, values in raw.negatives.items()},
        "positives_among_negatives": {name: raw.positives_among_negatives(name) for name in raw.negatives},
        "users_with_one_interaction": int((lengths == 1).sum()),
        "users_without_interaction": int((lengths == 0).sum()),
        **told,
    }


def read_original_ids(directory: Path, name: str) -> list[str]:
    """Return the original ids of ``user`` or ``item``, in id order from 1."""
    path = directory / "tokens" / f"{name}.parquet"
    try:
        tokens: list[str] = pq.read_table(path)["token"].to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise StemlabError(f"{path} cannot be read ({error}); prepare the dataset again.") from error
    return tokens


def read_item_categories(directory: Path) -> list[str | None] | None:
    """Return the category of items 1, 2, ..., or ``None`` where the directory keeps none."""
    path = directory / CATEGORIES
    if not path.is_file():
        return None
    try:
        names: list[str | None] = pq.read_table(path)["category"].to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise StemlabError(f"{path} cannot be read ({error}); prepare the dataset again.") from error
    return names


def _bounds(user: Int32Array, users: int) -> tuple[Int64Array, Int64Array]:
    """Return (U + 1,) first rows and (U + 1,) rows after the last."""
    ids = np.arange(users + 1)
    return np.searchsorted(user, ids, side="left"), np.searchsorted(user, ids, side="right")


def smallest_gaps(user: AnyArray, time: Int64Array, users: int) -> Int64Array:
    """Return (U + 1,) smallest positive gaps; in sorted times it lies between neighbours."""
    unit = np.full(users + 1, NO_GAP, dtype=np.int64)
    gap = np.diff(time)
    counted = (user[1:] == user[:-1]) & (gap > 0)
    np.minimum.at(unit, user[1:][counted], gap[counted])
    return unit


def _write_split(
    directory: Path, raw: RawSequences, name: str, order: Int64Array, split: Int8Array, position: Int64Array
) -> int:
    """Write the instances of one split: its rows that have something before them; return their number."""
    code = SPLITS.index(name)
    row = np.flatnonzero((split == code) & (position > 0))
    columns: dict[str, AnyArray] = {"row": row}
    if name in raw.negatives:
        place = np.cumsum(raw.split == code) - 1  # of each raw row among the rows of this split
        columns["negatives"] = raw.negatives[name][place[order[row]]].astype(np.int32)
    write_columns(directory / f"{name}.arrow", columns)
    return len(row)


def _write_tokens(directory: Path, tokens: dict[str, Sequence[str]]) -> None:
    directory.mkdir()
    for name, words in tokens.items():
        table = pa.Table.from_arrays([pa.array(list(words), pa.string())], names=["token"])
        pq.write_table(table, directory / f"{name}.parquet")


def _write_categories(directory: Path, categories: Sequence[str | None]) -> dict[str, int]:
    """Write one category an item; return what the manifest says of them."""
    table = pa.Table.from_arrays([pa.array(list(categories), pa.string())], names=["category"])
    pq.write_table(table, directory / CATEGORIES)
    without = sum(name is None for name in categories)
    return {"categories": len(set(categories) - {None}), "items_without_category": without}
