"""Times in seconds, milliseconds, microseconds, nanoseconds, as digits of a date or as ISO dates.

Legend: R rows.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stemlab.array_types import BoolArray, Float64Array, Int64Array
from stemlab.data.io.arrow import as_numpy
from stemlab.data.table.cells import TimeParser

TimeUnit = Literal["s", "ms", "us", "ns", "yyyymmdd", "yyyymmddhhmmss", "iso"]
UNIT_NAMES: dict[TimeUnit, str] = {
    "s": "seconds since 1970",
    "ms": "milliseconds since 1970",
    "us": "microseconds since 1970",
    "ns": "nanoseconds since 1970",
    "yyyymmdd": "dates yyyymmdd",
    "yyyymmddhhmmss": "times yyyymmddhhmmss",
    "iso": "ISO dates",
}
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9, "iso": 10**9}
"""Unit of times -> its number per second."""
_FROM = {"ns": 10**17, "us": 10**14, "ms": 10**11}  # smallest numbers of a unit: 1973 in each of them
_DIGITS: tuple[TimeUnit, ...] = ("yyyymmdd", "yyyymmddhhmmss")
_LEAST_DATES = 0.9  # share of the times that must be digits of a date; the others are bad cells
_INTEGER, _NUMBER = r"^[+-]?[0-9]{1,19}$", r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_ISO_START = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
_FRACTION_STEPS = 1000  # a fractional time is rounded to this part of its unit
_LARGEST_FRACTIONAL = 10.0**15


def unit_of_numbers(time: Int64Array) -> TimeUnit:
    """Return the most likely unit of integer times: from their size, and whether they are digits of dates.

    Args:
        time: (R,) integers; a few representative ones, such as the smallest and the largest, are sufficient.
    """
    for unit in _DIGITS:
        if len(time) and _are_digits(time, unit).mean() >= _LEAST_DATES:
            return unit
    large = int(np.abs(time).max(initial=0))
    if large >= _FROM["ns"]:
        return "ns"
    return "us" if large >= _FROM["us"] else "ms" if large >= _FROM["ms"] else "s"


def _are_digits(time: Int64Array, unit: TimeUnit) -> BoolArray:
    """Return which times are digits of a date from 1900 to 2099, (R,)."""
    date, clock = (time, np.zeros_like(time)) if unit == "yyyymmdd" else np.divmod(time, 10**6)
    year, month, day = date // 10_000, date // 100 % 100, date % 100
    hour, minute, second = clock // 10_000, clock // 100 % 100, clock % 100
    dates = (year >= 1900) & (year < 2100) & (month > 0) & (month < 13) & (day > 0) & (day < 32)
    found: BoolArray = dates & (hour < 24) & (minute < 60) & (second < 61)
    return found


def to_seconds(time: Int64Array, unit: TimeUnit) -> Int64Array:
    """Return times in a unit as whole seconds since 1970 (UTC), rounded down."""
    if unit not in ("yyyymmdd", "yyyymmddhhmmss"):
        return time // PER_SECOND[unit]
    date, clock = (time, np.zeros_like(time)) if unit == "yyyymmdd" else np.divmod(time, 10**6)
    year, month, day = date // 10_000, date // 100 % 100, date % 100
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]").astype(np.int64) + day - 1
    seconds = clock // 10_000 * 3600 + clock // 100 % 100 * 60 + clock % 100
    result: Int64Array = days * 86_400 + seconds
    return result


class TimeColumn:
    """The cells of a time column, added in chunks: all of them are numbers, or all are dates.

    Args:
        unit: unit of the cells; ``None`` guesses it.

    Attributes:
        dates: whether the cells are ISO dates; ``None`` before the first valid cell.
    """

    def __init__(self, unit: TimeUnit | None) -> None:
        self.dates: bool | None = None if unit is None else unit == "iso"
        self._unit = unit
        self._parser = TimeParser(exact=True)
        self._chunks: list[Int64Array | Float64Array] = []

    def add(self, column: Any) -> BoolArray:
        """Add a chunk and return the mask of bad cells, (R,); a bad cell is added as 0."""
        text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        cells = pc.utf8_trim_whitespace(column) if text else column
        numeric = pc.fill_null(pc.match_substring_regex(cells, _NUMBER), False) if text else None
        if self.dates is None and cells.null_count < len(cells):
            self.dates = _mostly_dates(cells, numeric) if text else pa.types.is_temporal(column.type)
        if self.dates:
            dates = pc.if_else(numeric, pa.scalar(None, cells.type), cells) if text else cells
            values, bad = self._parser(dates)
            bad = bad | (not self._parser.dates)
        else:
            values, bad = _numbers(cells, numeric)
            if self._unit is None and (guessed := unit_of_numbers(values[~bad].astype(np.int64))) in _DIGITS:
                self._unit = guessed
            if self._unit in _DIGITS:
                bad = bad | ~_are_digits(values.astype(np.int64), self._unit)
        self._chunks.append(np.where(bad, 0, values))
        return bad

    def keep(self, kept: BoolArray) -> None:
        """Keep these cells of the chunk that was added last."""
        self._chunks[-1] = self._chunks[-1][kept]

    def finish(self) -> tuple[Int64Array, Int64Array, TimeUnit]:
        """Return exact times, (R,) integers of the same order, the same times in seconds, and their unit."""
        fractional = any(chunk.dtype == np.float64 for chunk in self._chunks)
        time = np.concatenate(self._chunks or [np.empty(0, dtype=np.int64)])
        whole = np.floor(time).astype(np.int64) if fractional else time.astype(np.int64)
        unit: TimeUnit = "iso" if self.dates else self._unit or unit_of_numbers(whole)
        steps = _FRACTION_STEPS if fractional and np.abs(time).max(initial=0) < _LARGEST_FRACTIONAL else 1
        exact = np.round(time * steps).astype(np.int64) if steps > 1 else whole
        return exact, to_seconds(whole, unit), unit


def _mostly_dates(cells: Any, numeric: Any) -> bool:
    dates = pc.sum(pc.match_substring_regex(cells, _ISO_START)).as_py() or 0
    return bool(dates > (pc.sum(numeric).as_py() or 0))


def _numbers(cells: Any, numeric: Any) -> tuple[Int64Array | Float64Array, BoolArray]:
    """Return int64 if all cells are whole, else float64, and the mask of bad cells."""
    if numeric is not None:
        cells = pc.if_else(numeric, cells, pa.scalar(None, cells.type))
        if pc.all(pc.match_substring_regex(cells, _INTEGER)).as_py() is not False:
            with suppress(pa.ArrowInvalid):  # above the largest int64
                cells = pc.cast(cells, pa.int64())
    elif not (pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type) or pa.types.is_decimal(cells.type)):
        cells = pa.nulls(len(cells), pa.int64())
    if pa.types.is_integer(cells.type):
        integers = pc.cast(cells, pa.int64(), safe=False)
        return as_numpy(pc.fill_null(integers, 0)), _mask(pc.is_null(integers))
    floats = as_numpy(pc.fill_null(pc.cast(cells, pa.float64()), np.nan))
    bad = ~(np.isfinite(floats) & (np.abs(floats) < float(1 << 63)))
    floats = np.where(bad, 0, floats)
    return (floats.astype(np.int64) if (floats == np.floor(floats)).all() else floats), bad


def _mask(booleans: Any) -> BoolArray:
    found: BoolArray = as_numpy(pc.cast(booleans, pa.int8())) == 1
    return found
