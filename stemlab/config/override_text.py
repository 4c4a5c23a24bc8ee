"""Values as texts of Hydra's override grammar: ``key=value``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException

from stemlab.errors import StemlabError

_PLAIN = re.compile(r"([A-Za-z_]|\.{0,2}/)[\w/.@-]*", re.ASCII)
_RESERVED = ("true", "false", "null", "nan", "inf")
_ESCAPED = re.compile(r"[\\()\[\]{}:=, \t]")


def is_plain(text: str) -> bool:
    """Return whether a text needs no quotes; keys of mappings cannot have quotes."""
    return bool(_PLAIN.fullmatch(text)) and text.lower() not in _RESERVED


def typed_text(overrides: Any) -> list[str]:
    """Return overrides, a ``ListConfig`` in Hydra's config, as they were typed: with ``${...}``, which may be swept."""
    return [str(overrides._get_node(index)._value()) for index in range(len(overrides))]


def quote_override(text: str) -> str:
    """Return a text in quotes."""
    slashes = re.sub(r"(\\*)'", r"\1\1\\'", text)  # before a quote, Hydra reads \\ as one backslash
    end = re.search(r"\\*$", slashes)
    return f"'{slashes}{end[0] if end else ''}'"


def override_text(key: str, value: Any) -> str:
    """Return a value as a text.

    Hydra's grammar has no quotes around keys of mappings, so that it cannot express some of them (``is_expressible``).

    Args:
        key: its key, for the error message.
        value: a text, path, number, list or mapping of them, or None.

    Raises:
        StemlabError: it is something else.
    """
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")
    if isinstance(value, str | Path):
        return str(value) if is_plain(str(value)) else quote_override(str(value))
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{_key_text(name)}:{override_text(key, one)}' for name, one in value.items())}}}"
    if isinstance(value, Sequence):
        return f"[{','.join(override_text(key, item) for item in value)}]"
    raise StemlabError(f"{key}={value!r} in the settings must be a text, a number, a list, a mapping or None.")


def _key_text(name: Any) -> str:
    """Return a key of a mapping as a text, with a backslash before each character that has a meaning in a value."""
    return _ESCAPED.sub(r"\\\g<0>", name) if isinstance(name, str) else str(name)


def is_expressible(key: str, value: Any, read: Callable[[str], Any]) -> bool:
    """Return whether Hydra reads the keys of all mappings in a value as they are.

    Args:
        key: key of the value.
        value: as in ``override_text``.
        read: returns the value of a text ``key=value``; raises an exception for wrong syntax.
    """
    if _has_plain_keys(value):
        return True
    try:
        return _has_same_keys(read(f"{key}={override_text(key, value)}"), value)
    except HydraException:
        return False


def _has_plain_keys(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_plain(key) and _has_plain_keys(item) for key, item in value.items())
    return not isinstance(value, list | tuple) or all(map(_has_plain_keys, value))


def _has_same_keys(found: Any, value: Any) -> bool:
    if isinstance(value, Mapping):
        keys = [(type(key), key) for key in value]
        return [(type(key), key) for key in found] == keys and _has_same_keys([*found.values()], [*value.values()])
    return not isinstance(value, list | tuple) or all(map(_has_same_keys, found, value))
