"""``stemlab.train``: files, record and metrics of a run, and the same weights when it is repeated."""

import csv
import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.cli.commands import TIMEOUT_S, Workspace
from tests.cli.conftest import LONG, STEM, TINY, assert_same_weights

SPLITS, TASKS = ("val", "test"), ("finish", "like")


@pytest.fixture(scope="module")
def own_process(workspace: Workspace) -> Path:
    """Directory of the run ``trained``, made by a process of its own; no test writes into it."""
    workspace.run_process("train", *TINY, *LONG, "hydra.run.dir=own_process")
    return workspace.directory / "own_process"


@pytest.mark.process
def test_a_run_leaves_its_files_and_nothing_else(own_process: Path) -> None:
    names = {str(path.relative_to(own_process)) for path in own_process.rglob("*") if path.is_file()}
    hydra = {f".hydra/{name}.yaml" for name in ("config", "hydra", "overrides")}
    assert names - hydra == {
        "record.json",
        "metrics.csv",
        "train.log",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    }


def test_the_record_is_complete(trained: Path) -> None:
    record = json.loads((trained / "record.json").read_text())
    assert record["schema"] == 1
    assert record["status"] == "finished"
    assert record["sample"] is True
    assert (record["model"], record["dataset"], record["seed"]) == ("stem", "tiktok", 2023)
    assert record["overrides"][:2] == ["model=stem", "dataset=tiktok"]
    assert record["config"]["model"]["net"]["embedding_dim"] == 4
    assert record["dataset_manifest"]["rows"] == {"train": 1215, "valid": 135, "test": 151}
    assert record["dataset_fingerprint"] == record["dataset_manifest"]["fingerprint"]
    assert record["parameters"]["embedding"] == 3 * 4 * sum(record["dataset_manifest"]["vocabulary"].values())
    assert record["epochs_run"] == 4
    assert record["throughput"]["train_samples_per_s"] > 0
    rates = record["throughput"]["train_samples_per_s_by_epoch"]
    assert len(rates) == record["epochs_run"]
    assert min(rates) <= record["throughput"]["train_samples_per_s"] <= max(rates)
    assert record["throughput"]["eval_samples_per_s"] > 0
    assert record["memory"]["peak_rss_bytes"] > 10**8
    assert record["packages"]["torch"] == torch.__version__
    assert record["hardware"]["processes"] == 1
    engine = record["engine"]
    assert (engine["loop"], engine["loop_reason"]) == ("direct", None)
    assert engine["direct_steps"] == 4 * -(-1215 // record["config"]["dataset"]["batch_size"])
    assert 0 < record["time"]["fit_s"] < record["time"]["wall_s"]


def test_metrics_are_named_by_the_grammar_and_belong_to_the_best_epoch(trained: Path) -> None:
    record = json.loads((trained / "record.json").read_text())
    names = {f"{s}/{m}" for s in SPLITS for m in ("auc", "gauc", "gauc_encoded", "logloss", "ece")}
    per_task = ("auc", "gauc", "gauc_encoded", "logloss", "ece", "calibration")
    names |= {f"{s}/{m}/{t}" for s in SPLITS for m in per_task for t in TASKS}
    assert set(record["metrics"]) == names
    curve = [float(row["val/auc"]) for row in rows(trained) if row["val/auc"]]
    assert len(curve) == 4
    assert record["best"]["value"] == record["metrics"]["val/auc"] == max(curve)
    assert record["best"]["epoch"] == curve.index(max(curve)) + 1
    assert record["metrics"]["val/auc"] == pytest.approx(
        sum(record["metrics"][f"val/auc/{t}"] for t in TASKS) / 2, abs=1e-15
    )
    assert curve[-1] > 0.55  # it learns


def test_curves_are_logged_in_full_precision(trained: Path) -> None:
    steps = [row for row in rows(trained) if row["train/loss"]]
    assert len(steps) == 4 * 10  # 1,215 rows in batches of 128
    assert [int(row["step"]) for row in steps] == list(range(40))
    assert [int(row["epoch"]) for row in steps] == [epoch for epoch in range(1, 5) for _ in range(10)]
    assert float(steps[0]["train/lr"]) == 0.01
    for row in steps:
        tasks = sum(float(row[f"train/loss/{task}"]) for task in TASKS)
        assert float(row["train/loss"]) == pytest.approx(tasks, rel=1e-6)
        assert float(row["train/grad_norm"]) > 0


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_checkpoint_holds_plain_values_only(trained: Path) -> None:
    content = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    assert set(content["hyper_parameters"]) == {"config", "spec", "fingerprint"}
    kinds = {type(value) for value in walk(content["hyper_parameters"])}
    assert kinds <= {dict, list, str, int, float, bool, type(None)}
    assert not [key for key in content["state_dict"] if not key.startswith("net.")]


def walk(value):
    yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        yield from walk(item)


@pytest.mark.process
def test_the_same_command_gives_the_same_weights(
    trained: Path, own_process: Path, run_training: Callable[..., float]
) -> None:
    """In a process of its own and through the Python interface."""
    assert_same_weights(trained, own_process)
    objective = run_training("trained_again", *TINY, *LONG)
    assert_same_weights(trained, trained.parent / "trained_again")
    one, other = (json.loads((run / "record.json").read_text()) for run in (trained, trained.parent / "trained_again"))
    assert one["metrics"] == other["metrics"]
    assert objective == one["metrics"]["val/auc"]
    assert one["config_hash"] == other["config_hash"]


def test_another_seed_gives_other_weights(trained: Path, run_training: Callable[..., float]) -> None:
    run_training("other_seed", *TINY, "trainer.max_epochs=1", "seed=7")
    with pytest.raises(AssertionError):
        assert_same_weights(trained, trained.parent / "other_seed")


def test_only_the_chosen_task_is_trained_and_measured(workspace: Workspace, run_training: Callable[..., float]) -> None:
    run_training("like_only", *TINY, "trainer.max_epochs=1", "model.task=like", "objective=val/auc/like")
    metrics = workspace.record("like_only")["metrics"]
    assert "test/auc/like" in metrics
    assert not [name for name in metrics if name.endswith("/finish")]
    assert metrics["test/auc"] == metrics["test/auc/like"]


def test_penalty_modes_give_different_weights(run_training: Callable[..., float], trained: Path) -> None:
    overrides = [*TINY, "trainer.max_epochs=1", "model.embedding_regularizer=0.1"]
    for mode in ("dense", "batch"):
        run_training(f"penalty_{mode}", *overrides, f"model.embedding_regularizer_mode={mode}")
    with pytest.raises(AssertionError):
        assert_same_weights(trained.parent / "penalty_dense", trained.parent / "penalty_batch")


def test_bf16_trains(workspace: Workspace, run_training: Callable[..., float]) -> None:
    run_training("bf16", *TINY, "trainer.max_epochs=1", "trainer.precision=bf16-mixed")
    run_training("fp32", *TINY, "trainer.max_epochs=1")
    low, full = (workspace.record(name)["metrics"]["val/logloss"] for name in ("bf16", "fp32"))
    assert low != full
    assert low == pytest.approx(full, abs=0.02)


def test_without_test_there_are_no_test_metrics(workspace: Workspace, run_training: Callable[..., float]) -> None:
    run_training("no_test", *TINY, "trainer.max_epochs=1", "test=false")
    assert {name.split("/")[0] for name in workspace.record("no_test")["metrics"]} == {"val"}


def test_a_diverged_training_is_one_sentence_and_a_failed_record(workspace: Workspace, diverges_at_10: None) -> None:
    overrides = [*TINY, "optim.lr=10", "hydra.run.dir=diverged"]
    result = workspace.run("train", *overrides, status=2).stderr
    assert "error: " in result
    assert "loss" in result
    assert "optim.lr" in result
    record = workspace.record("diverged")
    assert record["status"] == "failed"
    assert "loss" in record["error"]
    assert record["best"] is None


@pytest.mark.process
def test_ctrl_c_ends_with_130_and_an_interrupted_record(workspace: Workspace) -> None:
    process = workspace.fork("train", *TINY, "trainer.max_epochs=100000", *LONG[1:], "hydra.run.dir=interrupted")
    wait_for(workspace.directory / "interrupted" / "checkpoints" / "last.ckpt")
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    record = workspace.record("interrupted")
    assert record["status"] == "interrupted"
    assert record["epochs_run"] >= 1
    assert 1 <= record["best"]["epoch"] <= record["epochs_run"]
    assert record["throughput"]["train_samples_per_s"] > 0


def wait_for(path: Path) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "model", ["aitm", "esmm", "mmoe", "mmoe_me", "omoe", "ple", "ple_me", "shared_bottom", "single_task"]
)
def test_every_model_trains(model: str, workspace: Workspace, run_training: Callable[..., float]) -> None:
    overrides = [word for word in TINY if word != "model=stem" and word not in STEM]
    value = run_training(
        f"model_{model}", f"model={model}", *overrides, "trainer.max_epochs=1", "trainer.limit_train_batches=3"
    )
    assert 0 <= value <= 1
    assert workspace.record(f"model_{model}")["model"] == model


def test_a_training_ended_by_max_epochs_while_improving_is_reported(workspace: Workspace) -> None:
    ended = workspace.run("train", *TINY, "trainer.max_epochs=1", "hydra.run.dir=ended_by_max_epochs")
    assert re.search("last epoch was the best: .*trainer.max_epochs=1", ended.stdout + ended.stderr)


def test_the_log_holds_what_the_screen_showed(own_process: Path, workspace: Workspace) -> None:
    shown = workspace.run("train", *TINY, "trainer.max_epochs=1", "hydra.run.dir=logged")
    logged = (workspace.directory / "logged" / "train.log").read_text().splitlines()
    assert [line for line in logged if line.startswith("epoch 1/1  loss")]
    assert {line.rstrip() for line in (shown.stdout + shown.stderr).splitlines()} <= set(logged)
    assert (own_process / "train.log").read_text().count("\nepoch ") == 4


def test_the_log_ends_with_the_error(workspace: Workspace) -> None:
    raw = workspace.directory / "broken_raw"
    raw.mkdir()
    (raw / "final_track1_train.txt").write_text("no columns\n")
    words = [*TINY, "dataset.source=raw", f"dataset.raw_dir={raw}", "hydra.run.dir=error_logged"]
    error = workspace.run("train", *words, status=2).stderr
    logged = (workspace.directory / "error_logged" / "train.log").read_text().splitlines()
    assert logged[-1] == error.splitlines()[-1]
    assert logged[-1].startswith("error: ")


def test_each_job_of_a_sweep_has_a_log(workspace: Workspace) -> None:
    workspace.run("train", "-m", *TINY, "trainer.max_epochs=1", "seed=1,2", "hydra.sweep.dir=logged_sweep")
    logs = sorted((workspace.directory / "logged_sweep").glob("*/train.log"))
    assert len(logs) == 2
    for log in logs:
        assert log.read_text().count("\nepoch ") == 1
        assert str(log.parent.name) in log.read_text()
