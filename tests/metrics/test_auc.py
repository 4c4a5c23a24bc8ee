"""AUC and gAUC against recorded values of the released code and against scikit-learn per group."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from stemlab.metrics import auc, gauc, group_auc, log_loss
from tests.conftest import GOLDEN

FILES = sorted((GOLDEN / "metrics").glob("fuxictr_*.npz"))
FUNCTIONS = {
    "logloss": lambda y, p, g: log_loss(y, p),
    "AUC": lambda y, p, g: auc(y, p),
    "gAUC": lambda y, p, g: gauc(y, p, g),
    "avgAUC": lambda y, p, g: gauc(y, p, g, weighting="equal"),
}


def gauc_by_loop(labels, scores, groups, weighting="rows"):
    """Return the reference: one scikit-learn call per group."""
    total = weight = 0.0
    for key in np.unique(groups):
        y, s = labels[groups == key], scores[groups == key]
        if 0 < y.sum() < len(y):
            w = len(y) if weighting == "rows" else 1
            total, weight = total + w * roc_auc_score(y, s), weight + w
    return total / weight if weight else float("nan")


@pytest.mark.skipif(not FILES, reason="needs golden/metrics (set STEMLAB_GOLDEN)")
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_equals_the_released_code(path):
    with np.load(path) as z:
        y, p, g = z["input/y_true"], z["input/y_pred"], z["input/group"]
        compared = 0
        for name, function in FUNCTIONS.items():
            if f"metric/{name}" in z:
                np.testing.assert_allclose(function(y, p, g), z[f"metric/{name}"], rtol=0, atol=1e-12, err_msg=name)
                compared += 1
        assert compared >= 3, json.loads(str(z["meta/json"]))


@pytest.mark.skipif(not FILES, reason="needs golden/metrics (set STEMLAB_GOLDEN)")
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_each_group_equals_the_released_code(path):
    with np.load(path) as z:
        if "metric/group_gAUC_num_den" not in z:
            pytest.skip("this file has no values per group")
        found = group_auc(z["input/y_true"], z["input/y_pred"], z["input/group"])
        np.testing.assert_array_equal(found.key_G, z["output/group_ids"])
        rows = np.where(np.isnan(found.auc_G), 0, found.rows_G)
        expected = np.stack([np.nan_to_num(found.auc_G) * rows, rows], axis=1)
        np.testing.assert_allclose(expected, z["metric/group_gAUC_num_den"], rtol=0, atol=1e-12)


def test_small_case_by_hand():
    labels, scores = np.array([1, 0, 1, 0, 0]), np.array([0.9, 0.9, 0.2, 0.1, 0.5])
    # pairs (positive, negative): .9 ties .9, beats .1 and .5; .2 loses to .9, beats .1, loses to .5 -> 3.5 of 6
    assert auc(labels, scores) == 3.5 / 6
    groups = np.array([7, 7, 7, -3, 7])  # -3 has one negative only and is excluded; 7: 1.5 of 4 pairs
    assert gauc(labels, scores, groups) == 1.5 / 4


def test_row_weights_and_equal_weights_differ():
    labels = np.array([1, 0, 1, 0, 0, 0])
    scores = np.array([2.0, 1.0, 1.0, 2.0, 2.0, 2.0])
    groups = np.array([0, 0, 1, 1, 1, 1])
    assert gauc(labels, scores, groups) == pytest.approx(2 / 6)
    assert gauc(labels, scores, groups, weighting="equal") == 0.5


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], []])
def test_auc_of_one_class_is_undefined(labels):
    scores = np.linspace(0, 1, len(labels))
    assert np.isnan(auc(np.array(labels), scores))
    assert np.isnan(gauc(np.array(labels), scores, np.zeros(len(labels))))


def test_a_nan_score_makes_the_auc_undefined():
    assert np.isnan(auc(np.array([0, 1, 1]), np.array([0.1, np.nan, 0.3], dtype=np.float32)))


def test_zero_and_minus_zero_tie():
    for dtype in (np.float32, np.float64):
        assert auc(np.array([1, 0]), np.array([-0.0, 0.0], dtype=dtype)) == 0.5


@st.composite
def cases(draw):
    n = draw(st.integers(1, 60))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    coarse = st.sampled_from([-2.5, -1.0, 0.0, 0.25, 0.5, 3.0])  # many ties
    width = 32 if dtype == np.float32 else 64
    fine = st.floats(-1e6, 1e6, width=width)
    scores = draw(hnp.arrays(dtype, n, elements=draw(st.sampled_from([coarse, fine]))))
    labels = draw(hnp.arrays(np.int8, n, elements=st.integers(0, 1)))
    keys = draw(st.sampled_from([[0, 1, 2], [-(2**62), 0, 2**62], [5, 2**31 + 5, -7]]))
    return labels, scores, draw(hnp.arrays(np.int64, n, elements=st.sampled_from(keys)))


@settings(max_examples=200, deadline=None)
@given(cases(), st.sampled_from(["rows", "equal"]))
def test_equals_a_scikit_learn_loop(case, weighting):
    labels, scores, groups = case
    expected = gauc_by_loop(labels, scores, groups, weighting)
    np.testing.assert_allclose(gauc(labels, scores, groups, weighting), expected, rtol=0, atol=1e-12)
    whole = roc_auc_score(labels, scores) if 0 < labels.sum() < len(labels) else np.nan
    np.testing.assert_allclose(auc(labels, scores), whole, rtol=0, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_change_the_result(case, random):
    labels, scores, groups = case
    order = np.array(random.sample(range(len(labels)), len(labels)))
    np.testing.assert_array_equal(
        [auc(labels, scores), gauc(labels, scores, groups)],
        [auc(labels[order], scores[order]), gauc(labels[order], scores[order], groups[order])],
    )


def test_large_case_with_many_groups_equals_the_loop():
    rng = np.random.default_rng(5)
    groups = rng.zipf(1.5, 5000) % 300
    labels, scores = rng.integers(0, 2, 5000).astype(np.int8), rng.random(5000).round(2).astype(np.float32)
    assert gauc(labels, scores, groups) == pytest.approx(gauc_by_loop(labels, scores, groups), abs=1e-12)
