"""A file that says for whom items are chosen -> an audience.

Either a column ``user``: users of the dataset. Or columns ``user``, ``item`` and ``time`` (whole seconds): the
histories of users, whom the dataset need not know. Rows may come in any order; those of a user in the same second keep
that of the file. The file is read whole.

Legend: R rows, G users of the audience.
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
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.errors import StemlabError, nearest
from stemlab.inference.table_io import TableReader
from stemlab.inference.users import DatasetUsers, FileUsers, TargetUsers, UserHistories

OnUnknown = Literal["error", "skip"]
_COLUMNS = ("user", "item", "time")
_SECONDS = r"^\s*-?[0-9]{1,18}\s*$"


class UsersFile:
    """Reads such a file.

    Args:
        path: ``.csv``, ``.tsv`` or ``.parquet``.
        data: the prepared dataset, which knows users and items.
        on_unknown: ``error``: refuse users and items that the dataset does not know; ``skip``: leave them out and count
            them.
        personal: whether the network has a vector for each user, and so none for others.
    """

    def __init__(self, path: Path, data: SequenceDataModule, on_unknown: OnUnknown, personal: bool) -> None:
        self._path, self._data, self._skip, self._personal = path, data, on_unknown == "skip", personal
        self.skipped: dict[str, int] = {}

    def read(self) -> TargetUsers:
        """Return the audience.

        Raises:
            StemlabError: a missing column, a bad value, unknown users or items, nobody left.
        """
        pieces = [self._select_columns(piece) for piece in TableReader(self._path, ()).chunks()]
        table = pa.concat_tables(pieces)
        if table.num_rows == 0:
            raise StemlabError(f"{self._path} has no rows: name at least one user.")
        nameless = np.flatnonzero(pc.equal(table["user"], "").to_numpy())
        if len(nameless):
            raise StemlabError(f"{self._path}, row {nameless[0] + 1}: there is no user; name one, or delete the row.")
        return self._read_histories(table) if "item" in table.column_names else self._read_user_list(table)

    def _select_columns(self, piece: Any) -> Any:
        """Return the columns that are read, as text."""
        names = piece.column_names
        needed = _COLUMNS if set(names) & set(_COLUMNS[1:]) else _COLUMNS[:1]
        for name in needed:
            if name not in names:
                told = "histories need the columns user, item and time; a list of users needs user alone"
                raise StemlabError(f"{self._path} has no column {name!r}: {told}.{nearest(name, names)}")
        return pa.table({name: pc.fill_null(pc.cast(piece[name], pa.string()), "") for name in needed})

    def _read_user_list(self, table: Any) -> TargetUsers:
        user_R = _ids(table["user"], self._data.user_tokens)
        log = self._data.log
        user_R[log.stop[user_R] == log.start[user_R]] = 0  # a number that nobody has
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
        if self._personal:
            self._check("user", table["user"], user_R, "; this model knows no others, whatever their history")
            kept_R &= user_R > 0
        names, code_R = _factorize(table["user"].filter(pa.array(kept_R)))
        self._count_users_without_items(table["user"], len(names))
        item_R, time_R, user_R = item_R[kept_R], time_R[kept_R], user_R[kept_R]
        order = np.lexsort((time_R, code_R))  # stable
        bounds = np.searchsorted(code_R[order], np.arange(len(names) + 1))
        start, stop = bounds[:-1], bounds[1:]
        rows = UserHistories(item_R[order], time_R[order], start, stop, user_R[order][start], names)
        return self._check_not_empty(FileUsers(self._data, rows, self.skipped))

    def _times(self, column: Any) -> Int64Array:
        good_R = pc.match_substring_regex(column, _SECONDS).to_numpy()
        if not good_R.all():
            row = int(np.flatnonzero(~good_R)[0])
            told = f"time is {column[row].as_py()!r}: give whole seconds"
            raise StemlabError(f"{self._path}, row {row + 1}: {told}.")
        times: Int64Array = pc.cast(pc.utf8_trim_whitespace(column), pa.int64()).to_numpy()
        return times

    def _check(self, kind: str, column: Any, id_R: Int64Array, hint: str = "") -> None:
        """Refuse unknown users or items, or count them."""
        unknown = np.flatnonzero(id_R == 0)
        if not len(unknown):
            return
        if self._skip:
            self.skipped[f"unknown {kind}s"] = pc.count_distinct(column.take(pa.array(unknown))).as_py()
            return
        more = f" ({len(unknown):,} rows have such {kind}s)" if len(unknown) > 1 else ""
        raise StemlabError(
            f"{self._path}, row {unknown[0] + 1}: {column[int(unknown[0])].as_py()!r} is no {kind} of dataset "
            f"{self._data.name!r}{more}: set on_unknown=skip to leave them out{hint}."
        )

    def _count_users_without_items(self, column: Any, kept: int) -> None:
        """Count the users that have no known item; unknown users of a personal model are counted already."""
        lost = pc.count_distinct(column).as_py() - kept - self.skipped.get("unknown users", 0)
        if lost:
            self.skipped["users without a known item"] = lost

    def _check_not_empty(self, audience: TargetUsers) -> TargetUsers:
        if len(audience) == 0:
            raise StemlabError(
                f"{self._path}: nothing is left of it ({describe_skipped(self.skipped)}), so there is nobody to score."
            )
        return audience


def with_count(count: int, what: str) -> str:
    """Return ``1 unknown user``, ``2 unknown users``; the first word in the plural is the one that ends in ``s``."""
    return f"{count:,} {what if count != 1 else re.sub('s(?= |$)', '', what, count=1)}"


def describe_skipped(skipped: dict[str, int]) -> str:
    """Return ``2 unknown users and 1 unknown item skipped``, or nothing."""
    return f"{' and '.join(with_count(count, what) for what, count in skipped.items())} skipped" if skipped else ""


def _ids(column: Any, tokens: Sequence[str]) -> Int64Array:
    """Return ids from 1; 0 for what is not among the tokens."""
    position = pc.index_in(column, value_set=pa.array(tokens, pa.string()))
    ids: Int64Array = pc.fill_null(pc.add(pc.cast(position, pa.int64()), 1), 0).to_numpy().copy()
    return ids


def _factorize(column: Any) -> tuple[list[str], Int64Array]:
    """Return the distinct values in the order in which they first occur, and each row's place among them."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)
