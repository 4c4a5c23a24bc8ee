"""Gradient cosines that runs logged per epoch."""

from __future__ import annotations

import csv
import re
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
    """Return the gradient cosines in ``metrics.csv`` of a run and in the files of its interrupted parts.

    The list is empty if there are none or no such file.
    """
    lines: list[dict[str, str]] = []
    for path in _files(directory) if directory else []:
        with path.open(encoding="utf-8", newline="") as file:
            lines += csv.DictReader(file)
    names = dict.fromkeys(name for line in lines for name in line if name and name.startswith(_PREFIX))
    return [_curve(label, name, lines) for name in names if any(line.get(name) for line in lines)]


def _files(directory: Path) -> list[Path]:
    """Return the curves of the interrupted parts in their order, then those of the last part."""
    parts = {path: re.findall(r"\d+", path.stem) for path in directory.glob("metrics_until_epoch_*.csv")}
    last = directory / "metrics.csv"
    return [*sorted(parts, key=lambda path: [int(n) for n in parts[path]]), *([last] if last.is_file() else [])]


def _curve(label: str, name: str, lines: list[dict[str, str]]) -> LoggedCurve:
    by_epoch = {int(line["epoch"]): float(line[name]) for line in lines if line.get(name)}
    epochs = sorted(by_epoch)
    return LoggedCurve(label, name.removeprefix(_PREFIX), tuple(epochs), tuple(by_epoch[epoch] for epoch in epochs))
