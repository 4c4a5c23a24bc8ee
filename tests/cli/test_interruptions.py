"""A training that a signal ends in any phase resumes exactly: the signal is sent by a patched step of the module."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stemlab.data.sources.tiktok import TiktokDataModule
from stemlab.errors import Interrupted, StemlabError
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.sequential import SequentialModule
from tests.cli.commands import Workspace
from tests.cli.conftest import LONG, TINY, assert_same_weights
from tests.cli.sequences import SASREC

DROPOUT = [*TINY, *LONG, "trainer.max_epochs=3", "model.net.net_dropout=0.3"]
RANKED = [*SASREC, "trainer.max_epochs=3", "model.net.dropout=0.3"]
METHODS = {"training": "training_step", "validation": "validation_step", "test": "test_step"}


@pytest.fixture(scope="module")
def whole(workspace: Workspace, run_training: Callable[..., float]) -> Path:
    run_training("dropout_whole", *DROPOUT)
    return workspace.directory / "dropout_whole"


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Let the n-th call of a method send a signal to this process."""

    def patch(owner: type, method: str, call: int, number: int = signal.SIGTERM) -> None:
        original, calls = getattr(owner, method), [0]

        def patched(self: Any, *arguments: Any) -> Any:
            calls[0] += 1
            if calls[0] == call:
                os.kill(os.getpid(), number)
            return original(self, *arguments)

        monkeypatch.setattr(owner, method, patched)

    yield patch
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("phase", "call", "step"),
    [
        ("training", 1, 1),  # the first step of all
        ("training", 15, 15),
        ("training", 20, 20),  # the last step of an epoch
        ("validation", 20, 20),  # in the second epoch: 16 batches each
        ("validation", 50, 30),  # after the training
        ("test", 3, 30),
    ],
)
def test_a_terminated_training_resumes_exactly(
    phase: str,
    call: int,
    step: int,
    whole: Path,
    workspace: Workspace,
    run_training: Callable[..., float],
    send: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"ended_{phase}_{call}"
    send(MultiTaskModule, METHODS[phase], call)
    with pytest.raises(Interrupted) as caught:
        run_training(name, *DROPOUT)
    assert caught.value.status == 143
    assert f"hydra.run.dir={workspace.directory / name} resume=auto" in caught.value.advice
    assert workspace.record(name)["status"] == "interrupted"
    monkeypatch.undo()
    run_training(name, *DROPOUT, "resume=must")
    record = workspace.record(name)
    assert record["metrics"] == workspace.record("dropout_whole")["metrics"]
    assert record["best"] == workspace.record("dropout_whole")["best"]
    assert [entry["step"] for entry in record["resumptions"]] == [step]
    assert_same_weights(whole, workspace.directory / name)
    assert_same_weights(whole, workspace.directory / name, "best.ckpt")


def test_several_interruptions_leave_no_trace_in_a_sequential_model(
    sequences: Workspace, run_training: Callable[..., float], send: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training("ranked_whole", *RANKED)
    for method, call, number in (("training_step", 2, signal.SIGTERM), ("validation_step", 3, signal.SIGINT)):
        send(SequentialModule, method, call, number)
        with pytest.raises(Interrupted) as caught:
            run_training("ranked_parts", *RANKED, "resume=auto")
        assert caught.value.status == 128 + number
        monkeypatch.undo()
    with pytest.raises(StemlabError, match=r"cannot resume .*trainer\.devices=1"):
        run_training("ranked_parts", *RANKED, "resume=auto", "trainer.devices=2")
    assert sequences.record("ranked_parts")["status"] == "interrupted"  # a refused attempt leaves the record
    assert sequences.record("ranked_parts")["config"]["trainer"]["max_epochs"] == 3
    run_training("ranked_parts", *RANKED, "resume=auto")
    assert len(sequences.record("ranked_parts")["resumptions"]) == 2
    assert sequences.record("ranked_parts")["metrics"] == sequences.record("ranked_whole")["metrics"]
    for name in ("best.ckpt", "last.ckpt"):
        assert_same_weights(sequences.directory / "ranked_whole", sequences.directory / "ranked_parts", name)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_data_are_prepared(
    number: int, status: int, workspace: Workspace, send: Callable[..., None]
) -> None:
    name = f"ended_early_{status}"
    send(TiktokDataModule, "build", 1, number)
    ended = workspace.run("train", *DROPOUT, f"hydra.run.dir={name}", status=status)
    command = f"python -m stemlab.train {' '.join(DROPOUT[:2])}"
    assert command in ended.stderr
    assert f"hydra.run.dir={workspace.directory / name} resume=auto" in ended.stderr
    assert workspace.record(name)["status"] == "interrupted"
    assert not (workspace.directory / name / "checkpoints").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("accepted", [True, False])
def test_slurm_requeues_the_job_and_the_same_command_resumes(
    accepted: bool, workspace: Workspace, send: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexit {0 if accepted else 1}\n')
    scontrol.chmod(0o755)
    job = {"SLURM_JOB_ID": "77", "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = ["train", *DROPOUT, "logger=csv", "trainer.max_epochs=1", f"hydra.run.dir=slurm_{accepted}"]
    send(MultiTaskModule, "training_step", 3, signal.SIGUSR1)
    ended = workspace.run(*command, status=0 if accepted else 128 + signal.SIGUSR1, **job)
    assert ("SLURM starts the job again" in ended.stderr) == accepted
    assert ("scontrol failed" in ended.stderr) != accepted
    assert (tmp_path / "calls").read_text() == "requeue 77\n"
    monkeypatch.undo()
    workspace.run(*command, **job)
    record = workspace.record(f"slurm_{accepted}")
    assert (record["status"], record["resumptions"][0]["step"]) == ("finished", 3)
