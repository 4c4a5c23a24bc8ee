"""A tiny world and a tiny run, made once; commands in real processes with a hard time limit."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stemlab.config.compose import compose
from stemlab.train import train
from tests.cli.sequences import write_folder

# 1,501 rows: neither batches nor processes divide them; likes are common enough for every metric to be defined.
WORLD = [
    "dataset.sample.rows=1501",
    "dataset.sample.like_rate=0.3",
    "dataset.sample.users=60",
    "dataset.sample.items=50",
]
NET = ["model.net.embedding_dim=4", "model.net.tower_hidden_units=[8]"]
STEM = ["model.net.expert_hidden_units=[8]", "model.net.gate_hidden_units=[8]", "model.net.num_shared_experts=2"]
FAST = ["dataset.batch_size=128", "dataset.eval_batch_size=64", "dataset.min_count=3", "optim.lr=0.01"]
TINY = ["model=stem", "dataset=tiktok", *WORLD, *NET, *STEM, *FAST]
SECONDS = 120


@pytest.fixture(autouse=True)
def unchanged_process() -> Iterator[None]:
    """Training in this process switches torch to deterministic algorithms and silences Lightning's advice."""
    with warnings.catch_warnings():
        yield
    torch.use_deterministic_algorithms(False)


def environment(home: Path) -> dict[str, str]:
    """One thread a process, and nobody logged in to W&B."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "STEMLAB_SWEEP", "PL_", "LOCAL_RANK"))}
    return {**kept, "OMP_NUM_THREADS": "1", "HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1"}


def heed_interrupts() -> None:
    """A test run in the background of a shell ignores interrupts, and its children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Workplace:
    """A directory in which commands run; they share the prepared data."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def start(self, command: str, *words: str, **variables: str) -> "subprocess.Popen[str]":
        arguments = [sys.executable, "-m", f"stemlab.{command}", *words]
        return subprocess.Popen(
            arguments,
            cwd=self.directory,
            env={**environment(self.directory), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=heed_interrupts,
        )

    def run(self, command: str, *words: str, status: int = 0, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end; it must leave with ``status`` and without a traceback where that is 2."""
        process = self.start(command, *words, **variables)
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            out, err = process.communicate()
            pytest.fail(f"{command} took more than {SECONDS} s\n{out}\n{err}")
        assert process.returncode == status, f"{command} {words}\n{out}\n{err}"
        if status == 2:
            assert "Traceback" not in err
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def record(self, run: str) -> dict[str, Any]:
        return json.loads((self.directory / run / "record.json").read_text())


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("workplace"))


@pytest.fixture(scope="session")
def trained(workplace: Workplace) -> Path:
    """Directory of a finished run: four epochs of STEM, by the command line, in one process."""
    workplace.run("train", *TINY, *LONG, "hydra.run.dir=trained")
    return workplace.directory / "trained"


@pytest.fixture(scope="session")
def sequences(workplace: Workplace) -> Workplace:
    """The same place, with a world of sequences in ``folder``."""
    write_folder(workplace.directory / "folder")
    return workplace


LONG = ["trainer.max_epochs=4", "callbacks.early_stop.enabled=false", "trainer.log_every_n_steps=1"]


@pytest.fixture(scope="session")
def here(workplace: Workplace) -> Callable[..., float]:
    """Train in this process (much faster than starting one); returns the objective."""

    def run(name: str, *words: str) -> float:
        old = Path.cwd()
        os.chdir(workplace.directory)
        try:
            return train(compose("train", [*words, "logger=csv", f"hydra.run.dir={workplace.directory / name}"]))
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
