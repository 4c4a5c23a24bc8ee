import csv
import hashlib

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from stemlab.data.sample.kuairand import (
    KuairandSimulation,
    generate,
    log_names,
    side_names,
    users,
    videos,
    write_sample,
)
from tests.conftest import REAL_DATA, require

SMALL = KuairandSimulation(rows=12_000, random_rows=3_000, users=60, videos=80)
LOG_HEADER = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("kuairand"), SMALL, "pure")


def test_five_files_with_the_raw_headers(folder):
    assert {path.name for path in folder.iterdir()} == {*log_names("pure"), *side_names("pure")}
    for name in log_names("pure"):
        text = (folder / name).read_text()
        assert text.split("\n", 1)[0] == LOG_HEADER
        assert '"' not in text
    real = require(REAL_DATA / "kuairand" / "user_features_pure.csv").parent
    for name in side_names("pure"):
        ours, theirs = ((one / name).open(encoding="utf-8").readline() for one in (folder, real))
        assert ours == theirs


def test_side_tables_look_like_the_real_ones(folder):
    real = require(REAL_DATA / "kuairand" / "user_features_pure.csv").parent
    for name in side_names("pure"):
        ours, theirs = (list(csv.DictReader((one / name).open(newline="", encoding="utf-8"))) for one in (folder, real))
        for column in theirs[0]:
            shapes = [{_shape(row[column]) for row in rows} for rows in (ours, theirs)]
            assert shapes[0] <= shapes[1], column


def _shape(cell):
    if not cell:
        return "empty"
    kinds = {"integer": cell.lstrip("-").isdigit(), "float": cell.replace(".", "").isdigit() and cell.endswith(".0")}
    return next((kind for kind, fits in kinds.items() if fits), "text")


def test_dates_logs_and_timestamps_agree(folder):
    rows = {name: list(csv.DictReader((folder / name).open())) for name in log_names("pure")}
    earlier, later, random = (rows[name] for name in log_names("pure"))
    assert {row["date"] for row in earlier} == {str(day) for day in range(20220408, 20220422)}
    days = {*map(str, range(20220422, 20220431)), *map(str, range(20220501, 20220509))}
    assert {row["date"] for row in later} == days
    assert {row["date"] for row in random} == days
    assert len(earlier) + len(later) == 12_000
    assert {row["is_rand"] for row in random} == {"1"}
    assert {row["is_rand"] for row in (*earlier, *later)} == {"0"}
    for row in later[:500]:
        local = np.datetime64(int(row["time_ms"]) + 8 * 3_600_000, "ms").astype(str)
        assert local[:10].replace("-", "") == row["date"]
        assert int(local[11:13]) * 100 == int(row["hourmin"])


def test_labels_agree_with_play_times():
    columns = generate(SMALL, random=False).columns
    played, length = columns["play_time_ms"], columns["duration_ms"]
    np.testing.assert_array_equal(columns["is_click"] == 1, played > 7_000)
    np.testing.assert_array_equal(columns["long_view"] == 1, played >= np.minimum(18_000, length))
    for name in ("is_like", "long_view", "is_follow", "is_comment", "is_forward"):
        assert (columns[name] <= columns["is_click"]).all()
    for name, rate in {"is_click": 0.38, "long_view": 0.26, "is_like": 0.04}.items():
        assert columns[name].mean() == pytest.approx(rate, abs=0.02)


def test_same_settings_give_the_same_bytes(folder, tmp_path):
    again = write_sample(tmp_path, SMALL, "pure")
    files = [folder / name for name in (*log_names("pure"), *side_names("pure"))]
    assert all(path.read_bytes() == (again / path.name).read_bytes() for path in files)
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    # If this changes, all results measured on the sample change.
    assert digest == "5617e71dd0fd24ac"


@pytest.mark.parametrize(("gap", "low", "high"), [(0.0, 0.999, 1.0), (0.5, 0.3, 0.8), (1.0, -0.35, 0.35)])
def test_gap_rotates_other_tabs_away_from_tab_1(gap, low, high):
    sample = generate(KuairandSimulation(rows=40_000, users=40, videos=40, scenario_gap=gap), random=False)
    logit = np.log(sample.truth["is_click"] / (1 - sample.truth["is_click"]))
    pair = sample.columns["user_id"] * 40 + sample.columns["video_id"]
    means = []
    for tab in (1, 4):
        rows = sample.columns["tab"] == tab
        means.append(dict(zip(pair[rows].tolist(), logit[rows].tolist(), strict=True)))
    both = sorted(set(means[0]) & set(means[1]))
    assert len(both) > 500
    assert low <= np.corrcoef([means[0][one] for one in both], [means[1][one] for one in both])[0, 1] <= high


def test_labels_are_learnable_also_from_numerical_columns():
    sample = generate(KuairandSimulation(rows=30_000), random=False)
    click = sample.columns["is_click"] == 1
    assert roc_auc_score(click, sample.truth["is_click"]) == pytest.approx(0.91, abs=0.03)
    for name in ("is_like", "long_view"):
        assert roc_auc_score(sample.columns[name][click], sample.truth[name][click]) > 0.75
    main = users(KuairandSimulation())["follow_user_num"][sample.columns["user_id"]]
    assert roc_auc_score(click[sample.columns["tab"] == 1], main[sample.columns["tab"] == 1]) > 0.6


def test_random_log_is_uniform_over_videos():
    counts = np.bincount(generate(KuairandSimulation(random_rows=40_000), random=True).columns["video_id"])
    assert counts.min() > 150  # 200 expected, a standard deviation is 14
    assert np.bincount(generate(KuairandSimulation(), random=False).columns["video_id"]).max() > 1_200
    assert len(videos(KuairandSimulation())["video_id"]) == 200
