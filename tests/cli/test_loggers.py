"""Loggers: W&B never prompts, connects only after a login, and keeps one run per job."""

import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytorch_lightning.loggers import CSVLogger

from stemlab.config.compose import compose
from stemlab.config.resolve import flatten
from stemlab.reporting.reliability import measure_reliability
from stemlab.reporting.scores import TaskScores, load_scores
from stemlab.runs import wandb_logger
from stemlab.runs.loggers import build_loggers, finish_loggers
from stemlab.runs.mlflow_logger import mlflow_name
from stemlab.runs.wandb_artifacts import log_artifacts, save_run_id, saved_run_id
from stemlab.runs.wandb_logger import WANDB_OFF_HINT, wandb_logged_in, wandb_mode
from stemlab.train import train
from tests.cli.commands import Workspace, environment
from tests.cli.conftest import TINY
from tests.cli.test_train import rows
from tests.runs.wandb_file import WandbRun, read_wandb

SHORT = ["trainer.max_epochs=2", "callbacks.early_stop.enabled=false", "trainer.log_every_n_steps=1"]
KEY = "0123456789" * 4  # the form of a key; no account


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give the test a home directory without credentials and block connections to other machines."""
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    real = socket.socket.connect

    def connect(self: socket.socket, address: object) -> None:
        assert isinstance(address, str) or address[0] in ("127.0.0.1", "::1", "localhost"), f"connects to {address}"
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    return tmp_path


@pytest.fixture(scope="module")
def offline(workspace: Workspace) -> tuple[WandbRun, Path]:
    """An offline run in the run directory: ``logger=wandb`` without a login."""
    words = ["tags=[paper,tiny]", "logger=wandb", "logger.wandb_artifacts=true", "save_scores=true"]
    workspace.run_forked("train", *TINY, *SHORT, *words, "hydra.run.dir=offline")
    (file,) = (workspace.directory / "offline").glob("wandb/offline-run-*/run-*.wandb")
    return read_wandb(file), workspace.directory / "offline"


def test_offline_run_has_project_name_and_tags(offline: tuple[WandbRun, Path]) -> None:
    run, _ = offline
    assert (run.project, run.name, run.job_type) == ("stemlab", "tiktok/stem/seed2023", "train")
    assert set(run.tags) == {"stem", "tiktok", "seed2023", "paper", "tiny", "SAMPLE"}
    assert run.exit_code == 0


def test_offline_run_has_the_flattened_config(offline: tuple[WandbRun, Path]) -> None:
    run, directory = offline
    config = json.loads((directory / "record.json").read_text())["config"]
    flat = flatten(config)
    assert {key: value for key, value in run.config.items() if not key.startswith("_")} == flat
    assert run.config["model.net.embedding_dim"] == 4
    assert run.config["optim.lr"] == 0.01


def test_offline_run_has_the_curves_of_the_csv(offline: tuple[WandbRun, Path]) -> None:
    run, directory = offline
    result = rows(directory)
    for name in ("train/loss", "train/loss/like", "train/lr", "train/grad_norm", "val/auc", "val/auc/like", "val/ece"):
        curve = [float(row[name]) for row in result if row[name]]
        assert len(curve) == (2 if name.startswith("val") else 20)
        assert run.curve(name) == curve
    steps = [row["trainer/global_step"] for row in run.history]
    assert steps == sorted(steps)


def test_offline_summary_is_the_best_epoch(offline: tuple[WandbRun, Path]) -> None:
    run, directory = offline
    record = json.loads((directory / "record.json").read_text())
    metrics = record["metrics"]
    assert {name: run.summary[name] for name in metrics} == metrics
    parameters = record["parameters"]
    assert run.summary["cost/parameters"] == parameters["dense"] + parameters["embedding"]
    assert run.summary["cost/memory_mb"] == pytest.approx(record["memory"]["peak_rss_bytes"] / 1e6, rel=1e-4)
    assert 0 < run.summary["cost/seconds_to_best"] <= run.summary["cost/seconds"]
    assert run.summary["cost/samples_per_s"] > 0


def test_offline_run_has_the_reliability_of_the_saved_scores(offline: tuple[WandbRun, Path]) -> None:
    run, directory = offline
    (file,) = directory.glob(f"wandb/offline-run-*/files/{run.summary['reliability_table.path']}")
    table = json.loads(file.read_text())
    assert table["columns"] == ["step", "lineKey", "lineVal"]
    scores = load_scores(directory)
    assert isinstance(scores, TaskScores)
    for task in scores.tasks:
        expected = measure_reliability(scores, task, "stem", 2023)
        lines = [(step, value) for step, key, value in table["data"] if key == task]
        assert lines == list(zip(expected.predicted_N.tolist(), expected.observed_N.tolist(), strict=True))


def train_with(logger: str, workspace: Workspace, *words: str) -> Path:
    """Train the run of ``offline`` with another logger, in this process; return its directory."""
    directory = workspace.directory / f"logged_{logger}"
    config = compose("train", [*TINY, *SHORT, f"logger={logger}", *words, f"hydra.run.dir={directory}"])
    config["dataset"]["data_dir"] = str(workspace.directory / "data")
    train(config)
    return directory


Curves = dict[str, list[tuple[int, float]]]


@pytest.fixture(scope="module")
def tensorboard_curves(workspace: Workspace, run_training: Callable[..., float]) -> Curves:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(train_with("tensorboard", workspace) / "tensorboard")).Reload()
    return {name: [(x.step, x.value) for x in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.fixture(scope="module")
def mlflow_run(workspace: Workspace, run_training: Callable[..., float]) -> tuple[Any, Curves]:
    """The MLflow run and its curves by their names in MLflow."""
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    store = workspace.directory / "mlruns"
    train_with("mlflow", workspace, f"logger.mlflow_uri={store}")
    client = MlflowClient(str(store))
    (run,) = client.search_runs([client.get_experiment_by_name("stemlab").experiment_id])
    histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return run, {name: [(x.step, x.value) for x in sorted(h, key=lambda x: x.step)] for name, h in histories.items()}


def test_wandb_tensorboard_and_mlflow_get_the_same_metrics(
    offline: tuple[WandbRun, Path], tensorboard_curves: Curves, mlflow_run: tuple[Any, Curves], workspace: Workspace
) -> None:
    history = [row for row in offline[0].history if "trainer/global_step" in row]
    charts = ("trainer/global_step", "reliability_table")
    names = {name for row in history for name in row if not name.startswith(("_", *charts))}
    curves = {name: [(row["trainer/global_step"], row[name]) for row in history if name in row] for name in names}
    assert {"train/loss", "val/auc", "val/auc/like", "test/auc", "epoch"} <= names
    board = {name: curve for name, curve in tensorboard_curves.items() if name != "hp_metric"}
    flow = mlflow_run[1]
    assert set(board) == names
    assert set(flow) == {mlflow_name(name) for name in names}
    for logger in ("tensorboard", "mlflow"):  # metrics.csv is written beside them
        result = rows(workspace.directory / f"logged_{logger}")
        assert [float(row["val/auc"]) for row in result if row["val/auc"]] == [value for _, value in curves["val/auc"]]
    for name in names - {"epoch"}:  # logged with every group of metrics: W&B joins groups of one step in a row
        expected = pytest.approx([value for _, value in curves[name]], nan_ok=True)
        assert [value for _, value in board[name]] == expected, name
        assert [value for _, value in flow[mlflow_name(name)]] == expected, name
        assert (
            [step for step, _ in board[name]]
            == [step for step, _ in flow[mlflow_name(name)]]
            == [step for step, _ in curves[name]]
        )


def test_offline_run_has_the_checkpoint_as_an_artifact(offline: tuple[WandbRun, Path]) -> None:
    run, directory = offline
    record = json.loads((directory / "record.json").read_text())
    kind, aliases, metadata, files = run.artifacts[f"checkpoint-{run.id}"]
    assert (kind, files) == ("model", ["best.ckpt"])
    assert "best" in aliases
    assert metadata["dataset_fingerprint"] == record["dataset_fingerprint"]
    assert metadata["metrics"]["test/auc"] == record["metrics"]["test/auc"]
    assert metadata["stage1"] is None


def test_a_resumed_training_continues_its_wandb_run(no_credentials: Path, tmp_path: Path) -> None:
    config = compose("train", [*TINY, "logger=wandb", f"hydra.run.dir={tmp_path}"])
    for _ in range(2):
        loggers = build_loggers(config, tmp_path, sample=True, sweep_id=None)
        finish_loggers(loggers, failed=False)
    runs = [read_wandb(path) for path in tmp_path.glob("wandb/offline-run-*/run-*.wandb")]
    assert {run.id for run in runs} == {saved_run_id(tmp_path)}


def test_inputs_of_a_second_stage_are_its_data_and_the_first_stage(tmp_path: Path) -> None:
    used: list[object] = []
    run = SimpleNamespace(offline=False, id="second", use_artifact=used.append, log_artifact=lambda *_, **__: None)
    save_run_id(tmp_path / "first", "pretrain1")
    (tmp_path / "best.ckpt").write_bytes(b"weights")
    record = {"config": {"dataset": {"name": "ml1m"}}, "dataset_fingerprint": "abc", "config_hash": "1", "metrics": {}}
    record |= {"sample": False, "stage1": {"directory": str(tmp_path / "first"), "config_hash": "0"}}
    log_artifacts(run, record, tmp_path / "best.ckpt")
    data, first = used
    assert (data.name, data.type, data.metadata["fingerprint"]) == ("data-ml1m", "dataset", "abc")
    assert first == "checkpoint-pretrain1:best"


def test_mlflow_run_has_name_settings_tags_and_test_metrics(
    mlflow_run: tuple[Any, Curves], workspace: Workspace
) -> None:
    run, _ = mlflow_run
    assert (run.info.run_name, run.info.status) == ("tiktok/stem/seed2023", "FINISHED")
    assert (run.data.params["optim.lr"], run.data.tags["SAMPLE"]) == ("0.01", "true")
    record = json.loads((workspace.directory / "logged_mlflow" / "record.json").read_text())
    assert run.data.metrics["test.auc"] == record["metrics"]["test/auc"]


def test_without_a_logger_there_is_still_a_record(workspace: Workspace) -> None:
    config = compose(
        "train", [*TINY, "trainer.max_epochs=1", "logger=none", f"hydra.run.dir={workspace.directory}/none"]
    )
    config["dataset"]["data_dir"] = str(workspace.directory / "data")
    train(config)
    assert {path.name for path in (workspace.directory / "none").iterdir()} == {"checkpoints", "record.json"}


def test_auto_logs_to_csv_and_hints_at_wandb_once(workspace: Workspace) -> None:
    result = workspace.run(
        "train", *TINY, "trainer.max_epochs=1", "trainer.limit_train_batches=1", "hydra.run.dir=auto"
    )
    assert (result.stdout + result.stderr).count(WANDB_OFF_HINT) == 1
    assert not (workspace.directory / "auto" / "wandb").exists()
    assert (workspace.directory / "auto" / "metrics.csv").is_file()


def test_without_credentials_there_is_no_login(no_credentials: Path) -> None:
    assert not wandb_logged_in()
    assert wandb_mode("auto") is None
    assert wandb_mode("on") == "offline"
    assert wandb_mode("off") is None
    assert "WANDB_MODE" not in os.environ


def test_a_key_in_the_environment_is_a_login(no_credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert wandb_logged_in()
    assert wandb_mode("auto") == wandb_mode("on") == "online"
    assert wandb_mode("off") is None


def test_netrc_is_a_login(no_credentials: Path) -> None:
    (no_credentials / ".netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    (no_credentials / ".netrc").chmod(stat.S_IRUSR)
    assert wandb_logged_in()


@pytest.mark.parametrize(("result", "auto", "on"), [("offline", "offline", "offline"), ("disabled", None, None)])
def test_wandb_mode_is_obeyed(
    result: str, auto: str | None, on: str | None, no_credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", result)
    assert (wandb_mode("auto"), wandb_mode("on")) == (auto, on)
    assert os.environ["WANDB_MODE"] == result


def test_a_malformed_key_is_no_login(no_credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short")
    assert wandb_mode("auto") is None


def test_an_unreachable_server_gives_an_offline_run(
    no_credentials: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import wandb

    begun: list[str] = []

    def init(mode: str, **settings: object) -> object:
        begun.append(mode)
        if mode == "online":
            raise wandb.errors.CommError("no answer")
        return type("Run", (), {"dir": str(tmp_path / "x" / "files")})()

    monkeypatch.setattr(wandb, "init", init)
    wandb_logger._init_run({"project": "p"}, "online")
    assert begun == ["online", "offline"]


def test_csv_has_no_version_directories(no_credentials: Path, tmp_path: Path) -> None:
    config = compose("train", [*TINY, "logger=csv"])
    (logger,) = build_loggers(config, tmp_path / "run", sample=True, sweep_id=None)
    assert isinstance(logger, CSVLogger)
    assert Path(logger.log_dir) == tmp_path / "run"


def test_the_tests_run_without_credentials(workspace: Workspace) -> None:
    assert not any(name.startswith("WANDB") for name in environment(workspace.directory))
