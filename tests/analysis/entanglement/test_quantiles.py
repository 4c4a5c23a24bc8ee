"""Percentiles from a histogram are within one bin of the exact ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.analysis.entanglement import quantiles
from stemlab.analysis.entanglement.conflict import table_distances
from stemlab.analysis.entanglement.quantiles import percentiles

WANTED = (0.0, 0.01, 7.5, 40.0, 50.0, 60.0, 99.9, 100.0)
KINDS = {
    "normal": lambda rng, n: rng.normal(3, 2, n),
    "heavy tail": lambda rng, n: rng.standard_cauchy(n),
    "few values": lambda rng, n: rng.integers(0, 4, n),
    "two far groups": lambda rng, n: np.where(rng.random(n) < 0.4, 0, 1000) + rng.random(n),
    "one value": lambda rng, n: np.full(n, 2.5),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bins", [1 << 20, 64])
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 500))
@settings(max_examples=15, deadline=None)
def test_error_is_at_most_one_bin(kind: str, bins: int, seed: int, count: int) -> None:
    values = KINDS[kind](np.random.default_rng(seed), count).astype(np.float64)
    exact = np.percentile(values, WANTED)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"EXACT": 0, "BINS": bins, "_BLOCK": 70}.items():
            patch.setattr(quantiles, name, value)
        found = percentiles(values, WANTED)
    assert found.dtype == values.dtype
    bound = np.ptp(values) / bins
    assert np.abs(found - exact).max() <= bound * (1 + 1e-6) + 1e-12 * np.abs(values).max()
    assert (found[0], found[-1]) == (values.min(), values.max())


def test_histogram_percentiles_by_hand() -> None:
    """Two bins from 0 to 8 with three and two values: 1/6, 3/6, 5/6 of the first, 1/4 and 3/4 of the second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantiles, "EXACT", 4)
        patch.setattr(quantiles, "BINS", 2)
        found = percentiles(np.array([8, 0, 1, 3, 6], dtype=np.float32), (25, 50, 62.5, 75, 100))
    np.testing.assert_allclose(found, [2, 10 / 3, (10 / 3 + 5) / 2, 5, 8], rtol=1e-6)


def test_small_arrays_are_exact_and_large_ones_use_the_histogram(monkeypatch: pytest.MonkeyPatch) -> None:
    distance_P = np.random.default_rng(0).gamma(2, 1, 5000).astype(np.float32)
    exact = table_distances("a", "a", "", distance_P, (40, 60), 39)
    assert (exact.low, exact.high) == tuple(np.percentile(distance_P, (40, 60)))
    monkeypatch.setattr(quantiles, "EXACT", len(distance_P))
    assert table_distances("a", "a", "", distance_P, (40, 60), 39).low == exact.low
    monkeypatch.setattr(quantiles, "EXACT", len(distance_P) - 1)
    monkeypatch.setattr(quantiles, "BINS", 1 << 10)
    rough = table_distances("a", "a", "", distance_P, (40, 60), 39)
    assert 0 < abs(rough.low - exact.low) <= np.ptp(distance_P) / (1 << 10)
    assert rough.near().mean() == pytest.approx(0.4, abs=2e-3)
    assert rough.far().mean() == pytest.approx(0.4, abs=2e-3)
