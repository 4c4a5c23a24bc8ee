"""Scores by one matrix product and ranks in tiles, against gathered vectors and the full score matrix."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.metrics import catalogue, positive_ranks
from stemlab.metrics.catalogue import Catalogue, SeenItems, tile_edges

RULES = ("pessimistic", "optimistic", "mean")


class RankCase:
    """Users, items, seen items and positives; with ``whole`` all vectors are small integers, so scores are exact."""

    def __init__(self, users, interests, width, items, seed=0, whole=True, seen=6):
        rng = np.random.default_rng(seed)
        draw = (lambda *shape: rng.integers(-2, 3, shape)) if whole else (lambda *shape: rng.normal(size=shape))
        self.user = torch.from_numpy(draw(users, interests, width)).float()
        self.item = torch.from_numpy(draw(items + 1, width)).float()
        self.positive = torch.from_numpy(rng.integers(1, items + 1, users))
        drawn = [rng.integers(1, items + 1, rng.integers(0, seen + 1)).tolist() for _ in range(users)]
        # the positive of every other user is among the seen items, as in the released code
        self.lists = [items + [int(self.positive[n])] * (n % 2) for n, items in enumerate(drawn)]
        self.candidates = torch.from_numpy(rng.integers(1, items + 1, (users, 9)))
        self.candidates[:, 0] = self.positive

    @property
    def seen(self):
        flat = [item for items in self.lists for item in items]
        return SeenItems(torch.tensor(flat, dtype=torch.int64), torch.tensor(np.cumsum([0, *map(len, self.lists)])))

    def ranks(self, rule="pessimistic"):
        return Catalogue(self.item).ranks(self.user, self.positive, self.seen, rule)

    def candidate_ranks(self, rule="pessimistic"):
        return Catalogue(self.item).candidate_ranks(self.user, self.candidates, rule)

    def all_scores(self):
        """Return all scores in float64, -inf for seen items."""
        score = torch.einsum("bkd,id->bki", self.user.double(), self.item.double()).amax(1)
        for row, items in enumerate(self.lists):
            score[row, items] = -torch.inf
        return score

    def untiled_ranks(self, rule="pessimistic"):
        """Return the ranks as the released code computes them: the positive in column 0, its own column masked."""
        own = torch.einsum("bkd,bd->bk", self.user.double(), self.item[self.positive].double()).amax(1)
        score = self.all_scores().scatter(1, self.positive[:, None], -torch.inf)
        return positive_ranks(torch.cat([own[:, None], score[:, 1:]], 1), rule)

    def gathered_scores(self):
        """Return the scores as the released code computes them: one gathered vector per candidate, max over K."""
        return (self.user[:, None] * self.item[self.candidates][:, :, None]).sum(-1).max(-1).values


def small_case(data, **more):
    users, interests, width, items = (data.draw(st.integers(1, most)) for most in (9, 3, 4, 30))
    return RankCase(users, interests, width, items, seed=data.draw(st.integers(0, 99)), **more)


@settings(deadline=None)
@given(st.data(), st.sampled_from(RULES))
def test_tiles_give_the_ranks_of_the_full_matrix(data, rule):
    case = small_case(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "MAX_TILE_SCORES", data.draw(st.integers(1, 200)))
        patch.setattr(catalogue, "MAX_TILE_USERS", data.draw(st.integers(1, 10)))
        found = case.ranks(rule)
    assert found.tolist() == case.untiled_ranks(rule).tolist()
    assert found.dtype == torch.float64


@pytest.mark.parametrize("rule", RULES)
def test_real_numbers_in_tiles_of_the_usual_size(rule):
    """With sizes that need several tiles at the default tile size."""
    case = RankCase(users=300, interests=4, width=8, items=5000, whole=False, seen=100)
    assert len(tile_edges(5000, catalogue.MAX_TILE_SCORES // (catalogue.MAX_TILE_USERS * 4))) > 3
    expected = case.untiled_ranks(rule)
    assert case.ranks(rule).tolist() == expected.tolist()
    assert len(set(expected.tolist())) > 200


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 64), st.integers(2, 400), st.integers(1, 20_000))
def test_equal_vectors_tie_exactly(users, interests, width, items, tile):
    """Constant scores must tie, however the matrix products are rounded."""
    case = RankCase(users, interests, width, items, whole=False, seen=3)
    tile = max(tile, users * interests * items // 16)  # one tile per score would take seconds
    case.item[:] = case.item[0]
    unseen = torch.tensor([items - len({*seen, int(p)}) for seen, p in zip(case.lists, case.positive, strict=True)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "MAX_TILE_SCORES", tile)
        patch.setattr(catalogue, "GATHER_COST", tile % 2 * 1000)
        full = {rule: case.ranks(rule).tolist() for rule in RULES}
        among = {rule: case.candidate_ranks(rule).tolist() for rule in RULES}
    assert full == {
        "pessimistic": (1 + unseen).tolist(),
        "optimistic": [1] * users,
        "mean": (1 + unseen / 2).tolist(),
    }
    assert among == {"pessimistic": [9] * users, "optimistic": [1] * users, "mean": [5] * users}


def test_differences_below_the_rounding_error_are_resolved():
    """Two scores of about 1e8 that differ by 1 are equal in float32; the ranks need the difference."""
    user, item = torch.tensor([[[1e4, 1.0]]]), torch.tensor([[0, 0], [1e4, 1], [1e4, 2], [1e4, 0], [1e4, 1]])
    assert len(set((user[0] @ item[1:].t()).flatten().tolist())) == 1
    nothing = SeenItems(torch.empty(0, dtype=torch.int64), torch.tensor([0, 0]))
    positive, candidates = torch.tensor([1]), torch.tensor([[1, 2, 3, 4]])
    for rule, expected in (("pessimistic", 3), ("optimistic", 2), ("mean", 2.5)):
        assert Catalogue(item).ranks(user, positive, nothing, rule).tolist() == [expected]
        assert Catalogue(item).candidate_ranks(user, candidates, rule).tolist() == [expected]


@pytest.mark.parametrize("side", ["user", "item"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_vectors_that_are_not_finite_have_no_rank(side, value):
    case = RankCase(users=4, interests=2, width=3, items=20)
    if side == "user":
        case.user[1, 0, 0] = value
        broken = [False, True, False, False]
    else:
        case.item[5, 1] = value
        broken = [True] * 4
    assert case.ranks().isnan().tolist() == broken
    assert case.candidate_ranks().isnan().tolist() == broken


@pytest.mark.parametrize(("items", "width"), [(1, 1), (10, 3), (10, 10), (10, 99), (100, 7)])
def test_tiles_cover_all_items_once_and_are_about_equally_wide(items, width):
    edges = tile_edges(items, width)
    assert (edges[0], edges[-1]) == (1, items + 1)
    widths = np.diff(edges)
    assert widths.max() <= width
    assert widths.max() - widths.min() <= 1


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(catalogue, "MAX_TILE_SCORES", 3000)
    monkeypatch.setattr(catalogue, "MAX_TILE_USERS", 10)
    sizes, product = [], catalogue._product

    def watched(user_BKD, item_TD):
        sizes.append(user_BKD.shape[0] * user_BKD.shape[1] * item_TD.shape[0])
        return product(user_BKD, item_TD)

    monkeypatch.setattr(catalogue, "_product", watched)
    case = RankCase(users=35, interests=2, width=4, items=900)
    case.ranks()
    assert len(sizes) == 3 * 6 + 3  # three times ten users in six tiles, five users in three
    assert max(sizes) <= 3000
    sizes.clear()
    Catalogue(case.item).scores(case.user, torch.ones((35, 500), dtype=torch.int64))
    assert sizes == [1802] * 35  # user by user: one user has 1,802 scores


def test_tiles_start_at_the_returned_item(monkeypatch):
    monkeypatch.setattr(catalogue, "MAX_TILE_SCORES", 90)
    case = RankCase(users=5, interests=2, width=3, items=40)
    tiles = list(Catalogue(case.item).tiles(case.user, case.seen))
    assert [first for first, _ in tiles] == [1, 9, 17, 25, 33]
    assert torch.equal(torch.cat([score for _, score in tiles], 1).double(), case.all_scores()[:, 1:])


@settings(deadline=None)
@given(st.data(), st.sampled_from(RULES))
def test_candidate_scores_equal_those_of_the_released_code(data, rule):
    case = small_case(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "MAX_TILE_SCORES", data.draw(st.integers(1, 200)))
        patch.setattr(catalogue, "GATHER_COST", data.draw(st.sampled_from([0, 1000])))
        expected = case.gathered_scores()
        assert torch.equal(Catalogue(case.item).scores(case.user, case.candidates), expected)
        assert case.candidate_ranks(rule).tolist() == positive_ranks(expected, rule).tolist()


@pytest.mark.parametrize("cost", [0, 1000])
def test_candidates_with_real_numbers(cost, monkeypatch):
    monkeypatch.setattr(catalogue, "GATHER_COST", cost)
    case = RankCase(users=64, interests=3, width=64, items=500, whole=False)
    expected = case.gathered_scores()
    torch.testing.assert_close(Catalogue(case.item).scores(case.user, case.candidates), expected, rtol=0, atol=1e-5)
    assert case.candidate_ranks().tolist() == positive_ranks(expected).tolist()


@pytest.mark.parametrize(("items", "candidates", "whole"), [(3706, 1001, True), (8713, 100, False)])
def test_the_cheaper_method_is_chosen(items, candidates, whole, monkeypatch):
    """The 1,001 candidates of ML-1M are scored with all items, the 100 of Grocery are gathered."""
    taken = []
    for name in ("_by_product", "_by_gather"):
        monkeypatch.setattr(catalogue, name, lambda *_, name=name: taken.append(name))
    chosen = torch.ones(2, candidates, dtype=torch.int64)
    Catalogue(torch.zeros(items + 1, 4)).scores(torch.zeros(2, 2, 4), chosen)
    assert set(taken) == {"_by_product" if whole else "_by_gather"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("rule", RULES)
def test_ranks_on_a_gpu(rule):
    case = RankCase(users=700, interests=3, width=8, items=900, whole=False)
    on_gpu = RankCase(users=700, interests=3, width=8, items=900, whole=False)
    for name in ("user", "item", "positive", "candidates"):
        setattr(on_gpu, name, getattr(case, name).cuda())
    assert torch.equal(on_gpu.candidate_ranks(rule).cpu(), case.candidate_ranks(rule))
    seen = SeenItems(case.seen.item_S.cuda(), case.seen.offset_O.cuda())
    ranks = Catalogue(on_gpu.item).ranks(on_gpu.user, on_gpu.positive, seen, rule)
    assert torch.equal(ranks.cpu(), case.ranks(rule))
