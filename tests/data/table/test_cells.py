"""Parsers of cells: labels, numbers, times, splits, names."""

from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemlab.data.table import cells
from stemlab.data.table.tokens import TokenCodes


def read(reader, column, *extra):
    values, bad = reader(cells.without_missing(column, [""]), *extra)
    return [None if wrong else value for value, wrong in zip(values.tolist(), bad.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["0", "1", "true", "FALSE", " 1", "1.0", "2", "", "x"]), [0, 1, 1, 0, 1, 1, None, None, None]),
        (pa.array([True, False, None]), [1, 0, None]),
        (pa.array([1, 0, -1], pa.int8()), [1, 0, None]),
        (pa.array([1.0, 0.5, float("nan")]), [1, None, None]),
        (pa.array(["1", "0"]).dictionary_encode(), [1, 0]),
    ],
)
def test_labels(column, expected):
    assert read(cells.read_labels, column) == expected


@pytest.mark.parametrize(
    ("column", "expected", "wrong"),
    [
        (pa.array(["1.5", "", " -2", "1e3"]), [1.5, np.nan, -2, 1000], []),
        (pa.array(["1", "x", "inf", "nan", "1_0", "1e39"]), [1], [1, 2, 3, 4, 5]),
        (pa.array([1, None, 3]), [1, np.nan, 3], []),
        (pa.array([0.5, float("nan"), float("inf"), None]), [0.5, np.nan, np.inf, np.nan], [2]),
        (pa.array([True, False]), [], [0, 1]),
        (pa.array(["", ""]), [np.nan, np.nan], []),
    ],
)
def test_numbers(column, expected, wrong):
    values, bad = cells.read_numbers(cells.without_missing(column, [""]))
    assert values.dtype == np.float32
    assert np.flatnonzero(bad).tolist() == wrong
    np.testing.assert_array_equal(values[: len(expected)], np.float32(expected))


def test_times_are_integers_or_dates():
    assert read(cells.read_times, pa.array(["7", "-3", "20240506", "1.5", ""])) == [7, -3, 20240506, None, None]
    assert read(cells.read_times, pa.array(["2024-05-06", "2024-05-06 07:08", "2024-05-06T07:08:09.5"])) == [
        20240506000000,
        20240506070800,
        20240506070809,
    ]
    assert read(cells.read_times, pa.array(["2024-05-06T07:08:09+02:00", "yesterday"])) == [20240506050809, None]
    assert read(cells.read_times, pa.array([date(2024, 5, 6)])) == [20240506000000]
    assert read(cells.read_times, pa.array([datetime(2024, 5, 6, 7, 8, 9, 5), None])) == [20240506070809, None]
    assert read(cells.read_times, pa.array([3.0, 2.5])) == [3, None]


@given(st.lists(st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)), min_size=2, max_size=6))
def test_dates_keep_their_order(moments):
    whole = [moment.replace(microsecond=0) for moment in moments]
    numbers = read(cells.read_times, pa.array([moment.isoformat(" ") for moment in whole]))
    assert np.argsort(numbers, kind="stable").tolist() == np.argsort(whole, kind="stable").tolist()
    zoned = read(cells.read_times, pa.array([moment.replace(tzinfo=UTC).isoformat() for moment in whole]))
    assert zoned == numbers == read(cells.read_times, pa.array(whole))


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["2024-05-06T07:08:09.000000002", "2024-05-06 07:08:09.000000001"]),
        pa.array(["2024-05-06T07:08:09.5", "2024-05-06T07:08:09.25"]),
        pa.array(["2024-05-06T09:08:09.5+02:00", "2024-05-06T07:08:09.499Z"]),
        *(
            pa.array([1_700_000_000_000_000_002, 1_700_000_000_000_000_001]).cast(pa.timestamp("ns", z))
            for z in (None, "UTC")
        ),
        pa.array([1_700_000_000_002, 1_700_000_000_001]).cast(pa.timestamp("ms", "Europe/Berlin")),
    ],
)
def test_exact_times_keep_the_order_within_a_second(column):
    late, early = read(cells.TimeParser(exact=True), column)
    assert late > early


def test_exact_times_of_dates_without_a_time_and_out_of_range():
    day = 1_714_953_600 * 10**9
    assert read(cells.TimeParser(exact=True), pa.array([date(2024, 5, 6), None])) == [day, None]
    assert read(cells.TimeParser(exact=True), pa.array(["2024-05-06", "9999-12-31"])) == [day, None]
    assert read(cells.TimeParser(exact=True), pa.array(["3", "2.0", "2.5"])) == [3, 2, None]


def test_one_time_column_holds_integers_or_dates_in_all_chunks():
    parser = cells.TimeParser()
    assert read(parser, pa.array(["2024-05-06"])) == [20240506000000]
    assert read(parser, pa.array(["20240507", "2024-05-07"])) == [None, 20240507000000]


def test_dates_with_a_time_zone_are_in_utc():
    moment = pa.array([1_700_000_000]).cast(pa.timestamp("s", "Asia/Tokyo"))
    assert read(cells.read_times, moment) == [20231114221320]


def test_splits_and_names():
    assert read(cells.read_splits, pa.array(["train", "Valid", "test", "dev", "0", "2", "x", ""])) == [
        *(0, 1, 2, 1, 0, 2),
        *(None, None),
    ]
    assert read(cells.read_names, pa.array(["nl", "", "fr", "us"]), ("fr", "nl")) == [1, None, 0, None]
    assert read(cells.read_names, pa.array([3, 1]), ("1", "3")) == [1, 0]
    assert read(cells.read_names, pa.array(["3.0", "1"]), ("1.0", "3")) == [1, 0]
    assert read(cells.read_splits, pa.array(["0.0", "2.0"])) == [0, 2]


def test_tokens_are_independent_of_the_column_type():
    codes = TokenCodes()
    assert read(cells.read_token_codes, pa.array(["5", "", "007", None]), codes) == [1, 0, 2, 0]
    assert read(cells.read_token_codes, pa.array([5.0, float("nan"), None]), codes) == [1, 0, 0]
    assert read(cells.read_token_codes, pa.array([7, 5, None]), codes) == [3, 1, 0]
    assert read(cells.read_token_codes, pa.array([True, None]), codes) == [4, 0]
    assert read(cells.read_token_codes, pa.array(["007", "true"], pa.large_string()), codes) == [2, 4]
    assert read(cells.read_token_codes, pa.array([None, None]), codes) == [0, 0]
    assert list(codes) == ["", "5", "007", "7", "true"]


def test_whole_floats_are_the_tokens_of_integers():
    codes = TokenCodes()
    assert read(cells.read_token_codes, pa.array(["5.0", "5", "5.00", "-5.0", "5.5", "1.0.0"]), codes) == [
        1,
        1,
        1,
        2,
        3,
        4,
    ]
    assert read(cells.read_token_codes, pa.array([Decimal("5.00"), Decimal("7.00")]), codes) == [1, 5]
    assert list(codes) == ["", "5", "-5", "5.5", "1.0.0", "7"]


def test_integers_that_floats_do_not_hold_are_no_tokens():
    codes = TokenCodes()
    assert read(cells.read_token_codes, pa.array([2.0**53, 2.0**53 + 2, 1.0]), codes)[1:] == [None, 3]
    assert read(cells.read_token_codes, pa.array([2.0**24 + 2, 1.0], pa.float32()), codes) == [None, 3]


def test_other_spellings_of_missing():
    column = cells.without_missing(pa.array(["NA", "", "5", "\\N"]), ["NA", "\\N"])
    assert column.to_pylist() == [None, "", "5", None]
