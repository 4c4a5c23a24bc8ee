"""Splits and filters of own logs, compared with plain loops."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.data.sequence.interaction_splits import InteractionSplit, OwnInteractions, split_log
from stemlab.data.sequence.leave_one_out import leave_one_out
from stemlab.data.sequence.raw import RawSequences
from stemlab.data.sequence.stored_negatives import EvaluationNegatives
from stemlab.errors import StemlabError

NONE = EvaluationNegatives(count=0, seed=0, largest=None)
ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 40)), min_size=1, max_size=60)
Row = tuple[int, int, int]


def log(rows: list[Row]) -> OwnInteractions:
    user, item, time = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    names = [f"n{index}" for index in range(10)]
    return OwnInteractions(user=user, item=item, exact=1000 * time, time=time, user_names=names, item_names=names)


def named(raw: RawSequences) -> list[tuple[str, str, int, int]]:
    """Return user, item, time and split of all rows, sorted by user and time."""
    order = np.lexsort((raw.time, raw.user))
    return [
        (raw.user_tokens[raw.user[i] - 1], raw.item_tokens[raw.item[i] - 1], int(raw.time[i]), int(raw.split[i]))
        for i in order
    ]


def sequences(rows: list[Row]) -> dict[int, list[Row]]:
    """Return user -> distinct rows in time order; ties keep their order."""
    found: dict[int, list[Row]] = {}
    for row in sorted(dict.fromkeys(rows), key=lambda row: row[2]):
        found.setdefault(row[0], []).append(row)
    return dict(sorted(found.items()))


@settings(max_examples=60, deadline=None)
@given(ROWS, st.floats(0.05, 0.45), st.floats(0.05, 0.45))
def test_ratio_holds_out_the_last_rows_of_each_user(rows: list[Row], test_size: float, valid_size: float) -> None:
    raw = split_log(log(rows), InteractionSplit(rule="ratio", test_size=test_size, valid_size=valid_size), None, NONE)
    wanted = []
    for user, sequence in sequences(rows).items():
        test = min(max(int(len(sequence) * test_size), 1), len(sequence) - 1)
        valid = min(max(int(len(sequence) * valid_size), 1), len(sequence) - 1 - test)
        codes = [0] * (len(sequence) - test - valid) + [1] * valid + [2] * test
        pairs = zip(sequence, codes, strict=True)
        wanted += [(f"n{user}", f"n{item}", time, code) for (_, item, time), code in pairs]
    assert named(raw) == wanted


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_leave_one_out_is_that_of_the_other_datasets(rows: list[Row]) -> None:
    user, item, time = np.array(rows).T
    wanted = leave_one_out(user, item, time, eval_negatives=0)
    found = split_log(log(rows), InteractionSplit(), None, NONE)
    for name in ("user", "item", "time", "split"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name)), name
    assert found.user_tokens == [f"n{token}" for token in wanted.user_tokens]


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(2, 4))
def test_the_core_is_the_largest_one(rows: list[Row], least: int) -> None:
    kept = list(dict.fromkeys(rows))
    while True:
        users, items = Counter(row[0] for row in kept), Counter(row[1] for row in kept)
        left = [row for row in kept if users[row[0]] >= least and items[row[1]] >= least]
        if len(left) == len(kept):
            break
        kept = left
    if not kept:
        with pytest.raises(StemlabError, match="k_core"):
            split_log(log(rows), InteractionSplit(), least, NONE)
        return
    raw = split_log(log(rows), InteractionSplit(), least, NONE)
    assert sorted(row[:3] for row in named(raw)) == sorted((f"n{u}", f"n{i}", time) for u, i, time in kept)
    assert raw.facts["rows_outside_k_core"] == len(set(rows)) - len(kept)
    assert set(raw.item_tokens) == {f"n{row[1]}" for row in kept}


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_time_holds_out_the_latest_rows_of_known_users_and_items(rows: list[Row]) -> None:
    split = InteractionSplit(rule="time", test_size=0.2, valid_size=0.2)
    times = sorted(row[2] for row in dict.fromkeys(rows))
    valid_from, test_from = times[int((1 - 0.2 - 0.2) * len(times))], times[int((1 - 0.2) * len(times))]
    if not times[0] < valid_from < test_from:
        with pytest.raises(StemlabError, match=r"split\.rule=time"):
            split_log(log(rows), split, None, NONE)
        return
    raw = split_log(log(rows), split, None, NONE)
    users = {row[0] for row in rows if row[2] < valid_from}
    items = {row[1] for row in rows if row[2] < valid_from}
    wanted = [
        (f"n{user}", f"n{item}", time, int(time >= valid_from) + int(time >= test_from))
        for sequence in sequences(rows).values()
        for user, item, time in sequence
        if time < valid_from or (user in users and item in items)
    ]
    assert named(raw) == wanted
    assert raw.facts["rows_unseen_in_train"] == len(set(rows)) - len(wanted)


@pytest.mark.parametrize("rule", ["leave_one_out", "ratio", "time"])
def test_negatives_are_items_that_the_user_does_not_have(rule: str) -> None:
    rng = np.random.default_rng(0)
    rows = [(int(u), int(i), t) for t, (u, i) in enumerate(rng.integers(0, (6, 10), (25, 2)))]
    split = InteractionSplit(rule=rule)  # type: ignore[arg-type]
    raw = split_log(log(rows), split, None, EvaluationNegatives(count=2, seed=1, largest=None))
    for name, code in (("valid", 1), ("test", 2)):
        users = raw.user[raw.split == code]
        assert raw.negatives[name].shape == (len(users), 2)
        for user, drawn in zip(users, raw.negatives[name], strict=True):
            assert not set(drawn) & set(raw.item[raw.user == user])
            assert rule == "leave_one_out" or len(set(drawn)) == 2
