"""``@command("train")``: a function of the composed config becomes a command line program.

The config of every job is checked before anything is read or written. A mistake of the user is one sentence on
standard error and exit status 2 (or the error's own: 3 where a threshold of ``fail_if`` is crossed); an interruption
is 130; any other exception keeps its traceback and is 1.
"""

from __future__ import annotations

import argparse
import functools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NoReturn

from stemlab.errors import StemlabError

SWEEP_ID = "STEMLAB_SWEEP_ID"
INTERRUPTED = 128 + signal.SIGINT


def command(config_name: str) -> Callable[[Callable[[Any], Any]], Callable[[], None]]:
    """Return a decorator for ``main(config: DictConfig)``.

    Args:
        config_name: the primary config in ``conf/`` and the name of the command.

    The function gets what Hydra composed (``stemlab.config.resolve`` makes it plain); what it returns goes to the
    sweeper.
    """

    def decorate(function: Callable[[Any], Any]) -> Callable[[], None]:
        @functools.wraps(function)
        def main() -> None:
            try:
                _run(config_name, function)
            except StemlabError as error:
                fail(str(error), error.status)
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                sys.exit(INTERRUPTED)

        return main

    return decorate


def fail(sentence: str, status: int = StemlabError.status) -> NoReturn:
    """Tell the user what is wrong, once (not on every rank), and exit."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"error: {' '.join(sentence.split())}", file=sys.stderr)
    sys.exit(status)


def _run(config_name: str, function: Callable[[Any], Any]) -> None:
    import hydra

    from stemlab.config.compose import VERSION_BASE, base_files_hidden
    from stemlab.config.conf_dir import conf_dir

    errors: list[StemlabError] = []
    swept = _check(config_name)
    if swept:
        os.environ.setdefault(SWEEP_ID, datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f"))
    task = _sweep_job(function, errors) if swept else _single_job(function)
    with base_files_hidden():
        hydra.main(config_path=str(conf_dir()), config_name=config_name, version_base=VERSION_BASE)(task)()
    if errors:
        own = {error.status for error in errors}
        status = own.pop() if len(own) == 1 else StemlabError.status
        fail(f"{len(errors)} of the sweep's jobs failed, the first one with: {errors[0]}", status)


def _single_job(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Hydra would print a traceback: a user's mistake leaves through ``SystemExit``."""

    @functools.wraps(function)
    def job(config: Any) -> Any:
        try:
            return function(config)
        except StemlabError as error:
            fail(str(error), error.status)

    return job


def _sweep_job(function: Callable[[Any], Any], errors: list[StemlabError]) -> Callable[[Any], Any]:
    """A user's mistake that shows only when a job runs (a bad row) ends that job; the other jobs go on."""

    @functools.wraps(function)
    def job(config: Any) -> Any:
        try:
            return function(config)
        except StemlabError as error:
            errors.append(error)
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            return float("nan")

    return job


def _check(config_name: str) -> bool:
    """Check the whole command line; return whether it is a sweep."""
    arguments = _parse()
    if arguments.help or arguments.hydra_help or arguments.info or arguments.shell_completion:
        return False
    from stemlab.config.compose import CommandLine
    from stemlab.config.composition_messages import existing_folder
    from stemlab.config.sweep import adapted, check_command_line, check_composition

    folder, extra = arguments.config_path, arguments.config_dir
    line = CommandLine(
        command=arguments.config_name or config_name,
        overrides=tuple(arguments.overrides),
        multirun=arguments.multirun,
        folder=existing_folder(folder, "--config-path") if folder else None,
        extra=existing_folder(extra, "--config-dir") if extra else None,
    )
    if arguments.cfg:
        check_composition(line)
        return False
    swept = check_command_line(line)
    if swept:
        sys.argv = [*_without(sys.argv, arguments.overrides), *adapted(line)]
    return swept


def _without(words: Sequence[str], overrides: Sequence[str]) -> list[str]:
    return [word for word in words if word not in overrides]


def _parse() -> argparse.Namespace:
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    arguments = parser.parse_intermixed_args()
    # Hydra wants all settings side by side; people write them on both sides of -m.
    sys.argv = [*_without(sys.argv, arguments.overrides), *arguments.overrides]
    return arguments


def _refuse(message: str) -> NoReturn:
    raise StemlabError(f"{message}; settings are written key=value, and --hydra-help lists the options.")
