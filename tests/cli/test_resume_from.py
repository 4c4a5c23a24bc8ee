"""``resume_from``: all settings of an earlier run; typed ones are obeyed or refused by name."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stemlab.config.compose import compose
from stemlab.config.dotted_keys import node_of, value_at
from stemlab.errors import StemlabError
from stemlab.runs.resume_from import resumed_config
from tests.cli.commands import Workspace
from tests.cli.conftest import LONG, TINY, assert_same_weights

EVIL = "evilmod.Data"


@pytest.fixture(scope="module")
def half(workspace: Workspace, run_training: Callable[..., float]) -> Path:
    run_training("from_half", *TINY, *LONG, "trainer.max_epochs=2")
    return workspace.directory / "from_half"


def test_a_run_is_resumed_with_all_its_settings(trained: Path, half: Path, workspace: Workspace) -> None:
    """The run has settings that the default model lacks and others than the defaults."""
    words = [f"resume_from={half}", "trainer.max_epochs=4", "trainer=cpu", "callbacks.early_stop.patience=9"]
    workspace.run("train", *words, "hydra.run.dir=from_resumed")
    assert_same_weights(trained, workspace.directory / "from_resumed")
    record = workspace.record("from_resumed")
    assert record["metrics"] == workspace.record("trained")["metrics"]
    assert record["config"]["model"]["net"]["embedding_dim"] == 4
    assert record["config"]["callbacks"]["early_stop"]["patience"] == 9
    assert record["config"]["paths"]["output_dir"] == str(workspace.directory / "from_resumed")
    assert record["overrides"][:2] == words[:2]
    (resumption,) = record["resumptions"]
    assert resumption["checkpoint"] == str(half / "checkpoints/last.ckpt")
    assert resumption["changed"]["trainer.max_epochs"] == [2, 4]
    done = workspace.run("train", *words, "hydra.run.dir=from_resumed", "resume=auto")
    assert "nothing is left to do" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("model.net.embedding_dim=8", "model.net.embedding_dim=8 .*4"),
        ("model=ple", "model"),
        ("dataset=ml1m", "dataset"),
        ("optim=ranking", "optim"),
        ("experiment=tiktok/stem", "experiment"),
        ("seed=4", "seed=4 .*2023"),
        ("optim.learning_rate=1", "optim.learning_rate"),
        ("optim.lr=fast", "optim.lr"),
        ("optim.lr=1,2", "optim.lr=1,2"),
        ("~optim.lr", "optim.lr"),
        ("trainer=tpu", "trainer=tpu.*cpu, ddp"),
    ],
)
def test_settings_that_cannot_change_are_refused_by_name(
    word: str, hint: str, half: Path, workspace: Workspace
) -> None:
    error = workspace.run("train", f"resume_from={half}", word, "hydra.run.dir=from_refused", status=2).stderr
    assert re.search(hint, error), error
    assert not (workspace.directory / "from_refused").exists()


def test_settings_that_are_newer_than_the_run_have_their_defaults(half: Path, tmp_path: Path) -> None:
    newer = ("trainer.loop", "callbacks.checkpoint.per_task", "optim.ema", "logger.mlflow")
    content = torch.load(half / "checkpoints/last.ckpt", weights_only=True)
    for key in newer:
        node, name = node_of(content["hyper_parameters"]["config"], key)
        del node[name]
    torch.save(content, tmp_path / "last.ckpt")
    config = compose("train", [f"resume_from={tmp_path / 'last.ckpt'}"])
    found = resumed_config(config, ["trainer.loop=lightning"])
    assert [value_at(found, key) for key in newer] == ["lightning", False, None, False]
    with pytest.raises(StemlabError, match=r"optim\.ema=0\.9"):
        resumed_config(config, ["optim.ema=0.9"])
    content["hyper_parameters"]["config"]["trainer"]["strategy"] = "auto"  # removed since
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(StemlabError, match=r"another version.*trainer\.strategy=auto"):
        resumed_config(config, [])


def test_a_missing_run_is_refused(workspace: Workspace) -> None:
    assert "nowhere" in workspace.run("train", "resume_from=nowhere", status=2).stderr
    (workspace.directory / "empty_run").mkdir()
    assert "no checkpoint" in workspace.run("train", "resume_from=empty_run", status=2).stderr


def test_a_class_outside_stemlab_needs_allow(
    half: Path, workspace: Workspace, run_training: Callable[..., float]
) -> None:
    shutil.copytree(half, workspace.directory / "from_evil")
    path = workspace.directory / "from_evil/checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["config"]["dataset"]["_target_"] = EVIL
    torch.save(content, path)
    shutil.copy(path, path.with_name("best.ckpt"))
    error = workspace.run("train", f"resume_from={path.parent.parent}", status=2).stderr
    assert EVIL in error
    assert "allow=[evilmod]" in error
    with pytest.raises(StemlabError, match=r"evilmod"):
        run_training("from_evil_too", f"resume_from={path}")
