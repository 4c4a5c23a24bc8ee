"""The dashboard as one HTML file: data, scripts and Vega are inside, nothing is fetched."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any

from stemlab import __version__
from stemlab.config.dashboard_schema import DashboardConfig
from stemlab.errors import StemlabError
from stemlab.reporting.collect import Run, collect
from stemlab.reporting.dashboard.charts import panel
from stemlab.reporting.dashboard.leaderboards import leaderboards
from stemlab.reporting.dashboard.run_values import find_runs, run_entry, split_settings
from stemlab.reporting.record import defined

_FILTERS = {"group": "data", "model": "model", "seed": "seed", "tag": "tag"}


def dashboard_data(settings: DashboardConfig) -> tuple[dict[str, Any], list[str]]:
    """Return the data of the page, and why records are left out.

    Raises:
        StemlabError: a path does not exist, or there is no run.
    """
    patterns = settings.runs or [str(settings.paths["runs_dir"])]
    runs, skipped = find_runs(patterns, settings.only)
    if not runs:
        raise StemlabError(f"there is no run in {', '.join(patterns)}.{' Left out: ' + skipped[0] if skipped else ''}")
    finished = collect(patterns, settings.only).runs if any(run.record["status"] == "finished" for run in runs) else []
    boards, parts = leaderboards(finished, settings)
    group_of = {str(run.path): part.title for part in parts for run in part.runs}
    panels = [one for section in settings.dashboard.sections for one in section.panels]
    names = [one.metric for one in panels if one.kind == "curves" and one.metric]
    entries = [run_entry(run, group_of.get(str(run.path), _group(run)), names) for run in runs]
    for number, entry in enumerate(entries):
        entry["id"] = number
    metrics = settings.metrics or ["auc", "ndcg@5", "gauc"]
    data = {
        "title": settings.title,
        "main": [f"{split}/{metric}" for split in (settings.split, "val") for metric in metrics],
        "common": split_settings(entries),
        "runs": entries,
        "boards": boards,
        "sections": [
            {"name": one.name, "panels": [panel(each) for each in one.panels]} for one in settings.dashboard.sections
        ],
        "reload_seconds": settings.interval if settings.watch else None,
    }
    return defined(data), skipped


def _group(run: Run) -> str:
    """Return the leaderboard to which a run will belong when it is finished, as far as its record tells."""
    return f"{run.record['dataset']}{' SAMPLE' if run.record.get('sample') else ''}"


def dashboard_page(data: Mapping[str, Any]) -> str:
    """Return the page.

    Raises:
        StemlabError: the package with the charts is not installed.
    """
    text, moment = html.escape, datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    filters = "\n".join(
        f'<label>{label}<select id="filter-{name}"></select></label>' for name, label in _FILTERS.items()
    )
    sections = "\n".join(_section(number, section) for number, section in enumerate(data["sections"]))
    content = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{text(data["title"])}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><style>{_asset("page.css")}</style></head>
<body>
<h1>{text(data["title"])}</h1>
<p class="about">{len(data["runs"])} runs, stemlab {__version__}, written {moment}</p>
<form class="filters" onsubmit="return false" aria-label="filters">
{filters}
<label>search<input id="filter-text" type="search"></label>
<button type="button" id="reset">show all</button>
<button type="button" id="download">download CSV</button>
<span id="status" role="status" aria-live="polite"></span>
</form>
<main>
<h2>Leaderboards</h2><div id="boards"></div>
<p class="note" id="charts"></p>
{sections}
<h2>Runs</h2><div id="runs"></div>
<h2>Comparison</h2><div id="comparison"></div>
</main>
<script id="data" type="application/json">{content}</script>
<script>(() => {{{vega_bundle()}}})();</script>
<script>(() => {{{_asset("page.js")}}})();</script>
</body></html>
"""


def _section(number: int, section: Mapping[str, Any]) -> str:
    figures = "\n".join(
        f'<figure id="panel-{number}-{index}" hidden><figcaption>{html.escape(one["title"])}</figcaption>'
        f'<div class="chart"></div></figure>'
        for index, one in enumerate(section["panels"])
    )
    return (
        f'<section id="section-{number}" hidden><h2>{html.escape(section["name"])}</h2>\n'
        f'<div class="panels">\n{figures}\n</div></section>'
    )


def _asset(name: str) -> str:
    return resources.files("stemlab.reporting.dashboard").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def vega_bundle() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, from the package vl-convert-python.

    Raises:
        StemlabError: the package is not installed.
    """
    try:
        import vl_convert
    except ModuleNotFoundError:
        raise StemlabError("the dashboard page needs Vega: pip install 'stemlab[dashboard]'.") from None
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace("</script", "<\\/script")
