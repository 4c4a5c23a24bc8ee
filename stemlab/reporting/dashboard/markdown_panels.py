"""Panels of values that W&B does not have, as Markdown tables: gains per bucket, spectra, lineage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from stemlab.config.dashboard_schema import PanelConfig

_SHOWN = 40  # rows of a table
_NOTHING = {
    "buckets": "There are no results of `stemlab.analyze analysis={analysis}` on this machine.",
    "spectra": "There are no results of `stemlab.analyze analysis=collapse` on this machine.",
    "lineage": "W&B shows the lineage of artifacts of runs with `logger.wandb_artifacts=true`.",
}
MARKDOWN_KINDS = tuple(_NOTHING)
"""Kinds of panels that are shown as a table."""


def markdown_of(panel: PanelConfig, data: Mapping[str, Any]) -> str:
    """Return the values of a panel of a kind of ``MARKDOWN_KINDS`` as Markdown.

    Args:
        panel: the panel.
        data: ``dashboard_data`` of the runs on this machine, or empty.
    """
    head, rows = _TABLES[panel.kind](panel, data)
    heading = f"### {panel.title}"
    if not rows:
        return f"{heading}\n\n{_NOTHING[panel.kind].format(analysis=panel.analysis)}"
    lines = [head, ["---"] * len(head), *rows[:_SHOWN]]
    more = [f"\n{len(rows) - _SHOWN} more rows are left out."] if len(rows) > _SHOWN else []
    return "\n".join([heading, "", *(f"| {' | '.join(line)} |" for line in lines), *more])


_Table = tuple[Sequence[str], list[Sequence[str]]]


def _analyses(data: Mapping[str, Any], name: str) -> Iterable[Mapping[str, Any]]:
    return (one for one in data.get("analyses", ()) if one["analysis"] == name)


def _buckets(panel: PanelConfig, data: Mapping[str, Any]) -> _Table:
    """Return gains in thousandths with their intervals; rows: models and tasks, columns: buckets.

    A star marks users with similar feedback for both tasks.
    """
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for one in _analyses(data, str(panel.analysis)):
        for row in one["rows"]:
            interval = f"{row['gain']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]{' *' if row['similar'] else ''}"
            cells.setdefault((row["label"], row["facet"]), {})[row["bucket"]] = interval
    buckets = list(dict.fromkeys(bucket for found in cells.values() for bucket in found))
    rows = [(*key, *(found.get(bucket, "") for bucket in buckets)) for key, found in cells.items()]
    return ("run", "task", *(f"{bucket}, ‰" for bucket in buckets)), list(rows)


def _spectra(panel: PanelConfig, data: Mapping[str, Any]) -> _Table:
    """Return the sum of the mean spectrum (the Information Abundance of its tables) and its first and last values."""
    spectra: dict[tuple[str, str], list[float]] = {}
    for one in _analyses(data, "collapse"):
        for row in one["rows"]:
            spectra.setdefault((row["label"], row["role"]), []).append(row["value"])
    rows = [(*key, _number(sum(found)), _number(found[-1]), str(len(found))) for key, found in spectra.items()]
    return ("run", "tables", "information abundance", "last / first singular value", "width"), list(rows)


def _lineage(panel: PanelConfig, data: Mapping[str, Any]) -> _Table:
    runs = [run for run in data.get("runs", ()) if run["first_stage"]]
    rows = [(f"{run['dataset']} {run['data']}", run["first_stage"].rpartition("/")[2], run["name"]) for run in runs]
    return ("prepared data", "first stage", "run"), list(rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


_TABLES: Mapping[str, Callable[[PanelConfig, Mapping[str, Any]], _Table]] = {
    "buckets": _buckets,
    "spectra": _spectra,
    "lineage": _lineage,
}
