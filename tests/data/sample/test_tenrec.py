import csv
import hashlib

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from stemlab.data.sample.tenrec import HISTORY, TENREC_COLUMNS, TenrecSimulation, generate, write_sample

SMALL = TenrecSimulation(rows=12_000, users=60, items=80)
HEADERS = {
    "QK-video": "user_id,item_id,click,follow,like,share,video_category,watching_times,gender,age",
    "QK-article": "user_id,item_id,click,gender,age,exposure_count,click_count,like_count,comment_count,"
    "read_percentage,item_score1,item_score2,category_second,category_first,item_score3,read,read_time,share,like,follow,favorite",
}
HEADERS["QB-video"] = HEADERS["QK-video"]
HEADERS["ctr_data_1M"] = HEADERS["QK-video"] + "".join(f",hist_{index}" for index in range(1, 11))


@pytest.fixture(scope="module")
def made():
    return {file: generate(SMALL, file) for file in TENREC_COLUMNS}


@pytest.mark.parametrize("file", list(TENREC_COLUMNS))
def test_files_have_the_raw_header_and_plain_cells(tmp_path, file):
    path = write_sample(tmp_path / "deep" / f"{file}.csv", SMALL, file)
    text = path.read_text()
    assert text.split("\n", 1)[0] == HEADERS[file]
    assert '"' not in text
    assert text.endswith("\n")
    rows = list(csv.DictReader(text.splitlines()))
    assert {len(row) for row in rows} == {len(TENREC_COLUMNS[file])}
    if file == "QK-article":
        assert {row["click"] for row in rows} == {"1.0"}
        assert {row["like"] for row in rows} == {"0.0", "1.0"}
    else:
        assert {row["video_category"] for row in rows} == {"0", "1", "\\N"}
        assert {row["click"] for row in rows} == {"0", "1"}
    assert list(path.parent.iterdir()) == [path]


def test_same_settings_give_the_same_bytes(tmp_path):
    small = TenrecSimulation(rows=2_000, users=40, items=40)
    first, second = (write_sample(tmp_path / name, small, "ctr_data_1M").read_bytes() for name in "ab")
    other = write_sample(
        tmp_path / "c", TenrecSimulation(rows=2_000, users=40, items=40, seed=1), "ctr_data_1M"
    ).read_bytes()
    assert first == second != other
    # If this changes, all results measured on the sample change.
    assert hashlib.sha256(first).hexdigest()[:16] == "596c32ea64bc6af3"


def test_labels_require_a_click_and_rows_are_grouped_by_user(made):
    for file, sample in made.items():
        columns = sample.columns
        click = np.asarray(columns["click"]).astype(float)
        for name in ("like", "share", "follow"):
            assert (np.asarray(columns[name]).astype(float) <= click).all()
        assert (np.diff(columns["user_id"]) >= 0).all()
        assert columns["item_id"].min() >= 1  # 0 pads histories
        if file != "QK-article":
            assert (columns["watching_times"][click == 1] >= 1).all()
    columns = made["QK-video"].columns
    assert columns["click"].mean() == pytest.approx(0.3, abs=0.02)
    assert columns["like"].mean() == pytest.approx(0.06, abs=0.01)


def test_users_and_items_are_the_same_in_both_video_files(made):
    here, there = (made[file].columns for file in ("QK-video", "QB-video"))
    for key, names in {"user_id": ("gender", "age"), "item_id": ("video_category",)}.items():
        ids = [set(columns[key].tolist()) for columns in (here, there)]
        assert ids[0] & ids[1]
        assert ids[0] - ids[1]
        assert ids[1] - ids[0]
        for name in names:
            values = [
                dict(zip(columns[key].tolist(), columns[name].tolist(), strict=True)) for columns in (here, there)
            ]
            assert all(values[0][one] == values[1][one] for one in ids[0] & ids[1])


def test_histories_are_the_first_clicks_padded_with_zeros():
    # With these sizes full, short and empty histories all occur.
    simulation = TenrecSimulation(rows=1_500, users=150, items=400, zipf=0.9)
    columns = generate(simulation, "ctr_data_1M").columns
    history_RH = np.stack([columns[name] for name in HISTORY], axis=1)
    length_R = (history_RH > 0).sum(axis=1)
    assert {0, 10} < set(length_R.tolist())
    assert ((history_RH > 0) == (np.arange(10) < length_R[:, None])).all()
    assert not (history_RH == columns["item_id"][:, None]).any()  # items of the history do not occur again
    for user in np.unique(columns["user_id"]):
        mine = columns["user_id"] == user
        assert (history_RH[mine] == history_RH[mine][0]).all()
    assert len(columns["click"]) < 1_500


def correlation(simulation):
    """Return the correlation of click logits of the pairs of users and items that occur in both files."""
    means = []
    for file in ("QK-video", "QB-video"):
        sample = generate(simulation, file)
        logit = np.log(sample.click_probability / (1 - sample.click_probability))
        pairs = zip(sample.columns["user_id"].tolist(), sample.columns["item_id"].tolist(), strict=True)
        means.append(dict(zip(pairs, logit.tolist(), strict=True)))
    both = sorted(set(means[0]) & set(means[1]))
    assert len(both) > 100
    return np.corrcoef([means[0][pair] for pair in both], [means[1][pair] for pair in both])[0, 1]


@pytest.mark.parametrize(("gap", "low", "high"), [(0.0, 0.999, 1.0), (0.5, 0.3, 0.8), (1.0, -0.35, 0.35)])
def test_gap_rotates_qb_away_from_qk(gap, low, high):
    assert low <= correlation(TenrecSimulation(rows=12_000, users=60, items=80, scenario_gap=gap)) <= high


def test_labels_are_learnable(made):
    for file in ("QK-video", "QB-video", "ctr_data_1M"):
        sample = made[file]
        click = sample.columns["click"] == 1
        assert roc_auc_score(click, sample.click_probability) == pytest.approx(0.92, abs=0.03)
        assert roc_auc_score(sample.columns["like"][click], sample.like_probability[click]) > 0.78


def test_gap_changes_only_dependent_columns(made):
    other = generate(TenrecSimulation(rows=12_000, users=60, items=80, scenario_gap=0.9), "QB-video").columns
    for name in ("user_id", "item_id", "gender", "age", "video_category"):
        np.testing.assert_array_equal(other[name], made["QB-video"].columns[name])
    assert (other["click"] != made["QB-video"].columns["click"]).any()
    same = generate(TenrecSimulation(rows=12_000, users=60, items=80, scenario_gap=0.9), "QK-video").columns
    np.testing.assert_array_equal(same["click"], made["QK-video"].columns["click"])
