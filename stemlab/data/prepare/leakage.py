"""Columns that would tell a model what it is to predict: refused as inputs, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from stemlab.errors import StemlabError

KNOWN_LATER = "known only after the impression was shown"
IS_LABEL = "a label"


def refuse_leaks(setting: str, chosen: Sequence[str], reasons: Mapping[str, str]) -> None:
    """Refuse a column that gives the answer away.

    Args:
        setting: config key that names the columns.
        chosen: the columns.
        reasons: column -> what it is.

    Raises:
        StemlabError: the first such column, and why it is no input.
    """
    for name in chosen:
        if name in reasons:
            raise StemlabError(
                f"{setting} has {name!r}, which is {reasons[name]}: it gives the answer away, remove it."
            )


def reasons(after: Iterable[str], labels: Iterable[str]) -> dict[str, str]:
    """Return column -> reason for columns known too late and for labels."""
    return {**dict.fromkeys(after, KNOWN_LATER), **dict.fromkeys(labels, IS_LABEL)}
