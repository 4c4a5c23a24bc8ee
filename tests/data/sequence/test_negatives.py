"""Training negatives: never items of the user, uniform over the others, the same for any number of ranks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from stemlab.data.sequence import negatives as module
from stemlab.data.sequence.negatives import NegativeSampler
from stemlab.errors import StemlabError
from tests.data.sequence.toys import Toy, leave_two_out, raw_of

USERS, ITEMS = 40, 35


def sampler(user, item, instances=None, items=9, count=1, seed=0):
    pairs = (np.array(user, np.int32), np.array(item, np.int32))
    chosen = np.array(user if instances is None else instances, np.int32)
    return NegativeSampler(chosen, pairs, items=items, count=count, seed=seed)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 7)), min_size=1, max_size=40),
    st.integers(1, 3),
    st.integers(0, 5),
)
def test_negatives_are_not_items_of_the_user(pairs, count, epoch):
    user, item = (list(column) for column in zip(*pairs, strict=True))
    mine = {u: {i for v, i in pairs if v == u} for u in user}
    if any(len(items) == 7 for items in mine.values()):
        with pytest.raises(StemlabError, match=r"all 7 items"):
            sampler(user, item, items=7)
        return
    drawn = sampler(user, item, items=7, count=count).draw(epoch)
    assert drawn.shape == (len(user), count)
    for u, row in zip(user, drawn.tolist(), strict=True):
        assert set(row) <= set(range(1, 8)) - mine[u]


def test_single_free_item_is_always_drawn():
    drawn = sampler([1] * 8 + [2], [1, 2, 3, 5, 6, 7, 8, 9, 4], [1] * 50).draw(0)
    assert (drawn == 4).all()


def test_user_of_an_instance_without_training_items():
    drawn = sampler([1], [3], [2] * 500, items=4).draw(0)
    assert sorted(set(drawn.ravel().tolist())) == [1, 2, 3, 4]


@pytest.mark.parametrize("taken", [[], [1], [9], [1, 2, 5, 9], [2, 4, 6, 8]])
def test_negatives_are_uniform(taken):
    n = 90_000
    drawn = sampler([1] * len(taken) + [2], [*taken, 1], [1] * n, seed=5).draw(3).ravel()
    counts = np.bincount(drawn, minlength=10)[1:]
    free = [i for i in range(1, 10) if i not in taken]
    found = counts[np.array(free) - 1]
    assert counts.sum() == found.sum() == n
    assert chisquare(found).pvalue > 1e-3  # the seed is fixed


def test_neighbouring_rows_and_columns_are_independent():
    drawn = sampler([1], [500], [1] * 20_000, items=1000, count=2).draw(0).astype(float)
    for a, b in ((drawn[:, 0], drawn[:, 1]), (drawn[1:, 0], drawn[:-1, 0])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.03


def test_epochs_and_seeds_and_blocks_differ_and_repeat(monkeypatch):
    monkeypatch.setattr(module, "INSTANCES_PER_STREAM", 50)
    draws = [sampler([1], [2], [1] * 100, items=1000, seed=s).draw(e).ravel() for s in (1, 2) for e in (0, 1)]
    parts = [part for drawn in draws for part in (drawn[:50], drawn[50:])]
    assert len({tuple(part) for part in parts}) == 8
    np.testing.assert_array_equal(draws[0], sampler([1], [2], [1] * 100, items=1000, seed=1).draw(0).ravel())


def negatives_by_row(tmp_path, monkeypatch, world, epoch, **settings):
    """Return (user, positive, history) -> negatives of an epoch over all ranks, and the number of instances."""
    found, instances = {}, 0
    for rank in range(world):
        monkeypatch.setattr("stemlab.data.sequence.datamodule.current_rank", lambda r=rank: (r, world))
        data = Toy(raw_of(leave_two_out(USERS, ITEMS), USERS, ITEMS), tmp_path, num_negatives=2, seed=7, **settings)
        loader = data.train_dataloader()
        loader.set_epoch(epoch)
        for batch in loader:
            columns = (batch.user_B, batch.candidates_BN, batch.history_BL, batch.time_BL)
            for user, candidates, history, times in zip(*(c.tolist() for c in columns), strict=True):
                key = (user, candidates[0], *(h for h in history if h), "times", *(t for t in times if t))
                found[key] = candidates[1:]
                instances += 1
    return found, instances


@pytest.mark.parametrize("world", [1, 2, 3])
def test_negatives_are_the_same_for_any_number_of_ranks(tmp_path, monkeypatch, world):
    whole, instances = negatives_by_row(tmp_path, monkeypatch, 1, 4, batch_size=1000)
    shared, seen = negatives_by_row(tmp_path, monkeypatch, world, 4, batch_size=13)
    assert instances - world < seen <= instances
    assert shared.items() <= whole.items()
    other, _ = negatives_by_row(tmp_path, monkeypatch, world, 5, batch_size=13)
    assert sum(whole[key] == value for key, value in other.items()) < len(other) / 4


@pytest.mark.parametrize("mode", ["train", "all"])
def test_held_out_items_may_be_drawn_as_in_the_released_code(tmp_path, mode):
    data = Toy(
        raw_of(leave_two_out(USERS, ITEMS), USERS, ITEMS), tmp_path, num_negatives=40, seed=1, train_negatives=mode
    )
    log, codes = data.log, {"train": [0], "all": [0, 1, 2]}[mode]
    refused = {u: set(log.item[(log.user == u) & np.isin(log.split, codes)].tolist()) for u in range(1, USERS + 1)}
    held_out = {u: set(log.item[(log.user == u) & (log.split > 0)].tolist()) for u in range(1, USERS + 1)}
    drawn_held_out = 0
    for batch in data.train_dataloader():
        for user, candidates in zip(batch.user_B.tolist(), batch.candidates_BN.tolist(), strict=True):
            assert not refused[user] & set(candidates[1:])
            drawn_held_out += len(held_out[user] & set(candidates[1:]))
    assert (drawn_held_out > 0) == (mode == "train")


def test_user_with_all_items_is_an_error(tmp_path):
    rows = [(1, 1, 0, 0), (1, 2, 1, 0), (2, 1, 0, 0), (2, 2, 1, 0), (2, 3, 2, 0)]
    with pytest.raises(StemlabError, match=r"user id 2 .*all 3 items"):
        Toy(raw_of(rows, 2, 3), tmp_path).train_dataloader()
