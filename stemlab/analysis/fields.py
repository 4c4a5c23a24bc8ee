"""User and item field of a dataset."""

from __future__ import annotations

from collections.abc import Sequence

from stemlab.data.spec import DatasetSpec
from stemlab.errors import StemlabError, nearest

USER_FIELDS = ("uid", "user_id")
ITEM_FIELDS = ("item_id", "iid", "video_id", "movie_id")


def user_field(spec: DatasetSpec, name: str | None, key: str = "analysis.user_field") -> str:
    """Return the user field: ``name`` if given, else the dataset's group field, else the first of ``USER_FIELDS``.

    Args:
        spec: dataset.
        name: configured field, or ``None``.
        key: config key for the error message.

    Raises:
        StemlabError: the dataset has no such field.
    """
    return _field(spec, key, name, [*([spec.group] if spec.group else []), *USER_FIELDS])


def item_field(spec: DatasetSpec, name: str | None, key: str = "analysis.item_field") -> str:
    """Return the item field: ``name`` if given, else the first of ``ITEM_FIELDS``.

    Args:
        spec: dataset.
        name: configured field, or ``None``.
        key: config key for the error message.

    Raises:
        StemlabError: the dataset has no such field.
    """
    return _field(spec, key, name, ITEM_FIELDS)


def _field(spec: DatasetSpec, key: str, name: str | None, candidates: Sequence[str]) -> str:
    known = list(spec.field_sizes)
    found = name if name is not None else next((candidate for candidate in candidates if candidate in known), None)
    if found not in known:
        problem = f"there is no field {found!r}" if found else f"none of {', '.join(candidates)} is a field; name it"
        hint = nearest(found, known) if found else ""
        raise StemlabError(f"{key}: {problem}; dataset {spec.name} has {', '.join(known)}.{hint}")
    return found
