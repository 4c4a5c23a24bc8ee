import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.data.prepare import negative_downsampling as sampling
from stemlab.data.prepare.negative_downsampling import DownsamplingRule, draw_negatives

RULE = DownsamplingRule(label="click", negatives=2, seed=7)


def cut(column, size):
    return (column[start : start + size] for start in range(0, len(column), size))


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.booleans(), min_size=1, max_size=300),
    negatives=st.integers(0, 4),
    seed=st.integers(0, 2**32 - 1),
    step=st.integers(1, 400),
)
def test_all_positives_and_an_exact_number_of_negatives(labels, negatives, seed, step):
    column = np.array(labels, dtype=np.int64)
    rule = DownsamplingRule(label="click", negatives=negatives, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "_STEP", step)
        kept = draw_negatives(cut(column, 7), len(column), rule)
    positives = int(column.sum())
    assert kept[column == 1].all()
    assert kept[column == 0].sum() == min(negatives * positives, len(column) - positives)


def test_draw_depends_on_the_seed_and_not_on_the_chunks():
    column = (np.random.default_rng(0).random(5_000) < 0.1).astype(np.int64)
    first, second = (draw_negatives(cut(column, size), len(column), RULE) for size in (11, 5_000))
    np.testing.assert_array_equal(first, second)
    other = draw_negatives([column], len(column), DownsamplingRule(label="click", negatives=2, seed=8))
    assert (other != first).any()
    assert other.sum() == first.sum() == 3 * column.sum()


def test_negatives_are_equally_likely_across_blocks(monkeypatch):
    monkeypatch.setattr(sampling, "_STEP", 5)
    column = np.array([0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    drawn = np.stack(
        [draw_negatives([column], 12, DownsamplingRule(label="y", negatives=2, seed=seed)) for seed in range(4_000)]
    )
    assert (drawn.sum(axis=1) == 6).all()
    share = drawn.mean(axis=0)[column == 0]
    assert np.abs(share - 0.4).max() < 0.03  # 4 of 10; a standard deviation is 0.008
    together = (drawn[:, 0] & drawn[:, 10]).mean()
    assert together == pytest.approx(0.4 * 3 / 9, abs=0.03)


def test_negatives_are_drawn_per_scenario():
    rng = np.random.default_rng(1)
    scenario = rng.integers(0, 3, 6_000)
    column = (rng.random(6_000) < np.array([0.1, 0.6, 0.0])[scenario]).astype(np.int64)
    kept = draw_negatives(cut(column, 100), 6_000, RULE, cut(scenario, 33))
    for scenario_id in range(3):
        clicks, others = ((scenario == scenario_id) & (column == value) for value in (1, 0))
        assert kept[clicks].all()
        assert kept[others].sum() == min(2 * clicks.sum(), others.sum())
    assert kept[(scenario == 2)].sum() == 0
    assert kept[scenario == 1].all()
