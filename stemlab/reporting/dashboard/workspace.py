"""The panels as a W&B workspace and report (package wandb-workspaces)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any

from stemlab.config.dashboard_schema import DashboardConfig, PanelConfig
from stemlab.errors import StemlabError
from stemlab.reporting.dashboard.markdown_panels import MARKDOWN_KINDS, markdown_of
from stemlab.reporting.dashboard.page import dashboard_data

_COMMON_SETTINGS = ("optim.lr", "model.net.embedding_dim", "model.net.net_dropout", "model.embedding_regularizer")


def workspace(settings: DashboardConfig, entity: str, project: str, data: Mapping[str, Any] | None = None) -> Any:
    """Return the workspace, not saved: ``save()`` sends it, ``_to_model()`` is its specification.

    Args:
        settings: settings of the command.
        entity: W&B user or team.
        project: W&B project.
        data: ``dashboard_data`` of the runs on this machine: names of metrics for bar charts of patterns, and the
            values of panels that W&B does not have.

    Raises:
        StemlabError: wandb-workspaces is not installed.
    """
    ws, wr = _packages()
    sections = [
        ws.Section(name=one.name, panels=[wandb_panel(wr, each, data or {}) for each in one.panels], is_open=True)
        for one in settings.dashboard.sections
    ]
    compare = ws.Section(name="Comparison", panels=[wr.RunComparer(diff_only=True)], is_open=False)
    return ws.Workspace(entity=entity, project=project, name=settings.title, sections=[*sections, compare])


def wandb_report(settings: DashboardConfig, entity: str, project: str, data: Mapping[str, Any] | None = None) -> Any:
    """Return the report with the same panels, not saved; the arguments are those of ``workspace``.

    Raises:
        StemlabError: wandb-workspaces is not installed.
    """
    _, wr = _packages()
    blocks: list[Any] = [wr.TableOfContents()]
    for section in settings.dashboard.sections:
        panels = [wandb_panel(wr, one, data or {}) for one in section.panels]
        blocks += [wr.H1(section.name), wr.PanelGrid(panels=panels)]
    return wr.Report(entity=entity, project=project, title=settings.title, blocks=blocks, width="fluid")


def save_workspace(settings: DashboardConfig) -> str:
    """Save workspace and report on the W&B server; return their addresses.

    Raises:
        StemlabError: not logged in, or the server refuses them.
    """
    entity, project, data = str(settings.entity), settings.project or "stemlab", _local_data(settings)
    try:
        board = workspace(settings, entity, project, data).save()
        page = wandb_report(settings, entity, project, data).save()
    except StemlabError:
        raise
    except Exception as error:  # wandb raises plain exceptions for missing logins, networks and permissions
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise StemlabError(f"W&B did not save the workspace of {entity}/{project}: {reason}.") from None
    return f"workspace: {board.url}\nreport: {page.url}"


def _local_data(settings: DashboardConfig) -> dict[str, Any]:
    with suppress(StemlabError):  # no runs on this machine
        return dashboard_data(settings)[0]
    return {}


def wandb_panel(wr: Any, panel: PanelConfig, data: Mapping[str, Any]) -> Any:
    """Return the W&B panel of a panel.

    Args:
        wr: the module ``wandb_workspaces.reports.v2``.
        panel: the panel.
        data: ``dashboard_data``, or empty. A bar chart of a pattern shows the metrics that match, or else the metric
            without task.
    """
    if panel.kind == "reliability":
        return wr.CustomChart(
            query={"summaryTable": {"tableKey": "reliability_table"}},
            chart_name="wandb/lineseries/v0",
            chart_fields={"step": "step", "lineVal": "lineVal", "lineKey": "lineKey"},
            chart_strings={"title": panel.title, "xname": "mean prediction"},
        )
    if panel.kind in MARKDOWN_KINDS:
        return wr.MarkdownPanel(markdown=markdown_of(panel, data))
    if panel.kind == "scatter":
        return wr.ScatterPlot(title=panel.title, x=str(panel.x), y=str(panel.y))
    metric = str(panel.metric)
    if panel.kind == "parallel":
        names = [*(f"c::{name}" for name in _COMMON_SETTINGS), metric]
        columns = [wr.ParallelCoordinatesPlotColumn(name) for name in names]
        return wr.ParallelCoordinatesPlot(title=panel.title, columns=columns)
    if panel.kind == "importance":
        return wr.ParameterImportancePlot(with_respect_to=metric)
    if panel.kind == "curves":
        shown = {"metric_regex": metric.replace("*", ".*")} if "*" in metric else {"y": [metric]}
        return wr.LinePlot(title=panel.title, x="epoch", **shown)
    known = sorted({name for run in data.get("runs", ()) for name in run["metrics"]})
    found = [name for name in known if fnmatchcase(name, metric) and name.count("/") == metric.count("/")]
    metrics = found or [re.sub(r"[/@]\*.*", "", metric)]
    return wr.BarPlot(title=panel.title, metrics=metrics, groupby="model.name")


def _packages() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ModuleNotFoundError:
        raise StemlabError("a W&B workspace needs wandb-workspaces: pip install 'stemlab[dashboard]'.") from None
    return ws, wr
