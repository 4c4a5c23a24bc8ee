"""Metrics of recommended items equal their definitions, for all batches; evaluations report them."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.metric_directions import BEYOND_ACCURACY, metric_direction
from stemlab.metrics import BeyondAccuracyMetrics, beyond_accuracy
from stemlab.metrics.catalogue import SeenItems

TOPK = (2, 3)


def expected(lists, k, interactions, category, vectors):
    """Return the metrics of the first k items of the lists, term by term."""
    items, short = len(interactions) - 1, [[i for i in one[:k] if i] for one in lists]
    shown = [i for one in short for i in one]
    total, values, diversity = sum(interactions), {}, []
    values["coverage"] = len(set(shown)) / items
    values["novelty"] = sum(-math.log2(max(interactions[i], 1) / total) for i in shown) / len(shown)
    values["popularity"] = sum(interactions[i] for i in shown) / len(shown)
    # mean absolute difference of all pairs of counts, relative to twice their mean
    counts = [shown.count(i) for i in range(1, items + 1)]
    spread = sum(abs(a - b) for a in counts for b in counts)
    values["gini"] = spread / (2 * items * sum(counts))
    for one in short:
        pairs = list(itertools.combinations(one, 2))
        if category is not None:
            far = [float(category[a] != category[b]) for a, b in pairs if category[a] and category[b]]
        else:
            far = [1 - float(torch.cosine_similarity(vectors[a], vectors[b], dim=0)) for a, b in pairs]
        diversity += [sum(far) / len(far)] if far else []
    name = "diversity" if category is not None else "diversity_cosine"
    values[name] = sum(diversity) / len(diversity) if diversity else float("nan")
    return values


lists_of_items = st.lists(st.permutations(range(1, 7)).map(lambda items: items[:3]), min_size=1, max_size=7)


@settings(max_examples=40, deadline=None)
@given(
    lists=lists_of_items,
    shortened=st.integers(0, 2),
    by_category=st.booleans(),
    category=st.lists(st.integers(0, 2), min_size=6, max_size=6),
    interactions=st.lists(st.integers(0, 9), min_size=6, max_size=6),
    batch=st.integers(1, 3),
)
def test_equal_their_definitions(lists, shortened, by_category, category, interactions, batch):
    lists = [list(one) for one in lists]
    lists[0][3 - shortened :] = [0] * shortened
    interactions = [0, *interactions[:5], 1 + interactions[5]]
    vectors = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)).double()
    codes = np.array([0, *category]) if by_category else None
    metrics = BeyondAccuracyMetrics(TOPK, np.array(interactions), codes)
    item_BN = torch.tensor(lists)
    for part in item_BN.split(batch):
        metrics.update(part, vectors)
    found = metrics.compute()
    for k in TOPK:
        for name, value in expected(lists, k, interactions, codes, vectors).items():
            assert found[f"{name}@{k}"] == pytest.approx(value, nan_ok=True, abs=1e-12)
            assert metric_direction(f"test/{name}@{k}") == BEYOND_ACCURACY[name]
    assert len(found) == 5 * len(TOPK)
    order = torch.randperm(len(lists), generator=torch.Generator().manual_seed(1))
    metrics.reset()
    metrics.update(item_BN[order], vectors)
    assert metrics.compute() == found or any(math.isnan(value) for value in found.values())


def test_compute_leaves_the_counts_of_a_process_unchanged(monkeypatch):
    monkeypatch.setattr(beyond_accuracy, "is_distributed", lambda: True)
    monkeypatch.setattr(beyond_accuracy, "transport_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(beyond_accuracy, "gather_rows", lambda own: own)
    monkeypatch.setattr(beyond_accuracy.distributed, "all_reduce", lambda count: count.mul_(2))
    metrics = BeyondAccuracyMetrics(TOPK, np.array([0, 3, 1, 2]))
    metrics.update(torch.tensor([[1, 2, 3]]))
    before = metrics.count.clone()
    metrics.compute()
    assert torch.equal(metrics.count, before)


def test_without_lists_every_value_is_undefined():
    metrics = BeyondAccuracyMetrics(TOPK, np.array([0, 3, 1]), np.array([0, 1, 1]))
    assert all(math.isnan(value) for value in metrics.compute().values())
    assert len(metrics.undefined) == 10


def test_the_positives_are_taken_out_of_the_seen_items():
    seen = SeenItems(torch.tensor([4, 2, 7, 2, 5]), torch.tensor([0, 3, 3, 5]))
    left = seen.without(torch.tensor([2, 9, 5]))
    assert (left.item_S.tolist(), left.offset_O.tolist()) == ([4, 7, 2], [0, 2, 2, 3])
