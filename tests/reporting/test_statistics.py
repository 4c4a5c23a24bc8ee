"""Statistical tests against brute force, permutations and scipy."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from stemlab.reporting.statistics import (
    blocked_t,
    bootstrap_auc_over_groups,
    bootstrap_over_groups,
    delong,
    detectable_difference,
    holm,
    overlapping_t,
)


def test_two_models_are_compared_by_the_paired_t_test():
    values = np.random.default_rng(0).normal([[0.7], [0.69]], 0.01, (2, 5))
    (found, df), expected = blocked_t(values, 0, 1), stats.ttest_rel(*values)
    assert df == expected.df == 4
    assert found.p == pytest.approx(expected.pvalue, rel=1e-10)
    assert found.difference / found.standard_error == pytest.approx(expected.statistic, rel=1e-10)


def test_blocks_leave_the_effect_of_the_seed_out():
    rng = np.random.default_rng(1)
    models, seeds, noise = rng.normal(0, 0.1, (4, 1)), rng.normal(0, 5, 6), rng.normal(0, 0.01, (4, 6))
    found, df = blocked_t(models + seeds + noise, 2, 3)
    assert df == 15
    assert found.difference == pytest.approx((models[2] - models[3] + (noise[2] - noise[3]).mean())[0])
    residuals = noise - noise.mean(1, keepdims=True) - noise.mean(0) + noise.mean()
    assert found.standard_error == pytest.approx(math.sqrt(2 / 6 * (residuals**2).sum() / 15))


def test_false_alarms_have_the_rate_of_the_level():
    rng = np.random.default_rng(2)
    p = [blocked_t(rng.normal(0, 1, (3, 3)), 0, 1)[0].p for _ in range(1000)]
    assert 0.03 < np.mean(np.array(p) < 0.05) < 0.07


def test_models_without_variation_or_seeds():
    assert blocked_t([[0.5, 0.6], [0.5, 0.6]], 0, 1)[0].p == 1
    assert blocked_t([[0.6, 0.7], [0.5, 0.6]], 0, 1)[0].p == 0
    found, df = blocked_t([[0.6], [0.5]], 0, 1)
    assert (math.isnan(found.p), df) == (True, 0)
    assert found.difference == pytest.approx(0.1)


def test_a_detectable_difference_is_found_with_its_power():
    pairs, sd = 6, 0.01
    difference, rng = detectable_difference(sd / math.sqrt(pairs), pairs - 1), np.random.default_rng(1)
    found = [blocked_t([rng.normal(difference, sd, pairs), np.zeros(pairs)], 0, 1)[0].p < 0.05 for _ in range(1000)]
    assert 0.7 < np.mean(found) < 0.9
    assert math.isnan(detectable_difference(0.1, 0))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, math.nan]) == pytest.approx([0.03, 0.06, 0.06, math.nan], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_delong_equals_the_definition(seed):
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 0, 1, 1, rng.integers(0, 2, 12)]
    scores = rng.integers(0, 6, (2, 16)) / 5  # with ties
    auc, positive, negative = [], [], []
    for one in scores:
        kernel = (one[labels == 1][:, None] > one[labels == 0]) + 0.5 * (one[labels == 1][:, None] == one[labels == 0])
        auc.append(kernel.mean())
        positive.append(kernel.mean(1))
        negative.append(kernel.mean(0))
        assert auc[-1] == pytest.approx(roc_auc_score(labels, one))
    covariance = np.cov(positive) / (labels == 1).sum() + np.cov(negative) / (labels == 0).sum()
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    found = delong(labels, *scores)
    assert found.difference == pytest.approx(auc[0] - auc[1], abs=1e-12)
    assert found.standard_error == pytest.approx(math.sqrt(max(variance, 0)), abs=1e-7)


def test_delong_agrees_with_all_permutations():
    """Exchange the scores of both models within every subset of the samples: the exact test of equal models."""
    rng = np.random.default_rng(4)
    labels = np.array([0, 1] * 6)
    first, second = rng.normal(labels * 1.5, 1), rng.normal(labels * 0.2, 1)
    # ranks, so that exchanged scores are comparable
    first, second = stats.rankdata(first), stats.rankdata(second)
    swap = np.array(list(itertools.product([False, True], repeat=len(labels))))
    differences = pairwise_auc(np.where(swap, second, first), labels) - pairwise_auc(
        np.where(swap, first, second), labels
    )
    extreme = abs(differences) >= abs(differences[0]) - 1e-12
    assert delong(labels, first, second).p == pytest.approx(extreme.mean(), abs=0.06)


def pairwise_auc(scores, labels):
    """Return the AUC of each row of scores, over all pairs of a positive and a negative."""
    positive, negative = scores[:, labels == 1, None], scores[:, None, labels == 0]
    return ((positive > negative) + 0.5 * (positive == negative)).mean((1, 2))


def test_delong_of_equal_scores_and_of_one_class():
    labels, scores = np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.3, 0.2])
    assert delong(labels, scores, scores).p == 1
    assert math.isnan(delong(np.ones(4), scores, scores).p)
    assert math.isnan(delong(np.array([0, 0, 0, 1]), scores, scores[::-1]).p)


def test_bootstrap_agrees_with_scipy():
    rng = np.random.default_rng(0)
    first, second = rng.random(80), rng.random(80) + 0.03
    found = bootstrap_over_groups(first, second, resamples=4000)
    expected = stats.bootstrap((first - second,), np.mean, n_resamples=4000, rng=1, method="percentile")
    assert found.standard_error == pytest.approx(expected.standard_error, rel=0.05)
    assert found.difference == pytest.approx((first - second).mean(), abs=1e-12)
    assert found.p == pytest.approx(stats.ttest_rel(first, second).pvalue, abs=0.05)


def test_bootstrap_weights_and_missing_groups():
    first, second = np.array([0.5, np.nan, 1.0, 0.2]), np.array([0.4, 0.3, 0.2, 0.9])
    weights = np.array([3, 5, 1, 0])
    found = bootstrap_over_groups(first, second, weights, resamples=50)
    assert found.difference == pytest.approx((3 * 0.1 + 0.8) / 4)
    assert bootstrap_over_groups(second, second).p == 1
    assert math.isnan(bootstrap_over_groups([np.nan], [1.0]).p)
    assert found == bootstrap_over_groups(first, second, weights, resamples=50)


def test_the_bootstrap_of_an_auc_draws_whole_groups():
    rng = np.random.default_rng(3)
    group, label = rng.integers(5, 25, 120), rng.integers(0, 2, 120)
    first, second = label + rng.normal(0, 1, 120), np.round(label + rng.normal(0, 2, 120))  # with ties
    found = bootstrap_auc_over_groups(label, first, second, group, resamples=200)
    assert found.difference == pytest.approx(roc_auc_score(label, first) - roc_auc_score(label, second), abs=1e-12)
    names = np.unique(group)
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), 200)
    weights = drawn[:, np.searchsorted(names, group)]
    differences = [
        roc_auc_score(label, first, sample_weight=one) - roc_auc_score(label, second, sample_weight=one)
        for one in weights
    ]
    assert found.standard_error == pytest.approx(np.std(differences, ddof=1), rel=1e-9)
    smaller = min(np.sum(np.array(differences) <= 0), np.sum(np.array(differences) >= 0))
    assert found.p == pytest.approx(2 * (smaller + 1) / 201)
    assert bootstrap_auc_over_groups(label, first, first, group).p == 1
    assert math.isnan(bootstrap_auc_over_groups(np.ones(120), first, second, group).p)


def test_overlapping_splits_have_a_larger_error_than_independent_ones():
    values = np.random.default_rng(4).normal(0.01, 0.01, 6)
    independent, found = stats.ttest_1samp(values, 0), overlapping_t(values, 0.125)
    assert overlapping_t(values, 0.0).p == pytest.approx(independent.pvalue, rel=1e-10)
    ratio = math.sqrt((1 / 6 + 0.125) / (1 / 6))
    assert found.difference / found.standard_error == pytest.approx(independent.statistic / ratio)
    assert found.p > independent.pvalue
    assert math.isnan(overlapping_t([0.1], 0.125).p)
    assert (overlapping_t([0.0, 0.0], 0.1).p, overlapping_t([0.1, 0.1], 0.1).p) == (1, 0)
