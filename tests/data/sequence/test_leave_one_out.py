"""Leave-one-out protocol: by hand, and compared with files of the published notebooks."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.data.sequence.leave_one_out import leave_one_out
from stemlab.errors import StemlabError

# user, item, time: the times 5 of user b are a tie, resolved by the row order
ROWS = [
    ("b", 30, 9),
    ("a", 10, 3),
    ("b", 20, 5),
    ("b", 10, 5),
    ("c", 40, 1),
    ("a", 20, 3),
    ("b", 40, 7),
    ("b", 10, 5),
]


def split_of(rows, **settings):
    user, item, time = (np.array(column) for column in zip(*rows, strict=True))
    return leave_one_out(user, item, time, **{"eval_negatives": 0, **settings})


def table(raw, code):
    part = raw.split == code
    return list(zip(raw.user[part].tolist(), raw.item[part].tolist(), raw.time[part].tolist(), strict=True))


def test_rows_by_hand():
    raw = split_of(ROWS)
    assert (raw.user_tokens, raw.item_tokens) == (["a", "b", "c"], ["10", "20", "30", "40"])
    assert table(raw, 0) == [(3, 4, 1), (1, 1, 3), (2, 2, 5), (2, 1, 5)]
    assert table(raw, 1) == [(2, 4, 7)]
    assert table(raw, 2) == [(1, 2, 3), (2, 3, 9)]
    assert raw.facts == {"duplicate_rows": 1}
    assert raw.negatives == {}
    raw.check("by hand")


def test_integer_ids_sort_by_value_and_strings_by_code_point():
    assert split_of([(10, 1, 1), (9, 1, 2)]).user_tokens == ["9", "10"]
    assert split_of([("10", "b", 1), ("9", "B", 2)]).user_tokens == ["10", "9"]
    assert split_of([("10", "b", 1), ("9", "B", 2)]).item_tokens == ["B", "b"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(0, 6)), min_size=1, max_size=60),
)
def test_all_rows_are_kept_and_the_last_are_held_out(rows):
    raw = split_of(rows)
    distinct = list(dict.fromkeys(rows))
    assert len(raw.user) == len(distinct) == len(rows) - raw.facts["duplicate_rows"]
    users, items = sorted({row[0] for row in rows}), sorted({row[1] for row in rows})
    for number, user in enumerate(users, start=1):
        mine = sorted((row for row in distinct if row[0] == user), key=lambda row: row[2])  # stable
        numbered = [(number, items.index(item) + 1, time) for _, item, time in mine]
        ours = [[row for row in table(raw, code) if row[0] == number] for code in (0, 1, 2)]
        held_out = min(2, len(mine) - 1)
        assert ours[2] == (numbered[-1:] if held_out else [])
        assert ours[1] == (numbered[-2:-1] if held_out == 2 else [])
        assert ours[0] == numbered[: len(mine) - held_out]


def naive_negatives(rows, count, most):
    """Draw in the order of the notebooks, one entry at a time."""
    random = np.random.RandomState(0)
    mine = {
        user: {item for other, item in zip(rows.user, rows.item, strict=True) if other == user} for user in rows.user
    }
    drawn = {}
    for name, code in (("test", 2), ("valid", 1)):
        users = rows.user[rows.split == code]
        drawn[name] = random.randint(1, most + 1, (len(users), count))
        for row, user in enumerate(users):
            for column in range(count):
                while drawn[name][row, column] in mine[user]:
                    drawn[name][row, column] = random.randint(1, most + 1)
    return drawn


def test_negatives_are_drawn_in_the_order_of_the_released_code():
    rng = np.random.default_rng(3)
    rows = [(int(u), int(i), int(t)) for u, i, t in zip(*rng.integers(1, [[9], [30], [99]], (3, 120)), strict=True)]
    raw = split_of(rows, eval_negatives=50)
    first = {(user, min(t for u, _, t in rows if u == user)) for user, *_ in rows}
    assert len(first) == raw.users
    wanted = naive_negatives(raw, 50, raw.items)
    for name in ("test", "valid"):
        assert raw.negatives[name].shape == (raw.users, 50)
        np.testing.assert_array_equal(raw.negatives[name], wanted[name])


def test_items_of_first_rows_only_reduce_the_largest_negative():
    rows = [(1, 4, 0), (1, 1, 1), (2, 5, 0), (2, 2, 1), (3, 5, 0), (3, 3, 1)]
    test = split_of(rows, eval_negatives=200).negatives["test"]
    assert [set(row) for row in test.tolist()] == [{2, 3}, {1, 3}, {1, 2}]  # 4 and 5 occur in first rows only
    test = split_of(rows, eval_negatives=200, largest_negative=5).negatives["test"]
    assert [set(row) for row in test.tolist()] == [{2, 3, 5}, {1, 3, 4}, {1, 2, 4}]


def test_user_with_all_items_is_an_error():
    rows = [("x", 1, 1), ("x", 2, 2), ("y", 1, 1), ("y", 2, 4)]  # all rows except first ones have item 2
    with pytest.raises(StemlabError, match=r"user x has 1 of the 1 items.*dataset\.eval_negatives=0"):
        split_of(rows, eval_negatives=1)


def read_published(folder, names):
    frames = {name: pd.read_csv(folder / f"{file}.csv.gz", sep="\t") for name, file in names.items()}
    rows = {name: frame[["user_id", "item_id", "time"]].to_numpy() for name, frame in frames.items()}
    negatives = {
        name: np.array([json.loads(text) for text in frame["neg_items"]])
        for name, frame in frames.items()
        if "neg_items" in frame
    }
    return rows, negatives


def test_published_grocery_files_are_reproduced(real_data):
    """Compare the rows and all 29,362 lists of 99 negatives with the published files, in order."""
    rows, negatives = read_published(real_data / "grocery", {"train": "train", "valid": "dev", "test": "test"})
    everything = np.concatenate(list(rows.values()))
    raw = leave_one_out(*everything.T, eval_negatives=99)
    for code, name in enumerate(rows):
        ours = np.stack([raw.user, raw.item, raw.time], axis=1)[raw.split == code]
        np.testing.assert_array_equal(ours, rows[name])
        if code:
            np.testing.assert_array_equal(raw.negatives[name], negatives[name])
    assert [len(part) for part in rows.values()] == [121_892, 14_681, 14_681]
    assert (raw.users, raw.items) == (14_681, 8_713)
