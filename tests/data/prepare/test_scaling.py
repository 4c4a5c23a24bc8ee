"""Scaling of numerical columns."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.data.prepare.scaling import Scaler
from stemlab.errors import StemlabError

NUMBERS = st.floats(-1e6, 1e6, width=32)
COLUMNS = st.lists(st.one_of(NUMBERS, st.just(float("nan"))), min_size=1, max_size=60).filter(
    lambda values: not all(np.isnan(values))
)


def fit(values, rule="standard", chunks=1):
    column = np.array(values, dtype=np.float32)
    return Scaler.fit("x", rule, np.array_split(column, chunks))


@settings(deadline=None)
@given(COLUMNS, st.integers(1, 9))
def test_fit_equals_numpy_on_the_known_values(values, chunks):
    scaler = fit(values, chunks=chunks)
    known = np.array(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    assert scaler.missing == len(values) - len(known)
    assert (scaler.low, scaler.high) == (known.min(), known.max())
    assert scaler.mean == pytest.approx(known.mean(), rel=1e-9, abs=1e-6)
    assert scaler.std == pytest.approx(known.std(), rel=1e-6, abs=1e-6)


@settings(deadline=None)
@given(COLUMNS)
def test_minmax_spans_zero_to_one_and_standard_has_unit_spread(values):
    column = np.array(values, dtype=np.float32)
    known = ~np.isnan(column)
    spread = fit(values, "minmax")(column)
    assert spread.min() >= 0.0
    assert spread.max() <= 1.0
    if column[known].min() < column[known].max():
        assert (spread.min(), spread.max()) == (0.0, 1.0)
        scaled = fit(values)(column)[known].astype(np.float64)
        assert scaled.mean() == pytest.approx(0.0, abs=1e-4)
        assert scaled.std() == pytest.approx(1.0, rel=1e-3)
    np.testing.assert_array_equal(fit(values, "none")(column)[known], column[known])


@settings(deadline=None)
@given(COLUMNS, st.sampled_from(["none", "standard", "minmax"]))
def test_missing_values_become_the_mean(values, rule):
    scaler = fit(values, rule)
    scaled = scaler(np.array([*values, np.nan], dtype=np.float32))
    assert np.isfinite(scaled).all()
    low, high = scaler(np.array([scaler.low, scaler.high], dtype=np.float32))
    assert low - 1e-4 * max(1, abs(low)) <= scaled[-1] <= high + 1e-4 * max(1, abs(high))
    expected = {
        "none": scaler.mean,
        "standard": 0.0,
        "minmax": (scaler.mean - scaler.low) / ((scaler.high - scaler.low) or 1.0),
    }
    assert scaled[-1] == np.float32(expected[rule])


@pytest.mark.parametrize("value", [0.1, -3.7e5, 0.0, 1e-30])
def test_a_constant_column_is_zero(value):
    for rule in ("standard", "minmax"):
        scaler = fit([value] * 7 + [float("nan")], rule, 3)
        assert scaler.std == 0.0
        np.testing.assert_array_equal(scaler(np.full(3, value, np.float32)), np.zeros(3, np.float32))
    np.testing.assert_array_equal(
        fit([value] * 3, "none")(np.full(2, value, np.float32)), np.full(2, np.float32(value))
    )


def test_values_outside_the_training_range_are_not_clipped():
    assert fit([0.0, 10.0], "minmax")(np.array([-10, 25], np.float32)).tolist() == [-1.0, 2.5]


def test_deviation_is_exact_far_from_zero():
    column = [16_000_000.0, 16_000_001.0, 16_000_002.0, 16_000_003.0]
    assert fit(column, chunks=4).std == pytest.approx(np.sqrt(1.25))


def test_column_without_values_raises():
    with pytest.raises(StemlabError, match="numerical column 'x' has no value in any training row"):
        fit([float("nan")] * 3, chunks=2)


@settings(deadline=None)
@given(COLUMNS)
def test_manifest_round_trip_is_exact(values):
    scaler = fit(values)
    assert Scaler.from_dict(json.loads(json.dumps({"part": "user", **scaler.to_dict()}))) == scaler
