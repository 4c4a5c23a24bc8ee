"""Vectorised parsers of cells: tokens, labels, numbers, times, splits, names.

Each parser takes an Arrow column of any type and returns (values, bad), both (R,); ``bad`` is the mask of invalid
cells. Integer values are int64, numbers float32.
Legend: R rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stemlab.array_types import AnyArray, BoolArray, Int64Array
from stemlab.data.io.arrow import as_numpy, inexact_integers, whole_floats_as_integers
from stemlab.data.prepare.quantile_buckets import ordered_keys
from stemlab.data.table.tokens import MISSING_CODE, TokenCodes

ParsedCells = tuple[AnyArray, BoolArray]
_BAD = np.iinfo(np.int64).min
_TIMESTAMPS = (pa.timestamp("us"), pa.timestamp("us", "UTC"))
_EXACT_TIMESTAMPS = (pa.timestamp("ns"), pa.timestamp("ns", "UTC"))
LABEL_SPELLINGS = {"0": 0, "1": 1, "false": 0, "true": 1, "0.0": 0, "1.0": 1}
SPLIT_SPELLINGS = {"0": 0, "1": 1, "2": 2, "train": 0, "valid": 1, "test": 2, "val": 1, "validation": 1, "dev": 1}


def without_missing(column: Any, missing: Sequence[str]) -> Any:
    """Return the column decoded and contiguous, with nulls for text cells that are one of ``missing``."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not _is_text(column):
        return column
    is_missing = pc.is_in(column, value_set=pa.array(list(missing), column.type))
    return pc.if_else(is_missing, pa.scalar(None, column.type), column)


def read_token_codes(column: Any, codes: TokenCodes) -> ParsedCells:
    """Return the codes of categories, int64; missing cells get code 0.

    Whole floats are the token of the integer in text as well (5.0 is 5). Integers that a float column cannot hold
    exactly are bad: different ids may be equal there.
    """
    values, bad = _parse_distinct(column, lambda words: _token_codes(words, codes), missing=MISSING_CODE)
    return values, bad | inexact_integers(column)


def read_labels(column: Any, missing: int = _BAD) -> ParsedCells:
    """Return labels, int64 0 or 1 (also spelled false and true), ``missing`` for missing cells (default: bad)."""
    return _parse_distinct(column, lambda strings: _looked_up(strings, LABEL_SPELLINGS), missing)


def read_splits(column: Any) -> ParsedCells:
    """Return split codes, int64: 0 train, 1 valid, 2 test."""
    return _parse_distinct(column, lambda strings: _looked_up(strings, SPLIT_SPELLINGS), missing=_BAD)


def read_names(column: Any, names: Sequence[str]) -> ParsedCells:
    """Return the index of each cell in ``names``, int64."""
    index = {name: position for position, name in enumerate(tokens_of(pa.array(names, pa.string())).to_pylist())}

    def read(strings: Any) -> Int64Array:
        return np.array([index.get(text, _BAD) for text in strings.to_pylist()], dtype=np.int64)

    return _parse_distinct(column, read, _BAD)


def read_numbers(column: Any) -> ParsedCells:
    """Return float32 numbers, NaN if missing; text, booleans and infinite numbers are bad."""
    values, given = read_float64(column)
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    return values, given & ~np.isfinite(values)


def read_float64(column: Any) -> ParsedCells:
    """Return float64 numbers, NaN if missing or no number, and the (R,) mask of cells that are not missing."""
    if pa.types.is_boolean(column.type) or pa.types.is_temporal(column.type):
        column = pc.cast(column, pa.string())
    absent = pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))
    given = as_numpy(pc.cast(absent, pa.int8())) == 0
    values = as_numpy(pc.fill_null(_cast(column, pa.float64()), np.nan))
    return np.where(given, values, np.nan), given


def read_ordered_keys(column: Any) -> ParsedCells:
    """Return int64 keys in the order of the numbers; a cell that is missing or no number is missing."""
    keys = ordered_keys(read_float64(column)[0])
    return keys, np.zeros(len(keys), dtype=np.bool_)


def read_integers(column: Any) -> ParsedCells:
    """Return integers, int64; whole floats are integers too, other cells and missing ones are bad."""
    values = as_numpy(pc.fill_null(_cast(whole_floats_as_integers(as_strings(column)), pa.int64()), _BAD))
    return values, values == _BAD


def read_times(column: Any) -> ParsedCells:
    """Return integers unchanged, and ISO dates and timestamps (in UTC) as yyyymmddhhmmss, which keeps their order."""
    return TimeParser()(column)


class TimeParser:
    """Parser of the chunks of one time column: all its cells are integers, or all are dates.

    Args:
        exact: whether dates become nanoseconds since 1970 (years 1678 to 2261; other dates are bad), which keeps the
            order within a second; otherwise they become yyyymmddhhmmss.

    Attributes:
        dates: whether the cells are dates; ``None`` before the first chunk with a valid cell.
    """

    def __init__(self, *, exact: bool = False) -> None:
        self._exact = exact
        self.dates: bool | None = None  # known after the first chunk with a valid cell

    def __call__(self, column: Any) -> ParsedCells:
        """Return the times of a chunk, int64, and the mask of bad cells."""
        if pa.types.is_temporal(column.type):
            found = self._timestamps(column) if self._exact else column
        else:
            text = _is_text(column)
            column = whole_floats_as_integers(column) if text else column
            kinds = [pa.int64(), *_TIMESTAMPS, *_EXACT_TIMESTAMPS] if text else [pa.int64()]
            if self._exact:
                kinds = [kind for kind in kinds if kind not in _TIMESTAMPS]
            if self.dates is not None and text:
                kinds = [kind for kind in kinds if pa.types.is_temporal(kind) is self.dates]
            found = _first_fitting(column, kinds)
        if self.dates is None and found.null_count < len(found):
            self.dates = pa.types.is_temporal(found.type)
        if pa.types.is_temporal(found.type):
            found = pc.cast(found, pa.int64()) if self._exact else _digits(found)
        values = as_numpy(pc.fill_null(found, _BAD))
        return values, values == _BAD

    @staticmethod
    def _timestamps(column: Any) -> Any:
        zone = column.type.tz if pa.types.is_timestamp(column.type) else None
        return _cast(column, pa.timestamp("ns", None if zone is None else "UTC"))


def _digits(times: Any) -> Any:
    """2024-05-06 07:08:09 -> 20240506070809, in UTC."""
    if pa.types.is_timestamp(times.type) and times.type.tz is not None:
        times = pc.cast(times, pa.timestamp(times.type.unit, "UTC"))
    clock = (pc.hour, pc.minute, pc.second) if pa.types.is_timestamp(times.type) else ()
    total = pc.cast(pc.year(times), pa.int64())
    for part in (pc.month, pc.day, *clock):
        total = pc.add(pc.multiply(total, 100), part(times))
    return total if clock else pc.multiply(total, 1_000_000)


def _parse_distinct(column: Any, read: Callable[[Any], Int64Array], missing: int) -> ParsedCells:
    """Parse each distinct cell once."""
    coded = column.dictionary_encode()
    values = np.append(read(tokens_of(coded.dictionary)), missing)
    codes: Int64Array = values[as_numpy(pc.fill_null(pc.cast(coded.indices, pa.int64()), len(values) - 1))]
    return codes, codes == _BAD


def as_strings(values: Any) -> Any:
    """Return distinct values as strings: 5.0 is "5", NaN and null are null."""
    if pa.types.is_floating(values.type):
        texts = [
            None if v is None or v != v else str(int(v)) if v.is_integer() else repr(v) for v in values.to_pylist()
        ]
        return pa.array(texts, pa.string())
    return pc.cast(values, pa.string())


def tokens_of(values: Any) -> Any:
    """Return distinct values as tokens: like :func:`as_strings`, and text 5.0 is "5", too."""
    return whole_floats_as_integers(as_strings(values))


def _token_codes(words: Any, codes: TokenCodes) -> Int64Array:
    filled = pc.fill_null(words, "")
    distinct = pc.unique(filled)
    found: Int64Array = codes.encode(distinct)[as_numpy(pc.index_in(filled, value_set=distinct))]
    return found


def _looked_up(strings: Any, known: dict[str, int]) -> Int64Array:
    texts = (text and text.strip().lower() for text in strings.to_pylist())
    return np.array([known.get(text, _BAD) for text in texts], dtype=np.int64)


def _is_text(column: Any) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def _cast(column: Any, kind: Any) -> Any:
    """Cast a column; cells that cannot be cast become null."""
    try:
        return pc.cast(column, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        cells = column if _is_text(column) else pc.cast(column, pa.string())
    return pa.array([_cast_cell(cell, kind) for cell in cells.to_pylist()], kind)


def _first_fitting(column: Any, kinds: Sequence[Any]) -> Any:
    """Cast to the first type that fits all cells, otherwise to the type that fits most cells."""
    casts = []
    for kind in kinds:
        casts.append(_cast(column, kind))
        if casts[-1].null_count == column.null_count:
            return casts[-1]
    return min(casts, key=lambda cast: cast.null_count)


def _cast_cell(cell: str | None, kind: Any) -> Any:
    try:
        return None if cell is None else pa.scalar(cell.strip()).cast(kind).as_py()
    except pa.ArrowInvalid:
        return None
