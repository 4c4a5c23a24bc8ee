"""A rank that is killed ends the run, and the rank is named; no rank outlives rank 0.

Rank 0 is forked from the import server; Lightning starts rank 1.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.commands import TIMEOUT_S, Workspace
from tests.cli.conftest import TINY
from tests.cli.forked import ForkedCommand

pytestmark = [pytest.mark.ddp, pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")]

ENDLESS = [*TINY, "trainer.max_epochs=5000", "callbacks.early_stop.enabled=false"]
RANKS = ["trainer=ddp_cpu", "trainer.devices=2"]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "timeout"
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    """Return the running processes that a process has started, without zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(path.parent.name))
    return found


def is_rank_one(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "\0LOCAL_RANK=1\0" in f"\0{Path(f'/proc/{pid}/environ').read_text()}"
    return False


def rank_one(process: ForkedCommand) -> int:
    """Wait until rank 0 has started rank 1; return its process id."""
    found: list[int] = []
    wait_for(lambda: found.extend(filter(is_rank_one, children(process.pid))) or found)
    return found[0]


def test_a_killed_rank_is_named_and_ends_the_run(workspace: Workspace) -> None:
    process = workspace.fork("train", *ENDLESS, *RANKS, "hydra.run.dir=lost")
    try:
        rank = rank_one(process)
        wait_for((workspace.directory / "lost" / "checkpoints" / "last.ckpt").exists)
        os.kill(rank, signal.SIGKILL)
        _, error = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == 2, error
    assert "Traceback" not in error
    (message,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert "rank 1" in message
    assert "SIGKILL" in message
    record = workspace.record("lost")
    assert record["status"] == "failed"
    assert "rank 1" in record["error"]


def test_the_ranks_end_when_rank_0_is_killed_while_they_start(workspace: Workspace) -> None:
    process = workspace.fork("train", *ENDLESS, *RANKS, "hydra.run.dir=orphan")
    rank = rank_one(process)
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not is_rank_one(rank))
    _, error = process.communicate(timeout=TIMEOUT_S)
    assert "rank 0" in error
    assert "Traceback" not in error


def test_a_signal_to_one_rank_ends_all_with_its_status(workspace: Workspace) -> None:
    process = workspace.fork("train", *ENDLESS, *RANKS, "hydra.run.dir=signalled")
    try:
        rank = rank_one(process)
        wait_for((workspace.directory / "signalled" / "checkpoints" / "last.ckpt").exists)
        os.kill(rank, signal.SIGTERM)
        _, error = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM, error
    assert "resume=auto" in error
    assert workspace.record("signalled")["status"] == "interrupted"
