"""Several runs by one command: each with its own directory, record and logger run."""

import json
import re
from pathlib import Path

import pytest

from tests.cli.commands import Workspace
from tests.cli.conftest import FAST, NET, SMALL_DATA
from tests.runs.wandb_file import read_wandb

COMMON = ["dataset=tiktok", *SMALL_DATA, *NET, *FAST, "trainer.max_epochs=1", "trainer.limit_train_batches=2"]


@pytest.fixture(scope="module")
def output(workspace: Workspace) -> str:
    overrides = ["-m", "model=shared_bottom,single_task", "seed=1,2", *COMMON, "logger=wandb"]
    return workspace.run("train", *overrides, STEMLAB_SWEEP_ID="grid").stdout


@pytest.fixture(scope="module")
def swept(workspace: Workspace, output: str) -> Path:
    return workspace.directory / "runs" / "sweeps" / "grid"


def test_a_sweep_ends_with_its_jobs_best_first(swept: Path, output: str) -> None:
    records = {path.parent.name: json.loads(path.read_text()) for path in swept.glob("*/record.json")}
    best = sorted(records, key=lambda name: -records[name]["metrics"]["val/auc"])
    lines = output[output.index("4 finished jobs") :].splitlines()
    assert [line.split()[1:4] for line in lines[2:6]] == [[name, "SAMPLE", "LIMITED"] for name in best]
    assert [line.split()[4:6] for line in lines[2:6]] == [
        [records[name]["model"], str(records[name]["seed"])] for name in best
    ]
    assert lines[6] == f"best: runs/sweeps/grid/{best[0]}/checkpoints/best.ckpt"


def test_a_repeated_sweep_resumes_its_jobs_or_refuses_them(swept: Path, workspace: Workspace) -> None:
    command = ["train", "-m", "model=shared_bottom,single_task", "seed=1,2", *COMMON, "logger=wandb"]
    before = {path: path.read_text() for path in swept.glob("*/record.json")}
    again = workspace.run(*command, "resume=auto", STEMLAB_SWEEP_ID="grid")
    assert (again.stdout + again.stderr).count("nothing is left to do") == 4
    refused = workspace.run(*command, status=2, STEMLAB_SWEEP_ID="grid").stderr
    assert "4 sweep jobs failed" in refused
    assert "resume=auto" in refused
    assert {path: path.read_text() for path in swept.glob("*/record.json")} == before


def test_four_jobs_leave_four_records(swept: Path) -> None:
    runs = sorted(path.parent.name for path in swept.glob("*/record.json"))
    assert runs == ["0_shared_bottom_seed1", "1_shared_bottom_seed2", "2_single_task_seed1", "3_single_task_seed2"]
    records = [json.loads((swept / run / "record.json").read_text()) for run in runs]
    assert [(r["model"], r["seed"]) for r in records] == [
        ("shared_bottom", 1),
        ("shared_bottom", 2),
        ("single_task", 1),
        ("single_task", 2),
    ]
    assert {r["status"] for r in records} == {"finished"}
    assert len({r["config_hash"] for r in records}) == 4
    assert len({r["metrics"]["test/auc/finish"] for r in records}) == 4
    assert all((swept / run / "checkpoints" / "best.ckpt").is_file() for run in runs)
    assert all((swept / run / "metrics.csv").is_file() for run in runs)


def test_four_jobs_are_wandb_runs_of_one_group(swept: Path) -> None:
    files = sorted(swept.glob("*/wandb/offline-run-*/*.wandb"))
    assert len(files) == 4
    runs = [read_wandb(file) for file in files]
    assert len({run.id for run in runs}) == 4
    assert {run.group for run in runs} == {"grid"}
    assert [run.name for run in runs] == [
        "tiktok/shared_bottom/seed1",
        "tiktok/shared_bottom/seed2",
        "tiktok/single_task/seed1",
        "tiktok/single_task/seed2",
    ]
    for run, file in zip(runs, files, strict=True):
        record = json.loads((file.parents[2] / "record.json").read_text())
        assert run.summary["test/auc"] == record["metrics"]["test/auc"]


@pytest.mark.ddp
def test_a_job_with_two_ranks_runs_in_its_own_process_tree(workspace: Workspace) -> None:
    overrides = ["-m", "model=shared_bottom", "seed=3", *COMMON, "trainer=ddp_cpu", "trainer.devices=2", "logger=csv"]
    workspace.run_forked("train", *overrides, STEMLAB_SWEEP_ID="pairs")
    runs = workspace.directory / "runs" / "sweeps" / "pairs"
    assert [path.name for path in runs.iterdir() if path.is_dir()] == ["0_shared_bottom_seed3"]
    record = json.loads((runs / "0_shared_bottom_seed3" / "record.json").read_text())
    assert record["hardware"]["processes"] == 2
    assert record["seed"] == 3
    assert record["status"] == "finished"


def test_one_job_that_fails_does_not_end_the_others(workspace: Workspace, diverges_at_10: None) -> None:
    overrides = ["-m", "model=single_task", *COMMON, "trainer.limit_train_batches=4", "logger=csv"]
    overrides += ["optim.lr=10,0.01"]
    result = workspace.run("train", *overrides, status=2, STEMLAB_SWEEP_ID="bad")
    assert re.search("1 .*jobs? failed", result.stderr)
    assert "1 of 2 jobs without result:\n  0_single_task_seed2023: failed: " in result.stdout
    runs = workspace.directory / "runs" / "sweeps" / "bad"
    status = {path.parent.name: json.loads(path.read_text())["status"] for path in runs.glob("*/record.json")}
    assert status == {"0_single_task_seed2023": "failed", "1_single_task_seed2023": "finished"}
