"""Check of the input columns for label leakage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from stemlab.errors import StemlabError

KNOWN_LATER = "known only after the impression was shown"
IS_LABEL = "a label"


def refuse_leaks(setting: str, chosen: Sequence[str], reasons: Mapping[str, str]) -> None:
    """Refuse columns that leak the label.

    Args:
        setting: config key that names the columns.
        chosen: the columns.
        reasons: leaking column -> why it leaks.

    Raises:
        StemlabError: a chosen column is in ``reasons``.
    """
    for name in chosen:
        if name in reasons:
            raise StemlabError(f"{setting} has {name!r}, which is {reasons[name]}: it leaks the label; remove it.")


def reasons(after: Iterable[str], labels: Iterable[str]) -> dict[str, str]:
    """Return column -> reason, for columns known only after the impression and for labels."""
    return {**dict.fromkeys(after, KNOWN_LATER), **dict.fromkeys(labels, IS_LABEL)}
