"""Refuse settings of a split that its rule does not read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError

_READ = {
    "random": ("test_size", "valid_size", "seed"),
    "time": ("test_size", "valid_size"),
    "given": ("valid_size", "carve", "seed"),
    "dates": ("valid_from", "test_from"),
    "ratio": ("test_size", "valid_size"),
    "leave_one_out": (),
}


def check_split_keys(dataset: Mapping[str, Any], origin: Origin) -> None:
    """Refuse a key that the user sets and that ``dataset.split.rule`` does not read.

    Raises:
        StemlabError: the first such key.
    """
    split = dataset.get("split")
    if not isinstance(split, Mapping) or split.get("rule") not in _READ:
        return
    rule = split["rule"]
    for name in (name for name in split if name != "rule" and name not in _READ[rule]):
        key = f"dataset.split.{name}"
        if split[name] is not None and _set_by_user(key, origin):
            readers = [other for other, keys in _READ.items() if name in keys]
            advice = f", or set the rule to {' or '.join(readers)}" if readers else ""
            raise StemlabError(
                f"{key}={split[name]} ({origin(key)}) is not read by dataset.split.rule={rule}, which reads "
                f"{', '.join(_READ[rule]) or 'no size'}: leave it out{advice}."
            )


def _set_by_user(key: str, origin: Origin) -> bool:
    """Return whether an argument sets the key, or the table description does, together with the rule."""
    typed = getattr(origin, "on_command_line", lambda key: "command line" in origin(key))
    described = getattr(origin, "in_description", lambda key: False)
    return bool(typed(key) or (described(key) and not typed("dataset.split.rule")))
