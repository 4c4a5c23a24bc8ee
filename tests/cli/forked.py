"""Commands in processes forked from a server that has the imports: for tests whose subject is not the start-up.

A process has its own process group, working directory, variables, output and exit handlers, as a command has.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.ranks import server_context

FOREVER_S = 10_000


class ForkedCommand:
    """A command in a forked process, with those methods of ``subprocess.Popen`` that the tests use.

    Args:
        module: module of the command.
        overrides: its arguments.
        directory: its working directory.
        variables: all environment variables.
    """

    def __init__(self, module: str, overrides: Sequence[str], directory: Path, variables: Mapping[str, str]) -> None:
        context = server_context()
        self._folder = Path(tempfile.mkdtemp(prefix="stemlab-forked-"))
        arguments = (module, list(overrides), str(directory), dict(variables), str(self._folder))
        self._process: Any = context.Process(target=_run, args=arguments)
        self._process.start()
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status; minus the number of a signal that ended the process."""
        return self._process.exitcode

    def communicate(self, timeout: float = FOREVER_S) -> tuple[str, str]:
        """Wait for the end; return standard output and standard error."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        texts = self.output()
        shutil.rmtree(self._folder)
        return texts

    def output(self) -> tuple[str, str]:
        """Return what standard output and standard error have received so far."""
        files = [self._folder / name for name in ("out", "err")]
        out, err = (file.read_text(encoding="utf-8", errors="replace") if file.exists() else "" for file in files)
        return out, err

    def kill(self) -> None:
        """End the process group at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def rank_variables() -> list[dict[str, str]]:
    """Return the variables that Lightning sets for rank 0 and rank 1 of two processes on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0", "WORLD_SIZE": "2"}
    return [{**common, "LOCAL_RANK": str(rank)} for rank in range(2)]


def _run(module: str, overrides: list[str], directory: str, variables: dict[str, str], folder: str) -> None:
    os.setsid()
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(file, number)
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(variables)
    _set_rank(int(variables.get("RANK", variables.get("LOCAL_RANK", "0"))))
    sys.argv = [module, *overrides]
    status = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _set_rank(rank: int) -> None:
    """Set the rank that Lightning reads from the variables when it is imported, which has happened in the server."""
    from pytorch_lightning.utilities import rank_zero_only

    rank_zero_only.rank = rank
