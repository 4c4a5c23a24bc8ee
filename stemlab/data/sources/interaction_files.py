"""Readers of interaction logs: tables with a header, and lines ``user item item ...``.

Legend: R interactions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stemlab.array_types import AnyArray, BoolArray, Int64Array
from stemlab.data.io.arrow import as_numpy
from stemlab.data.io.csv_integers import OnBadRow
from stemlab.data.io.progress import Advance
from stemlab.data.io.text_blocks import TextBlock, read_blocks, refuse_bare_returns
from stemlab.data.sequence.interaction_splits import OwnInteractions
from stemlab.data.sequence.interactions import positions_in_sequences
from stemlab.data.table.cells import as_strings, read_numbers, read_token_codes, without_missing
from stemlab.data.table.file import TABLE_BLOCK_BYTES, TableChunk, TableFile
from stemlab.data.table.time_units import TimeColumn, TimeUnit
from stemlab.data.table.tokens import MISSING_CODE, TokenCodes
from stemlab.errors import StemlabError

_SHOWN = 40
_WHOLE_ID = r"^(0|-?[1-9][0-9]{0,17})$"
_PROBLEMS = {
    "user": "not an id that is held exactly",
    "item": "not an id that is held exactly",
    "time": "neither a number nor an ISO date, as the cells before it",
    "rating": "not a number",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadLog:
    """Interactions of a file.

    Attributes:
        log: the interactions.
        categories: item -> category; ``None`` if the file has no category column.
        unit: unit of the times of the file; ``None`` if positions are the times.
        skipped: number of bad rows that were skipped.
        low_ratings: number of rows with a rating below the minimum.
    """

    log: OwnInteractions
    categories: Mapping[str, str] | None
    unit: TimeUnit | None
    skipped: int
    low_ratings: int = 0


@dataclass(slots=True)
class _Rows:
    """Codes of users and items, in chunks."""

    users: TokenCodes = field(default_factory=TokenCodes)
    items: TokenCodes = field(default_factory=TokenCodes)
    user: list[AnyArray] = field(default_factory=list)
    item: list[AnyArray] = field(default_factory=list)

    def add(self, user: Int64Array, item: Int64Array) -> None:
        self.user.append(user.astype(np.int32))
        self.item.append(item.astype(np.int32))

    def log(self, path: Path, exact: Int64Array | None, time: Int64Array | None) -> OwnInteractions:
        """Return the log; without times they are the positions in each user's sequence."""
        user, item = (np.concatenate(chunks or [np.empty(0, np.int32)]) for chunks in (self.user, self.item))
        if not len(user):
            raise StemlabError(f"{path} has no valid interaction: check dataset.format and the columns.")
        user_rank, user_names = _in_order(self.users)
        item_rank, item_names = _in_order(self.items)
        positions = positions_in_sequences(user.astype(np.int64))[0] if exact is None or time is None else None
        return OwnInteractions(
            user=user_rank[user],
            item=item_rank[item],
            exact=positions if exact is None else exact,  # type: ignore[arg-type]
            time=positions if time is None else time,  # type: ignore[arg-type]
            user_names=user_names,
            item_names=item_names,
        )


def read_table_log(
    table: TableFile,
    columns: Mapping[str, str],
    *,
    unit: TimeUnit | None,
    min_rating: float | None,
    on_bad_row: OnBadRow,
    advance: Advance,
) -> ReadLog:
    """Read the interactions of a table.

    Args:
        table: the file.
        columns: role -> column: user, item, time, and optionally rating and category.
        unit: unit of the times; ``None`` guesses it.
        min_rating: rows with a lower rating are dropped; ``None`` reads no ratings.
        on_bad_row: ``error`` raises at a bad row, ``skip`` drops and counts it.
        advance: called with the number of bytes read.

    Raises:
        StemlabError: a bad row, with file, line and column, or no valid row.
    """
    rows, times, categories = _Rows(), TimeColumn(unit), FirstValues()
    skipped, low_ratings = 0, 0
    for chunk in table.chunks(list(dict.fromkeys(columns.values())), advance):
        cells = {role: without_missing(chunk.columns[name], ("",)) for role, name in columns.items()}
        user, bad_user = read_token_codes(cells["user"], rows.users)
        item, bad_item = read_token_codes(cells["item"], rows.items)
        bad = {"user": bad_user | (user == MISSING_CODE), "item": bad_item | (item == MISSING_CODE)}
        bad["time"] = times.add(cells["time"])
        kept = np.ones(len(user), dtype=np.bool_)
        if min_rating is not None:
            rating, bad["rating"] = read_numbers(cells["rating"])
            bad["rating"] = bad["rating"] | np.isnan(rating)
            kept = ~(rating < np.float32(min_rating)) | bad["rating"]
        valid = ~np.logical_or.reduce(list(bad.values()))
        if on_bad_row == "error":
            _refuse_bad_rows(table, chunk, columns, cells, bad)
        skipped += int((~valid).sum()) + len(chunk.malformed)
        low_ratings += int((valid & ~kept).sum())
        kept = kept & valid
        times.keep(kept)
        rows.add(user[kept], item[kept])
        if "category" in columns:
            categories.add(item[kept], cells["category"].filter(pa.array(kept)))
    exact, seconds, found = times.finish()
    return ReadLog(
        log=rows.log(table.path, exact, seconds),
        categories=categories.of(rows.items, "|") if "category" in columns else None,
        unit=found,
        skipped=skipped,
        low_ratings=low_ratings,
    )


def _refuse_bad_rows(
    table: TableFile,
    chunk: TableChunk,
    columns: Mapping[str, str],
    cells: Mapping[str, Any],
    bad: Mapping[str, BoolArray],
) -> None:
    problems = list(chunk.malformed)
    for role, flags in bad.items():
        if flags.any():
            row = int(np.argmax(flags))
            cell = as_strings(cells[role].slice(row, 1))[0].as_py()
            what = "empty" if cell is None else f"{cell[:_SHOWN]!r}, {_PROBLEMS[role]}"
            problems.append((int(chunk.lines[row]), f"column {columns[role]!r} ({role}) is {what}"))
    if problems:
        (line, problem), unit = min(problems), table.row_unit
        raise StemlabError(
            f"{table.path}, {unit} {line}: {problem}; correct the {unit} or set dataset.on_bad_row=skip."
        )


class FirstValues:
    """First category of every item, by item code."""

    def __init__(self) -> None:
        self._names, self._code = TokenCodes(), np.zeros(0, dtype=np.int64)

    def add(self, item: Int64Array, cells: Any) -> None:
        """Add the categories of rows; an item keeps its first one.

        Args:
            item: (R,) item codes.
            cells: (R,) Arrow column; an empty cell is no category.
        """
        category, bad = read_token_codes(cells, self._names)
        known = np.flatnonzero((category != MISSING_CODE) & ~bad)
        items, first = np.unique(item[known], return_index=True)
        if len(items) and items[-1] >= len(self._code):
            self._code = np.concatenate([self._code, np.zeros(items[-1] + 1 - len(self._code), dtype=np.int64)])
        new = self._code[items] == MISSING_CODE
        self._code[items[new]] = category[known][first[new]]

    def of(self, items: TokenCodes, separator: str | None) -> dict[str, str]:
        """Return item -> category.

        Args:
            items: names of the item codes.
            separator: of several categories in a cell, of which the first counts; ``None``: blanks.
        """
        found = np.flatnonzero(self._code)
        names = self._names.take(self._code[found]).to_pylist()
        firsts = ((name.split(separator) or [""])[0].strip() for name in names)
        pairs = zip(items.take(found).to_pylist(), firsts, strict=True)
        return {item: category for item, category in pairs if category}


def read_category_table(
    table: TableFile, item: str, category: str, separator: str | None, advance: Advance
) -> dict[str, str]:
    """Return item -> category of a table of items.

    Args:
        table: the file.
        item: its column of items.
        category: its column of categories.
        separator: see ``FirstValues.of``.
        advance: called with the number of bytes read.

    Raises:
        StemlabError: a line has another number of columns than the header.
    """
    items, categories = TokenCodes(), FirstValues()
    for chunk in table.chunks([item, category], advance):
        for line, problem in chunk.malformed:
            raise StemlabError(f"{table.path}, {table.row_unit} {line}: {problem}; correct the {table.row_unit}.")
        codes, _ = read_token_codes(without_missing(chunk.columns[item], ("",)), items)
        categories.add(codes, without_missing(chunk.columns[category], ("",)))
    return categories.of(items, separator)


def read_lines_log(path: Path, *, on_bad_row: OnBadRow, advance: Advance) -> ReadLog:
    """Read lines of a user and the user's items, oldest first, separated by blanks or tabs.

    Further lines of a user continue the sequence, so one interaction per line is read as well. The time of an
    interaction is its position in the sequence.

    Args:
        path: the file.
        on_bad_row: ``error`` raises at a line without an item, ``skip`` drops and counts it.
        advance: called with the number of bytes read.

    Raises:
        StemlabError: a line has no item, or is not UTF-8 text.
    """
    rows, skipped = _Rows(), 0
    for block in read_blocks(path, path.name, advance, TABLE_BLOCK_BYTES):
        refuse_bare_returns(path, block.data, block.first_line)
        lines = [line.split() for line in _decode(path, block).split("\n")]
        short = [index for index, line in enumerate(lines) if len(line) == 1]
        if short and on_bad_row == "error":
            raise StemlabError(
                f"{path}, line {block.first_line + short[0]}: user {lines[short[0]][0][:_SHOWN]!r} without an item; "
                "correct the line or set dataset.on_bad_row=skip."
            )
        skipped += len(short)
        lines = [line for line in lines if len(line) > 1]
        lengths = np.array([len(line) - 1 for line in lines], dtype=np.int64)
        users, _ = read_token_codes(pa.array([line[0] for line in lines], pa.string()), rows.users)
        flat = pa.array([item for line in lines for item in line[1:]], pa.string())
        items, _ = read_token_codes(flat, rows.items)
        rows.add(np.repeat(users, lengths), items)
    return ReadLog(log=rows.log(path, None, None), categories=None, unit=None, skipped=skipped)


def _decode(path: Path, block: TextBlock) -> str:
    try:
        return block.data.decode()
    except UnicodeDecodeError as error:
        line = block.first_line + block.data.count(b"\n", 0, error.start)
        raise StemlabError(f"{path}, line {line} is not UTF-8 text; convert the file (iconv -t UTF-8).") from None


def _in_order(codes: TokenCodes) -> tuple[Int64Array, Sequence[str]]:
    """Return the position of each code in the order of the names, and the names: integers by value, others by text."""
    names = codes.take(np.arange(1, len(codes))).combine_chunks()
    if isinstance(names, pa.ChunkedArray):
        names = pa.concat_arrays(names.chunks)
    whole = pc.all(pc.match_substring_regex(names, _WHOLE_ID)).as_py()
    order = as_numpy(pc.cast(pc.sort_indices(pc.cast(names, pa.int64()) if whole else names), pa.int64()))
    rank = np.zeros(len(codes), dtype=np.int64)
    rank[order + 1] = np.arange(len(order))
    return rank, names.take(pa.array(order)).to_pylist()
