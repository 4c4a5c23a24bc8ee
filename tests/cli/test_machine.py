"""Disks, directories and memory that fail end a training with one sentence."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from stemlab.runs.run import TrainingRun
from stemlab.train import run_command
from tests.cli.commands import Workspace
from tests.cli.conftest import TINY

SHORT = [*TINY, "trainer.max_epochs=1", "logger=none"]


def failed(workspace: Workspace, *overrides: str) -> str:
    error = workspace.run("train", *SHORT, *overrides, status=2).stderr
    assert error.count("error: ") == 1
    return error


@pytest.mark.parametrize("directory", ["a_file", "a_file/below", "/proc/nothing/run"])
def test_run_directories_that_cannot_be_made_are_refused(directory: str, workspace: Workspace) -> None:
    (workspace.directory / "a_file").touch()
    assert directory.split("/")[0] in failed(workspace, f"hydra.run.dir={directory}")


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_recorded(workspace: Workspace, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "save", no_space)
    error = failed(workspace, "hydra.run.dir=full_disk")
    assert "best.ckpt" in error
    assert "No space left" in error
    record = json.loads((workspace.directory / "full_disk" / "record.json").read_text())
    assert record["status"] == "failed"
    assert "No space left" in record["error"]
    assert not list((workspace.directory / "full_disk").rglob("*.part"))


def test_a_record_that_cannot_be_written_does_not_hide_the_error(
    workspace: Workspace, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "save", no_space)
    monkeypatch.setattr(Path, "write_text", no_space)
    error = failed(workspace, "hydra.run.dir=full_record")
    assert "best.ckpt" in error
    assert "record.json" in error


def test_too_little_memory_is_one_sentence(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(self: TrainingRun) -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1099511627776 bytes.")

    monkeypatch.setattr(TrainingRun, "_train", train)
    assert "memory" in failed(workspace, "hydra.run.dir=memory")


def test_a_deleted_current_folder_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone() -> str:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(os, "getcwd", gone)
    with pytest.raises(SystemExit, match="2"):
        run_command()
    assert "current folder" in capsys.readouterr().err
