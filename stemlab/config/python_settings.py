"""Settings given in Python, as a mapping, composed to a config as those of a command line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra

from stemlab.config.compose import CommandLine, KeyOrigins, compose_job, hydra_context
from stemlab.config.job_process import quote_override
from stemlab.config.own_words import open_nodes
from stemlab.config.sweep import with_message
from stemlab.config.validate import validate
from stemlab.errors import StemlabError

_PLAIN = re.compile(r"[A-Za-z_][\w/.@-]*")
_RESERVED = ("true", "false", "null", "nan", "inf")
_TYPED, _GIVEN = "on the command line", "in the settings"


def compose_settings(command: str, settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the validated, plain config of a command, and its overrides for the record.

    Args:
        command: ``train``, ``evaluate`` or ``predict``.
        settings: key as on the command line -> value; ``None`` is null.

    Raises:
        StemlabError: a setting is wrong.
    """
    words = open_nodes([f"{key}={_text(key, value)}" for key, value in settings.items()])
    line = CommandLine(command, tuple(words))
    try:
        with _hydra_of_the_caller_kept(), hydra_context(line):
            plain: dict[str, Any] = with_message(line, words, lambda: compose_job(command, words))
            validate(command, plain, KeyOrigins(command, words))
    except StemlabError as error:
        raise StemlabError(str(error).replace(_TYPED, _GIVEN)) from error.__cause__
    return plain, words


@contextmanager
def _hydra_of_the_caller_kept() -> Iterator[None]:
    """Restore Hydra's global state at the end: the caller may be inside ``hydra.initialize``."""
    before, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = before  # Hydra may have replaced the instance


def _text(key: str, value: Any) -> str:
    """Return a value in Hydra's grammar of overrides."""
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")
    if isinstance(value, str | Path):
        return _quoted(str(value))
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{_text(key, name)}:{_text(key, item)}' for name, item in value.items())}}}"
    if isinstance(value, Sequence):
        return f"[{','.join(_text(key, item) for item in value)}]"
    raise StemlabError(f"{key}={value!r} in the settings must be a text, a number, a list, a mapping or None.")


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _RESERVED:
        return text
    return quote_override(text)
