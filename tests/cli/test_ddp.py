"""Two ranks through the command: the same evaluation and, with half the batch size, the same training as one."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stemlab.reporting.scores import TaskScores, load_scores
from tests.cli.commands import Workspace
from tests.cli.conftest import TINY, weights

pytestmark = [pytest.mark.ddp]

SHORT = ["trainer.max_epochs=2", "callbacks.early_stop.enabled=false", "trainer.limit_train_batches=4"]


def metrics(path: Path) -> dict[str, float]:
    return json.loads(path.read_text())["metrics"]


def test_two_ranks_evaluate_like_one(trained: Path, workspace: Workspace) -> None:
    """151 rows in 17 batches: neither is even."""
    best = trained / "checkpoints" / "best.ckpt"
    workspace.run_two_ranks("evaluate", f"ckpt={best}", "output=two.json")
    one, two = json.loads((trained / "record.json").read_text())["metrics"], metrics(workspace.directory / "two.json")
    assert set(two) == {name for name in one if name.startswith("test/")}
    assert two == pytest.approx({name: one[name] for name in two}, abs=1e-9, rel=0)


@pytest.fixture(scope="module")
def in_two(workspace: Workspace) -> Path:
    overrides = [*TINY, *SHORT, "dataset.batch_size=64", "save_scores=true"]
    workspace.run_two_ranks("train", *overrides, "hydra.run.dir=in_two")
    return workspace.directory / "in_two"


def test_one_process_reproduces_the_record_of_two_ranks(in_two: Path, workspace: Workspace) -> None:
    record = workspace.record("in_two")
    assert record["hardware"]["processes"] == 2
    assert record["epochs_run"] == 2
    assert (record["engine"]["loop"], record["engine"]["direct_steps"]) == ("direct", 4)  # half of the steps log
    of_two = load_scores(in_two)
    workspace.run("evaluate", "ckpt=in_two/checkpoints/best.ckpt", "output=one.json", "save_scores=true")
    of_one = load_scores(in_two)
    assert record["scores"]["fingerprint"] == of_two.fingerprint == of_one.fingerprint
    assert isinstance(of_one, TaskScores)
    assert isinstance(of_two, TaskScores)
    np.testing.assert_array_equal(of_two.row_B, np.arange(151))
    np.testing.assert_array_equal(of_two.labels_BT, of_one.labels_BT)
    np.testing.assert_allclose(of_two.prob_BT, of_one.prob_BT, atol=1e-6)
    one = metrics(workspace.directory / "one.json")
    assert len(one) == 17
    assert one == pytest.approx({name: record["metrics"][name] for name in one}, abs=1e-9, rel=0)


def test_two_ranks_with_half_the_batch_train_like_one(
    in_two: Path, run_training: Callable[..., float], workspace: Workspace
) -> None:
    """Each step sees the same samples; the uneven last steps of an epoch are left out."""
    run_training("in_one", *TINY, *SHORT, "dataset.batch_size=128")
    for name, value in weights(workspace.directory / "in_one").items():
        assert weights(in_two)[name].numpy() == pytest.approx(value.numpy(), abs=2e-5), name


def test_two_ranks_write_one_set_of_files(in_two: Path) -> None:
    names = {str(path.relative_to(in_two)) for path in in_two.rglob("*") if path.is_file()}
    assert {name for name in names if not name.startswith((".hydra/", "train"))} == {
        "record.json",
        "metrics.csv",
        "test_scores_of_best.npz",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    }
