import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from stemlab.data.sample.interests import (
    MIN_LENGTH,
    NOISE,
    RATING_COLUMNS,
    InterestSimulation,
    generate,
    write_sample,
)
from stemlab.errors import StemlabError

SMALL = InterestSimulation(users=200, items=120, clusters=12, length=20)


@pytest.fixture(scope="module")
def made():
    return generate(InterestSimulation())


def follows(made):
    """Return for each row after a row of the same user whether both have an interest, and the same one."""
    user, interest = made.columns["user_id"], made.interest
    both = (user[1:] == user[:-1]) & (interest[1:] != NOISE) & (interest[:-1] != NOISE)
    return both, interest[1:] == interest[:-1]


def test_file_has_the_raw_format(tmp_path):
    path = write_sample(tmp_path / "deep" / "ratings.dat", SMALL)
    text = path.read_text()
    assert text.endswith("\n")
    rows = np.array([[int(value) for value in line.split("::")] for line in text.splitlines()])
    made = generate(SMALL)
    wanted = np.stack([made.columns[name] for name in RATING_COLUMNS], axis=1)
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, wanted.tolist()))
    assert (np.diff(rows[:, 0]) >= 0).all()  # grouped by user, as in the real file
    assert (np.diff(rows[:, 3])[np.diff(rows[:, 0]) == 0] < 0).any()  # not sorted by time
    assert list(path.parent.iterdir()) == [path]


def test_same_settings_give_the_same_bytes(tmp_path):
    files = [write_sample(tmp_path / name, SMALL).read_bytes() for name in "ab"]
    other = write_sample(tmp_path / "c", InterestSimulation(seed=1)).read_bytes()
    assert files[0] == files[1] != other
    # If this changes, all results measured on the sample change.
    default = write_sample(tmp_path / "d", InterestSimulation()).read_bytes()
    assert hashlib.sha256(default).hexdigest()[:16] == "9f636c410f4ea5e3"


def test_default_sizes(made):
    columns = made.columns
    assert len(columns["user_id"]) == pytest.approx(100_000, rel=0.05)
    assert np.unique(columns["user_id"]).tolist() == list(range(1, 2001))
    assert (columns["item_id"].min(), columns["item_id"].max()) == (1, 1000)
    length = np.bincount(columns["user_id"])[1:]
    assert (length.min(), length.max()) == (MIN_LENGTH, 200)
    assert made.followed.shape == (2000, 3)
    assert np.bincount(made.cluster).tolist() == [40] * 25


def test_times_ascend_and_an_interest_lasts_for_minutes(made):
    user, gap = made.columns["user_id"], np.diff(made.columns["timestamp"])
    within = user[1:] == user[:-1]
    assert gap[within].min() >= 1
    both, same = follows(made)
    assert np.median(gap[both & same]) < 120 < 3600 < np.median(gap[both & ~same])


def test_rows_follow_the_interests_of_their_user(made):
    row = np.flatnonzero(made.interest != NOISE)
    cluster = made.cluster[made.columns["item_id"] - 1]
    assert (made.followed[made.columns["user_id"][row] - 1, made.interest[row]] == cluster[row]).all()
    assert all(len(set(mine)) == 3 for mine in made.followed.tolist())
    assert (made.interest == NOISE).mean() == pytest.approx(0.05, abs=0.005)
    both, same = follows(made)
    assert same[both].mean() == pytest.approx(0.8, abs=0.01)
    assert made.columns["rating"][row].min() == 3
    assert made.columns["rating"][made.interest == NOISE].max() == 3


def test_items_of_an_interest_do_not_repeat_until_it_is_used_up():
    made = generate(InterestSimulation(users=300, items=60, clusters=6, interests=2, length=40, noise=0.0))
    for user in range(1, 301):
        for interest in range(2):
            items = made.columns["item_id"][(made.columns["user_id"] == user) & (made.interest == interest)].tolist()
            rounds = [items[start : start + 10] for start in range(0, len(items), 10)]
            assert all(len(set(part)) == len(part) for part in rounds)


def test_popularity_follows_zipf():
    def spread(zipf):
        made = generate(InterestSimulation(users=1000, items=100, clusters=2, interests=1, length=10, zipf=zipf))
        return np.bincount(made.columns["item_id"], minlength=101)[1:].std()

    assert spread(0.0) < 30 < 60 < spread(1.0)


def test_last_cluster_predicts_better_than_the_most_frequent_one(made):
    """The cluster of the previous row predicts the next one far better than the user's most frequent cluster."""
    both, _ = follows(made)
    user, cluster = made.columns["user_id"], made.cluster[made.columns["item_id"] - 1]
    last = (cluster[1:] == cluster[:-1])[both].mean()
    counts = np.zeros((2001, 25), dtype=np.int64)
    np.add.at(counts, (user, cluster), 1)
    favourite = (counts.argmax(axis=1)[user[1:]] == cluster[1:])[both].mean()
    followed = (made.followed[user[1:] - 1] == cluster[1:, None]).any(axis=1)[both].mean()
    assert (round(last, 1), round(favourite, 1), followed) == (0.8, 0.5, 1.0)


@settings(max_examples=40, deadline=None)
@given(
    st.builds(
        InterestSimulation,
        seed=st.integers(0, 2**32 - 1),
        users=st.integers(1, 40),
        items=st.integers(9, 60),
        length=st.integers(5, 40),
        clusters=st.integers(4, 9),
        interests=st.integers(1, 4),
        stay=st.floats(0, 1),
        noise=st.floats(0, 1),
        zipf=st.floats(0, 3),
    )
)
def test_all_valid_settings_work(simulation):
    made = generate(simulation)
    assert set(made.columns) == set(RATING_COLUMNS)
    assert len({len(column) for column in made.columns.values()} | {len(made.interest)}) == 1
    assert set(made.columns["user_id"].tolist()) == set(range(1, simulation.users + 1))
    assert 1 <= made.columns["item_id"].min() <= made.columns["item_id"].max() <= simulation.items
    both, same = follows(made)
    if simulation.stay in (0, 1) and simulation.interests > 1:
        assert (same[both] == bool(simulation.stay)).all()


@pytest.mark.parametrize("wrong", [{"users": 0}, {"stay": 1.1}, {"length": 4}, {"zipf": -1.0}, {"people": 3}])
def test_invalid_settings_are_rejected(wrong):
    with pytest.raises((ValidationError, TypeError)):
        InterestSimulation(**wrong)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"items": 20}, r"dataset\.sample\.clusters=25.*dataset\.sample\.items=20"),
        ({"interests": 26}, r"dataset\.sample\.interests=26.*dataset\.sample\.clusters=25"),
    ],
)
def test_contradicting_settings_are_reported(wrong, expected):
    with pytest.raises(StemlabError, match=expected):
        generate(InterestSimulation(**wrong))
