"""Units of times: guessed from the values, converted to seconds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.data.table.time_units import TimeColumn, TimeUnit, to_seconds, unit_of_numbers

SECONDS = st.lists(st.integers(200_000_000, 4_000_000_000), min_size=1, max_size=20)
FORMATS = {"yyyymmdd": "%Y%m%d", "yyyymmddhhmmss": "%Y%m%d%H%M%S", "iso": "%Y-%m-%d %H:%M:%S"}


def column(cells: list[str], unit: TimeUnit | None = None, chunks: int = 1) -> TimeColumn:
    made = TimeColumn(unit)
    for part in np.array_split(np.array(cells, dtype=object), chunks):
        assert not made.add(pa.array(part.tolist(), pa.string())).any()
    return made


@settings(max_examples=40, deadline=None)
@given(SECONDS)
def test_all_units_give_the_same_seconds(times: list[int]) -> None:
    dates = pd.to_datetime(pd.Series(times), unit="s")
    for unit, factor in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
        exact, seconds, found = column([str(time * factor + factor // 2) for time in times]).finish()
        assert (found, seconds.tolist()) == (unit, times)
        assert exact.tolist() == [time * factor + factor // 2 for time in times]
    for unit, form in FORMATS.items():
        exact, seconds, found = column(dates.dt.strftime(form).tolist()).finish()
        wanted = [time - time % 86_400 for time in times] if unit == "yyyymmdd" else times
        assert (found, seconds.tolist()) == (unit, wanted)
        assert np.array_equal(np.argsort(exact, kind="stable"), np.argsort(wanted, kind="stable"))


def test_fractional_seconds_keep_their_order() -> None:
    exact, seconds, unit = column(["978300760.75", "978300760.25", "978300761"], chunks=2).finish()
    assert (unit, seconds.tolist()) == ("s", [978300760, 978300760, 978300761])
    assert exact.tolist() == [978300760750, 978300760250, 978300761000]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (pa.array([5, 7], pa.int32()), [5, 7]),
        (pa.array([5.0, 7.0]), [5, 7]),
        (pa.array([1_700_000_000_000_000], pa.timestamp("us")), [1_700_000_000]),
        (pa.array([19_000], pa.date32()), [19_000 * 86_400]),
    ],
)
def test_typed_columns(values: pa.Array, wanted: list[int]) -> None:
    made = TimeColumn(None)
    assert not made.add(values).any()
    assert made.finish()[1].tolist() == wanted


@pytest.mark.parametrize(
    ("cells", "unit", "bad"),
    [
        (["5", "x", None, "7"], None, [1, 2]),
        (["2024-01-01", "5", "2024-13-01", "2024-01-02T03:04:05"], None, [1, 2]),
        (["20240101"] * 20 + ["20240132"], None, [20]),
        (["20240101", "5"], "yyyymmdd", [1]),
        (["5", "2024-01-01"], "iso", [0]),
    ],
)
def test_bad_cells(cells: list[str | None], unit: TimeUnit | None, bad: list[int]) -> None:
    assert np.flatnonzero(TimeColumn(unit).add(pa.array(cells, pa.string()))).tolist() == bad


def test_small_numbers_are_seconds_or_positions() -> None:
    assert unit_of_numbers(np.array([0, 12, 500])) == "s"
    assert unit_of_numbers(np.empty(0, dtype=np.int64)) == "s"
    assert to_seconds(np.array([1999]), "ms").tolist() == [1]
