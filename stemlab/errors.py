"""Exceptions: mistakes that the user can correct, and the end of a training by a signal."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

SETTING_NOTE = "setting: "
"""Beginning of the note of an exception that names the setting of an own class."""


class StemlabError(Exception):
    """A mistake in a config, a file or a command line.

    The message says what is wrong, where (file, line, column, config key and the file that set it) and what to do.
    Commands print the message without a traceback and exit with ``status`` (``stemlab.config.cli``).

    Attributes:
        status: exit status of the command.
    """

    status: ClassVar[int] = 2


class Interrupted(KeyboardInterrupt):
    """A signal ended the training.

    Attributes:
        number: the signal.
        status: exit status of the command: 128 + the signal; 0 where the job was requeued.
        advice: what to print at the end: how to resume.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number, self.status, self.advice = number, 128 + number, ""


class TrialPruned(Exception):  # noqa: N818  (not an error)
    """The sweep ended the training of a trial before its last epoch."""


@contextmanager
def named_in_errors(key: str) -> Iterator[None]:
    """Add a note with the setting of an own class to an exception that the class raises.

    Args:
        key: the setting, ``metrics.own.brier``.
    """
    try:
        yield
    except StemlabError:
        raise
    except Exception as error:
        error.add_note(f"{SETTING_NOTE}{key}")
        raise


def nearest(word: str, known: "list[str] | tuple[str, ...]") -> str:
    """Return ``' Did you mean X?'`` for the closest known name, or ``''`` if none is close."""
    from difflib import get_close_matches

    close = get_close_matches(word, known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
