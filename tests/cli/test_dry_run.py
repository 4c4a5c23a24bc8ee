"""``dry_run`` shows what a training would need; it trains and writes nothing."""

import json
from pathlib import Path

from tests.cli.commands import Workspace
from tests.cli.conftest import LONG, TINY


def files(directory: Path) -> set[Path]:
    return {path for path in directory.rglob("*") if path.is_file()}


def test_the_numbers_are_those_of_the_training(workspace: Workspace, trained: Path) -> None:
    record, before = json.loads((trained / "record.json").read_text()), files(workspace.directory)
    shown = workspace.run("train", *TINY, *LONG, "dry_run=calibrate", "hydra.run.dir=other", "seed=5").stdout
    assert files(workspace.directory) == before
    parameters, samples = record["parameters"], record["dataset_manifest"]["rows"]["train"]
    assert f"dense {parameters['dense']:,}  embedding {parameters['embedding']:,}" in shown
    assert f"{-(-samples // 128):,} steps per epoch, at most 4 epochs" in shown
    assert "ms per step" in shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["seed=5", "command", "line"] in lines
    assert ["optim.lr=0.01", "command", "line"] in lines


def test_a_sweep_is_shown_with_one_line_per_job(workspace: Workspace, trained: Path) -> None:
    before = files(workspace.directory)
    words = ["experiment=tiktok/mmoe", "seed=1,2", "trainer=ddp_cpu", "dry_run=true"]
    small = [word for word in TINY if word.startswith("dataset.")]
    lines = workspace.run("train", "-m", *words, *small).stdout.splitlines()
    assert [line.split("seed=")[1].split()[0] for line in lines] == ["1", "2"]
    assert all("steps per epoch" in line for line in lines)
    assert files(workspace.directory) == before


def test_a_dataset_that_is_not_prepared_is_refused(workspace: Workspace) -> None:
    words = [*TINY, "dry_run=true", "dataset.sample.rows=1502"]
    assert "stemlab.prepare" in workspace.run("train", *words, status=2).stderr
