"""Words of the command line of a sweep: ``sweep.resume=runs/sweeps/<name>``, and settings typed by agents of W&B."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from stemlab.config.override_text import quote_override
from stemlab.errors import StemlabError

COMMAND = "sweep.json"
"""File of a sweep directory with its name and the words of its command line."""
SWEEP_ID = "STEMLAB_SWEEP_ID"
"""Variable with the name of the sweep: its directory below ``runs/sweeps``, and its group in the loggers."""
_KEY = "sweep.resume="
_OPTIONS_WITH_VALUE = ("--config-", "--cfg", "--package", "--info", "--hydra", "--shell", "--experimental")
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
    try:
        stored = json.loads((directory / COMMAND).read_text(encoding="utf-8"))
        earlier = [str(word) for word in stored["overrides"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise StemlabError(f"{_KEY}{directory}: there is no sweep ({COMMAND}) in this directory.") from None
    typed = [word for word in words if not word.startswith(_KEY) and word not in ("-m", "--multirun")]
    for word in typed:
        if not word.startswith(_MAY_CHANGE):
            raise StemlabError(
                f"{word}: {_KEY}{directory} keeps the settings of the sweep; only sweep.jobs, sweep.trials, launcher "
                "and logger may be typed beside it."
            )
    if stored.get("id"):
        os.environ[SWEEP_ID] = str(stored["id"])
    replaced = ("hydra.sweep.dir=", "resume=", "hydra.mode=", *(f"{word.partition('=')[0]}=" for word in typed))
    kept = [word for word in earlier if not word.startswith(replaced)]
    place = f"hydra.sweep.dir={quote_override(str(directory.resolve()))}"
    return [*stored.get("arguments", []), "-m", *kept, *typed, place, "resume=auto"]


def without_hyphens(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with ``optim.lr=0.1`` for ``--optim.lr=0.1``, as W&B agents write it."""
    return [word[2:] if _is_setting(word) else word for word in words]


def _is_setting(word: str) -> bool:
    return word.startswith("--") and "=" in word and not word.startswith(_OPTIONS_WITH_VALUE)
