"""Results of analyses, saved scores and lineage on the dashboard."""

import json

import pytest

from stemlab.reporting.collect import Run
from stemlab.reporting.dashboard.analysis_values import analysis_entries
from stemlab.reporting.dashboard.markdown_panels import MARKDOWN_KINDS, markdown_of
from stemlab.reporting.dashboard.page import dashboard_data
from stemlab.reporting.dashboard.run_reliability import run_reliability
from stemlab.reporting.reliability import measure_reliability
from tests.reporting.dashboard_inputs import dashboard_settings, write_analyses
from tests.reporting.records import record, write
from tests.reporting.score_files import task_scores, write_run


def panel(kind, **values):
    chosen = dashboard_settings()
    every = [one for section in chosen.dashboard.sections for one in section.panels]
    return next(one for one in every if one.kind == kind and all(getattr(one, k) == v for k, v in values.items()))


@pytest.fixture
def data(tmp_path):
    second = record("timirec", 1, stage1={"directory": "/elsewhere/runs/first"}, stage="finetune", config_hash="1")
    folder = write(tmp_path / "runs", record("stem", 1), record("stem", 2, config_hash="2"), second)
    write_analyses(folder / "analysis", record("stem", 1))
    found, skipped = dashboard_data(dashboard_settings(f"runs=[{folder}]"))
    assert not skipped
    return found


def test_gains_per_bucket_are_in_thousandths_and_have_no_baseline(data):
    found = {one["analysis"]: one for one in data["analyses"]}
    rows = {row["bucket"]: (row["gain"], row["low"], row["high"]) for row in found["comparable"]["rows"]}
    assert rows == {"B1": (2.0, 1.0, 3.0), "B2": (-3.0, -4.0, -2.0)}
    assert [row["bucket"] for row in found["comparable"]["rows"] if row["similar"]] == ["B2"]
    assert [(row["bucket"], row["gain"], row["facet"]) for row in found["transfer"]["rows"]] == [("all", 1.0, "like")]
    assert found["comparable"]["models"]["stem"] == "stem"


def test_spectra_are_means_over_tables_of_full_width(data):
    (found,) = (one for one in data["analyses"] if one["analysis"] == "collapse")
    assert [(row["index"], row["value"], row["tables"]) for row in found["rows"]] == [
        (1, 1, 2),
        (2, 0.4, 2),
        (3, 0.2, 2),
    ]


def test_an_analysis_belongs_to_the_leaderboard_of_its_runs(data, tmp_path):
    first = next(run for run in data["runs"] if run["model"] == "stem" and run["seed"] == 1)
    for one in data["analyses"]:
        assert one["group"] == first["group"]
        assert one["runs"] == [first["id"]]
    elsewhere = write(tmp_path / "other", record("stem", 1, dataset_fingerprint="e" * 64))
    settings = dashboard_settings(f"runs=[{elsewhere},{tmp_path / 'runs' / 'analysis'}]")
    assert dashboard_data(settings)[0]["analyses"] == []


def test_damaged_results_are_left_out_with_a_reason(tmp_path):
    (tmp_path / "results.json").write_text('{"command": "analyze", "runs": [], "sections": {"comparable": {}}}')
    entries, skipped = analysis_entries([str(tmp_path)])
    assert entries == []
    assert "results.json" in skipped[0]
    assert "numbers" in skipped[0]


def test_reliability_is_that_of_the_report(tmp_path):
    scores = task_scores(1.0, 1)
    path = write_run(tmp_path, "stem", 1, scores)
    (run,) = dashboard_data(dashboard_settings(f"runs=[{tmp_path}]"))[0]["runs"]
    assert set(run["reliability"]) == {"finish", "like"}
    expected = measure_reliability(scores, "like", "stem", 1)
    found = run["reliability"]["like"]
    assert found["normalised_entropy"] == pytest.approx(expected.normalised_entropy, rel=1e-5)
    assert [p for p, _ in found["points"]] == pytest.approx(expected.predicted_N[expected.observed_N > 0], rel=1e-5)
    assert len(found["points"]) > 10
    (path.parent / "test_scores_of_best.npz").write_bytes(b"damaged")
    again = run_reliability(Run(path, json.loads(path.read_text())))
    assert again[0] == {}
    assert "test_scores_of_best.npz" in str(again[1])


def test_panels_that_wandb_lacks_are_markdown_tables(data):
    gains = markdown_of(panel("buckets", analysis="comparable"), data)
    assert "| stem | like: feedback for finish against like | +2.0 [+1.0, +3.0] | -3.0 [-4.0, -2.0] * |" in gains
    assert "| stem | shared | 1.6 | 0.2 | 3 |" in markdown_of(panel("spectra"), data)
    assert "| first | timirec finetune seed 1 |" in markdown_of(panel("lineage"), data)
    for kind in MARKDOWN_KINDS:
        assert "on this machine" in markdown_of(panel(kind), {}) or kind == "lineage"
