"""Buckets of relative feedback and bootstrap intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.analysis.transfer.buckets import (
    COLD,
    WeightedAUC,
    bootstrap_differences,
    bootstrap_interval,
    positives_by_entity,
    quantile_buckets,
    relative_feedback,
    threshold_buckets,
)
from stemlab.metrics.auc import auc
from stemlab.types import MISSING_GROUP


def test_relative_feedback_by_hand() -> None:
    positives = np.array([[3, 0], [0, 0], [1, 4]])
    np.testing.assert_allclose(relative_feedback(positives, False), np.log([4, 1, 2 / 5]))
    np.testing.assert_allclose(relative_feedback(positives, True), np.log(np.array([4, 1, 2 / 5])))
    uneven = np.array([[9, 0], [0, 1]])
    np.testing.assert_allclose(relative_feedback(uneven, True), np.log([(10 / 10) / (1 / 2), (1 / 10) / (2 / 2)]))


def test_positives_by_entity() -> None:
    ids, labels = np.array([2, 0, 2, 1]), np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    positives, rows = positives_by_entity(ids, labels, 4)
    assert positives.tolist() == [[0, 1], [0, 0], [2, 1], [0, 0]]
    assert rows.tolist() == [1, 1, 2, 0]


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_buckets_are_ordered_and_of_similar_size(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    r, known = rng.normal(size=600), rng.random(600) < 0.9
    found = quantile_buckets(r, known, count)
    sizes = np.bincount(found.bucket_B[known], minlength=count)
    assert sizes.max() - sizes.min() <= 2
    assert set(found.bucket_B[~known]) == {COLD}
    for number in range(count - 1):
        assert r[found.bucket_B == number].max() <= r[found.bucket_B == number + 1].min()
    means = [np.abs(r[found.bucket_B == number]).mean() for number in range(count)]
    assert found.comparable == int(np.argmin(means))


def test_many_equal_values_give_fewer_buckets() -> None:
    found = quantile_buckets(np.zeros(10), np.ones(10, dtype=bool), 5)
    assert found.bucket_B.tolist() == [0] * 10


def test_a_threshold_gives_three_buckets() -> None:
    r = np.array([-2.0, -0.5, 0.0, 0.5, 0.6, 9.0])
    found = threshold_buckets(r, np.ones(6, dtype=bool), 0.5)
    assert found.bucket_B.tolist() == [0, 1, 1, 1, 2, 2]
    assert found.comparable == 1


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_integer_weights_equal_repetition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, scores, times = rng.integers(0, 2, 40), rng.integers(0, 9, 40) / 8, rng.integers(0, 4, 40)
    measure = WeightedAUC(labels, scores)
    assert measure() == pytest.approx(auc(labels, scores), nan_ok=True)
    repeated = auc(np.repeat(labels, times), np.repeat(scores, times))
    assert measure(times) == pytest.approx(repeated, nan_ok=True)


def test_samples_without_a_group_are_resampled_one_by_one() -> None:
    rng = np.random.default_rng(0)
    labels, base, other = rng.integers(0, 2, 60), rng.random(60), rng.random(60)
    missing = np.append(np.full(50, MISSING_GROUP), np.full(10, 77))
    found = bootstrap_differences(labels, base, [other], missing, 20, 1)
    named = np.append(np.arange(50), np.full(10, 77))
    np.testing.assert_array_equal(found, bootstrap_differences(labels, base, [other], named, 20, 1))


def test_bootstrap_differences_are_paired_and_reproducible() -> None:
    rng = np.random.default_rng(0)
    group, labels = rng.integers(0, 30, 400), rng.integers(0, 2, 400)
    base = rng.random(400)
    better = base + 0.5 * labels
    found = bootstrap_differences(labels, base, [base, better], group, 50, 1)
    assert found.shape == (2, 50)
    assert np.abs(found[0]).max() == 0
    assert found[1].min() > 0
    np.testing.assert_array_equal(found, bootstrap_differences(labels, base, [base, better], group, 50, 1))
    centre = auc(labels, better) - auc(labels, base)
    assert np.quantile(found[1], 0.025) < centre < np.quantile(found[1], 0.975)


def test_bootstrap_interval_ignores_undefined_resamples() -> None:
    draws = np.array([*np.linspace(-1, 1, 101), np.nan])
    assert bootstrap_interval(draws, 0.9) == pytest.approx((-0.9, 0.9))
    assert np.isnan(bootstrap_interval(np.array([np.nan, np.nan]), 0.9)).all()
