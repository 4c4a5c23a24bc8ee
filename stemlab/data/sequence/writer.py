"""Writer of the files of a prepared sequence directory.

``log.arrow`` (user, item, time, split), ``users.arrow`` (start, stop, unit), one file per split (row, and negatives if
stored), ``tokens/user.parquet``, ``tokens/item.parquet``, and ``categories.parquet`` if the source has categories.

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
from stemlab.data.sequence.log import MAX_TIME_UNIT
from stemlab.data.sequence.raw import RawSequences
from stemlab.errors import StemlabError

_CATEGORIES = "categories.parquet"


def write_log(directory: Path, raw: RawSequences) -> dict[str, Any]:
    """Write all files except the manifest.

    Args:
        directory: an empty directory.
        raw: checked interactions.

    Returns:
        Entries of the manifest: instances and interactions per split, negatives per row, rows whose positive is among
        their negatives, evaluation rows without a history, users without instances; with categories also their number
        and the items without one.
    """
    order = np.lexsort((raw.time, raw.user))  # stable: ties of a user keep their order
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
    categories = {} if raw.categories is None else _write_categories(directory, raw.categories)
    return {
        "rows": rows,
        "interactions": {name: int((split == code).sum()) for code, name in enumerate(SPLITS)},
        "negatives": {name: int(values.shape[1]) for name, values in raw.negatives.items()},
        "positives_among_negatives": {name: raw.positives_among_negatives(name) for name in raw.negatives},
        "rows_without_history": {
            name: int(((split == code) & (position == 0)).sum()) for code, name in enumerate(SPLITS) if name != "train"
        },
        "users_with_one_interaction": int((lengths == 1).sum()),
        "users_without_interaction": int((lengths == 0).sum()),
        **categories,
    }


def read_original_ids(directory: Path, name: str) -> list[str]:
    """Read the original ids of ``user`` or ``item``, in id order from 1.

    Raises:
        StemlabError: the file is missing or damaged.
    """
    path = directory / "tokens" / f"{name}.parquet"
    try:
        tokens: list[str] = pq.read_table(path)["token"].to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise StemlabError(f"{path} cannot be read ({error}); prepare the dataset again.") from error
    return tokens


def read_item_categories(directory: Path) -> list[str | None] | None:
    """Read the category names of items 1, 2, ...; ``None`` if the directory has no categories.

    Raises:
        StemlabError: the file is damaged.
    """
    path = directory / _CATEGORIES
    if not path.is_file():
        return None
    try:
        names: list[str | None] = pq.read_table(path)["category"].to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise StemlabError(f"{path} cannot be read ({error}); prepare the dataset again.") from error
    return names


def _bounds(user: Int32Array, users: int) -> tuple[Int64Array, Int64Array]:
    """Return each user's first row (U + 1,) and the row after the last one (U + 1,)."""
    ids = np.arange(users + 1)
    return np.searchsorted(user, ids, side="left"), np.searchsorted(user, ids, side="right")


def smallest_gaps(user: AnyArray, time: Int64Array, users: int) -> Int64Array:
    """Return each user's smallest positive gap in seconds, (U + 1,), at most ``MAX_TIME_UNIT``.

    Args:
        user: (R,) user ids, ascending.
        time: (R,) seconds, ascending per user.
        users: U.
    """
    unit = np.full(users + 1, MAX_TIME_UNIT, dtype=np.int64)
    gap = np.diff(time)
    valid = (user[1:] == user[:-1]) & (gap > 0)
    np.minimum.at(unit, user[1:][valid], gap[valid])
    return unit


def _write_split(
    directory: Path, raw: RawSequences, name: str, order: Int64Array, split: Int8Array, position: Int64Array
) -> int:
    """Write the instances of one split (rows with an earlier interaction of the user) and return their number."""
    code = SPLITS.index(name)
    row = np.flatnonzero((split == code) & (position > 0))
    columns: dict[str, AnyArray] = {"row": row}
    if name in raw.negatives:
        index_in_split = np.cumsum(raw.split == code) - 1  # of each raw row
        columns["negatives"] = raw.negatives[name][index_in_split[order[row]]].astype(np.int32)
    write_columns(directory / f"{name}.arrow", columns)
    return len(row)


def _write_tokens(directory: Path, tokens: dict[str, Sequence[str]]) -> None:
    directory.mkdir()
    for name, words in tokens.items():
        table = pa.Table.from_arrays([pa.array(list(words), pa.string())], names=["token"])
        pq.write_table(table, directory / f"{name}.parquet")


def _write_categories(directory: Path, categories: Sequence[str | None]) -> dict[str, int]:
    """Write one category per item and return the entries of the manifest."""
    table = pa.Table.from_arrays([pa.array(list(categories), pa.string())], names=["category"])
    pq.write_table(table, directory / _CATEGORIES)
    without = sum(name is None for name in categories)
    return {"categories": len(set(categories) - {None}), "items_without_category": without}
