"""Pair distances, conflicts and retention: examples by hand and general properties."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.analysis.entanglement.conflict import bin_edges, retention, table_distances
from stemlab.analysis.entanglement.pair_distances import active, kept_rows, pair_distances

USERS = np.array([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0], [0.0, 2.0]], dtype=np.float32)
ITEMS = np.array([[0.0, 0.0], [3.0, 0.0], [1.0, 1.0], [0.0, -2.0]], dtype=np.float32)


def distances(metric: str) -> np.ndarray:
    users, items = np.array([1, 1, 2, 3]), np.array([0, 1, 2, 3])
    return pair_distances(USERS, ITEMS, users, items, metric, lambda pairs: None)


def of(values: np.ndarray, task: str = "") -> object:
    return table_distances("x", "x", task, np.asarray(values, dtype=np.float32), (40, 60), 39)


def test_distances_by_hand() -> None:
    assert distances("euclidean").tolist() == [5, 4, 1, 4]
    assert distances("dot").tolist() == [0, -9, -1, 4]
    np.testing.assert_allclose(distances("cosine"), [1, 1 - 0.6, 1 - np.sqrt(0.5), 2], rtol=1e-6)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "dot"])
def test_blocks_give_the_same_distances(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, advanced = np.random.default_rng(0), []
    tables = [rng.standard_normal((rows, 5), dtype=np.float32) for rows in (9, 6)]
    pairs = [rng.integers(0, len(table), 23, dtype=np.int32) for table in tables]
    whole = pair_distances(*tables, *pairs, metric, lambda count: None)
    monkeypatch.setattr("stemlab.analysis.entanglement.pair_distances._BLOCK", 8)
    monkeypatch.setattr("stemlab.analysis.entanglement.pair_distances._GATHERED", 3)
    np.testing.assert_array_equal(pair_distances(*tables, *pairs, metric, advanced.append), whole)
    assert advanced == [8, 8, 7]
    user, item = (table[ids].astype(np.float64) for table, ids in zip(tables, pairs, strict=True))
    if metric == "euclidean":
        np.testing.assert_allclose(whole, np.linalg.norm(user - item, axis=1), rtol=1e-6)


@pytest.mark.parametrize("wrong", [-1, 4])
def test_row_indices_out_of_range_are_errors(wrong: int) -> None:
    with pytest.raises(IndexError, match=f"{wrong}.* 4"):
        pair_distances(USERS, ITEMS, np.array([0, 1]), np.array([2, wrong]), "dot", lambda count: None)


def test_embedding_tables_are_not_modified() -> None:
    before = USERS.copy()
    distances("euclidean")
    np.testing.assert_array_equal(USERS, before)


def test_active_entities_are_strictly_above_the_percentile() -> None:
    ids = np.repeat([1, 2, 3, 4, 5], [1, 2, 2, 3, 9])
    assert np.flatnonzero(active(ids, 6, 50, True)).tolist() == [4, 5]
    assert np.flatnonzero(active(ids, 6, 50, False)).tolist() == [4]  # without the last id, out-of-vocabulary
    assert not active(np.zeros(0, dtype=int), 4, 50, True).any()


def test_rows_of_active_users_and_items() -> None:
    users, items = np.array([True, False]), np.array([False, True])
    assert kept_rows(np.array([0, 0, 1]), np.array([1, 0, 1]), users, items).tolist() == [0]


def test_close_includes_its_limit_and_far_does_not() -> None:
    found = of(np.arange(11.0))
    assert (found.low, found.high) == (4, 6)
    assert np.flatnonzero(found.near()).tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(found.far()).tolist() == [7, 8, 9, 10]


@given(values=st.lists(st.floats(0, 100, width=32), min_size=1, max_size=80), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_bins_equal_those_of_pandas_and_cover_all_pairs(values: list[float], seed: int) -> None:
    found = of(np.array(values))
    chosen = np.random.default_rng(seed).random(len(values)) < 0.5
    conflict, other = found.counts(chosen)
    assert conflict.sum() == chosen.sum()
    assert conflict.sum() + other.sum() == len(values)
    if min(values) < max(values) and max(values) - min(values) > 1e-3:
        cut = pd.cut(np.array(values, dtype=np.float32), 39, include_lowest=True, labels=False)
        np.testing.assert_array_equal(np.bincount(cut, minlength=39), conflict + other)


def test_edges_of_equal_distances() -> None:
    edges = bin_edges(2.0, 2.0, 4)
    assert edges[1:].tolist() == [1.75, 2.0, 2.25, 2.5]
    assert edges[0] == pytest.approx(1.499)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_retention_is_one_for_the_definition_and_at_most_half_for_a_shared_table(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second, joint = (of(rng.random(200)) for _ in range(3))
    chosen = first.near() & second.far()
    assert retention(chosen, first, second).score == 1
    kept = retention(chosen, joint, joint)
    assert kept.score <= 0.5 + 1e-12
    near, middle, far = joint.shares(chosen)
    assert (kept.near, kept.far) == (near, far)
    assert near + middle + far == pytest.approx(1)


def test_retention_by_hand() -> None:
    near, far = of(np.arange(10.0)), of(np.arange(10.0)[::-1])
    chosen = np.zeros(10, dtype=bool)
    chosen[[0, 1, 9, 5]] = True
    found = retention(chosen, near, far)  # closest: 0 to 3; farthest of the other: 0 to 3
    assert (found.near, found.far, found.score) == (0.5, 0.5, 0.5)
