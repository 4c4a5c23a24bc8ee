"""Metrics with sample weights against scikit-learn and loops; XAUC against pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import mean_absolute_error, mean_squared_error, roc_auc_score

from stemlab.metrics.auc import auc, gauc
from stemlab.metrics.calibration import calibration_ratio, ece, log_loss
from stemlab.metrics.regression import mae, rmse, xauc
from stemlab.metrics.weighted import (
    weighted_auc,
    weighted_calibration_ratio,
    weighted_ece,
    weighted_gauc,
    weighted_log_loss,
)
from stemlab.types import MISSING_GROUP

seeds = st.integers(0, 2**32 - 1)


def rows(seed, n=60, levels=8):
    """Draw labels, scores with ties, weights with zeros, and groups with missing keys."""
    rng = np.random.default_rng(seed)
    weights = (rng.gamma(1.0, 2.0, n) * (rng.random(n) > 0.2)).astype(np.float32)
    scores = (rng.integers(1, levels, n) / levels).astype(np.float32)
    groups = rng.integers(0, 5, n)
    groups[rng.random(n) < 0.1] = MISSING_GROUP
    return rng.integers(0, 2, n), scores, weights, groups


def pairs(labels, values, weights):
    """Return XAUC by a loop over pairs."""
    right = total = 0.0
    for i in range(len(labels)):
        for j in range(i):
            if labels[i] != labels[j]:
                mass = float(weights[i]) * float(weights[j])
                order = float(labels[i] - labels[j]) * float(values[i] - values[j])
                right, total = right + mass * (1 if order > 0 else 0.5 if order == 0 else 0), total + mass
    return right / total if total else float("nan")


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_auc_and_log_loss_are_those_of_scikit_learn(seed):
    labels, scores, weights, _ = rows(seed)
    mass = weights.astype(np.float64)
    assert weighted_auc(labels, scores, weights) == pytest.approx(
        roc_auc_score(labels, scores, sample_weight=mass), abs=1e-12
    )
    assert weighted_log_loss(labels, scores, weights) == pytest.approx(
        sklearn_log_loss(labels, scores.astype(np.float64), sample_weight=mass), abs=1e-12
    )


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_gauc_is_the_mean_over_groups(seed):
    labels, scores, weights, groups = rows(seed)
    aucs, masses = [], []
    for group in range(5):
        inside = (groups == group) & (weights > 0)
        if len(set(labels[inside])) == 2:
            mass = weights[inside].astype(np.float64)
            aucs.append(roc_auc_score(labels[inside], scores[inside], sample_weight=mass))
            masses.append(mass.sum())
    expected = np.average(aucs, weights=masses) if aucs else float("nan")
    assert weighted_gauc(labels, scores, weights, groups) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_integer_weights_repeat_samples(seed):
    labels, scores, _, groups = rows(seed)
    counts = np.random.default_rng(seed).integers(0, 4, len(labels))
    repeated = [np.repeat(column, counts) for column in (labels, scores, groups)]
    weights = counts.astype(np.float32)
    for weighted, plain in (
        (weighted_auc, auc),
        (weighted_log_loss, log_loss),
        (weighted_calibration_ratio, calibration_ratio),
        (weighted_ece, ece),
    ):
        assert weighted(labels, scores, weights) == pytest.approx(plain(*repeated[:2]), abs=1e-9, nan_ok=True)
    assert weighted_gauc(labels, scores, weights, groups) == pytest.approx(gauc(*repeated), abs=1e-12, nan_ok=True)


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_no_metric_depends_on_the_order_of_the_samples(seed):
    labels, scores, weights, groups = rows(seed, n=200)
    values = np.random.default_rng(seed).gamma(2.0, 8.0, 200).astype(np.float32)
    order = np.random.default_rng(seed + 1).permutation(200)
    for metric in (weighted_auc, weighted_log_loss, weighted_calibration_ratio, weighted_ece):
        assert metric(labels, scores, weights) == metric(labels[order], scores[order], weights[order])
    assert weighted_gauc(labels, scores, weights, groups) == weighted_gauc(
        labels[order], scores[order], weights[order], groups[order]
    )
    for metric in (rmse, mae, xauc):
        for mass, moved in ((None, None), (weights, weights[order])):
            assert metric(values, scores, mass) == metric(values[order], scores[order], moved)


@given(seeds, st.integers(0, 40), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_xauc_is_the_share_of_ordered_pairs(seed, n, levels):
    rng = np.random.default_rng(seed)
    labels, values = rng.integers(0, levels, n).astype(np.float32), rng.integers(0, 6, n).astype(np.float32)
    weights = (rng.random(n) * rng.integers(0, 2, n)).astype(np.float32)
    assert xauc(labels, values) == pytest.approx(pairs(labels, values, np.ones(n)), abs=1e-15, nan_ok=True)
    assert xauc(labels, values, weights) == pytest.approx(pairs(labels, values, weights), abs=1e-12, nan_ok=True)


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_xauc_of_binary_labels_is_the_auc(seed):
    labels, scores, weights, _ = rows(seed)
    assert xauc(labels, scores) == pytest.approx(auc(labels, scores), abs=1e-15)  # auc: also the mean over groups
    assert xauc(labels, scores, weights) == pytest.approx(weighted_auc(labels, scores, weights), abs=1e-12)


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_errors_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels, values = rng.gamma(2.0, 8.0, (2, 50)).astype(np.float32)
    weights = rng.random(50).astype(np.float32)
    for mass in (None, weights):
        exact = {"sample_weight": None if mass is None else mass.astype(np.float64)}
        squared = mean_squared_error(labels.astype(np.float64), values.astype(np.float64), **exact)
        absolute = mean_absolute_error(labels.astype(np.float64), values.astype(np.float64), **exact)
        assert rmse(labels, values, mass) == pytest.approx(np.sqrt(squared), rel=1e-12)
        assert mae(labels, values, mass) == pytest.approx(absolute, rel=1e-12)


def test_undefined_values():
    one, none = np.array([1, 1]), np.zeros(2, np.float32)
    scores, weights, broken = np.array([0.5, 0.2], np.float32), np.ones(2, np.float32), np.array([0.5, np.nan])
    for metric in (weighted_auc, weighted_log_loss, weighted_calibration_ratio, weighted_ece):
        assert np.isnan(metric(one, scores, none))
        assert np.isnan(metric(one, broken, weights))
    assert np.isnan(weighted_auc(one, scores, weights))
    for metric in (rmse, mae, xauc):
        assert np.isnan(metric(one, scores, none))
        assert np.isnan(metric(one, broken))
        assert np.isnan(metric(one[:0], scores[:0]))
    assert np.isnan(xauc(one, scores))
