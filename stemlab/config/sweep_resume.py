"""Words of the command line of a sweep: ``sweep.resume=runs/sweeps/<name>``, and settings typed by agents of W&B."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stemlab.config.override_text import quote_override
from stemlab.errors import StemlabError

COMMAND = "sweep.json"
"""File of a sweep directory: its name and the words of its command line; ``further`` has those of other grids."""
SWEEP_ID = "STEMLAB_SWEEP_ID"
"""Variable with the name of the sweep: its directory below ``runs/sweeps``, and its group in the loggers."""
_KEY = "sweep.resume="
_OPTIONS_WITH_VALUE = ("--config-", "--cfg", "--package", "--info", "--hydra", "--shell", "--experimental")
_FURTHER = "further"
_OF_THE_START = ("hydra.sweep.dir=", "resume=", "hydra.mode=")
_MAY_CHANGE = ("sweep.jobs=", "sweep.trials=", "launcher", "hydra.launcher", "hydra/launcher", "logger")


def names_a_sweep(words: Sequence[str]) -> bool:
    """Return whether the words of a command line contain ``sweep.resume``."""
    return any(word.startswith(_KEY) and word not in (_KEY, f"{_KEY}null") for word in words)


def resumed_sweep_words(words: Sequence[str]) -> list[str]:
    """Return the words of the command that started a sweep, with ``resume=auto`` and those typed beside its name.

    The name of the sweep is put into the environment.

    Args:
        words: the command line without the name of the program.

    Raises:
        StemlabError: the directory holds no sweep, or a setting is typed that a sweep keeps.
    """
    directory = Path(next(word for word in words if word.startswith(_KEY)).removeprefix(_KEY).strip("'\""))
    commands, name = read_commands(directory)
    if not commands:
        raise StemlabError(f"{_KEY}{directory}: there is no sweep ({COMMAND}) in this directory.")
    typed = [word for word in words if not word.startswith(_KEY) and word not in ("-m", "--multirun")]
    for word in typed:
        if not word.startswith(_MAY_CHANGE):
            raise StemlabError(
                f"{word}: {_KEY}{directory} keeps the settings of the sweep; only sweep.jobs, sweep.trials, launcher "
                "and logger may be typed beside it."
            )
    repeated = [_repeated(command, directory, typed) for command in commands]
    if len(repeated) > 1:
        prefix = f"{SWEEP_ID}={shlex.quote(name)} python -m stemlab.train " if name else "python -m stemlab.train "
        texts = "; ".join(prefix + shlex.join(one) for one in repeated)
        raise StemlabError(
            f"{_KEY}{directory}: this directory has {len(repeated)} grids; resume one after another: {texts}"
        )
    if name:
        os.environ[SWEEP_ID] = name
    return repeated[0]


def read_commands(directory: Path) -> tuple[list[dict[str, list[str]]], str]:
    """Return the commands of the sweeps in a directory (``arguments``, ``overrides``) and their name; empty if none."""
    try:
        stored = json.loads((directory / COMMAND).read_text(encoding="utf-8"))
        found = [
            {key: [str(word) for word in one.get(key, [])] for key in ("arguments", "overrides")}
            for one in (stored, *stored.get(_FURTHER, []))
        ]
        return (found if "overrides" in stored else []), str(stored.get("id") or "")
    except (OSError, ValueError, AttributeError, TypeError):
        return [], ""


def with_command(directory: Path, command: Mapping[str, list[str]], name: str | None) -> dict[str, Any] | None:
    """Return the new content of the file of a sweep directory; None if it has the command.

    Args:
        directory: the sweep directory.
        command: ``arguments`` and ``overrides`` of a sweep that starts in it.
        name: its name.
    """
    commands, first_name = read_commands(directory)
    if any(_settings_of(one) == _settings_of(command) for one in commands):
        return None
    if not commands:
        return {"id": name, **command}
    return {"id": first_name, **commands[0], _FURTHER: [*commands[1:], dict(command)]}


def _settings_of(command: Mapping[str, list[str]]) -> tuple[list[str], set[str]]:
    """Return what distinguishes sweeps: the words that do not change when a sweep is repeated."""
    changing = (*_OF_THE_START, *_MAY_CHANGE)
    return command["arguments"], {word for word in command["overrides"] if not word.startswith(changing)}


def _repeated(command: Mapping[str, list[str]], directory: Path, typed: Sequence[str]) -> list[str]:
    """Return the words that resume a sweep."""
    replaced = (*_OF_THE_START, *(f"{word.partition('=')[0]}=" for word in typed))
    kept = [word for word in command["overrides"] if not word.startswith(replaced)]
    place = f"hydra.sweep.dir={quote_override(str(directory.resolve()))}"
    return [*command["arguments"], "-m", *kept, *typed, place, "resume=auto"]


def without_hyphens(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with ``optim.lr=0.1`` for ``--optim.lr=0.1``, as W&B agents write it."""
    return [word[2:] if _is_setting(word) else word for word in words]


def _is_setting(word: str) -> bool:
    return word.startswith("--") and "=" in word and not word.startswith(_OPTIONS_WITH_VALUE)
