"""Errors of the machine are one sentence; faults of the code keep their traceback."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from stemlab.config.machine_errors import machine_error


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "disk space"),
        (errno.EACCES, "permissions"),
        (errno.EROFS, "file system"),
        (errno.ENOTDIR, "path"),
        (errno.EMFILE, "ulimit"),
    ],
)
def test_files_are_named_with_the_reason_and_advice(number: int, advice: str) -> None:
    message = machine_error(OSError(number, os.strerror(number), "/data/x"))
    assert message is not None
    assert message.startswith(f"/data/x: {os.strerror(number)}")
    assert advice in message


def test_memory() -> None:
    for error in (
        MemoryError(),
        MemoryError("malloc of size 8 failed"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    ):
        assert "memory" in str(machine_error(error))


def test_a_wrapped_error_is_found() -> None:
    wrapped = ValueError("Unable to configure handler 'file'")
    wrapped.__cause__ = PermissionError(errno.EACCES, "Permission denied", "train.log")
    assert "train.log" in str(machine_error(wrapped))


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), RuntimeError("shape"), OSError("no number")])
def test_faults_of_the_code_are_not_errors_of_the_machine(error: Exception) -> None:
    assert machine_error(error) is None


def test_a_full_disk_without_a_file_name_names_the_full_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real, full = os.statvfs, SimpleNamespace(f_bavail=0, f_frsize=4096)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda path: full if Path(path) == tmp_path else real(path))
    error = OSError(errno.ENOSPC, "No space left on device")
    assert str(machine_error(error)).startswith(f"{tmp_path}: No space")
    monkeypatch.setattr(os, "statvfs", real)
    assert str(machine_error(error)).startswith("No space")
