"""Log loss, ratio of predicted to observed positives, expected calibration error."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import log_loss as sklearn_log_loss

from stemlab.metrics import calibration_ratio, ece, log_loss
from stemlab.metrics.calibration import exact_sum

PROB = st.floats(0, 1, width=32)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), PROB), min_size=1, max_size=50))
def test_log_loss_equals_scikit_learn(rows):
    labels, prob = np.array([y for y, _ in rows]), np.array([p for _, p in rows], dtype=np.float32)
    clipped = np.clip(prob.astype(np.float64), 1e-7, 1 - 1e-7)
    expected = sklearn_log_loss(labels, clipped, labels=[0, 1])
    assert log_loss(labels, prob) == pytest.approx(expected, abs=1e-12)


def test_log_loss_of_a_certain_mistake_is_clipped():
    assert log_loss(np.array([1]), np.array([0.0], dtype=np.float32)) == pytest.approx(-math.log(1e-7), abs=1e-12)


def test_calibration_ratio():
    assert calibration_ratio(np.array([1, 0, 0, 1]), np.array([0.5, 0.25, 0.5, 0.75])) == 1.0
    assert calibration_ratio(np.array([1, 0]), np.array([0.5, 0.25])) == 0.75
    assert math.isnan(calibration_ratio(np.array([0, 0]), np.array([0.5, 0.25])))


def test_ece_by_hand():
    # two bins of two samples: {.1, .3} observed 1/2, predicted .2; {.6, .8} observed 1, predicted .7
    prob, labels = np.array([0.8, 0.1, 0.6, 0.3]), np.array([1, 1, 1, 0])
    assert ece(labels, prob, bins=2) == pytest.approx(0.5 * 0.3 + 0.5 * 0.3)


def test_ece_keeps_equal_predictions_together():
    prob, labels = np.full(10, 0.3), np.array([1] * 3 + [0] * 7)
    assert ece(labels, prob) == pytest.approx(0, abs=1e-15)


def ece_by_loop(labels, prob, bins):
    """Return the reference: assign each sample to the bin of the last quantile that is not above it."""
    edges = sorted({sorted(prob)[k * len(prob) // bins] for k in range(bins)})
    total = 0.0
    for low, high in zip(edges, [*edges[1:], math.inf], strict=True):
        members = [(y, p) for y, p in zip(labels, prob, strict=True) if low <= p < high]
        total += abs(sum(y for y, _ in members) - sum(p for _, p in members))
    return total / len(prob)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), PROB), min_size=1, max_size=60), st.integers(1, 20))
def test_ece_equals_the_loop(rows, bins):
    labels, prob = [y for y, _ in rows], [p for _, p in rows]
    assert ece(np.array(labels), np.array(prob), bins) == pytest.approx(ece_by_loop(labels, prob, bins), abs=1e-12)


@pytest.mark.parametrize("function", [log_loss, calibration_ratio, ece])
@pytest.mark.parametrize("prob", [[], [0.1, math.nan]])
def test_unusable_predictions_are_undefined(function, prob):
    assert math.isnan(function(np.ones(len(prob)), np.array(prob)))


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.float64, st.integers(0, 50), elements=st.floats(0, 1000)), st.randoms(use_true_random=False))
def test_exact_sum_is_exact_and_independent_of_the_order(values, random):
    assert exact_sum(values) == pytest.approx(math.fsum(values), rel=1e-15, abs=1e-15)
    shuffled = np.array(random.sample(list(values), len(values)))
    assert exact_sum(values) == exact_sum(shuffled)
