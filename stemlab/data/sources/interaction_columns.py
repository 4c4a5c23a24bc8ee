"""Columns of an interaction log by name patterns: user, item, time, rating, category."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from stemlab.errors import StemlabError, nearest

ROLES = ("user", "item", "time", "rating", "category")
REQUIRED_ROLES = ("user", "item", "time", "rating")
_ID = "_?(id|idx|no|key|code|token)?"
_PATTERNS: Mapping[str, tuple[str, ...]] = {  # in order of preference; whole names in snake case
    "user": (
        *(rf"user{_ID}", "uid|u", rf"(customer|reviewer|visitor|member|account|client|buyer|person|profile){_ID}"),
        *(rf"(session|device|user_?name){_ID}", rf".*_user{_ID}"),
    ),
    "item": (
        *(rf"item{_ID}", "iid|i|asin|parent_asin|isbn|sku|pid|mid|vid"),
        rf"(movie|film|product|video|article|goods?|track|song|artist|book|game|business|news|photo|recipe|poi|venue"
        rf"|location|app|course|post|thread|anime|listing|hotel|show|episode|clip){_ID}",
        rf".*_item{_ID}",
    ),
    "time": (
        *("timestamp", "time|ts|unix_?time(stamp)?", "unix_review_time|review_time|rating_time|event_time|time_?ms"),
        *("date_?time|date|day|dt", "(created|updated|event|rated|visited|reviewed)_?(at|on|time|date|timestamp)"),
        ".*_(timestamp|time|ts|date|at)",
    ),
    "rating": ("rating|ratings", "score|stars?|overall|grade|preference", "(user|review|item)_(rating|score)"),
    "category": (
        *("category|categories|i_category", rf"(category|cat|cate|class|genre|tag|topic){_ID}"),
        *("genres|tags", rf"(item|main|movie|product|video)_(category|cat|class|genre|tag){_ID}"),
    ),
}


def guess_columns(path: Path, names: Sequence[str], chosen: Mapping[str, str | None]) -> dict[str, str]:
    """Return role -> column: the chosen one, or the one whose name fits.

    Args:
        path: the file, for messages.
        names: its columns, without types.
        chosen: role -> column of the settings ``dataset.user`` ...; ``None`` guesses. Only these roles are
            returned; all but the category are required.

    Raises:
        StemlabError: a chosen column does not exist, a required one is not found, or several columns fit equally.
    """
    found: dict[str, str] = {}
    for role, name in chosen.items():
        if name is not None and name not in names:
            near = nearest(name, tuple(names))
            raise StemlabError(f"dataset.{role}={name}: {path} has no such column ({_shown(names)}).{near}")
        taken = {column for column in chosen.values() if column is not None} | set(found.values())
        column = name if name is not None else _guess(path, role, [name for name in names if name not in taken])
        if column is not None:
            found[role] = column
        elif role in REQUIRED_ROLES:
            more = ", or write lines 'user item item ...' (dataset.format=lines)" if role == "time" else ""
            raise StemlabError(
                f"{path} has no column whose name suggests the {role} ({_shown(names)}): set "
                f"dataset.{role}=<column>{more}."
            )
    _refuse_repeated(found)
    return found


def _guess(path: Path, role: str, names: Sequence[str]) -> str | None:
    for pattern in _PATTERNS[role]:
        fitting = [name for name in names if re.fullmatch(pattern, _snake_case(name))]
        if len(fitting) > 1 and role in REQUIRED_ROLES:
            raise StemlabError(
                f"{path}: the columns {', '.join(fitting)} may all be the {role}: set dataset.{role}=<column>."
            )
        if fitting:
            return fitting[0]
    return None


def _snake_case(name: str) -> str:
    """Return userId and ``User ID`` as user_id."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[\s.\-]+", "_", parts).lower()


def _refuse_repeated(found: Mapping[str, str]) -> None:
    for role, column in found.items():
        other = next((name for name, used in found.items() if used == column and name != role), None)
        if other is not None:
            raise StemlabError(f"dataset.{role} and dataset.{other} are the same column {column!r}: name two columns.")


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"it has: {', '.join(names[:20])}{more}"
