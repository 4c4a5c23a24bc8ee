"""``analysis=transfer``: gains, gradient cosines and gate weights of given runs; missing runs are trained."""

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from stemlab.analysis import train_missing
from stemlab.analysis.runs import AnalysedRun
from stemlab.analysis.transfer.analysis import Transfer
from stemlab.analysis.transfer.logged_curves import logged_conflicts
from stemlab.analyze import analyze
from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.train import train
from tests.cli.commands import Workspace
from tests.cli.conftest import SMALL_DATA

DATA = ["dataset=tiktok", *SMALL_DATA, "dataset.batch_size=128", "dataset.eval_batch_size=64", "dataset.min_count=3"]
NET = "model.net.embedding_dim:4,model.net.tower_hidden_units:[8],model.net.bottom_hidden_units:[8]"
TRAIN = f"train={{trainer.max_epochs:2,optim.lr:0.01,logger:csv,{NET}}}"
OVERRIDES = ["analysis=transfer", "models=[shared_bottom]", *DATA, TRAIN, "analysis.buckets=2", "analysis.resamples=20"]


def in_this_process(arguments: list[str]) -> int:
    """Train a job in the test process, which is much faster than starting one."""
    job = json.loads(Path(arguments[-1]).read_text())
    train(job["config"], job["overrides"])
    return 0


def run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> tuple[Path, str]:
    """Return the folder of the results, and the standard output."""
    monkeypatch.chdir(workspace.directory)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        folder = analyze(compose("analyze", [*OVERRIDES, *overrides]))
    return folder, output.getvalue()


@pytest.fixture(scope="module")
def done(workspace: Workspace) -> Iterator[tuple[Path, str]]:
    """Folder of the results and standard output of the first command."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(train_missing, "run_process_group", in_this_process)
        found = run(workspace, monkeypatch, "output=transfer")
    yield found
    torch.use_deterministic_algorithms(False)


def numbers(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())["sections"]["transfer"]["numbers"]


def test_missing_runs_are_trained_including_single_task_baselines(done: tuple[Path, str], workspace: Workspace) -> None:
    folder, output = done
    assert "0 of 3" in output
    assert "shared_bottom (3 of 3)" in output
    runs = json.loads((folder / "results.json").read_text())["runs"]
    assert [run["label"] for run in runs] == ["single_task finish", "single_task like", "shared_bottom"]
    for run in (workspace.directory / "runs/transfer/tiktok").iterdir():
        record = json.loads((run / "record.json").read_text())
        assert record["status"] == "finished"
        assert run.name.endswith(record["config_hash"])
        assert record["config"]["trainer"]["max_epochs"] == 2


def test_finished_runs_are_reused_and_interrupted_ones_resumed(
    done: tuple[Path, str], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The missing run is trained in a process of its own."""
    place = workspace.directory / "runs/transfer/tiktok"
    before = {path: path.stat().st_mtime_ns for path in place.glob("*/record.json")}
    half = next(place.glob("shared_bottom-*"))
    record = json.loads((half / "record.json").read_text())
    (half / "record.json").write_text(json.dumps(record | {"status": "interrupted"}))
    _, again = run(workspace, monkeypatch, "output=transfer_again")
    assert "2 of 3" in again
    after = {path: path.stat().st_mtime_ns for path in place.glob("*/record.json")}
    kept = [path for path in before if "single_task" in path.parent.name]
    assert len(kept) == 2
    assert all(before[path] == after[path] for path in kept)
    aside = half.with_name(f"{half.name}.part1")
    resumed = json.loads((half / "record.json").read_text())
    assert resumed["config"]["ckpt_path"] == str(aside / "checkpoints" / "last.ckpt")
    assert numbers(workspace.directory / "transfer_again")["tasks"] == numbers(done[0])["tasks"]


def test_gains_are_differences_of_auc(done: tuple[Path, str]) -> None:
    result = numbers(done[0])["tasks"]["finish"]["models"]
    assert list(result) == ["single_task finish", "shared_bottom"]
    runs = json.loads((done[0] / "results.json").read_text())["runs"]
    records = done[0].parent / "runs/transfer/tiktok"
    auc_of = {
        run["label"]: json.loads((records / run["run"] / "record.json").read_text())["metrics"]["test/auc/finish"]
        for run in runs
        if run["label"] in result
    }
    for label, value in auc_of.items():
        assert result[label]["all"]["auc"] == pytest.approx(value, abs=1e-6)
    joint = result["shared_bottom"]["all"]
    assert joint["gain"] == pytest.approx(auc_of["shared_bottom"] - auc_of["single_task finish"], abs=1e-6)
    assert joint["low"] <= joint["high"]
    assert sum(cell["rows"] for name, cell in result["shared_bottom"].items() if name != "all") == joint["rows"]
    with (done[0] / "gain.csv").open() as file:
        rows = {row["model: task"]: row for row in csv.DictReader(file)}
    assert float(rows["shared_bottom: finish"]["all"]) == pytest.approx(1000 * joint["gain"])


def test_gradient_cosines_and_their_curve(done: tuple[Path, str], workspace: Workspace) -> None:
    inside = numbers(done[0])["interiors"]["shared_bottom"]
    assert inside["gates"] == []
    assert -1 <= inside["gradient_cosine"]["finish-like"]["tables"] <= 1
    parts = (workspace.directory / "runs/transfer/tiktok").glob("shared_bottom-*")  # it may have been set aside
    curves = {curve.name: curve for run in parts for curve in logged_conflicts("x", run)}
    assert curves.keys() == {"finish-like/tables", "finish-like/experts"}
    assert numbers(done[0])["conflicts_by_epoch"][0]["epochs"] == [1, 2]
    assert (done[0] / "conflict.png").is_file()
    assert logged_conflicts("x", workspace.directory) == []


def test_buckets_are_formed_by_training_counts(done: tuple[Path, str], workspace: Workspace) -> None:
    config = compose("analyze", ["analysis=transfer"])
    run = next((workspace.directory / "runs/transfer/tiktok").glob("single_task_like-*"))
    data = AnalysedRun(run, config).datamodule
    settings = {"rows": 9, "resamples": 2, "confidence": 0.9, "seed": 0}
    names, bucket_R = Transfer(name="transfer", entity=None, buckets=2, **settings).split(data)
    train, test = (data.store(split).ids[:, 0] for split in ("train", "test"))
    count_R = np.bincount(train, minlength=data.spec.field_sizes["uid"])[test]
    assert count_R[bucket_R == 0].max() <= count_R[bucket_R == 1].min()
    assert names[0] == f"F1 ({count_R[bucket_R == 0].min()}-{count_R[bucket_R == 0].max()})"


def test_given_runs_report_gate_weights(done: tuple[Path, str], workspace: Workspace, trained: Path) -> None:
    single = sorted((workspace.directory / "runs/transfer/tiktok").glob("single_task_*"))
    overrides = [f"runs=[{','.join(map(str, [*single, trained]))}]", f"output={workspace.directory / 'named'}"]
    folder = analyze(
        compose("analyze", ["analysis=transfer", "analysis.buckets=2", "analysis.resamples=5", *overrides])
    )
    (layer,) = numbers(folder)["interiors"]["stem"]["gates"]
    assert layer.keys() == {"finish", "like"}
    assert sum(layer["like"].values()) == pytest.approx(1, abs=1e-6)
    assert 1 <= numbers(folder)["interiors"]["stem"]["experts_in_use"][0] <= 3
    assert (folder / "gates_1.csv").is_file()


@pytest.mark.parametrize(
    ("overrides", "hint"),
    [
        (["models=[ple]"], r"^models=.*dataset=<name>"),
        (["dataset=tiktok"], r"^dataset=.*models"),
        (["train={optim.lr:0.1}"], r"^train=.*models"),
        (["dataset=tiktok", "models=[plee]"], "plee"),
        (["dataset=tiktok", "models=[ple]", "train={optim.lrr:0.1}"], "lrr"),
        (["dataset=tiktok", "models=[ple]", "train={optim.lr:-1}"], r"optim\.lr=-1"),
        (["dataset=ml1m", "models=[ple]"], "tasks"),
        (
            ["analysis.entity=uidd", "run=trained"],
            "single-task runs.* 0 single",
        ),
    ],
)
def test_errors_are_one_sentence_and_train_nothing(
    overrides: list[str], hint: str, trained: Path, tmp_path: Path
) -> None:
    overrides = [word.replace("run=trained", f"run={trained}") for word in overrides]
    with pytest.raises(StemlabError, match=hint) as refused:
        analyze(compose("analyze", ["analysis=transfer", f"paths.runs_dir={tmp_path}", *overrides]))
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_another_config_is_not_reused(workspace: Workspace, done: tuple[Path, str], tmp_path: Path) -> None:
    run = next((workspace.directory / "runs/transfer/tiktok").glob("single_task_like-*"))
    record = json.loads((run / "record.json").read_text())
    job = record["config"]
    assert train_missing.is_finished(run, job)
    assert not train_missing.is_finished(run, job | {"seed": 1})
    copy = tmp_path / run.name
    shutil.copytree(run, copy)
    (copy / "checkpoints" / "best.ckpt").unlink()
    assert not train_missing.is_finished(copy, job)
