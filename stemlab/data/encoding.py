"""Raw rows -> ids with a prepared dataset's vocabularies (prediction)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import DatasetSpec
from stemlab.data.vocabulary import Vocabulary
from stemlab.errors import StemlabError, nearest


class TableEncoder:
    """Encodes raw tables; the vocabularies are read once.

    Args:
        directory: prepared directory.
        spec: what is in it.
    """

    def __init__(self, directory: Path, spec: DatasetSpec) -> None:
        self._vocabularies = [Vocabulary.load(directory / "vocabulary", name) for name in spec.field_sizes]

    def __call__(self, table: Any) -> ImpressionBatch:
        """Encode an Arrow table with one column a field (others are ignored); no labels, no group.

        Raises:
            StemlabError: a column is missing or holds no category ids.
        """
        ids_FB = []
        for vocabulary in self._vocabularies:
            if vocabulary.field not in table.column_names:
                raise StemlabError(
                    f"the input has no column {vocabulary.field!r} (it has: {', '.join(table.column_names)})."
                    + nearest(vocabulary.field, table.column_names)
                )
            ids_FB.append(vocabulary.encode(table[vocabulary.field]))
        return ImpressionBatch(torch.from_numpy(np.stack(ids_FB, axis=1)))


def check_columns(setting: str, chosen: list[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the chosen column names if each is known and named once.

    Raises:
        StemlabError: an unknown or repeated name, with the nearest known one.
    """
    for name in chosen:
        if name not in known:
            raise StemlabError(f"{setting} has {name!r}, which is none of: {', '.join(known)}." + nearest(name, known))
        if chosen.count(name) > 1:
            raise StemlabError(f"{setting} names {name!r} twice: name every column once.")
    if not chosen:
        raise StemlabError(f"{setting} is empty: choose from {', '.join(known)}.")
    return tuple(chosen)


def check_group(group: str | None, fields: tuple[str, ...]) -> str | None:
    """Return the group if it is one of the fields (the published gAUC groups by its encoded id) or ``None``.

    Raises:
        StemlabError: the group is no field.
    """
    if group is not None and group not in fields:
        raise StemlabError(
            f"dataset.group={group} is none of dataset.fields ({', '.join(fields)}): add it there or set it to null."
            + nearest(group, fields)
        )
    return group
