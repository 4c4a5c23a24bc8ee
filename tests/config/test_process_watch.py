"""A process ends with its parent; a lost rank is named with the reason and ends the run. Small processes only."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stemlab.config.process_watch import OTHER_ENDED, RankWatch, child_environment

LIMIT_S = 120
CHILD = """
import time
from stemlab.config.process_watch import watch_parent
watch_parent()
print("ready", flush=True)
time.sleep(600)
"""
PARENT = f"""
import os, subprocess, sys
from stemlab.config.process_watch import child_environment
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], env=child_environment(dict(os.environ)))
print(child.pid, flush=True)
child.wait()
"""
WATCHING = """
import subprocess, sys, time
from pathlib import Path
from stemlab.config import process_watch
process_watch.GRACE_S = 0.2
ranks = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
watch = process_watch.RankWatch(ranks, Path(sys.argv[1]))
process_watch.LOST_RANK_HOOKS.append(lambda message: Path(sys.argv[1], "record").write_text(message))
watch.start()
print(*(rank.pid for rank in ranks), flush=True)
time.sleep(600)  # rank 0 waits in a library
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a Python program; all are ended after the test."""
    started = []

    def run(code: str, *words: str, **variables: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def is_running(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def ends(pid: int) -> bool:
    deadline = time.monotonic() + LIMIT_S
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
@pytest.mark.parametrize(("variables", "word"), [({"LOCAL_RANK": "1"}, "rank 0"), ({}, "job")], ids=["rank", "job"])
def test_a_process_ends_after_its_parent_was_killed(
    start: Callable[..., subprocess.Popen[str]], variables: dict[str, str], word: str
) -> None:
    parent = start(PARENT, **variables)
    child = int(parent.stdout.readline())
    assert parent.stdout.readline() == "ready\n"
    os.kill(parent.pid, signal.SIGKILL)
    assert ends(child)
    _, error = parent.communicate(timeout=LIMIT_S)
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert word in error


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
def test_a_run_that_waits_for_a_lost_rank_is_ended(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = start(WATCHING, str(tmp_path))
    first, second = map(int, process.stdout.readline().split())
    os.kill(second, signal.SIGKILL)
    _, error = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2
    assert error.startswith("error: rank 2 ")
    assert "SIGKILL" in error
    assert error.count("\n") == 1
    assert (tmp_path / "record").read_text() in error
    assert ends(first)


def ended(*codes: str) -> list[subprocess.Popen[bytes]]:
    processes = [subprocess.Popen(["sh", "-c", code]) for code in codes]
    for process in processes:
        process.wait()
    return processes


def test_the_rank_that_ended_first_is_named(tmp_path: Path) -> None:
    (tmp_path / "1").write_text(f"{OTHER_ENDED} (closed).")
    (tmp_path / "2").write_text("the disk is full.")
    message = RankWatch(ended("exit 2", "exit 2"), tmp_path).lost()
    assert message is not None
    assert "rank 2" in message
    assert "the disk is full." in message
    killed = RankWatch(ended("exit 0", "exit 0", "kill -9 $$"), tmp_path).lost()
    assert killed is not None
    assert "rank 3" in killed
    assert "memory" in killed
    assert RankWatch(ended("exit 0", "exit 0"), tmp_path).lost(0.1) is None


def test_a_child_knows_its_parent() -> None:
    assert child_environment({"a": "b"}) == {"a": "b", "STEMLAB_PARENT_PID": str(os.getpid())}
