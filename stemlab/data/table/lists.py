"""Reads columns that hold a list of values per row: cells such as ``a|b|c``, or lists of Parquet and Arrow.

Legend: B rows, L values that are kept per row, N values of all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stemlab.array_types import AnyArray, BoolArray, Float32Array, Int64Array
from stemlab.data.io.arrow import as_numpy, inexact_integers
from stemlab.data.prepare.encode_lists import pad_lists
from stemlab.data.prepare.preparation_settings import ages_of, weights_of
from stemlab.data.table import cells
from stemlab.data.table.list_settings import ListRole
from stemlab.data.table.time_units import PER_SECOND
from stemlab.data.table.tokens import TokenCodes
from stemlab.errors import StemlabError

Problem = Callable[[int], str]
"""Returns the description of the bad cells of a row."""
_SHOWN = 40


@dataclass(slots=True)
class SplitLists:
    """Values of a list column, one row after the other, without missing values and without those beyond L.

    Attributes:
        lengths_B: number of values per row.
        tokens: (N,) Arrow dictionary array of strings.
        categories: (N,) Arrow dictionary array of strings, null for a missing one, or ``None``.
        weights_N: weights, or ``None``.
        ages_N: seconds between a value and the last one of its row, or ``None``.
        truncated: number of rows that had more than L values.
        problems: masks of bad rows, each with its description.
    """

    lengths_B: Int64Array
    tokens: Any
    categories: Any = None
    weights_N: Float32Array | None = None
    ages_N: Int64Array | None = None
    truncated: int = 0
    problems: list[tuple[BoolArray, Problem]] = field(default_factory=list)

    def bad_rows(self) -> BoolArray:
        """Return the mask of rows with a cell that cannot be read."""
        bad: BoolArray = np.zeros(len(self.lengths_B), dtype=bool)
        for mask, _ in self.problems:
            bad |= mask
        return bad

    def problem(self, row: int) -> str:
        """Return the description of a bad row."""
        return next(describe(row) for mask, describe in self.problems if mask[row])


def split_lists(role: ListRole, columns: Mapping[str, Any], missing: Sequence[str]) -> SplitLists:
    """Return the values of a list column with what belongs to each of them.

    Args:
        role: its columns.
        columns: column name -> Arrow column of B cells.
        missing: cells and values of text that mean a missing value; missing values are left out.

    Raises:
        StemlabError: the values of a column are lists or structures.
    """
    for _, name in role.columns():
        kind = columns[name].type
        if pa.types.is_nested(kind.value_type if is_list(kind) else kind):
            raise StemlabError(f"column {name!r} has cells of type {kind}: give texts, or lists of single values.")
    lengths_B, flat = flatten_lists(columns[role.values], role.separator, missing)
    others = {name: flatten_lists(columns[name], role.separator, missing) for _, name in list(role.columns())[1:]}
    rows = len(lengths_B)
    problems: list[tuple[BoolArray, Problem]] = [
        (lengths != lengths_B, _length_problem(role.values, lengths_B, name, lengths))
        for name, (lengths, _) in others.items()
    ]
    unequal_B: BoolArray = np.logical_or.reduce([mask for mask, _ in problems] or [np.zeros(rows, dtype=bool)])
    equal_N = ~unequal_B[np.repeat(np.arange(rows), lengths_B)]
    row_N = np.repeat(np.arange(rows), lengths_B)[equal_N]
    flat = _some(flat, equal_N)
    tokens = _tokens(flat)
    given_N = as_numpy(pc.cast(pc.is_valid(tokens), pa.int8())) == 1
    problems.append(_flat_problem(role.values, flat, row_N, rows, inexact_integers(flat), "an id that floats round"))
    row_N = row_N[given_N]
    parts = {
        name: _some(values, ~unequal_B[np.repeat(np.arange(rows), lengths)])
        for name, (lengths, values) in others.items()
    }
    parts = {name: _some(values, given_N) for name, values in parts.items()}
    kept_N, kept_B, truncated = _kept(row_N, rows, role)
    found = SplitLists(kept_B, _some(_some(tokens, given_N), kept_N), truncated=truncated, problems=problems)
    if role.categories is not None:
        found.categories = _some(_tokens(parts[role.categories]), kept_N)
    if role.weights is not None:
        weight_N, bad_N = _read_weights(parts[role.weights])
        wanted = "not a number of at least 0"
        problems.append(_flat_problem(role.weights, parts[role.weights], row_N, rows, bad_N, wanted))
        found.weights_N = weight_N[kept_N]
    if role.times is not None:
        time_N, bad_N, per_second = _read_times(parts[role.times], role.time_unit)
        problems.append(_flat_problem(role.times, parts[role.times], row_N, rows, bad_N, "not an integer"))
        descends_N = np.diff(time_N, prepend=time_N[:1]) < 0
        descends_N &= np.diff(row_N, prepend=row_N[:1]) == 0
        wanted = "before the time to its left (oldest first)"
        problems.append(_flat_problem(role.times, parts[role.times], row_N, rows, descends_N, wanted))
        last_N, times = np.repeat(np.cumsum(kept_B) - 1, kept_B), time_N[kept_N]
        found.ages_N = (times[last_N] - times) // per_second
    return found


def flatten_lists(column: Any, separator: str, missing: Sequence[str]) -> tuple[Int64Array, Any]:
    """Return the number of values in each cell, (B,), and all values as an Arrow array, with nulls for missing ones.

    A cell of another type than text and lists is one value; a missing cell has none.
    """
    column = cells.without_missing(column, missing)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        trimmed = pc.utf8_trim_whitespace(column)
        column = pc.split_pattern(pc.if_else(pc.equal(trimmed, ""), None, trimmed), pattern=separator)
    elif not is_list(column.type):
        given = column.filter(pc.is_valid(column))
        return as_numpy(pc.cast(pc.is_valid(column), pa.int8())).astype(np.int64), given
    lengths = as_numpy(pc.fill_null(pc.cast(pc.list_value_length(column), pa.int64()), 0))
    flat = cells.without_missing(pc.list_flatten(column), missing)
    return lengths, pc.cast(flat, pa.string()) if pa.types.is_null(flat.type) else flat


def is_list(kind: Any) -> bool:
    """Return whether an Arrow type is a list."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _read_times(flat: Any, unit: str) -> tuple[Int64Array, BoolArray, int]:
    """Return times as integers, the mask of bad ones, and the number of units per second."""
    if pa.types.is_timestamp(flat.type):
        flat, unit = pc.cast(flat, pa.int64()), flat.type.unit
    return *cells.read_integers(flat), PER_SECOND[unit]


def _read_weights(flat: Any) -> tuple[Float32Array, BoolArray]:
    """Return weights, and the mask of those that are no number or negative."""
    weight_N, bad_N = cells.read_numbers(flat)
    with np.errstate(invalid="ignore"):
        return weight_N, bad_N | ~(weight_N >= 0)


def _tokens(flat: Any) -> Any:
    """Return values as a dictionary array of tokens, null for a missing one."""
    coded = flat.dictionary_encode()
    words = pc.utf8_trim_whitespace(cells.tokens_of(coded.dictionary))
    words = pc.if_else(pc.equal(words, ""), None, words)
    if words.null_count:  # a missing value must be a null of the indices
        null_words = pc.is_null(words).take(coded.indices)
        return pa.DictionaryArray.from_arrays(pc.if_else(null_words, None, coded.indices), pc.fill_null(words, ""))
    return pa.DictionaryArray.from_arrays(coded.indices, words)


def _some(values: Any, mask_N: BoolArray) -> Any:
    """Return the values of an Arrow array at which the mask is true."""
    return values if mask_N.all() else values.filter(pa.array(mask_N))


def _kept(row_N: Int64Array, rows: int, role: ListRole) -> tuple[BoolArray, Int64Array, int]:
    """Return which values are kept, how many of each row, and the number of rows with more than L values."""
    counts_B = np.bincount(row_N, minlength=rows)
    first_B = np.cumsum(counts_B) - counts_B
    if role.newest:
        first_B += np.maximum(counts_B - role.max_length, 0)
    offset_N = np.arange(len(row_N)) - np.repeat(first_B, counts_B)
    kept_N = (offset_N >= 0) & (offset_N < role.max_length)
    return kept_N, np.minimum(counts_B, role.max_length), int((counts_B > role.max_length).sum())


def _length_problem(values: str, lengths_B: Int64Array, name: str, other_B: Int64Array) -> Problem:
    def describe(row: int) -> str:
        return f"column {name!r} has {other_B[row]} values and {values!r} has {lengths_B[row]}: each value needs one"

    return describe


def _flat_problem(
    name: str, flat: Any, row_N: Int64Array, rows: int, bad_N: BoolArray, wanted: str
) -> tuple[BoolArray, Problem]:
    """Return the mask of rows with a bad value, and their description."""
    bad_B: BoolArray = np.zeros(rows, dtype=bool)
    bad_B[row_N[bad_N]] = True

    def describe(row: int) -> str:
        value = flat[int(np.flatnonzero(bad_N & (row_N == row))[0])].as_py()
        return f"column {name!r} has {'an empty value' if value is None else repr(str(value)[:_SHOWN])}, {wanted}"

    return bad_B, describe


class ListReaders:
    """Readers of all lists of a table, as integer codes.

    Args:
        roles: their columns.
        missing: cells and values that mean a missing value.

    Attributes:
        truncated: field -> number of rows that had more values than are kept.
        problems: yielded name -> description of the bad rows of the last chunk.
    """

    def __init__(self, roles: Sequence[ListRole], missing: Sequence[str]) -> None:
        self._roles, self._missing = roles, missing
        self.truncated = {role.name: 0 for role in roles}
        self.problems: dict[str, Problem] = {}

    def read(
        self, columns: Mapping[str, Any], codes: Mapping[str, TokenCodes]
    ) -> dict[str, tuple[AnyArray, BoolArray]]:
        """Return yielded name -> (values (B, L), mask of bad rows) of a chunk.

        Args:
            columns: column of the file -> its cells.
            codes: field -> codes of its tokens.
        """
        found: dict[str, tuple[AnyArray, BoolArray]] = {}
        for role in self._roles:
            lists = split_lists(role, columns, self._missing)
            self.truncated[role.name] += lists.truncated
            flat: dict[str, AnyArray | None] = {
                role.name: cells.read_token_codes(lists.tokens, codes[role.name])[0],
                ages_of(role.name): lists.ages_N,
                weights_of(role.name): lists.weights_N,
            }
            if lists.categories is not None:
                category_codes = cells.read_token_codes(lists.categories, codes[role.category_field])[0]
                flat[role.category_field] = category_codes
            bad_B = lists.bad_rows()
            for name, values_N in flat.items():
                if values_N is not None:
                    found[name] = (pad_lists(values_N, lists.lengths_B, role.max_length), bad_B)
                    self.problems[name] = lists.problem
        return found
