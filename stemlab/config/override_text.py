"""Values as texts of Hydra's override grammar: ``key=value``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stemlab.errors import StemlabError

_PLAIN = re.compile(r"([A-Za-z_]|\.{0,2}/)[\w/.@-]*", re.ASCII)
_RESERVED = ("true", "false", "null", "nan", "inf")


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
        return f"{{{','.join(f'{override_text(key, name)}:{override_text(key, one)}' for name, one in value.items())}}}"
    if isinstance(value, Sequence):
        return f"[{','.join(override_text(key, item) for item in value)}]"
    raise StemlabError(f"{key}={value!r} in the settings must be a text, a number, a list, a mapping or None.")
