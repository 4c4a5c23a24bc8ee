"""Ranks and ranking metrics against recorded values of the released code and against a sort per row."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stemlab.errors import StemlabError
from stemlab.metrics import RankingMetrics, positive_ranks, ranking_metrics
from stemlab.metrics.ranking import metric_names
from tests.conftest import GOLDEN
from tests.ranks import run_ranks

FILES = sorted((GOLDEN / "metrics").glob("rechorus_*.npz"))
TOPK = (1, 5, 10, 20, 50)
RULES = ("pessimistic", "optimistic", "mean")
needs_files = pytest.mark.skipif(not FILES, reason="needs golden/metrics (set STEMLAB_GOLDEN)")
every_file = pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)


@needs_files
@every_file
def test_the_recorded_rank_is_between_the_tie_rules(path):
    with np.load(path) as z:
        scores, recorded = torch.from_numpy(z["input/predictions"]), z["output/gt_rank"]
        found = {rule: positive_ranks(scores, rule).numpy() for rule in RULES}
        np.testing.assert_array_equal(found["optimistic"], z["output/rank_best_case"])
        np.testing.assert_array_equal(found["pessimistic"], z["output/rank_worst_case"])
    np.testing.assert_array_equal(found["mean"], (found["optimistic"] + found["pessimistic"]) / 2)
    assert (found["optimistic"] <= recorded).all()
    assert (recorded <= found["pessimistic"]).all()
    if "noties" in path.stem:
        np.testing.assert_array_equal(found["pessimistic"], recorded)


@needs_files
@every_file
def test_metrics_of_recorded_ranks_equal_the_recorded_metrics(path):
    with np.load(path) as z:
        values = ranking_metrics(z["output/gt_rank"], TOPK)
        for name in metric_names(TOPK)[:-1]:
            assert values[name] == pytest.approx(float(z[f"metric/{name.upper()}"]), rel=0, abs=1e-12), name


@needs_files
@pytest.mark.parametrize("path", [p for p in FILES if "all_equal" in p.stem], ids=lambda p: p.stem)
def test_constant_scores_never_hit_by_default(path):
    with np.load(path) as z:
        scores = torch.from_numpy(z["input/predictions"])
        assert z["metric/HR@1"] == 1  # the unstable sort of the released code
    hits = {rule: ranking_metrics(positive_ranks(scores, rule).numpy(), TOPK)["hr@50"] for rule in RULES}
    assert hits == {"pessimistic": 0, "optimistic": 1, "mean": 0}
    assert positive_ranks(scores, "mean").tolist() == [50.5] * len(scores)


def rank_by_sort(row, rule):
    """Return the reference rank: sort by descending score, the positive last or first among equal scores."""
    last = {"pessimistic": 1, "optimistic": -1}[rule]
    order = sorted(range(len(row)), key=lambda column: (-row[column], last if column == 0 else 0))
    return order.index(0) + 1


@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.sampled_from([-math.inf, -2.0, -0.0, 0.0, 0.5, 1.0, 7.0]),
    )
)
def test_ranks_are_those_of_a_sort(scores):
    reference = {rule: [rank_by_sort(row, rule) for row in scores.tolist()] for rule in ("pessimistic", "optimistic")}
    for rule, expected in reference.items():
        assert positive_ranks(torch.from_numpy(scores), rule).tolist() == expected
    halves = [(a + b) / 2 for a, b in zip(reference["pessimistic"], reference["optimistic"], strict=True)]
    assert positive_ranks(torch.from_numpy(scores), "mean").tolist() == halves


def test_metrics_by_hand():
    values = ranking_metrics(np.array([1, 3, 7, 2.5]), (2, 5))
    assert values == {
        "hr@2": 1 / 4,
        "ndcg@2": 1 / 4,
        "hr@5": 3 / 4,
        "ndcg@5": pytest.approx((1 + 1 / 2 + 1 / math.log2(3.5)) / 4, abs=1e-15),
        "mrr": pytest.approx((1 + 1 / 3 + 1 / 7 + 1 / 2.5) / 4, abs=1e-15),
    }
    assert list(values) == metric_names((2, 5))


def test_a_cut_off_beyond_the_candidates_always_hits():
    assert ranking_metrics(positive_ranks(torch.zeros(3, 12)).numpy(), (50,))["hr@50"] == 1


def test_a_lone_positive_is_first():
    assert positive_ranks(torch.zeros(3, 1)).tolist() == [1, 1, 1]


@pytest.mark.parametrize("column", [0, 2])
@pytest.mark.parametrize("rule", RULES)
def test_nan_scores_have_no_rank(column, rule):
    scores = torch.tensor([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0]])
    scores[0, column] = math.nan
    found = positive_ranks(scores, rule).tolist()
    assert math.isnan(found[0])
    assert found[1] == 3


def test_nan_scores_raise_an_error():
    metrics = RankingMetrics(TOPK)
    metrics.update(positive_ranks(torch.tensor([[1.0, 0.0], [math.nan, 0.0], [1.0, 2.0]])))
    with pytest.raises(StemlabError, match=r"1 of 3 users .*diverged"):
        metrics.compute()


def test_no_samples():
    metrics = RankingMetrics((5,))
    with pytest.warns(UserWarning, match="before the ``update``"):
        values = metrics.compute()
    assert all(math.isnan(value) for value in values.values())
    assert [reason.split()[0] for reason in metrics.undefined] == ["hr@5", "ndcg@5", "mrr"]
    assert ["no samples" in reason for reason in metrics.undefined] == [True] * 3


def scores_of(rows, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 30, (rows, 40)).astype(np.float32))


def filled(scores, size=32):
    metrics = RankingMetrics(TOPK)
    for part in torch.split(scores, size):
        metrics.update(positive_ranks(part))
    return metrics


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 3))
def test_batch_size_and_order_do_not_change_the_metrics(rows, size, seed):
    scores = scores_of(rows, seed)
    whole = ranking_metrics(positive_ranks(scores).numpy(), TOPK)
    shuffled = scores[torch.from_numpy(np.random.default_rng(seed).permutation(rows))]
    assert filled(scores, size).compute() == filled(shuffled, size).compute() == whole
    assert all(type(value) is float for value in whole.values())


def test_reset_clears_the_ranks():
    metrics = filled(scores_of(50))
    first = metrics.compute()
    metrics.reset()
    metrics.update(positive_ranks(scores_of(20, seed=1)))
    assert metrics.compute() == filled(scores_of(20, seed=1)).compute() != first


def in_rank(rank, rows, broken):
    scores = scores_of(rows)
    scores[0, 0] = float("nan") if broken == "broken" else scores[0, 0]
    metrics = RankingMetrics(TOPK)
    for number, part in enumerate(torch.split(scores, 32)):
        if number % 2 == rank:
            metrics.update(positive_ranks(part))
    try:
        return metrics.compute()
    except StemlabError as error:
        return str(error)


@pytest.mark.ddp
@pytest.mark.parametrize(("rows", "broken"), [(101, "sound"), (20, "sound"), (101, "broken")])
def test_two_ranks_equal_one(rows, broken):
    found = run_ranks(in_rank, rows, broken)
    if broken == "broken":
        assert found[0] == found[1]  # both raise, neither waits for the other
        assert "1 of 101 users" in found[0]
    else:
        assert found == [filled(scores_of(rows)).compute()] * 2
