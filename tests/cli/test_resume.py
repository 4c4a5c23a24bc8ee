"""A resumed run ends where an uninterrupted one ends, bit for bit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stemlab.errors import StemlabError
from tests.cli.commands import TIMEOUT_S, Workspace
from tests.cli.conftest import LONG, TINY, assert_same_weights
from tests.cli.test_train import rows, wait_for

TWO = ["trainer.max_epochs=2", *LONG[1:]]


@pytest.fixture(scope="module")
def half(workspace: Workspace, run_training: Callable[..., float]) -> Path:
    """The same run as ``trained``, ended after two of its four epochs."""
    run_training("half_way", *TINY, *TWO)
    return workspace.directory / "half_way"


def test_two_epochs_and_a_resume_equal_four(trained: Path, half: Path, run_training: Callable[..., float]) -> None:
    run_training("resumed", *TINY, *LONG, f"ckpt_path={half / 'checkpoints' / 'last.ckpt'}")
    resumed = trained.parent / "resumed"
    assert_same_weights(trained, resumed)
    assert_same_weights(trained, resumed, "best.ckpt")
    one, other = (json.loads((run / "record.json").read_text()) for run in (trained, resumed))
    assert one["metrics"] == other["metrics"]
    assert one["best"] == other["best"]
    assert other["epochs_run"] == 4
    assert [row["epoch"] for row in rows(resumed) if row["val/auc"]] == ["3", "4"]


def test_dropout_draws_the_same_masks_after_a_resume(run_training: Callable[..., float], workspace: Workspace) -> None:
    overrides = [*TINY, "model.net.net_dropout=0.3", "trainer.limit_train_batches=3"]
    run_training("drop_whole", *overrides, *LONG)
    run_training("drop_half", *overrides, *TWO)
    run_training(
        "drop_resumed", *overrides, *LONG, f"ckpt_path={workspace.directory / 'drop_half/checkpoints/last.ckpt'}"
    )
    assert_same_weights(workspace.directory / "drop_whole", workspace.directory / "drop_resumed")


@pytest.mark.process
def test_a_killed_run_is_resumed(trained: Path, workspace: Workspace, run_training: Callable[..., float]) -> None:
    process = workspace.fork("train", *TINY, *LONG, "trainer.max_epochs=100000", "hydra.run.dir=killed")
    wait_for(workspace.directory / "killed" / "checkpoints" / "last.ckpt")
    process.kill()
    process.communicate(timeout=TIMEOUT_S)
    # the epoch of the kill is not fixed: compare with a run of as many epochs
    last = workspace.directory / "killed" / "checkpoints" / "last.ckpt"
    epoch = torch.load(last, weights_only=True)["epoch"]
    total = epoch + 3
    run_training("killed_resumed", *TINY, *LONG, f"trainer.max_epochs={total}", f"ckpt_path={last}")
    run_training("never_killed", *TINY, *LONG, f"trainer.max_epochs={total}")
    for name in ("last.ckpt", "best.ckpt"):
        assert_same_weights(workspace.directory / "never_killed", workspace.directory / "killed_resumed", name)


def test_early_stopping_and_plateau_state_are_resumed(
    half: Path, run_training: Callable[..., float], workspace: Workspace
) -> None:
    """A monitored metric that never improves: patience 3 is exhausted across the interruption."""
    overrides = [*TINY, "trainer.limit_train_batches=1", "callbacks.early_stop.min_delta=1.0"]
    overrides += ["optim.plateau.threshold=1.0", "callbacks.early_stop.patience=3"]
    run_training("stop_whole", *overrides, "trainer.max_epochs=9")
    run_training("stop_half", *overrides, "trainer.max_epochs=2")
    last = workspace.directory / "stop_half/checkpoints/last.ckpt"
    run_training("stop_resumed", *overrides, "trainer.max_epochs=9", f"ckpt_path={last}")
    whole, resumed = workspace.directory / "stop_whole", workspace.directory / "stop_resumed"
    assert workspace.record("stop_whole")["epochs_run"] == workspace.record("stop_resumed")["epochs_run"] == 4
    assert workspace.record("stop_resumed")["best"]["epoch"] == 1  # its checkpoint was copied from the first run
    assert_same_weights(whole, resumed)
    assert_same_weights(whole, resumed, "best.ckpt")
    content = torch.load(resumed / "checkpoints/last.ckpt", weights_only=True)
    # the learning rate was reduced after epochs 2, 3 and 4: 0.01 * 0.1 ** 3
    assert content["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(1e-5)


def test_a_finished_run_can_be_resumed_into_its_record(
    trained: Path, run_training: Callable[..., float], workspace: Workspace
) -> None:
    """A run killed between its last epoch and its evaluation can still be evaluated."""
    run_training("finished", *TINY, *LONG, f"ckpt_path={trained / 'checkpoints' / 'last.ckpt'}")
    assert workspace.record("finished")["metrics"] == workspace.record("trained")["metrics"]


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("model.net.embedding_dim=8", "model.net.embedding_dim=4.* 8"),
        ("seed=1", "seed=2023.* 1"),
        ("dataset.split.seed=1", "prepared dataset"),
        ("dataset.batch_size=64", "dataset.batch_size=128.* 64"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    word: str, hint: str, half: Path, run_training: Callable[..., float]
) -> None:
    with pytest.raises(StemlabError, match=hint):
        run_training("refused_resume", *TINY, *TWO, f"ckpt_path={half / 'checkpoints' / 'last.ckpt'}", word)


def test_resuming_needs_the_best_checkpoint(half: Path, run_training: Callable[..., float], tmp_path: Path) -> None:
    shutil.copy(half / "checkpoints" / "last.ckpt", tmp_path / "last.ckpt")
    with pytest.raises(StemlabError, match=r"best\.ckpt"):
        run_training("alone", *TINY, *LONG, f"ckpt_path={tmp_path / 'last.ckpt'}")


def test_changed_settings_of_the_optimiser_take_effect_and_are_recorded(
    half: Path, run_training: Callable[..., float], workspace: Workspace
) -> None:
    words = ["optim.lr=0.003", "optim.betas=[0.8,0.99]", "optim.eps=1e-6", "optim.plateau.factor=0.5"]
    words += ["model.embedding_regularizer=0.25", "model.net_regularizer='l1(0.5)'", "optim.plateau.min_lr=1e-5"]
    words += ["trainer.limit_test_batches=1", "optim.clip_norm=null"]
    last = half / "checkpoints" / "last.ckpt"
    run_training("other_rate", *TINY, *LONG, "trainer.max_epochs=3", f"ckpt_path={last}", *words)
    content = torch.load(workspace.directory / "other_rate/checkpoints/last.ckpt", weights_only=True)
    tables, net = content["optimizer_states"][0]["param_groups"]
    assert (tables["betas"], tables["eps"], tables["l2"], net["l1"]) == ((0.8, 0.99), 1e-6, 0.25, 0.5)
    assert tables["lr"] in (0.003, pytest.approx(0.0015))  # reduced where the epoch did not improve
    assert (content["plateau"]["factor"], content["plateau"]["min_lrs"]) == (0.5, [1e-5, 1e-5])
    record = workspace.record("other_rate")
    assert record["config"]["optim"]["lr"] == 0.003
    (resumption,) = record["resumptions"]
    assert (resumption["checkpoint"], resumption["epoch"], resumption["step"]) == (str(last), 2, 20)
    assert resumption["changed"]["optim.lr"] == [0.01, 0.003]
    assert resumption["changed"]["trainer.max_epochs"] == [2, 3]


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("optim.exclude_bias_bn=true", "optim.exclude_bias_bn"),
        ("callbacks.checkpoint.monitor=val/gauc", "callbacks.checkpoint.monitor"),
        ("callbacks.early_stop.monitor=val/logloss", "callbacks.early_stop.monitor"),
        ("callbacks.paper_selection=true", "callbacks.paper_selection"),
        ("trainer.limit_train_batches=2", "trainer.limit_train_batches"),
        ("dataset.seed=5", "dataset.seed"),
        ("model.loss_reduction=mean", "model.loss_reduction"),
        ("trainer.max_epochs=1", "trainer.max_epochs"),
    ],
)
def test_settings_that_cannot_change_are_refused_by_name(
    word: str, key: str, half: Path, run_training: Callable[..., float]
) -> None:
    with pytest.raises(StemlabError, match=f"cannot resume .*{key}="):
        run_training("refused_resume", *TINY, *TWO, f"ckpt_path={half / 'checkpoints' / 'last.ckpt'}", word)


def test_a_used_directory_is_refused_resumed_left_alone_or_overwritten(
    trained: Path, half: Path, workspace: Workspace
) -> None:
    shutil.copytree(half, workspace.directory / "again_here")
    command = ["train", *TINY, *LONG, "hydra.run.dir=again_here", "logger=csv"]
    config = workspace.directory / "again_here/.hydra/config.yaml"
    error = workspace.run(*command, status=2).stderr
    assert all(word in error for word in ("again_here", "finished", "resume=auto", "overwrite=true"))
    assert not config.exists()  # refused before Hydra writes
    workspace.run(*command, "resume=auto")
    assert_same_weights(trained, workspace.directory / "again_here")
    record = workspace.record("again_here")
    assert record["metrics"] == workspace.record("trained")["metrics"]
    assert [entry["step"] for entry in record["resumptions"]] == [20]
    done = workspace.run(*command, "resume=must")
    assert "nothing is left to do" in done.stdout + done.stderr
    assert workspace.record("again_here") == record
    workspace.run(*command, "overwrite=true", "trainer.max_epochs=1")
    assert workspace.record("again_here")["resumptions"] == []
    assert workspace.record("again_here")["epochs_run"] == 1
