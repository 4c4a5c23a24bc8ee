"""Leaderboards of the page: the tables of ``stemlab.report``, one per dataset and protocol."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from stemlab.config.dashboard_schema import DashboardConfig
from stemlab.config.limits import LIMITED
from stemlab.errors import StemlabError
from stemlab.metric_directions import metric_direction
from stemlab.reporting.collect import Run
from stemlab.reporting.parts import ReportPart, metrics_of, separate
from stemlab.reporting.render import column_heading, label_of, notes_of, settings_text
from stemlab.reporting.table import ReportTable, build_table


def leaderboards(runs: Sequence[Run], settings: DashboardConfig) -> tuple[list[dict[str, Any]], list[ReportPart]]:
    """Return the tables of finished runs for the page, and the runs of each."""
    parts = sorted(separate(runs, ["model"]), key=_synthetic_last) if runs else []
    boards = []
    for part in parts:
        try:
            table, split = _table(part.runs, settings)
        except StemlabError as error:
            boards.append({"title": part.title, "group": part.title, "columns": [], "rows": [], "notes": [str(error)]})
        else:
            remark = "" if split == "test" else " (validation)"
            boards.append({"title": part.title + remark, "group": part.title, **_content(table)})
    return boards, parts


def _synthetic_last(part: ReportPart) -> tuple[bool, bool, str]:
    return "SAMPLE" in part.title, LIMITED in part.title, part.title


def _table(runs: Sequence[Run], settings: DashboardConfig) -> tuple[ReportTable, str]:
    """Return the table of a part and its split: that of validation if nothing was tested."""
    tested = any(name.startswith(f"{settings.split}/") for run in runs for name in run.record["metrics"])
    split = settings.split if tested else "val"
    metrics = settings.metrics or metrics_of(runs, split)
    return build_table(runs, ["model"], metrics, split, (), "pooled", settings.level), split


def _short(text: str) -> str:
    """Return a text in which long decimal fractions have four significant digits."""
    return re.sub(r"\d+\.\d{5,}", lambda found: f"{float(found[0]):.4g}", text)


def _content(table: ReportTable) -> dict[str, Any]:
    columns = [
        {"name": name, "title": column_heading(name), "better": metric_direction(f"test/{name}", table.own)}
        for name in table.columns
    ]
    rows = []
    for index, row in enumerate(table.rows):
        cells = []
        for name in table.columns:
            stat, tests = row.stats[name], table.significance
            best = tests is not None and tests.is_best(index, name)
            cells.append({"mean": stat.mean, "std": stat.std, "n": len(stat.values), "best": best})
        models = sorted({str(run.record["model"]) for run in row.runs})
        differs = _short(settings_text(row)) if row.differs else ""
        rows.append(
            {
                "label": " ".join(label_of(row)),
                "settings": differs,
                "models": models,
                "seeds": row.seeds,
                "runs": [str(run.path) for run in row.runs],
                "cells": cells,
            }
        )
    return {"columns": columns, "rows": rows, "notes": notes_of(table)}
