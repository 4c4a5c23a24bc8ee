"""With ``callbacks.checkpoint.per_task`` every task has the metrics of its own checkpoint, also after a resume."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stemlab.errors import StemlabError
from stemlab.metrics import auc
from stemlab.reporting.collect import Run
from stemlab.reporting.render import label_of
from stemlab.reporting.scores import load_scores
from stemlab.reporting.table import build_table
from tests.cli.commands import Workspace
from tests.cli.conftest import TINY, assert_same_weights
from tests.cli.test_train import rows

OWN = [
    *TINY,
    "callbacks.checkpoint.per_task=true",
    "save_scores=true",
    "callbacks.early_stop.enabled=false",
    "optim.lr=0.03",
]
EPOCHS = "trainer.max_epochs=4"
TASKS = ("finish", "like")


@pytest.fixture(scope="module")
def own_epochs(run_training: Callable[..., float], workspace: Workspace) -> Path:
    run_training("own_epochs", *OWN, EPOCHS)
    return workspace.directory / "own_epochs"


def checkpoints(record: dict) -> dict[str, str]:
    return {task: best["checkpoint"] for task, best in record["best"]["tasks"].items()}


def test_each_task_has_the_epoch_and_the_metrics_of_its_own_checkpoint(
    own_epochs: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    record = workspace.record("own_epochs")
    curves = [row for row in rows(own_epochs) if row["val/auc"]]
    epochs = {}
    for task in TASKS:
        values, best = [float(row[f"val/auc/{task}"]) for row in curves], record["best"]["tasks"][task]
        epochs[task] = values.index(max(values)) + 1
        assert (best["epoch"], best["monitor"]) == (epochs[task], f"val/auc/{task}")
        assert record["metrics"][f"val/auc/{task}"] == best["value"] == pytest.approx(max(values), rel=1e-6)
    assert len(set(epochs.values())) == 2  # or the test shows nothing
    for task in TASKS:
        workspace.run("evaluate", f"ckpt={own_epochs / checkpoints(record)[task]}", f"output={task}.json")
        found = json.loads((workspace.directory / f"{task}.json").read_text())
        assert found["record"].startswith("equal to the run record")
        assert found["metrics"][f"test/auc/{task}"] == record["metrics"][f"test/auc/{task}"]
        assert found["epoch"] == epochs[task]
    scores = load_scores(own_epochs)
    for task in TASKS:
        assert record["metrics"][f"test/auc/{task}"] == pytest.approx(auc(scores.labels(task), scores.prob(task)))
    means = record["metrics"]
    assert means["test/auc"] == pytest.approx(sum(means[f"test/auc/{task}"] for task in TASKS) / 2, abs=1e-15)


def test_a_resumed_run_selects_the_same_epochs(
    own_epochs: Path, run_training: Callable[..., float], workspace: Workspace
) -> None:
    run_training("own_half", *OWN, "trainer.max_epochs=2")
    run_training("own_resumed", *OWN, EPOCHS, f"ckpt_path={workspace.directory / 'own_half/checkpoints/last.ckpt'}")
    one, other = workspace.record("own_epochs"), workspace.record("own_resumed")
    assert (one["best"], one["metrics"], one["epochs_run"]) == (other["best"], other["metrics"], other["epochs_run"])
    for name in ("checkpoints/last.ckpt", *checkpoints(one).values()):
        assert_same_weights(own_epochs, workspace.directory / "own_resumed", Path(name).name)


def test_two_ranks_have_the_metrics_of_one_process(workspace: Workspace) -> None:
    workspace.run_two_ranks("train", *OWN, "trainer.max_epochs=2", "dataset.batch_size=64", "hydra.run.dir=own_in_two")
    record = workspace.record("own_in_two")
    for task, name in checkpoints(record).items():
        workspace.run("evaluate", f"ckpt=own_in_two/{name}", f"output=two_{task}.json")
        found = json.loads((workspace.directory / f"two_{task}.json").read_text())["metrics"]
        of_task = {name: value for name, value in found.items() if name.endswith(f"/{task}")}
        assert of_task == pytest.approx({name: record["metrics"][name] for name in of_task}, abs=1e-9, rel=0)


def test_the_choice_cannot_change_in_a_resumed_run(own_epochs: Path, run_training: Callable[..., float]) -> None:
    last = f"ckpt_path={own_epochs / 'checkpoints/last.ckpt'}"
    with pytest.raises(StemlabError, match=r"callbacks\.checkpoint\.per_task=True.* False"):
        run_training("own_changed", *OWN, EPOCHS, "callbacks.checkpoint.per_task=false", last)


def test_a_table_says_that_tasks_have_their_own_epochs(own_epochs: Path, workspace: Workspace, trained: Path) -> None:
    runs = [Run(path / "record.json", json.loads((path / "record.json").read_text())) for path in (own_epochs, trained)]
    table = build_table(runs, ["model"], ["auc"])
    marks = {label_of(row)[0]: row.runs[0].path.parent.name for row in table.rows}
    assert marks == {"stem (own epoch per task) SAMPLE": "own_epochs", "stem SAMPLE": "trained"}
