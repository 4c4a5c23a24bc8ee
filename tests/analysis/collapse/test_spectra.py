"""Singular values and Information Abundance: properties of every table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.analysis.collapse.spectra import (
    BlockwiseMatrix,
    effective_rank,
    energy_share,
    information_abundance,
    normalised_spectrum,
    numeric_rank,
    singular_values,
    stable_rank,
)

seeds = st.integers(0, 2**32 - 1)


def table(seed: int, rows: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width)) @ np.diag(np.geomspace(1, 1e-2, width))


def abundance(weight: np.ndarray, **options: object) -> float:
    return information_abundance(singular_values(BlockwiseMatrix(weight), **options))


def decaying(rows: int, values: np.ndarray) -> np.ndarray:
    """A table with the given singular values."""
    rng = np.random.default_rng(3)
    left, _ = np.linalg.qr(rng.normal(size=(rows, len(values))))
    right, _ = np.linalg.qr(rng.normal(size=(len(values), len(values))))
    return (left * values) @ right.T


def test_equal_singular_values_and_rank_one() -> None:
    assert abundance(np.eye(7)) == pytest.approx(7)
    assert abundance(np.outer(np.arange(1.0, 9), [2.0, -1.0, 0.5])) == pytest.approx(1)
    assert effective_rank(singular_values(BlockwiseMatrix(np.eye(7)))) == pytest.approx(7)
    assert stable_rank(singular_values(BlockwiseMatrix(np.eye(7)))) == pytest.approx(7)
    assert numeric_rank(np.array([1.0, 0.02, 0.01, 0.001])) == 2
    assert energy_share(np.array([3.0, 4.0][::-1]), 1) == pytest.approx(16 / 25)


@given(seed=seeds, factor=st.floats(1e-3, 1e3))
@settings(max_examples=20, deadline=None)
def test_abundance_is_invariant_to_scale_and_rotation(seed: int, factor: float) -> None:
    weight = table(seed, 30, 5)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(5, 5)))
    assert abundance(factor * weight) == pytest.approx(abundance(weight), rel=1e-9)
    assert abundance(weight @ rotation) == pytest.approx(abundance(weight), rel=1e-9)
    assert 1 <= abundance(weight) <= 5


@given(seed=seeds, rows=st.integers(1, 200), width=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_the_gram_path_equals_the_svd(seed: int, rows: int, width: int) -> None:
    weight = table(seed, rows, width)
    exact = np.linalg.svd(weight, compute_uv=False)
    np.testing.assert_allclose(singular_values(BlockwiseMatrix(weight), tall=0), exact, rtol=1e-9)
    np.testing.assert_allclose(singular_values(BlockwiseMatrix(weight)), exact, rtol=1e-12)


def test_the_gram_path_is_accurate_to_a_millionth_of_the_largest_value() -> None:
    values = np.geomspace(1, 1e-6, 12)
    found = singular_values(BlockwiseMatrix(decaying(500, values)), tall=0)
    np.testing.assert_allclose(found, values, rtol=1e-6)


def test_a_table_of_low_rank_and_an_all_zero_table() -> None:
    flat = decaying(300, np.array([1.0, 0.5, 0.0, 0.0]))
    np.testing.assert_allclose(singular_values(BlockwiseMatrix(flat), tall=0), [1, 0.5, 0, 0], atol=1e-12)
    zeros = singular_values(BlockwiseMatrix(np.zeros((300, 4))), tall=0)
    assert zeros.tolist() == [0, 0, 0, 0]
    assert np.isnan(information_abundance(zeros))
    assert normalised_spectrum(zeros, 4).tolist() == [0, 0, 0, 0]


def test_fewer_rows_than_dimensions_are_padded_with_zeros() -> None:
    values = singular_values(BlockwiseMatrix(np.eye(2, 5)))
    assert len(values) == 2
    assert normalised_spectrum(values, 5).tolist() == [1, 1, 0, 0, 0]


def test_normalised_rows_and_weighted_rows() -> None:
    weight = np.array([[3.0, 0.0], [0.0, 0.1], [0.0, 0.0]])
    np.testing.assert_allclose(singular_values(BlockwiseMatrix(weight, normalised=True)), [1, 1], rtol=1e-6)
    repeated = np.repeat(table(0, 3, 2), [4, 1, 9], axis=0)
    weighted = BlockwiseMatrix(table(0, 3, 2), scale_V=np.sqrt([4.0, 1.0, 9.0]))
    np.testing.assert_allclose(singular_values(weighted), np.linalg.svd(repeated, compute_uv=False), rtol=1e-12)


def test_many_blocks_give_the_svd_of_the_table() -> None:
    weight = table(5, 70_001, 3).astype(np.float32)
    seen: list[int] = []
    exact = np.linalg.svd(weight.astype(np.float64), compute_uv=False)
    np.testing.assert_allclose(singular_values(BlockwiseMatrix(weight), advance=seen.append), exact, rtol=1e-9)
    assert seen == [65_536, 4_465]
