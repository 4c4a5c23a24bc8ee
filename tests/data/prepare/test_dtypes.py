import numpy as np
import pytest

from stemlab.data.prepare.column_cache import ColumnCache
from stemlab.data.prepare.dtypes import OUTSIDE, to_small_codes
from stemlab.data.prepare.negative_downsampling import DownsamplingRule, draw_negatives
from stemlab.data.prepare.split import SplitRule, date_codes, given_codes, time_codes

DTYPES = [np.int8, np.uint8, np.int16, np.int32, np.int64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_codes_are_the_same_from_every_dtype(dtype):
    info = np.iinfo(dtype)
    samples = (-129, -128, -1, 0, 1, 127, 128, 254, 255, 256, 512, 2**40)
    values = [value for value in samples if info.min <= value <= info.max]
    codes = to_small_codes([np.array(values[:2], dtype=dtype), np.array(values[2:], dtype=dtype)], len(values))
    assert codes.dtype == np.uint8
    assert codes.tolist() == [value if 0 <= value < OUTSIDE else OUTSIDE for value in values]


def test_cached_columns_are_int64_whatever_the_width_on_disk(tmp_path):
    chunks = [[0, 1], [-300, 7], [2**40], []]
    with ColumnCache(tmp_path / "columns", ["a"], ["x"]) as cache:
        for values in chunks:
            cache.append({"a": np.array(values, dtype=np.int64), "x": np.array(values, dtype=np.float32)})
        for chunk, values in zip(cache.chunks(["a", "x"]), chunks, strict=True):
            assert (chunk["a"].dtype, chunk["x"].dtype) == (np.int64, np.float32)
            assert chunk["a"].tolist() == values
        assert {chunk.dtype for chunk in cache.column("a")} == {np.dtype(np.int64)}
    assert not (tmp_path / "columns").exists()


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint64, np.bool_, np.float64])
def test_readers_must_yield_int64(tmp_path, dtype):
    with (
        pytest.raises(TypeError, match=f"'a' is {np.dtype(dtype)}"),
        ColumnCache(tmp_path / "columns", ["a"]) as cache,
    ):
        cache.append({"a": np.array([0, 1], dtype=dtype)})


@pytest.mark.parametrize("dtype", DTYPES)
def test_splits_are_the_same_from_every_dtype(dtype):
    given = np.array([0, 0, 0, 0, 2, 0, 0, 0, 0, 2])
    scenario = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    rule = SplitRule(rule="given", valid_size=0.25)

    def narrow(values):
        return lambda: np.array_split(values.astype(dtype), 3)

    codes = given_codes(10, rule, narrow(given), narrow(scenario))
    assert codes.dtype == np.uint8
    assert codes.tolist() == [0, 0, 0, 1, 2, 0, 0, 0, 1, 2]
    times = np.array([5, 1, 4, 2, 3])
    by_time = time_codes(5, SplitRule(rule="time", test_size=0.2, valid_size=0.2), narrow(times))
    assert (by_time.dtype, by_time.tolist()) == (np.uint8, [2, 0, 1, 0, 0])
    by_date = date_codes(5, SplitRule(rule="dates", valid_from=3, test_from=5), narrow(times))
    assert (by_date.dtype, by_date.tolist()) == (np.uint8, [2, 0, 1, 0, 1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_negatives_drawn_are_the_same_from_every_dtype(dtype):
    rng = np.random.default_rng(0)
    labels, scenario = (rng.random(500) < 0.1).astype(dtype), rng.integers(0, 100, 500).astype(dtype)
    rule = DownsamplingRule(label="click", negatives=1, seed=3)
    kept = draw_negatives([labels], 500, rule, [scenario])
    expected = draw_negatives([labels.astype(np.int64)], 500, rule, [scenario.astype(np.int64)])
    np.testing.assert_array_equal(kept, expected)


def test_scenarios_above_127_are_drawn_too():
    labels, scenario = np.array([1, 0, 0, 1, 0, 0]), np.array([200, 200, 200, 254, 254, 254])
    kept = draw_negatives([labels], 6, DownsamplingRule(label="click", negatives=1, seed=3), [scenario])
    assert (kept[:3].sum(), kept[3:].sum()) == (2, 2)
