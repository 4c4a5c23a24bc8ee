"""Errors of a logger's file name the file."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from stemlab.runs import epochs_from_one
from stemlab.runs.epochs_from_one import EpochCSVLogger


def test_a_full_disk_names_the_metrics_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(logger: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(epochs_from_one.CSVLogger, "save", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        EpochCSVLogger(tmp_path, name="", version="").save()
    assert caught.value.filename == str(tmp_path / "metrics.csv")
