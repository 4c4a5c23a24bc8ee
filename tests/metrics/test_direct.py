"""Ranks and lists of networks that score user-item pairs directly, in tiles, against the full score matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stemlab.metrics import direct
from stemlab.metrics.catalogue import SeenItems
from stemlab.metrics.direct import scored_ranks
from stemlab.metrics.topk import top_scored


def random_scores(seed: int, users: int, items: int, levels: int) -> tuple[Tensor, Tensor, SeenItems, list[set[int]]]:
    """Return scores with few levels, so that many tie; positives; seen items, some of them repeated."""
    rng = np.random.default_rng(seed)
    score_BI = torch.from_numpy(rng.integers(-levels, levels + 1, (users, items + 1)).astype(np.float32))
    seen = [rng.integers(1, items + 1, rng.integers(0, items)) for _ in range(users)]
    offset = torch.from_numpy(np.cumsum([0, *map(len, seen)]))
    flat = torch.from_numpy(np.concatenate([np.empty(0, np.int64), *seen]))
    positive = torch.from_numpy(rng.integers(1, items + 1, users))
    return score_BI, positive, SeenItems(flat, offset), [set(row.tolist()) for row in seen]


def scorer(score_BI: Tensor, widths: list[int]) -> direct.ScoreFunction:
    def score(item_BT: Tensor) -> Tensor:
        widths.append(item_BT.shape[1])
        return score_BI.gather(1, item_BT)

    return score


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(1, 5), st.integers(1, 17), st.integers(0, 3), st.integers(1, 40))
def test_ranks_and_lists_equal_those_of_sorted_rows(seed: int, users: int, items: int, levels: int, tile: int) -> None:
    score_BI, positive_B, seen, left_out = random_scores(seed, users, items, levels)
    widths: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct, "MAX_TILE_SCORES", tile)
        score = scorer(score_BI, widths)
        found = {rule: scored_ranks(score, items, positive_B, seen, rule) for rule in ("pessimistic", "optimistic")}
        item_BN, score_BN = top_scored(score, items, seen, 4)
    assert max(widths) <= max(1, tile // users, items if tile >= users * items else 1)
    for row in range(users):
        scores, own = score_BI[row].tolist(), int(positive_B[row])
        others = [item for item in range(1, items + 1) if item not in left_out[row] | {own}]
        assert found["pessimistic"][row] == 1 + sum(scores[item] >= scores[own] for item in others)
        assert found["optimistic"][row] == 1 + sum(scores[item] > scores[own] for item in others)
        free = [item for item in range(1, items + 1) if item not in left_out[row]]
        best = sorted(free, key=lambda item: (-scores[item], item))[:4]
        assert item_BN[row].tolist() == best + [0] * (4 - len(best))
        assert score_BN[row].tolist() == [scores[item] for item in best] + [-np.inf] * (4 - len(best))


def test_a_nan_score_gives_no_rank() -> None:
    score_BI, positive_B, seen, _ = random_scores(0, 3, 6, 2)
    free = SeenItems(seen.item_S[:0], torch.zeros(4, dtype=torch.int64))
    score_BI[1, 4] = torch.nan
    rank_B = scored_ranks(scorer(score_BI, []), 6, positive_B, free, "mean")
    assert rank_B.isnan().tolist() == [False, True, False]
