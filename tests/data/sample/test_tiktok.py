import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from stemlab.data.sample.tiktok import TIKTOK_COLUMNS, TiktokSimulation, generate, write_sample
from tests.conftest import REAL_DATA, require

SMALL = TiktokSimulation(rows=20_000)


@pytest.fixture(scope="module")
def small():
    return generate(SMALL)


def test_file_has_the_raw_format(tmp_path):
    path = write_sample(tmp_path / "deep" / "raw.txt", TiktokSimulation(rows=500))
    text = path.read_text()
    assert text.endswith("\n")
    rows = [[int(value) for value in line.split("\t")] for line in text.splitlines()]
    assert len(rows) == 500
    assert {len(row) for row in rows} == {12}
    assert list(path.parent.iterdir()) == [path]
    real = require(REAL_DATA / "tiktok" / "icme2019_1000_rows.txt").read_text().splitlines()
    theirs = np.array([[int(value) for value in line.split("\t")] for line in real])
    ours = np.array(rows)
    missing_there, missing_here = (
        {name for name, column in zip(TIKTOK_COLUMNS, table.T, strict=True) if (column == -1).any()}
        for table in (theirs, ours)
    )
    assert missing_here == missing_there == {"user_city", "item_city", "music_id"}
    assert (ours.min(axis=0) >= -1).all()


def test_same_settings_give_the_same_bytes(tmp_path):
    files = [write_sample(tmp_path / name, TiktokSimulation(rows=2_000)).read_bytes() for name in "ab"]
    other = write_sample(tmp_path / "c", TiktokSimulation(rows=2_000, seed=1)).read_bytes()
    assert files[0] == files[1] != other
    # If this changes, all results measured on the sample change.
    assert hashlib.sha256(files[0]).hexdigest()[:16] == "38341d6074c6435a"


def test_rates_and_functional_dependencies(small):
    columns = small.columns
    assert abs(columns["finish"].mean() - 0.37) < 0.01
    assert abs(columns["like"].mean() - 0.012) < 0.003
    assert (np.diff(columns["create_time"]) >= 0).all()
    for owner, names in {
        "uid": ("user_city", "device_id"),
        "item_id": ("author_id", "item_city", "music_id", "video_duration"),
    }.items():
        for name in names:
            pairs = set(zip(columns[owner].tolist(), columns[name].tolist(), strict=True))
            assert len(pairs) == len(set(columns[owner].tolist()))
    assert columns["video_duration"].min() >= 2


def test_popularity_follows_zipf():
    simulation = TiktokSimulation(rows=200_000, zipf=1.0, users=100)
    counts = np.sort(np.bincount(generate(simulation).columns["uid"]))[::-1]
    expected = 200_000 / np.arange(1, 101) / (1 / np.arange(1, 101)).sum()
    assert np.abs(counts[:20] / expected[:20] - 1).max() < 0.06
    even = np.bincount(generate(TiktokSimulation(rows=200_000, zipf=0.0, users=100)).columns["uid"])
    assert even.min() > 1_700


def test_conflict_changes_only_like(small):
    other = generate(TiktokSimulation(rows=SMALL.rows, conflict=0.1)).columns
    for name in TIKTOK_COLUMNS:
        assert np.array_equal(other[name], small.columns[name]) == (name != "like")


@pytest.mark.parametrize(("conflict", "low", "high"), [(0.0, 0.999, 1.0), (0.5, 0.3, 0.75), (1.0, -0.25, 0.25)])
def test_conflict_rotates_like_away_from_finish(conflict, low, high):
    made = generate(TiktokSimulation(rows=20_000, conflict=conflict))
    logits = [np.log(p / (1 - p)) for p in (made.finish_probability, made.like_probability)]
    assert low <= np.corrcoef(*logits)[0, 1] <= high


def test_labels_are_learnable_for_all_conflicts():
    for conflict in (0.0, 0.5, 1.0):
        made = generate(TiktokSimulation(conflict=conflict))
        finish = roc_auc_score(made.columns["finish"], made.finish_probability)
        like = roc_auc_score(made.columns["like"], made.like_probability)
        assert finish == pytest.approx(0.91, abs=0.01)
        assert like == pytest.approx(0.92, abs=0.03)


@settings(max_examples=30, deadline=None)
@given(
    st.builds(
        TiktokSimulation,
        rows=st.integers(1, 300),
        seed=st.integers(0, 2**32 - 1),
        conflict=st.floats(0, 1),
        users=st.integers(1, 50),
        items=st.integers(1, 50),
        authors=st.integers(1, 9),
        latent_dim=st.integers(1, 5),
        zipf=st.floats(0, 3),
        finish_rate=st.floats(0.01, 0.99),
        like_rate=st.floats(0.01, 0.99),
        main_effect=st.floats(0, 1),
    )
)
def test_all_valid_settings_work(simulation):
    made = generate(simulation)
    assert set(made.columns) == set(TIKTOK_COLUMNS)
    assert {len(column) for column in made.columns.values()} == {simulation.rows}
    assert made.finish_probability.mean() == pytest.approx(simulation.finish_rate, abs=1e-6)
    assert made.like_probability.mean() == pytest.approx(simulation.like_rate, abs=1e-6)
    assert made.columns["uid"].max() < simulation.users
    assert made.columns["item_id"].max() < simulation.items


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"conflict": 1.1}, {"like_rate": 0.0}, {"zipf": -1.0}, {"people": 3}])
def test_invalid_settings_are_rejected(wrong):
    with pytest.raises((ValidationError, TypeError)):
        TiktokSimulation(**wrong)
