"""Collection of run records from folders, patterns and compact copies."""

import json

import pytest

from stemlab.errors import StemlabError
from stemlab.reporting.collect import collect, compact, save_copies
from tests.reporting.records import record, write


def test_records_are_found_below_a_folder_and_by_pattern(tmp_path):
    write(tmp_path / "runs", record(seed=1), record(seed=2))
    (tmp_path / "runs" / "run0" / "metrics.json").write_text("{}")  # not a record
    assert [run.record["seed"] for run in collect([str(tmp_path)]).runs] == [1, 2]
    assert [run.record["seed"] for run in collect([str(tmp_path / "runs" / "*1")]).runs] == [2]
    twice = [str(tmp_path / "runs"), str(tmp_path / "runs" / "run0" / "record.json")]
    assert len(collect(twice).runs) == 2


def test_unusable_records_are_named(tmp_path):
    unfinished, old = record(seed=2, status="interrupted"), record(seed=3, schema=0)
    incomplete = {key: value for key, value in record(seed=4).items() if key != "metrics"}
    write(tmp_path, record(seed=1), unfinished, old, incomplete)
    (tmp_path / "run5").mkdir()
    (tmp_path / "run5" / "record.json").write_text("{half a")
    found = collect([str(tmp_path)])
    assert [run.record["seed"] for run in found.runs] == [1]
    assert len(found.skipped) == 4
    for word, name in (("interrupted", "run1"), ("schema", "run2"), ("lacks metrics", "run3"), ("not JSON", "run5")):
        assert any(word in sentence and name in sentence for sentence in found.skipped)


def test_the_last_started_of_repeated_runs_is_kept(tmp_path):
    early, late = record(seed=1, auc=(0.5, 0.5)), record(seed=1, auc=(0.6, 0.6))
    late["time"]["started"] = "2026-11-20T11:00:00+00:00"
    late["config"]["dataset"]["raw_dir"] = "/elsewhere"
    write(tmp_path, late, early, record(seed=1, lr=0.1), record(seed=1, dataset_fingerprint="e" * 64))
    found = collect([str(tmp_path)])
    assert [run.metric("test/auc/like") for run in found.runs] == [0.6, 0.8, 0.8]
    assert len(found.skipped) == 1
    assert "run1" in found.skipped[0]
    assert "repeats" in found.skipped[0]


def test_only_selects_runs_by_value(tmp_path):
    write(tmp_path, record("stem"), record("mmoe"), record("mmoe", seed=2, conflict=0.5))
    assert len(collect([str(tmp_path)], {"model": "mmoe"}).runs) == 2
    assert len(collect([str(tmp_path)], {"model": "mmoe", "dataset.sample.conflict": 0.5}).runs) == 1
    with pytest.raises(StemlabError, match="no finished run"):
        collect([str(tmp_path)], {"model": "ple"})


def test_no_match_and_no_record_are_errors(tmp_path):
    with pytest.raises(StemlabError, match="nothing at"):
        collect([str(tmp_path / "none")])
    with pytest.raises(StemlabError, match="no finished run"):
        collect([str(tmp_path)])


def test_values_and_tasks_of_a_run(tmp_path):
    write(tmp_path, record("single_task", task="like"), record("single_task"), record("stem"))
    alone, default, joint = collect([str(tmp_path)]).runs
    assert (alone.tasks, alone.alone) == (("like",), True)
    assert (default.tasks, default.alone) == (("finish",), True)
    assert (joint.tasks, joint.alone) == (("finish", "like"), False)
    assert [joint.value(key) for key in ("model", "optim.lr", "hardware.cpu", "optim.none", "optim")] == [
        "stem",
        0.001,
        "some CPU",
        None,
        None,
    ]
    assert alone.metric("test/auc/finish") is None


def test_compact_copies_have_equal_settings_and_no_local_paths(tmp_path):
    made = record("stem", seed=7)
    made["config"]["dataset"]["path"] = "/home/me/log.csv"
    assert "/home/me" in json.dumps(made)
    assert compact(made)["config"]["dataset"]["path"] == "log.csv"
    del made["config"]["dataset"]["path"]
    assert "/home/me" not in json.dumps(compact(made))
    runs = collect([str(write(tmp_path / "runs", made, record("single_task", task="like")))]).runs
    folder = tmp_path / "records" / "toy"
    names = {path.name for path in save_copies(runs, folder)}
    assert names == {"stem_seed7_012345.json", "single_task_like_seed1_012345.json"}
    (folder / "published.yaml").write_text("not a record")
    again = {run.record["model"]: run for run in collect([str(folder)]).runs}
    for run in runs:
        copy = again[run.record["model"]]
        assert (copy.settings, copy.tasks, copy.record["metrics"]) == (run.settings, run.tasks, run.record["metrics"])
