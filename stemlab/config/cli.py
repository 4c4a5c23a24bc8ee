"""``@command("train")`` turns a function of the composed config into a command.

The config of every job is validated before anything is read or written. Exit status: 2 for an error of the user, of his
classes or of the machine (full disk, no memory), one message on standard error without traceback (3 where a condition
of ``fail_if`` holds); 130 after an interruption, 143 after SIGTERM; 1 with traceback for any other exception.
``HYDRA_FULL_ERROR=1`` shows the tracebacks of classes of the user and of errors of the machine, too.
"""

from __future__ import annotations

import argparse
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from stemlab.config.command_errors import user_error
from stemlab.config.output_streams import robust_output
from stemlab.config.own_errors import forget_own_modules
from stemlab.config.own_words import open_nodes
from stemlab.config.process_watch import REPORTS, local_rank, report_reason, watch_parent
from stemlab.config.screen_log import job_log_path, log_output, start_log
from stemlab.config.startup import pause_collection, resume_collection, start_loading_torch
from stemlab.config.sweep_resume import SWEEP_ID, without_hyphens
from stemlab.deferred_imports import defer_imports
from stemlab.errors import Interrupted, StemlabError

if TYPE_CHECKING:
    from stemlab.config.compose import CommandLine

_print_now = functools.partial(print, flush=True)
_INTERRUPTED = 128 + signal.SIGINT

ConfigCheck = Callable[[dict[str, Any]], None]
Preview = Callable[[dict[str, Any], Any, bool], None]
"""Config of a job, its ``KeyOrigins``, whether it belongs to a sweep; prints what ``dry_run`` shows of it."""
SweepSummary = Callable[[Path, Mapping[Path, str]], str]
"""Sweep directory, run directory of each failed job -> its error; returns the text printed at the end of a sweep."""


def command(
    config_name: str,
    check: ConfigCheck | None = None,
    after_sweep: SweepSummary | None = None,
    preview: Preview | None = None,
) -> Callable[[Callable[[Any], Any]], Callable[[], None]]:
    """Return a decorator for ``main(config: DictConfig)``.

    Args:
        config_name: primary config in ``conf/`` and name of the command.
        check: further check of the validated, plain config of a single job, before Hydra writes into its directory.
        preview: shows a job with ``dry_run``, which is then not run.
        after_sweep: summarises a sweep when it ends, also by an error or an interruption.

    The function receives Hydra's composed config (``stemlab.config.resolve`` converts it to plain values). Its return
    value is the objective of the sweeper.
    """

    def decorate(function: Callable[[Any], Any]) -> Callable[[], None]:
        @functools.wraps(function)
        def main() -> None:
            _check_current_folder()
            watch_parent()
            pause_collection()
            forget_own_modules()
            if config_name != "profile":  # torch's profiler must be loaded by the thread that uses it
                start_loading_torch(sys.argv[1:])
            defer_imports()
            with robust_output(), _sigterm_raises():
                try:
                    _run(config_name, function, check, after_sweep, preview)
                except KeyboardInterrupt as error:
                    _end_interrupted(error)
                except Exception as error:
                    _fail_with(error)

        return main

    return decorate


def _check_current_folder() -> None:
    """End the command if the current folder was deleted, in which no library can be loaded."""
    try:
        os.getcwd()
    except FileNotFoundError:
        fail("the current folder was deleted: change to another one.")


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does, so that temporary files are deleted."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise_interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise_interrupted(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(number)


def _end_interrupted(error: KeyboardInterrupt) -> NoReturn:
    """Print how to resume, if the command says so, and exit with the status of the signal."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        advice = error.advice if isinstance(error, Interrupted) else ""
        print(f"interrupted by {error}{advice}" if isinstance(error, Interrupted) else "interrupted", file=sys.stderr)
    sys.exit(error.status if isinstance(error, Interrupted) else _INTERRUPTED)


def _fail_with(error: Exception) -> NoReturn:
    failed = user_error(error)
    fail(str(failed), failed.status)


def fail(message: str, status: int = StemlabError.status) -> NoReturn:
    """Print an error and exit; another rank than 0 reports it to rank 0."""
    if not (rank := local_rank()):
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
    elif REPORTS in os.environ:
        report_reason(message)  # rank 0 prints it
    elif _in_process_group():  # started by torchrun or SLURM: the error may be of this rank only
        print(f"error on rank {rank}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


def _in_process_group() -> bool:
    """Return whether this process has joined a process group; torch is not imported for it."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and bool(distributed.is_initialized())


def _run(
    config_name: str,
    function: Callable[[Any], Any],
    check: ConfigCheck | None,
    after_sweep: SweepSummary | None,
    preview: Preview | None,
) -> None:
    import hydra

    from stemlab.config.compose import VERSION_BASE, base_files_hidden
    from stemlab.config.conf_dir import conf_dir

    errors: dict[Path, StemlabError] = {}
    sweep = _check(config_name, check, preview)
    if sweep is not None:
        os.environ.setdefault(SWEEP_ID, datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f"))
    task = _single_job(function) if sweep is None else _sweep_job(function, errors)
    swept_by_file = sweep is not None and not sweep.multirun
    try:
        with base_files_hidden(), _exceptions_from_hydra(), _composed_once(swept_by_file):
            hydra.main(config_path=str(conf_dir()), config_name=config_name, version_base=VERSION_BASE)(task)()
    finally:
        if sweep is not None and after_sweep is not None:
            _print_summary(sweep, errors, after_sweep)
    if errors:
        statuses = {error.status for error in errors.values()}
        status = statuses.pop() if len(statuses) == 1 else StemlabError.status
        fail(f"{len(errors)} sweep jobs failed; first error: {next(iter(errors.values()))}", status)


def _print_summary(line: CommandLine, errors: Mapping[Path, StemlabError], after_sweep: SweepSummary) -> None:
    from stemlab.config.sweep import sweep_directory

    if text := after_sweep(sweep_directory(line), {directory: str(error) for directory, error in errors.items()}):
        _print_now(text)


@contextmanager
def _exceptions_from_hydra() -> Iterator[None]:
    """Let exceptions pass: Hydra would print a traceback when it cannot create the run directory, for example."""
    import hydra._internal.utils as hydra_utils

    original = hydra_utils.run_and_report
    hydra_utils.run_and_report = lambda func: func()
    try:
        yield
    finally:
        hydra_utils.run_and_report = original


@contextmanager
def _composed_once(swept_by_file: bool) -> Iterator[None]:
    """Skip two of Hydra's compositions (0.3 s each): of the config to read its mode, and of the jobs to check them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra._internal.hydra import Hydra
    from hydra.types import RunMode

    mode, check = Hydra.get_mode, BasicSweeper.validate_batch_is_legal
    Hydra.get_mode = lambda *_, **__: RunMode.MULTIRUN if swept_by_file else None  # type: ignore[method-assign]
    BasicSweeper.validate_batch_is_legal = lambda *_: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Hydra.get_mode, BasicSweeper.validate_batch_is_legal = mode, check  # type: ignore[method-assign]


def _single_job(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the function with user errors turned into ``SystemExit``: Hydra prints tracebacks of exceptions."""

    @functools.wraps(function)
    def job(config: Any) -> Any:
        resume_collection()
        start_log(job_log_path())  # until the command ends: errors are printed later
        try:
            return function(config)
        except Exception as error:
            _fail_with(error)

    return job


def _sweep_job(function: Callable[[Any], Any], errors: dict[Path, StemlabError]) -> Callable[[Any], Any]:
    """Return the function with user errors collected in ``errors``: an error at run time ends only its own job."""

    @functools.wraps(function)
    def job(config: Any) -> Any:
        from hydra.core.hydra_config import HydraConfig

        resume_collection()
        with log_output(job_log_path()):
            try:
                return function(config)
            except Exception as error:
                failed = user_error(error)
            errors[Path(HydraConfig.get().runtime.output_dir)] = failed
            print(f"error: {' '.join(str(failed).split())}", file=sys.stderr)
            return float("nan")

    return job


def _check(config_name: str, check: ConfigCheck | None, preview: Preview | None) -> CommandLine | None:
    """Check the command line, rewrite ``sys.argv`` for Hydra, and return the command line of a sweep, else ``None``."""
    arguments = _parse()
    if arguments.hydra_help or arguments.info or arguments.shell_completion:
        return None
    from stemlab.config.compose import CommandLine
    from stemlab.config.composition_messages import existing_folder
    from stemlab.config.sweep import check_command_line, check_composition, hydra_arguments

    folder, extra = arguments.config_path, arguments.config_dir
    line = CommandLine(
        command=arguments.config_name or config_name,
        overrides=tuple(arguments.overrides),
        multirun=arguments.multirun,
        folder=existing_folder(folder, "--config-path") if folder else None,
        extra=existing_folder(extra, "--config-dir") if extra else None,
    )
    if arguments.help:
        from stemlab.config.command_help import command_help

        _print_now(command_help(line))
        sys.exit(0)
    if arguments.cfg and arguments.multirun:
        raise StemlabError("--cfg shows the config of one job: leave out -m.")
    if arguments.cfg:
        check_composition(line)
        return None
    swept = check_command_line(line, _print_now, check, preview)
    if swept is None:  # dry_run
        sys.exit(0)
    if not swept:
        return None
    sys.argv = [*_without(sys.argv, arguments.overrides), *hydra_arguments(line)]
    return line


def _without(words: Sequence[str], overrides: Sequence[str]) -> list[str]:
    return [word for word in words if word not in overrides]


def _parse() -> argparse.Namespace:
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    sys.argv = without_hyphens(sys.argv)
    arguments = parser.parse_intermixed_args()
    # Hydra requires all overrides in one group; users write them on both sides of -m.
    sys.argv = [*_without(sys.argv, arguments.overrides), *(words := open_nodes(arguments.overrides))]
    arguments.overrides = words
    return arguments


def _refuse(message: str) -> NoReturn:
    raise StemlabError(f"{message}; settings have the form key=value, --hydra-help lists the options.")
