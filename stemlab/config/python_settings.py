"""Settings given in Python, as a mapping, composed to a config as those of a command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf, open_dict, read_write

from stemlab.config.compose import (
    CommandLine,
    KeyOrigins,
    compose_with_hydra,
    hydra_context,
    parse_overrides,
    without_hydra,
)
from stemlab.config.override_text import is_expressible, override_text
from stemlab.config.own_words import open_nodes
from stemlab.config.resolve import resolve
from stemlab.config.sweep import with_message
from stemlab.config.validate import validate
from stemlab.errors import StemlabError

_TYPED, _GIVEN = "on the command line", "in the settings"


def compose_settings(command: str, settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the validated, plain config of a command, and its overrides for the record.

    Mappings whose keys Hydra's grammar cannot express are no overrides (``without_override``).

    Args:
        command: ``train``, ``evaluate`` or ``predict``.
        settings: key as on the command line -> value; ``None`` is null.

    Raises:
        StemlabError: a setting is wrong.
    """
    odd = {key: settings[key] for key in without_override(settings)}
    words = open_nodes([f"{key}={override_text(key, value)}" for key, value in settings.items() if key not in odd])
    line = CommandLine(command, tuple(words))
    try:
        with _hydra_of_the_caller_kept(), hydra_context(line):
            plain: dict[str, Any] = with_message(line, words, lambda: _compose(command, words, odd))
            validate(command, plain, KeyOrigins(command, words))
    except StemlabError as error:
        raise StemlabError(str(error).replace(_TYPED, _GIVEN)) from error.__cause__
    return plain, words


def without_override(settings: Mapping[str, Any]) -> list[str]:
    """Return the keys of settings that no override can express: mappings with keys such as ``it's`` or ``"3"``."""
    return [key for key, value in settings.items() if not is_expressible(key, value, _read)]


def _read(word: str) -> Any:
    return parse_overrides([word])[0].value()


def _compose(command: str, words: list[str], odd: Mapping[str, Any]) -> dict[str, Any]:
    config = compose_with_hydra(command, words)
    with read_write(config), open_dict(config):
        for key, value in odd.items():
            OmegaConf.update(config, key, value, force_add=True)
    return resolve(without_hydra(config))


@contextmanager
def _hydra_of_the_caller_kept() -> Iterator[None]:
    """Restore Hydra's global state at the end: the caller may be inside ``hydra.initialize``."""
    before, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = before  # Hydra may have replaced the instance
