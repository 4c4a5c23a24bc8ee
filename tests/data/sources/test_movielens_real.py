"""dataset=ml1m on the real ratings, compared with the published evaluation files.

In the available ratings, times of users from 3000 on are partly estimated, and lines with equal times have another
order than in the official file, so some of their last rows differ. Everything else must be equal
(docs/methods/datasets.md#published-evaluation-negatives).
"""

import numpy as np
import pandas as pd
import pytest

from stemlab.config.instantiate import instantiate
from stemlab.data.sequence.leave_one_out import leave_one_out
from tests.data.tiktok_rows import settings

PUBLISHED = {"valid": "dev", "test": "test"}
CODES = {"valid": 1, "test": 2}
FIRST_ESTIMATED = 3_000


@pytest.fixture(scope="module")
def stored(real_data):
    """Return split -> published rows (user, item, time) and negatives."""
    found = {}
    for split, name in PUBLISHED.items():
        frame = pd.read_csv(real_data / "ml-1m_rechorus" / f"{name}.csv.gz", sep="\t")
        assert {text.count(",") for text in frame["neg_items"]} == {999}
        numbers = ",".join(frame["neg_items"].str[1:-1])  # of [1, 2, ...]
        negatives = np.fromstring(numbers, dtype=np.int64, sep=",").reshape(-1, 1000)
        found[split] = frame[["user_id", "item_id", "time"]].to_numpy(), negatives
    return found


@pytest.fixture(scope="module")
def made(movielens_1m):
    user, item, _, time = movielens_1m.T
    return leave_one_out(user, item, time, eval_negatives=1_000, largest_negative=3_702)


def test_sizes(real_data, tmp_path):
    paths = {"raw_dir": str(real_data / "ml-1m"), "data_dir": str(tmp_path), "source": "raw", "download": False}
    module = instantiate(settings("ml1m", **paths, eval_negatives=99), key="dataset")
    module.prepare()
    assert module.manifest["interactions"] == {"train": 988_129, "valid": 6_040, "test": 6_040}
    assert module.manifest["rows"] == {"train": 982_089, "valid": 6_040, "test": 6_040}
    assert (module.spec.users, module.spec.items, module.spec.sample) == (6_040, 3_706, False)
    assert (module.manifest["duplicate_rows"], module.manifest["users_with_one_interaction"]) == (0, 0)
    assert len(module.train_dataloader()) == 3_837  # steps of the official log


@pytest.mark.parametrize(("split", "equal"), [("valid", 4_920), ("test", 5_270)])
def test_rows_equal_the_published_ones_except_for_ties(made, stored, split, equal):
    rows, _ = stored[split]
    ours = np.stack([made.user, made.item, made.time], axis=1)[made.split == CODES[split]]
    np.testing.assert_array_equal(
        ours[:, [0, 2]], rows[:, [0, 2]]
    )  # the same users in the same order, at the same time
    same = ours[:, 1] == rows[:, 1]
    assert same.sum() == equal
    assert rows[~same, 0].min() >= FIRST_ESTIMATED
    # only ties differ: the other film has the same time
    rated = set(zip(made.user.tolist(), made.item.tolist(), made.time.tolist(), strict=True))
    assert {tuple(row) for row in rows[~same].tolist()} <= rated


@pytest.mark.parametrize("split", PUBLISHED)
def test_published_negatives_are_reproduced(made, stored, split):
    """All 6,040,000 negatives per split are equal, with the largest item of the published lists."""
    np.testing.assert_array_equal(made.negatives[split], stored[split][1])


def test_largest_negative_depends_on_first_rows(movielens_1m):
    """Published 3,702: four films occur in first rows only; here two, one of a user from 3000 on."""
    user, item, _, time = movielens_1m.T
    raw = leave_one_out(user, item, time, eval_negatives=0)
    order = np.lexsort((raw.time, raw.user))
    first = np.concatenate([[True], np.diff(raw.user[order]) != 0])
    missing = np.setdiff1d(raw.item, raw.item[order][~first])
    assert {int(i): np.unique(raw.user[raw.item == i]).tolist() for i in missing} == {813: [3860], 3054: [1741]}
    once = np.flatnonzero(np.bincount(raw.item) == 1)
    begin = raw.time[order][first][raw.user - 1]
    at_start = np.isin(raw.item, once) & (raw.time == begin) & (raw.user >= FIRST_ESTIMATED)
    assert at_start.sum() == 10  # films that depend on the unknown order of ties in first rows
