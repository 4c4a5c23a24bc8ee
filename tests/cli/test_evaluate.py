"""A checkpoint alone reproduces the recorded metrics."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.evaluate import evaluate
from stemlab.inference.evaluate import compare_with_record
from stemlab.runs.restore import RebuiltRun
from tests.cli.commands import Workspace


def best(run: Path) -> str:
    return f"ckpt={run / 'checkpoints' / 'best.ckpt'}"


def test_the_recorded_test_metrics_to_the_last_digit(trained: Path, workspace: Workspace) -> None:
    done = workspace.run_process("evaluate", best(trained), "output=alone.json")
    result = json.loads((workspace.directory / "alone.json").read_text())
    record = json.loads((trained / "record.json").read_text())
    assert result["metrics"] == {k: v for k, v in record["metrics"].items() if k.startswith("test/")}
    assert len(result["metrics"]) == 17
    assert result["epoch"] == record["best"]["epoch"]
    assert result["dataset_fingerprint"] == record["dataset_fingerprint"]
    assert "equal to the run record" in done.stdout
    assert "17 metrics" in done.stdout
    assert "SAMPLE" in done.stdout
    assert not list(workspace.directory.glob("*.log"))


def test_other_splits(trained: Path) -> None:
    record = json.loads((trained / "record.json").read_text())
    valid = evaluate(compose("evaluate", [best(trained), "split=valid"]))
    assert valid == {k: v for k, v in record["metrics"].items() if k.startswith("val/")}
    train = evaluate(compose("evaluate", [best(trained), "split=train"]))
    assert {name.split("/")[0] for name in train} == {"train"}
    assert train["train/auc"] > valid["val/auc"]


def test_raw_files_are_not_needed_once_the_data_is_prepared(trained: Path, tmp_path: Path) -> None:
    """Checkpoint and prepared directory are moved; the raw files of the sample are not."""
    shutil.copytree(trained.parent / "data" / "prepared", tmp_path / "data" / "prepared")
    shutil.copy(trained / "checkpoints" / "best.ckpt", tmp_path)
    overrides = [f"ckpt={tmp_path / 'best.ckpt'}", f"data_dir={tmp_path / 'data'}", f"raw_dir={tmp_path / 'nowhere'}"]
    record = json.loads((trained / "record.json").read_text())
    metrics = evaluate(compose("evaluate", overrides))
    assert metrics == {k: v for k, v in record["metrics"].items() if k.startswith("test/")}
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"prepared"}
    result = json.loads((tmp_path / "test_metrics_of_best.json").read_text())
    assert "no run record" in result["record"]


def test_other_data_is_refused(trained: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    rng = np.random.default_rng(0)
    table = rng.integers(0, 2, size=(60, 12))
    np.savetxt(raw / "final_track1_train.txt", table, fmt="%d", delimiter="\t")
    overrides = [best(trained), f"data_dir={tmp_path}", f"raw_dir={raw}"]
    with pytest.raises(StemlabError, match=r"prepared dataset .*raw files differ"):
        evaluate(compose("evaluate", overrides))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("missing.ckpt", "missing.ckpt.*foreign.ckpt, text.ckpt, torn.ckpt"),
        ("text.ckpt", "text.ckpt.*read"),
        ("torn.ckpt", "torn.ckpt.*read"),
        ("foreign.ckpt", "foreign.ckpt.*stemlab.train.*config.*spec.*fingerprint"),
        ("", "directory"),
    ],
)
def test_files_that_are_not_checkpoints_are_refused(name: str, hint: str, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("uid\titem\n1\t2\n")
    (tmp_path / "torn.ckpt").write_bytes((trained / "checkpoints" / "best.ckpt").read_bytes()[:5000])
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(StemlabError, match=hint):
        evaluate(compose("evaluate", [f"ckpt={tmp_path / name}"]))


def test_a_missing_checkpoint_is_one_sentence(workspace: Workspace) -> None:
    result = workspace.run("evaluate", "ckpt=nowhere/best.ckpt", status=2).stderr
    assert result.startswith("error: ")
    assert "nowhere/best.ckpt" in result
    assert result.count("\n") == 1


def test_a_read_only_run_directory_is_refused_before_the_evaluation(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != trained)
    monkeypatch.setattr(RebuiltRun, "prepare", lambda self: pytest.fail("evaluated"))
    with pytest.raises(StemlabError, match=r"test_metrics_of_best\.json .*no write access.*set output"):
        evaluate(compose("evaluate", [best(trained)]))


def test_a_difference_from_the_record_is_reported(trained: Path) -> None:
    record = json.loads((trained / "record.json").read_text())
    checkpoint = trained / "checkpoints" / "best.ckpt"
    metrics = {k: v for k, v in record["metrics"].items() if k.startswith("test/")}
    assert compare_with_record(metrics, trained, checkpoint).startswith("equal to the run record")
    changed = {**metrics, "test/auc": metrics["test/auc"] + 1e-12}
    assert re.search("differs .*1 of 17 .*test/auc", compare_with_record(changed, trained, checkpoint))
    limited = compare_with_record(metrics, trained, checkpoint, {"limit_test_batches": 2})
    assert re.search("not compared: .*all batches.*limit_test_batches.*2 batches", limited)
    undefined = {**metrics, "test/gauc": None}
    assert re.search("test/gauc.* None ", compare_with_record(undefined, trained, checkpoint))
    assert "another checkpoint" in compare_with_record(metrics, trained, trained / "checkpoints" / "last.ckpt")
