"""Commands of stemlab run by tests: in the test process (fast) or as processes of their own."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import runpy
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
import rich
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from tests.cli.forked import ForkedCommand, rank_variables

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 300
"""Limit of waits, which only matters when a test fails: generous, for slow machines."""
REMOVED_VARIABLES = ("WANDB", "STEMLAB_SWEEP", "PL_", "LOCAL_RANK")


def environment(home: Path) -> dict[str, str]:
    """Return the variables of a command: one thread per process, no W&B login."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(REMOVED_VARIABLES)}
    own = {"OMP_NUM_THREADS": "1", "HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1"}
    return {
        **kept,
        **own,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }


def enable_interrupts() -> None:
    """Restore the default SIGINT handler: children of a background shell ignore interrupts otherwise."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def restored_process() -> Iterator[None]:
    """Restore what a command changes in its process: directory, variables, arguments, logging, Hydra, rich, torch."""
    directory, variables, arguments = Path.cwd(), dict(os.environ), list(sys.argv)
    logger, hydra_config = logging.getLogger(), HydraConfig.instance().cfg
    handlers, level, raises = list(logger.handlers), logger.level, logging.raiseExceptions
    console, rich._console = rich._console, None  # the command's own console: its width is that of COLUMNS
    deterministic, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        os.chdir(directory)
        os.environ.clear()
        os.environ.update(variables)
        sys.argv = arguments
        for handler in [handler for handler in logger.handlers if handler not in handlers]:
            handler.close()
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logging.raiseExceptions = raises
        HydraConfig.instance().cfg = hydra_config
        GlobalHydra.instance().clear()
        rich._console = console
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)


class StandardError:
    """Stream that writes to ``sys.stderr`` of the moment, which a command replaces by its own."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


@contextlib.contextmanager
def handlers_of_libraries() -> Iterator[None]:
    """Let handlers that libraries bound to standard error when they were imported write to that of the command."""
    loggers = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]
    handlers = [handler for logger in loggers for handler in logger.handlers if type(handler) is logging.StreamHandler]
    before = [handler.stream for handler in handlers]
    for handler in handlers:
        handler.stream = StandardError()  # setStream() would flush the old stream, which may be closed
    try:
        yield
    finally:
        for handler, old in zip(handlers, before, strict=True):
            handler.stream = old


def show_warning(
    message: Any, category: Any, filename: str, lineno: int, file: TextIO | None = None, line: Any = None
) -> None:
    """Write a warning to standard error, as an interpreter of its own does (pytest collects them instead)."""
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def run_in_process(
    module: str, overrides: tuple[str, ...], directory: Path, variables: dict[str, str]
) -> tuple[int, str, str]:
    """Run ``python -m <module> <overrides>`` in this process; return exit status, stdout and stderr."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with restored_process(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), handlers_of_libraries():
        own = {**environment(directory), **variables}
        os.chdir(directory)
        os.environ.clear()
        os.environ.update(own)
        sys.argv = [module, *overrides]
        warnings.filterwarnings("ignore", ".*found in sys.modules.*", RuntimeWarning)
        warnings.showwarning = show_warning
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:
            traceback.print_exc()
            status = 1
    return status, out.getvalue(), err.getvalue()


class Workspace:
    """A directory in which commands run; they share its prepared datasets."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(self, command: str, *overrides: str, status: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run ``python -m stemlab.<command>`` in the test process and check its exit status.

        Args:
            command: ``train``, ``evaluate``, ...; the empty text is ``python -m stemlab``.
            overrides: further arguments.
            status: the expected exit status; with 2 there must be no traceback.
            variables: further environment variables.
        """
        found = run_in_process(_module(command), overrides, self.directory, variables)
        return _checked(command, overrides, status, *found)

    def run_process(
        self, command: str, *overrides: str, status: int = 0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Do the same in a new interpreter, for tests of the process boundary: entry points, ranks, signals."""
        process = self.start(command, *overrides, **variables)
        return _checked(command, overrides, status, *_finished(process, command))

    def run_forked(
        self, command: str, *overrides: str, status: int = 0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Do the same in a forked process, for tests of exit statuses and of processes that a command starts."""
        process = self.fork(command, *overrides, **variables)
        return _checked(command, overrides, status, *_finished(process, command))

    def run_two_ranks(self, command: str, *overrides: str) -> subprocess.CompletedProcess[str]:
        """Run a command on two ranks in forked processes and return the result of rank 0.

        Rank 1 gets the arguments that Lightning gives it.
        """
        overrides = (*overrides, "trainer=ddp_cpu", "trainer.devices=2")
        later = (f"hydra.job.name={command}_ddp_process_1", "hydra.output_subdir=null")
        ranks = [
            self.fork(command, *overrides, *own, **variables)
            for own, variables in zip(((), later), rank_variables(), strict=True)
        ]
        results = [_finished(process, command) for process in ranks]
        first, _ = [_checked(command, overrides, 0, *result) for result in results]
        return first

    def fork(self, command: str, *overrides: str, **variables: str) -> ForkedCommand:
        """Start a command in a forked process, which has the imports already."""
        return ForkedCommand(_module(command), overrides, self.directory, {**environment(self.directory), **variables})

    def start(self, command: str, *overrides: str, **variables: str) -> subprocess.Popen[str]:
        """Start a command as a process (and process group) of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", _module(command), *overrides],
            cwd=self.directory,
            env={**environment(self.directory), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=enable_interrupts,
        )

    def record(self, run: str) -> dict[str, Any]:
        """Return the record of a run."""
        return json.loads((self.directory / run / "record.json").read_text())


def _module(command: str) -> str:
    return f"stemlab.{command}" if command else "stemlab"


def _finished(process: subprocess.Popen[str] | ForkedCommand, command: str) -> tuple[int, str, str]:
    """Return exit status, standard output and standard error; fail when the command takes too long."""
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"{command} took more than {TIMEOUT_S} s\n{out}\n{err}")
    assert process.returncode is not None
    return process.returncode, out, err


def _checked(
    command: str, overrides: tuple[str, ...], expected: int, status: int, out: str, err: str
) -> subprocess.CompletedProcess[str]:
    assert status == expected, f"{command} {overrides}\n{out}\n{err}"
    if status == 2:
        assert "Traceback" not in err
    return subprocess.CompletedProcess(overrides, status, out, err)
