"""Words of a command line with ``resume_from``: those of the command, and settings of the run that is resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import datetime

_OF_THE_COMMAND = ("hydra.", "paths.", "resume_from=", "resume=", "overwrite=", "allow=")
_VARIABLE = "STEMLAB_RESUME_SETTINGS"  # the typed words, for the processes that this command starts


def names_a_run(words: Sequence[str]) -> bool:
    """Return whether the words of a command line contain ``resume_from``."""
    return any(word.startswith("resume_from=") and word not in ("resume_from=null", "resume_from=") for word in words)


def words_of_the_command(words: Sequence[str]) -> list[str]:
    """Return the words that Hydra composes, with a run directory; the others wait in the environment.

    Args:
        words: the command line without the name of the program.
    """
    if not (_VARIABLE in os.environ and "LOCAL_RANK" in os.environ):  # a rank that the first process started has them
        os.environ[_VARIABLE] = json.dumps([word for word in words if not word.startswith("-")])
    kept = [word for word in words if word.startswith(("-", *_OF_THE_COMMAND))]
    if not any(word.startswith("hydra.run.dir=") for word in kept):
        now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
        kept.append(f"hydra.run.dir=${{paths.runs_dir}}/resumed/{now}")
    return kept


def typed_words() -> list[str]:
    """Return the overrides that the user typed beside ``resume_from``."""
    return list(json.loads(os.environ.get(_VARIABLE, "[]")))


def settings_of_the_run(words: Sequence[str]) -> list[str]:
    """Return the overrides that change settings of the resumed run."""
    return [word for word in words if not word.startswith(_OF_THE_COMMAND)]
