"""What runs logged about their inside, epoch by epoch."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

PREFIX = "diagnostics/conflict/"


@dataclass(frozen=True)
class Curve:
    """A number over the epochs.

    Attributes:
        label: of the run.
        name: what it is (``finish-like/tables``).
        epochs: where it was logged, from 1 on.
        values: one an epoch.
    """

    label: str
    name: str
    epochs: tuple[int, ...]
    values: tuple[float, ...]


def logged_conflicts(label: str, directory: Path | None) -> list[Curve]:
    """Return the gradient cosines in a run's ``metrics.csv``; nothing where it logged none (or has no such file)."""
    path = directory / "metrics.csv" if directory else None
    if path is None or not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    names = [name for name in (lines[0] if lines else {}) if name.startswith(PREFIX)]
    return [_curve(label, name, lines) for name in names if any(line[name] for line in lines)]


def _curve(label: str, name: str, lines: list[dict[str, str]]) -> Curve:
    told = {int(line["epoch"]) + 1: float(line[name]) for line in lines if line.get(name)}
    return Curve(label, name.removeprefix(PREFIX), tuple(told), tuple(told.values()))
