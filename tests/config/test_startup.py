"""Start of a command: libraries are loaded in a thread, and no garbage is collected while modules are imported."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

from stemlab.config import startup


def test_only_a_command_that_needs_torch_loads_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []
    monkeypatch.setattr(startup, "_load", loaded.append)
    monkeypatch.setattr(sys, "platform", "linux")
    import torch

    assert startup.start_loading_torch(["model=stem"]) is None  # imported already
    monkeypatch.delitem(sys.modules, "torch")
    for words in (["--help"], ["-m", "seed=1,2"], ["model=stem", "--cfg", "job"]):
        assert startup.start_loading_torch(words) is None
    thread = startup.start_loading_torch(["model=stem"])
    assert thread is not None
    assert not thread.daemon
    thread.join()
    assert loaded == [Path(str(torch.__file__)).parent / "lib"]


def test_a_missing_library_is_left_to_torch(tmp_path: Path) -> None:
    startup._load(tmp_path)


def test_collection_is_paused_in_a_new_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[bool] = []
    monkeypatch.setattr(startup.gc, "freeze", lambda: frozen.append(True))
    startup.pause_collection()  # torch is imported: this process runs more than one command
    assert gc.isenabled()
    startup.resume_collection()
    assert not frozen
    monkeypatch.delitem(sys.modules, "torch")
    startup.pause_collection()
    assert not gc.isenabled()
    startup.resume_collection()
    assert gc.isenabled()
    assert frozen
