"""Table printed at the end of a sweep."""

import json

import pytest

from stemlab.reporting.sweep_table import sweep_table
from tests.reporting.records import record


def job(folder, name, words, objective="val/auc", status="finished", value=0.5, test=None, **changes):
    """Write the directory of a job as Hydra and the recorder do; ``status=None``: no record."""
    directory = folder / name
    (directory / ".hydra").mkdir(parents=True)
    (directory / ".hydra" / "overrides.yaml").write_text("".join(f"- {word}\n" for word in words))
    if status is not None:
        made = record(status=status, **changes)
        made["config"]["objective"] = objective
        made["metrics"] = {objective: value} | ({} if test is None else {f"test/{objective[4:]}": test})
        (directory / "record.json").write_text(json.dumps(made))
    return directory


def places(text):
    """Return the names of the ranked jobs, in order."""
    rows = [line.split() for line in text.splitlines() if "jobs without" not in line]
    return [row[1] for row in rows if row and row[0].isdecimal()]


@pytest.mark.parametrize(
    ("objective", "values", "best"),
    [
        ("val/auc", (0.7, 0.9, 0.8), ["1_b", "2_c", "0_a"]),
        ("val/logloss/like", (0.3, 0.2, 0.1), ["2_c", "1_b", "0_a"]),
        ("val/ndcg@5", (0.3, 0.2, 0.1), ["0_a", "1_b", "2_c"]),
        ("test/calibration/like", (0.7, 1.1, 1.2), ["1_b", "2_c", "0_a"]),
    ],
)
def test_jobs_are_ordered_by_the_direction_of_the_objective(tmp_path, objective, values, best):
    for name, value in zip(("0_a", "1_b", "2_c"), values, strict=True):
        job(tmp_path, name, [f"seed={name[0]}"], objective, value=value)
    text = sweep_table(tmp_path, {})
    assert places(text) == best
    assert f"best: {tmp_path / best[0]}" in text


def test_columns_are_the_settings_that_differ(tmp_path):
    common = ["dataset=tiktok", "tags=[a,b]"]
    job(tmp_path, "0_a", [*common, "model=stem", "optim.lr=0.1", "model.net.a.width=1"], value=0.6, test=0.55)
    job(
        tmp_path,
        "1_b",
        [*common, "model=mmoe", "optim.lr=0.2", "model.net.b.width=2"],
        value=0.7,
        test=0.5,
        sample=True,
    )
    head, first, second = sweep_table(tmp_path, {}).splitlines()[2:5]
    assert head.split() == ["job", "model", "lr", "model.net.a.width", "model.net.b.width", "val/auc", "test/auc"]
    assert first.split() == ["1", "1_b", "SAMPLE", "mmoe", "0.2", "2", "0.7000", "0.5000"]
    assert second.split() == ["2", "0_a", "stem", "0.1", "1", "0.6000", "0.5500"]
    assert head.index("lr") == first.index("0.2") == second.index("0.1")


def test_jobs_without_result_are_named_with_the_reason(tmp_path):
    job(tmp_path, "10_z", ["seed=10"], value=0.8)
    failed = job(tmp_path, "2_b", ["seed=2"], status=None)
    job(tmp_path, "3_c", ["seed=3"], status="failed", error="StemlabError: the loss is nan\nat step 3")
    job(tmp_path, "4_d", ["seed=4"], status="interrupted")
    job(tmp_path, "5_e", ["seed=5"], value=None)
    job(tmp_path, "6_f", ["seed=6"], status=None)
    job(tmp_path, "7_g", ["seed=7"], status="running", value=0.9)
    text = sweep_table(tmp_path, {failed: "row 7 has 11 columns."})
    assert places(text) == ["10_z"]
    assert text.splitlines()[-7:] == [
        "6 of 7 jobs without result:",
        "  2_b: failed: row 7 has 11 columns.",
        "  3_c: failed: the loss is nan at step 3",
        "  4_d: interrupted",
        "  5_e: val/auc is undefined.",
        "  6_f: failed: it wrote no record",
        "  7_g: interrupted",
    ]


def test_jobs_with_different_objectives_are_not_compared(tmp_path):
    for name, objective in {"0_a": "val/auc", "1_b": "val/logloss", "2_c": "val/auc"}.items():
        job(tmp_path, name, [f"seed={name[0]}"], objective, value=0.5 + int(name[0]) / 10)
    text = sweep_table(tmp_path, {})
    assert places(text) == ["2_c", "0_a", "1_b"]
    assert text.count("best:") == 2


def test_a_large_sweep_shows_its_best_jobs(tmp_path):
    for number in range(60):
        job(tmp_path, f"{number}_a", [f"seed={number}"], value=number / 100)
        job(tmp_path, f"{100 + number}_b", [f"seed={100 + number}"], status=None)
    text = sweep_table(tmp_path, {})
    assert places(text)[:20] == [f"{59 - place}_a" for place in range(20)]
    assert "40 more" in text
    assert f"runs={tmp_path}" in text
    assert "60 of 120" in text


def test_an_empty_or_damaged_directory_gives_no_table(tmp_path):
    assert sweep_table(tmp_path / "none", {}) == ""
    (tmp_path / "0_a").mkdir()
    (tmp_path / "0_a" / "record.json").write_text("{")
    assert "0_a: failed: " in sweep_table(tmp_path, {})


def test_pruned_jobs_are_named_with_their_last_epoch(tmp_path):
    job(tmp_path, "0_a", ["seed=0", "sweep.jobs=2", "resume=auto"], value=0.8, epochs_run=5)
    job(tmp_path, "1_b", ["seed=1"], status="pruned", epochs_run=2)
    lines = sweep_table(tmp_path, {}).splitlines()
    assert lines[2].split() == ["job", "seed", "val/auc"]
    assert lines[-2:] == ["1 of 2 jobs were pruned: 1 (epoch 2)", "epochs trained by all jobs: 7"]
