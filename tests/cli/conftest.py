"""A small dataset and a small finished run, made once per test process."""

import math
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from stemlab.config.compose import compose
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.train import train
from tests.cli.commands import Workspace
from tests.cli.sequences import write_folder

# 1,501 rows: divisible neither by the batch size nor by two ranks; likes are common enough for every metric to exist.
SMALL_DATA = [
    "dataset.sample.rows=1501",
    "dataset.sample.like_rate=0.3",
    "dataset.sample.users=60",
    "dataset.sample.items=50",
]
NET = ["model.net.embedding_dim=4", "model.net.tower_hidden_units=[8]"]
STEM = ["model.net.expert_hidden_units=[8]", "model.net.gate_hidden_units=[8]", "model.net.num_shared_experts=2"]
FAST = ["dataset.batch_size=128", "dataset.eval_batch_size=64", "dataset.min_count=3", "optim.lr=0.01"]
TINY = ["model=stem", "dataset=tiktok", *SMALL_DATA, *NET, *STEM, *FAST]
LONG = ["trainer.max_epochs=4", "callbacks.early_stop.enabled=false", "trainer.log_every_n_steps=1"]


@pytest.fixture(autouse=True)
def unchanged_process() -> Iterator[None]:
    """Training in this process makes torch deterministic and adds warning filters: undo both."""
    with warnings.catch_warnings():
        yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="session")
def trained(workspace: Workspace) -> Path:
    """Directory of a finished run of the command: four epochs of STEM."""
    workspace.run("train", *TINY, *LONG, "hydra.run.dir=trained")
    return workspace.directory / "trained"


@pytest.fixture
def diverges_at_10(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the training loss of multi-task models infinite for optim.lr=10, the largest learning rate allowed."""
    reduce_tasks = MultiTaskModule._reduce_tasks

    def infinite(self: MultiTaskModule, losses_T: torch.Tensor) -> torch.Tensor:
        return reduce_tasks(self, losses_T) * (math.inf if self.settings.optim.lr == 10 else 1)

    monkeypatch.setattr(MultiTaskModule, "_reduce_tasks", infinite)


@pytest.fixture(scope="session")
def sequences(workspace: Workspace) -> Workspace:
    """The same workspace with a dataset of sequences in ``folder``."""
    if not (workspace.directory / "folder").exists():
        write_folder(workspace.directory / "folder")
    return workspace


@pytest.fixture(scope="session")
def run_training(workspace: Workspace) -> Callable[..., float]:
    """Train through the Python interface into a directory of the workspace; returns the objective."""

    def run(name: str, *overrides: str) -> float:
        old = Path.cwd()
        os.chdir(workspace.directory)
        try:
            return train(compose("train", [*overrides, "logger=csv", f"hydra.run.dir={workspace.directory / name}"]))
        finally:
            os.chdir(old)

    return run


def weights(run: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / name, weights_only=True)["state_dict"]


def assert_same_weights(one: Path, other: Path, name: str = "last.ckpt") -> None:
    first, second = weights(one, name), weights(other, name)
    assert first.keys() == second.keys()
    different = [key for key in first if not torch.equal(first[key], second[key])]
    assert not different
