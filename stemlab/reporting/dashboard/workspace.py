"""The panels as a W&B workspace and report (package wandb-workspaces)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any

from stemlab.config.dashboard_schema import DashboardConfig, PanelConfig
from stemlab.errors import StemlabError
from stemlab.reporting.dashboard.run_values import find_runs

_COSTS = {  # value of a panel -> name in a W&B run: summary, or column of the config
    "cost/parameters": "parameters/dense",
    "cost/embedding_parameters": "parameters/embedding",
    "cost/samples_per_s": "throughput/train_samples_per_s",
    "cost/seconds": "_runtime",
    "cost/seconds_to_best": "_runtime",
    "cost/memory_mb": "system/gpu.0.memoryAllocatedBytes",
}
_COMMON_SETTINGS = ("optim.lr", "model.net.embedding_dim", "model.net.net_dropout", "model.embedding_regularizer")


def workspace(settings: DashboardConfig, entity: str, project: str, known: Sequence[str] = ()) -> Any:
    """Return the workspace, not saved: ``save()`` sends it, ``_to_model()`` is its specification.

    Args:
        settings: settings of the command.
        entity: W&B user or team.
        project: W&B project.
        known: names of metrics, for bar charts of patterns.

    Raises:
        StemlabError: wandb-workspaces is not installed.
    """
    ws, wr = _packages()
    sections = [
        ws.Section(name=one.name, panels=[wandb_panel(wr, each, known) for each in one.panels], is_open=True)
        for one in settings.dashboard.sections
    ]
    compare = ws.Section(name="Comparison", panels=[wr.RunComparer(diff_only=True)], is_open=False)
    return ws.Workspace(entity=entity, project=project, name=settings.title, sections=[*sections, compare])


def save_workspace(settings: DashboardConfig) -> str:
    """Save workspace and report on the W&B server; return their addresses.

    The names of the metrics are those of the runs on this machine, if there are any.

    Raises:
        StemlabError: not logged in, or the server refuses them.
    """
    entity, project = str(settings.entity), settings.project or "stemlab"
    (_, wr), known = _packages(), _known_metrics(settings)
    try:
        board = workspace(settings, entity, project, known).save()
        report = wr.Report(
            entity=entity, project=project, title=settings.title, blocks=_blocks(settings, wr, known)
        ).save()
    except StemlabError:
        raise
    except Exception as error:  # wandb raises plain exceptions for missing logins, networks and permissions
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise StemlabError(f"W&B did not save the workspace of {entity}/{project}: {reason}.") from None
    return f"workspace: {board.url}\nreport: {report.url}"


def _known_metrics(settings: DashboardConfig) -> list[str]:
    with suppress(StemlabError):  # no runs on this machine
        runs, _ = find_runs(settings.runs or [str(settings.paths["runs_dir"])], settings.only)
        return sorted({name for run in runs for name in run.record["metrics"]})
    return []


def _blocks(settings: DashboardConfig, wr: Any, known: Sequence[str]) -> list[Any]:
    blocks: list[Any] = [wr.TableOfContents()]
    for section in settings.dashboard.sections:
        blocks += [wr.H1(section.name), wr.PanelGrid(panels=[wandb_panel(wr, one, known) for one in section.panels])]
    return blocks


def wandb_panel(wr: Any, panel: PanelConfig, known: Sequence[str]) -> Any:
    """Return the W&B panel of a panel.

    Args:
        wr: the module ``wandb_workspaces.reports.v2``.
        panel: the panel.
        known: names of metrics; a bar chart of a pattern shows those that match, or else the metric without task.
    """
    if panel.kind == "scatter":
        return wr.ScatterPlot(title=panel.title, x=_name(panel.x), y=_name(panel.y))
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
    metrics = [name for name in known if fnmatchcase(name, metric)] or [metric.removesuffix("/*").removesuffix("@*")]
    return wr.BarPlot(title=panel.title, metrics=metrics, groupby="model.name")


def _name(value: str | None) -> str:
    return _COSTS.get(str(value), str(value))


def _packages() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ModuleNotFoundError:
        raise StemlabError("a W&B workspace needs wandb-workspaces: pip install 'stemlab[dashboard]'.") from None
    return ws, wr
