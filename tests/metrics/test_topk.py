"""Top items computed in tiles equal those of the full score matrix, in a defined order."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.metrics import catalogue, topk
from stemlab.metrics.catalogue import Catalogue, SeenItems
from stemlab.metrics.topk import no_seen_items, top_items

CPU = torch.device("cpu")


def seen_of(lists: list[list[int]]) -> SeenItems:
    flat = torch.tensor([item for items in lists for item in items], dtype=torch.int64)
    return SeenItems(flat, torch.tensor([0, *np.cumsum([len(items) for items in lists])]))


def reference_lists(item_ID: torch.Tensor, user_BKD: torch.Tensor, lists: list[list[int]], count: int):
    """Return the reference lists: all scores in float64, then a sort of (score, id) pairs per user."""
    table = torch.einsum("bkd,id->bki", user_BKD.double(), item_ID.double()).amax(1).float()
    found = []
    for row, seen in enumerate(lists):
        left = [i for i in range(1, len(item_ID)) if i not in seen]
        found.append(sorted(left, key=lambda i: (-float(table[row, i]), i))[:count])
    return found, table


def as_lists(item_BN: torch.Tensor) -> list[list[int]]:
    return [[i for i in row if i] for row in item_BN.tolist()]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 4), st.integers(1, 60), st.integers(1, 70), st.integers(0, 9999), st.booleans()
)
def test_lists_equal_those_of_the_full_score_matrix(users, interests, items, count, seed, integers) -> None:
    """Integer vectors give many equal scores; then the lower id comes first."""
    draw = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    item_ID, user_BKD = torch.randn(items + 1, 3, generator=draw), torch.randn(users, interests, 3, generator=draw)
    if integers:
        item_ID, user_BKD = item_ID.round(), user_BKD.round()
    lists = [rng.integers(1, items + 1, rng.integers(0, items + 1)).tolist() for _ in range(users)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "MAX_TILE_USERS", 7)
        patch.setattr(catalogue, "MAX_TILE_SCORES", 50)
        item_BN, score_BN = top_items(Catalogue(item_ID), user_BKD, seen_of(lists), count)
    expected, table = reference_lists(item_ID, user_BKD, lists, count)
    assert item_BN.shape == score_BN.shape == (users, count)
    assert as_lists(item_BN) == expected
    assert torch.equal(score_BN.isneginf(), item_BN == 0)
    torch.testing.assert_close(score_BN[item_BN > 0], table.gather(1, item_BN)[item_BN > 0])


def test_lists_do_not_depend_on_tile_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    item_ID, user_BKD = torch.randn(3001, 48, generator=draw), torch.randn(300, 3, 48, generator=draw)
    whole = top_items(Catalogue(item_ID), user_BKD, no_seen_items(300, CPU), 50)
    monkeypatch.setattr(catalogue, "MAX_TILE_USERS", 11)
    monkeypatch.setattr(catalogue, "MAX_TILE_SCORES", 4321)
    pieces = top_items(Catalogue(item_ID), user_BKD, no_seen_items(300, CPU), 50)
    assert torch.equal(whole[0], pieces[0])
    assert torch.equal(whole[1], pieces[1])


def test_memory_is_bounded_by_the_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []
    tiles = Catalogue.tiles

    def watched(self, *words):
        for first, score_BT in tiles(self, *words):
            widths.append(score_BT.numel())
            yield first, score_BT

    monkeypatch.setattr(Catalogue, "tiles", watched)
    monkeypatch.setattr(catalogue, "MAX_TILE_SCORES", 1000)
    monkeypatch.setattr(catalogue, "MAX_TILE_USERS", 10)
    top_items(Catalogue(torch.randn(5001, 4)), torch.randn(25, 2, 4), no_seen_items(25, CPU), 5)
    assert sum(widths) == 25 * 5000
    assert max(widths) <= 1000


def test_everything_seen_leaves_nothing() -> None:
    item_BN, score_BN = top_items(Catalogue(torch.randn(4, 2)), torch.randn(2, 1, 2), seen_of([[1, 2, 3], [3, 1]]), 5)
    assert item_BN.tolist() == [[0] * 5, [2, 0, 0, 0, 0]]
    assert score_BN[0].isneginf().all()


def test_no_users_give_no_lists() -> None:
    item_BN, score_BN = top_items(Catalogue(torch.randn(4, 2)), torch.randn(0, 1, 2), no_seen_items(0, CPU), 3)
    assert item_BN.shape == score_BN.shape == (0, 3)


def test_integers_keep_the_order_of_floats() -> None:
    values = torch.tensor([-torch.inf, -3e38, -1.5, -1e-45, 0.0, 1e-45, 2.0, 3e38, torch.inf])
    numbers = topk._sortable_ints(values)
    assert (numbers.diff() > 0).all()
    assert topk._sortable_ints(torch.tensor([-0.0])) == topk._sortable_ints(torch.tensor([0.0]))
