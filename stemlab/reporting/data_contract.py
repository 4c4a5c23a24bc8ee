"""Comparison of a prepared dataset with the published statistics of its source (``conf/statistics/<dataset>.yaml``).

A file lists values with their sources::

    - {statistic: samples, value: 1000209, source: README of MovieLens-1M}
    - {statistic: share/like, value: 0.575, tolerance: 0.0005, when: {min_count: 10}}
    - {statistic: items, value: null, source: not published}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from stemlab.config.conf_dir import conf_dir
from stemlab.data.prepare.manifest import read_manifest
from stemlab.data.prepare.split import SPLITS
from stemlab.data.sequence.log import InteractionLog
from stemlab.data.store import ColumnStore
from stemlab.errors import StemlabError

_Value = int | float | date
_ROWS = 1 << 20  # read at once


class PublishedStatistic(BaseModel):
    """A published statistic; ``when`` holds settings of the dataset for which it applies.

    ``value`` is a list if the number depends on which raw files are there, and null if it was not found in any source.
    Without ``compared`` the distance is shown and is no part of the result.
    """

    model_config = ConfigDict(extra="forbid")
    statistic: str
    value: date | int | float | list[int] | None
    source: str
    tolerance: float = 0.0
    when: dict[str, Any] = {}
    compared: bool = True


@dataclass(frozen=True)
class StatisticCheck:
    """A statistic of the prepared dataset and the published one.

    Attributes:
        published: the published statistic.
        prepared: the prepared one; None if the prepared files do not have it.
    """

    published: PublishedStatistic
    prepared: _Value | None

    @property
    def nearest(self) -> _Value | None:
        """The published value, of several the one nearest to the prepared dataset."""
        value = self.published.value
        if isinstance(value, list):
            prepared = self.prepared
            return min(value, key=lambda one: abs(one - prepared) if isinstance(prepared, int | float) else 0)
        return value

    @property
    def difference(self) -> float | None:
        """Prepared minus published value, days for dates; None if one is missing."""
        value, prepared = self.nearest, self.prepared
        if isinstance(value, date) and isinstance(prepared, date):
            return float((prepared - value).days)
        if isinstance(value, int | float) and isinstance(prepared, int | float):
            return prepared - value
        return None

    @property
    def agrees(self) -> bool | None:
        """Whether the difference is within the tolerance; None if nothing is compared."""
        if self.difference is None or not self.published.compared:
            return None
        return abs(self.difference) <= self.published.tolerance


def read_statistics(dataset: Mapping[str, Any]) -> list[PublishedStatistic]:
    """Return the published statistics that apply to the settings of a dataset; empty if there is no file for it.

    Raises:
        StemlabError: the file is not valid.
    """
    path = conf_dir() / "statistics" / f"{dataset['name']}.yaml"
    if not path.is_file():
        return []
    try:
        entries = [PublishedStatistic.model_validate(entry) for entry in yaml.safe_load(path.read_text("utf-8"))]
    except (ValidationError, yaml.YAMLError, TypeError) as error:
        raise StemlabError(f"{path} is not a list of statistics ({error}).") from None
    return [entry for entry in entries if all(dataset.get(key) == value for key, value in entry.when.items())]


def measured_statistics(directory: Path) -> dict[str, _Value]:
    """Return the statistics of a prepared dataset: counts, positive samples and their share, users, vocabulary, days.

    Args:
        directory: the prepared directory.
    """
    manifest = read_manifest(directory)
    if manifest["spec"].get("kind") == "sequence":
        return _sequences(directory, manifest)
    rows = manifest["rows"]
    found: dict[str, _Value] = {"samples": sum(rows.values())}
    found |= {f"samples/{split}": count for split, count in rows.items()}
    for task in manifest["spec"]["tasks"]:
        positives = sum(manifest["positives"][split][task] for split in rows)
        found |= {f"positives/{task}": positives, f"share/{task}": positives / sum(rows.values())}
    found |= {f"vocabulary/{name}": size for name, size in manifest["vocabulary"].items()}
    if (users := _distinct_groups(directory)) is not None:
        found["users"] = users
    return found


def _sequences(directory: Path, manifest: Mapping[str, Any]) -> dict[str, _Value]:
    counts, spec = manifest["interactions"], manifest["spec"]
    found: dict[str, _Value] = {"interactions": sum(counts.values()), "users": spec["users"], "items": spec["items"]}
    found |= {f"interactions/{split}": count for split, count in counts.items()}
    found |= {f"samples/{split}": count for split, count in manifest["rows"].items()}
    found |= {f"negatives/{split}": count for split, count in manifest["negatives"].items() if count}
    time = InteractionLog(directory).time
    if len(time):
        first, last = (datetime.fromtimestamp(int(value), UTC).date() for value in (time.min(), time.max()))
        found |= {"first_day": first, "last_day": last}
    return found


def _distinct_groups(directory: Path) -> int | None:
    """Return the number of values of the group column; None without one."""
    known = np.zeros(0, np.int64)
    for split in SPLITS:
        group_R = ColumnStore(directory / f"{split}.arrow").group
        if group_R is None:
            return None
        for start in range(0, len(group_R), _ROWS):
            known = np.union1d(known, group_R[start : start + _ROWS])
    return len(known)


def check_statistics(published: Sequence[PublishedStatistic], measured: Mapping[str, _Value]) -> list[StatisticCheck]:
    """Return each published statistic with the prepared one."""
    return [StatisticCheck(entry, measured.get(entry.statistic)) for entry in published]


def statistic_rows(checks: Sequence[StatisticCheck]) -> Iterator[tuple[str, str, str, str, str, str]]:
    """Yield statistic, prepared value, published value, difference, result and source as texts."""
    for check in checks:
        difference, agrees = check.difference, check.agrees
        result = {True: "agrees", False: "DIFFERS", None: "shown" if difference is not None else "-"}
        published = "not found" if check.published.value is None else _text(check.nearest)
        days = " days" if isinstance(check.prepared, date) and difference is not None else ""
        yield (
            check.published.statistic,
            "not stored" if check.prepared is None else _text(check.prepared),
            published,
            "" if difference is None else f"{_text(difference, sign='+')}{days}",
            result[agrees],
            check.published.source,
        )


def _text(value: _Value | None, sign: str = "") -> str:
    if isinstance(value, float) and not value.is_integer():
        return f"{value:{sign}.4f}"
    return str(value) if isinstance(value, date) else f"{int(value or 0):{sign},}"
