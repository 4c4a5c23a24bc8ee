"""Read the users to recommend for from a file.

The file has a column ``user`` (users of the dataset), or columns ``user``, ``item`` and ``time`` (integer seconds): the
histories of users, who need not be in the dataset. Rows may be in any order; rows of a user with equal times keep their
order in the file. The whole file is read into memory.

Legend: R rows, G users.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stemlab.array_types import Int64Array
from stemlab.data.prepare.vocabulary import as_tokens
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.data.sources.interaction_columns import ROLES, guess_columns
from stemlab.errors import StemlabError, nearest
from stemlab.inference.table_io import TableReader
from stemlab.inference.users import DatasetUsers, FileUsers, TargetUsers, UserHistories

OnUnknown = Literal["error", "skip"]
_COLUMNS = ("user", "item", "time")
_SECONDS = r"^\s*-?[0-9]{1,18}\s*$"


class UsersFile:
    """Reader of a users file.

    Args:
        path: ``.csv``, ``.tsv``, ``.parquet``, ``.jsonl``, or ``.inter`` with the names of RecBole.
        data: the prepared dataset with its users and items.
        on_unknown: what to do with users and items that are not in the dataset: ``error`` raises, ``skip`` skips and
            counts them.
        has_user_embedding: whether the network has a user embedding; it cannot score users outside the dataset.
    """

    def __init__(self, path: Path, data: SequenceDataModule, on_unknown: OnUnknown, has_user_embedding: bool) -> None:
        self._path, self._data, self._skip = path, data, on_unknown == "skip"
        self._has_user_embedding = has_user_embedding
        self.skipped: dict[str, int] = {}

    def read(self) -> TargetUsers:
        """Return the users of the file.

        Raises:
            StemlabError: a column is missing, a value is invalid, users or items are unknown, or no user is left.
        """
        chunks = (self._renamed(chunk) for chunk in TableReader(self._path, ()).chunks())
        table = pa.concat_tables([self._select_columns(chunk) for chunk in chunks])
        if table.num_rows == 0:
            raise StemlabError(f"{self._path} has no rows: give at least one user.")
        empty = np.flatnonzero(pc.equal(table["user"], "").to_numpy())
        if len(empty):
            raise StemlabError(f"{self._path}, row {empty[0] + 1}, column 'user' is empty: fill it or delete the row.")
        return self._read_histories(table) if "item" in table.column_names else self._read_user_list(table)

    def _renamed(self, chunk: Any) -> Any:
        """Return the columns of a RecBole file under the names user, item and time."""
        if self._path.suffix != ".inter":
            return chunk
        roles = ROLES[:1] if len(chunk.column_names) == 1 else ROLES[:3]
        found = guess_columns(self._path, chunk.column_names, dict.fromkeys(roles))
        return pa.table({role: chunk[column] for role, column in found.items()})

    def _select_columns(self, chunk: Any) -> Any:
        """Return the required columns as text."""
        names = chunk.column_names
        needed = _COLUMNS if set(names) & set(_COLUMNS[1:]) else _COLUMNS[:1]
        for name in needed:
            if name not in names:
                rule = "histories need the columns user, item and time; a list of users needs only user"
                raise StemlabError(f"{self._path} has no column {name!r}: {rule}.{nearest(name, names)}")
        return pa.table({name: pc.fill_null(as_tokens(name, chunk[name]), "") for name in needed})

    def _read_user_list(self, table: Any) -> TargetUsers:
        user_R = _ids(table["user"], self._data.user_tokens)
        log = self._data.log
        user_R[log.stop[user_R] == log.start[user_R]] = 0  # users without interactions count as unknown
        self._check("user", table["user"], user_R, "; or give their histories, in columns user, item and time")
        known_R = user_R[user_R > 0]
        first = np.sort(np.unique(known_R, return_index=True)[1])
        return self._check_not_empty(DatasetUsers(self._data, known_R[first], self.skipped))

    def _read_histories(self, table: Any) -> TargetUsers:
        item_R = _ids(table["item"], self._data.item_tokens)
        self._check("item", table["item"], item_R)
        time_R = self._times(table["time"])
        user_R = _ids(table["user"], self._data.user_tokens)
        kept_R = item_R > 0
        if self._has_user_embedding:
            hint = "; this model has an embedding per user and cannot score other users"
            self._check("user", table["user"], user_R, hint)
            kept_R &= user_R > 0
        names, code_R = _factorize(table["user"].filter(pa.array(kept_R)))
        self._count_users_without_items(table["user"], len(names))
        item_R, time_R, user_R = item_R[kept_R], time_R[kept_R], user_R[kept_R]
        order = np.lexsort((time_R, code_R))  # stable
        bounds = np.searchsorted(code_R[order], np.arange(len(names) + 1))
        start, stop = bounds[:-1], bounds[1:]
        histories = UserHistories(item_R[order], time_R[order], start, stop, user_R[order][start], names)
        return self._check_not_empty(FileUsers(self._data, histories, self.skipped))

    def _times(self, column: Any) -> Int64Array:
        good_R = pc.match_substring_regex(column, _SECONDS).to_numpy()
        if not good_R.all():
            row = int(np.flatnonzero(~good_R)[0])
            value = column[row].as_py()
            raise StemlabError(f"{self._path}, row {row + 1}, column 'time' is {value!r}: give integer seconds.")
        times: Int64Array = pc.cast(pc.utf8_trim_whitespace(column), pa.int64()).to_numpy()
        return times

    def _check(self, kind: str, column: Any, id_R: Int64Array, hint: str = "") -> None:
        """Raise StemlabError for unknown users or items, or count them if they are skipped."""
        unknown = np.flatnonzero(id_R == 0)
        if not len(unknown):
            return
        if self._skip:
            self.skipped[f"unknown {kind}s"] = pc.count_distinct(column.take(pa.array(unknown))).as_py()
            return
        more = f" ({len(unknown):,} rows with unknown {kind}s)" if len(unknown) > 1 else ""
        raise StemlabError(
            f"{self._path}, row {unknown[0] + 1}: {column[int(unknown[0])].as_py()!r} is not a known {kind} of dataset "
            f"{self._data.name!r}{more}: set on_unknown=skip to skip such rows{hint}."
        )

    def _count_users_without_items(self, column: Any, kept: int) -> None:
        """Count the users without a known item; users unknown to a model with user embeddings are counted already."""
        lost = pc.count_distinct(column).as_py() - kept - self.skipped.get("unknown users", 0)
        if lost:
            self.skipped["users without a known item"] = lost

    def _check_not_empty(self, users: TargetUsers) -> TargetUsers:
        if len(users) == 0:
            raise StemlabError(f"{self._path}: no user is left ({describe_skipped(self.skipped)}).")
        return users


def with_count(count: int, what: str) -> str:
    """Return count and noun: ``1 unknown user``, ``2 unknown users``; ``what`` is the plural."""
    return f"{count:,} {what if count != 1 else re.sub('s(?= |$)', '', what, count=1)}"


def describe_skipped(skipped: dict[str, int]) -> str:
    """Return ``2 unknown users and 1 unknown item skipped``, or an empty string."""
    return f"{' and '.join(with_count(count, what) for what, count in skipped.items())} skipped" if skipped else ""


def _ids(column: Any, tokens: Sequence[str]) -> Int64Array:
    """Return the ids of the tokens, from 1; 0 for values that are not among the tokens."""
    position = pc.index_in(column, value_set=pa.array(tokens, pa.string()))
    ids: Int64Array = pc.fill_null(pc.add(pc.cast(position, pa.int64()), 1), 0).to_numpy().copy()
    return ids


def _factorize(column: Any) -> tuple[list[str], Int64Array]:
    """Return the distinct values in order of first occurrence, and the index of each row's value among them."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)
