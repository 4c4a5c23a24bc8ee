"""Gradient cosines that runs logged per epoch."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "diagnostics/conflict/"


@dataclass(frozen=True)
class LoggedCurve:
    """A logged quantity over the epochs.

    Attributes:
        label: label of the run.
        name: name of the quantity (``finish-like/tables``).
        epochs: epochs with a value, from 1.
        values: one value per epoch.
    """

    label: str
    name: str
    epochs: tuple[int, ...]
    values: tuple[float, ...]


def logged_conflicts(label: str, directory: Path | None) -> list[LoggedCurve]:
    """Return the gradient cosines in the ``metrics.csv`` of a run; empty if there are none or no such file."""
    path = directory / "metrics.csv" if directory else None
    if path is None or not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    names = [name for name in (lines[0] if lines else {}) if name.startswith(_PREFIX)]
    return [_curve(label, name, lines) for name in names if any(line[name] for line in lines)]


def _curve(label: str, name: str, lines: list[dict[str, str]]) -> LoggedCurve:
    by_epoch = {int(line["epoch"]): float(line[name]) for line in lines if line.get(name)}
    return LoggedCurve(label, name.removeprefix(_PREFIX), tuple(by_epoch), tuple(by_epoch.values()))
