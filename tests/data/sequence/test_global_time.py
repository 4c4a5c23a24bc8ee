"""Split of ReChorus master: likes, 5-core, the same two dates for all users."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.data.sequence.global_time import CORE, MIDNIGHT, SECONDS_PER_DAY, global_time, in_core
from stemlab.errors import StemlabError

DAY = SECONDS_PER_DAY
# Nine users like ten films each; all except the last one of each on day 10 * (user - 1), i.e. 0 to 80.
LIKES = [(u, i, 4 + i % 2, DAY * (10 * u - 10 if i < 9 else 0) + i) for u in range(1, 10) for i in range(10)]


def split_of(rows, **settings):
    user, item, rating, time = np.array(rows).T
    return global_time(user, item, time + MIDNIGHT, rating, **{"eval_negatives": 0, **settings})


def evaluated(raw):
    """Return (original user, original item, day, split) of the valid and test rows."""
    return [
        (int(raw.user_tokens[user - 1]), int(raw.item_tokens[item - 1]), int(time - MIDNIGHT) // DAY, int(split))
        for user, item, time, split in zip(raw.user, raw.item, raw.time, raw.split, strict=True)
        if split
    ]


def test_days_by_hand():
    held_out = [
        (1, 1, 3, 85 * DAY),  # no like
        (1, 99, 4, 85 * DAY),  # too few likes of film 99
        (77, 3, 5, 91 * DAY),  # too few likes of user 77
        (2, 3, 5, 81 * DAY),
        (3, 3, 5, 91 * DAY - 1),
        (4, 3, 5, 91 * DAY),
        (5, 4, 5, 100 * DAY),
    ]
    raw = split_of([*LIKES, *held_out])
    assert evaluated(raw) == [(2, 3, 81, 1), (3, 3, 90, 1), (4, 3, 91, 2), (5, 4, 100, 2)]
    assert (raw.split == 0).sum() == len(LIKES)
    assert raw.facts == {"core_rows": len(LIKES) + 5, "duplicate_rows": 0}
    raw.check("by hand")


def test_days_are_counted_from_the_first_rating_liked_or_not():
    rows = [(u, i, r, t + 2 * DAY) for u, i, r, t in [*LIKES, (2, 3, 5, 80 * DAY), (3, 3, 5, 100 * DAY)]]
    early = (1, 3, 1, 2 * DAY - 1)  # one day earlier: the last day is 101, train still ends on day 80
    assert [row[1:] for row in evaluated(split_of(rows))] == [(3, 102, 2)]
    valid = [(2, 3, 82, 1), *[(9, item, 82, 1) for item in range(9)]]
    assert sorted(evaluated(split_of([*rows, early]))) == sorted([*valid, (3, 3, 102, 2)])


def test_users_and_items_of_evaluation_rows_occur_in_train():
    new_user = [(70, i, 5, DAY * 95 + i) for i in range(5)]
    new_item = [(u, 200, 5, DAY * 95) for u in range(1, 6)]
    disliked = [(u, 201, 5, DAY * 95) for u in range(1, 6)]  # five likes, all held out; disliked in train
    rows = [*LIKES, *new_user, *new_item, *disliked, (6, 201, 1, 0), (9, 0, 5, DAY * 100)]
    raw = split_of(rows)
    assert {row[1] for row in evaluated(raw)} == {0}
    assert "70" not in raw.user_tokens
    assert not {"200", "201"} & set(raw.item_tokens)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_core_is_the_largest_one(seed):
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 12, 150), rng.integers(0, 12, 150)
    liked = rng.random(150) < 0.7
    kept = in_core(user, item, liked, CORE)
    for ids in (user, item):
        for one in np.unique(ids[kept]):
            assert (kept & liked & (ids == one)).sum() >= CORE
    left = set(range(150))  # removing one offender at a time gives the same rows
    while True:
        offender = next(
            (
                row
                for row in sorted(left)
                for ids in (user, item)
                if sum(liked[other] and ids[other] == ids[row] for other in left) < CORE
            ),
            None,
        )
        if offender is None:
            break
        left.remove(offender)
    assert np.flatnonzero(kept).tolist() == sorted(left)


def test_negatives_are_distinct_and_not_liked():
    others = [(u, i, 5, u + i) for u in range(11, 17) for i in range(20, 30)]  # ten films of other users
    rows = [*LIKES, *others, (4, 3, 5, 100 * DAY), (5, 4, 5, 85 * DAY)]
    raw = split_of(rows, eval_negatives=7)
    for name in ("valid", "test"):
        (row,) = raw.negatives[name].tolist()
        assert len(set(row)) == 7
        assert {int(raw.item_tokens[item - 1]) for item in row} <= set(range(20, 30))
    np.testing.assert_array_equal(split_of(rows, eval_negatives=7).negatives["test"], raw.negatives["test"])
    assert (split_of(rows, eval_negatives=7, seed=1).negatives["test"] != raw.negatives["test"]).any()
    with pytest.raises(StemlabError, match="user 4 has 10 of the 20 items"):
        split_of(rows, eval_negatives=11)


def test_empty_result_is_an_error():
    with pytest.raises(StemlabError, match=r"dataset\.protocol=master"):
        split_of(LIKES[:40])


def test_published_sizes_of_movielens(movielens_1m):
    """Sizes printed by the notebook of ReChorus master (docs/methods/datasets.md#global-time-protocol)."""
    user, item, rating, time = movielens_1m.T
    raw = global_time(user, item, time, rating, eval_negatives=99)
    assert raw.facts["core_rows"] == 994_338
    core = in_core(user, item, rating >= 4, CORE)
    assert (len(np.unique(user[core])), len(np.unique(item[core]))) == (6_034, 3_125)
    assert (raw.users, raw.items) == (6_032, 3_125)  # two users have no like in train
    assert np.bincount(raw.split).tolist() == [568_761, 2_562, 2_874]
    assert [len(np.unique(raw.user[raw.split == code])) for code in range(3)] == [6_032, 214, 226]
    assert raw.negatives["test"].shape == (2_874, 99)
