"""The dashboard as one HTML file: data, scripts and Vega are inside, nothing is fetched."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any

from stemlab import __version__
from stemlab.config.dashboard_schema import DashboardConfig
from stemlab.config.limits import LIMITED, run_limits
from stemlab.errors import StemlabError
from stemlab.reporting.collect import Run, collect
from stemlab.reporting.dashboard.analysis_values import analysis_entries, run_key
from stemlab.reporting.dashboard.charts import panel
from stemlab.reporting.dashboard.leaderboards import leaderboards
from stemlab.reporting.dashboard.run_reliability import run_reliability
from stemlab.reporting.dashboard.run_values import find_runs, run_entry, split_settings
from stemlab.reporting.record import defined

_SCRIPTS = ("tables.js", "charts.js", "page.js")
_NOTES = {
    "scatter": "The dashed line joins the runs that no other run beats in both.",
    "parallel": "One line per run; positions are ranks.",
    "importance": "Ranks of numbers; correlation ratio of texts. Settings that were not varied independently share it.",
    "reliability": "15 bins of equally many test samples, logarithmic; on the dashed line predictions are calibrated.",
    "buckets": "Above zero: better than the network for this task alone. Lines: bootstrap intervals over users.",
    "comparable": "In B1 feedback for the second task dominates, in the last bucket feedback for the first; diamonds: "
    "users with similar feedback for both.",
    "spectra": "Mean over the tables of full width; a steep line is a collapsed table.",
}
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
    entries = _run_entries(runs, group_of, settings, skipped)
    for board in boards:
        for row in board["rows"]:
            row["runs"] = [number for number, run in enumerate(runs) if str(run.path) in row["runs"]]
    analyses, unread = analysis_entries(patterns)
    skipped += unread
    metrics = settings.metrics or ["auc", "ndcg@5", "gauc"]
    data = {
        "title": settings.title,
        "main": [f"{split}/{metric}" for split in (settings.split, "val") for metric in metrics],
        "common": split_settings(entries),
        "runs": entries,
        "boards": boards,
        "analyses": _of_runs(analyses, runs, entries),
        "sections": [
            {"name": one.name, "panels": [panel(each) for each in one.panels]} for one in settings.dashboard.sections
        ],
        "reload_seconds": settings.interval if settings.watch else None,
    }
    return defined(data), skipped


def _run_entries(
    runs: Sequence[Run], group_of: Mapping[str, str], settings: DashboardConfig, skipped: list[str]
) -> list[dict[str, Any]]:
    """Return the values of the runs; add to ``skipped`` why saved scores are left out."""
    panels = [one for section in settings.dashboard.sections for one in section.panels]
    names = [one.metric for one in panels if one.kind == "curves" and one.metric]
    with_scores = any(one.kind == "reliability" for one in panels)
    entries = []
    for number, run in enumerate(runs):
        entry = {"id": number, **run_entry(run, group_of.get(str(run.path), _group(run)), names)}
        if with_scores:
            entry["reliability"], unread = run_reliability(run)
            skipped += [unread] if unread else []
        entries.append(entry)
    return entries


def _of_runs(
    analyses: Sequence[dict[str, Any]], runs: Sequence[Run], entries: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the analyses of data that some run was trained on, with their leaderboard and the ids of their runs."""
    known = {run_key(run.record): entry for run, entry in zip(runs, entries, strict=True)}
    same_data = {run.record["dataset_fingerprint"]: entry["group"] for run, entry in zip(runs, entries, strict=True)}
    found = []
    for analysis in analyses:
        keys = dict.fromkeys(tuple(key) for key in analysis.pop("runs"))
        mine = [known[key] for key in keys if key in known]
        groups = [entry["group"] for entry in mine] or [same_data[key[0]] for key in keys if key[0] in same_data]
        if groups:
            found.append({**analysis, "group": groups[0], "runs": [entry["id"] for entry in mine]})
    return found


def _group(run: Run) -> str:
    """Return the leaderboard to which a run will belong when it is finished, as far as its record tells."""
    limited = f" {LIMITED}" if run_limits(run.config, run.record.get("stage1")) else ""
    return f"{run.record['dataset']}{' SAMPLE' if run.record.get('sample') else ''}{limited}"


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
<a class="skip" href="#leaderboards">skip to the leaderboards</a>
<header><h1>{text(data["title"])}</h1>
<p class="about">{len(data["runs"])} runs, stemlab {__version__}, written {moment}</p></header>
<nav aria-label="sections">{_links(data["sections"])}</nav>
<form class="filters" onsubmit="return false" aria-label="filters">
{filters}
<label>search<input id="filter-text" type="search" placeholder="stem lr=0.001"></label>
<button type="button" id="reset">show all</button>
<button type="button" id="download">download CSV</button>
<a id="compare-link" href="#compare" hidden></a>
<label class="live" hidden><input id="live" type="checkbox">reload</label>
<span id="status" role="status" aria-live="polite"></span>
</form>
<main>
<h2 id="leaderboards">Leaderboards</h2><div id="boards"></div>
<p class="note" id="charts"></p>
{sections}
<h2 id="all-runs">Runs</h2><div id="runs"></div>
<h2 id="compare">Comparison</h2><div id="comparison"></div>
</main>
<script id="data" type="application/json">{content}</script>
<script>(() => {{{vega_bundle()}}})();</script>
<script>(() => {{{"".join(map(_asset, _SCRIPTS))}}})();</script>
</body></html>
"""


def _links(sections: Sequence[Mapping[str, Any]]) -> str:
    names = [html.escape(one["name"]) for one in sections]
    charts = [f'<a id="link-{number}" href="#section-{number}">{name}</a>' for number, name in enumerate(names)]
    ends = ['<a href="#all-runs">Runs</a>', '<a href="#compare">Comparison</a>']
    return " ".join(['<a href="#leaderboards">Leaderboards</a>', *charts, *ends])


def _section(number: int, section: Mapping[str, Any]) -> str:
    figures = "\n".join(
        f'<figure id="panel-{number}-{index}" class="{one["kind"]}" hidden>'
        f'<figcaption>{html.escape(one["title"])}</figcaption>{_note(one)}<div class="chart"></div></figure>'
        for index, one in enumerate(section["panels"])
    )
    return (
        f'<section id="section-{number}" hidden><h2>{html.escape(section["name"])}</h2>\n'
        f'<div class="panels">\n{figures}\n</div></section>'
    )


def _note(panel: Mapping[str, Any]) -> str:
    sentences = [_NOTES[key] for key in (panel["kind"], panel.get("analysis")) if key in _NOTES]
    return f'<p class="note">{" ".join(sentences)}</p>' if sentences else ""


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
