"""Which fields of a dataset are its users and its items."""

from __future__ import annotations

from collections.abc import Sequence

from stemlab.data.spec import DatasetSpec
from stemlab.errors import StemlabError, nearest

USER_FIELDS = ("uid", "user_id")
ITEM_FIELDS = ("item_id", "iid", "video_id", "movie_id")


def user_field(spec: DatasetSpec, asked: str | None, key: str = "analysis.user_field") -> str:
    """Return the field of the users: the one asked for, the dataset's group, or the first of ``USER_FIELDS``.

    Raises:
        StemlabError: there is no such field.
    """
    return _field(spec, key, asked, [*([spec.group] if spec.group else []), *USER_FIELDS])


def item_field(spec: DatasetSpec, asked: str | None, key: str = "analysis.item_field") -> str:
    """Return the field of the items: the one asked for, or the first of ``ITEM_FIELDS``.

    Raises:
        StemlabError: there is no such field.
    """
    return _field(spec, key, asked, ITEM_FIELDS)


def _field(spec: DatasetSpec, key: str, asked: str | None, usual: Sequence[str]) -> str:
    known = list(spec.field_sizes)
    found = asked if asked is not None else next((name for name in usual if name in known), None)
    if found not in known:
        told = f"there is no field {found!r}" if found else "which field it is cannot be told"
        hint = nearest(found, known) if found else ""
        raise StemlabError(f"{key}: {told}; dataset {spec.name} has {', '.join(known)}.{hint}")
    return found
