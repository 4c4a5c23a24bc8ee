"""Console output before and after a run: run summary and metrics tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich
from rich.markup import escape
from rich.table import Table

from stemlab.config.limits import LIMITED, limits_text, run_limits
from stemlab.data.spec import DatasetSpec, SequenceSpec
from stemlab.metric_directions import BUILT_IN, REGRESSION_METRICS
from stemlab.runs.footprint import BYTES, Footprint, format_bytes, table_contents
from stemlab.runs.pretrained import pretrained_words

_TASK_METRICS = ("auc", "gauc", "logloss", "calibration", "ece", "rmse", "mae", "xauc")
# the first ones that fit into the width of the terminal are shown
_SCENARIO_METRICS = ("auc", "gauc", "logloss", "rmse", "mae", "xauc")
_MIN_COLUMN_WIDTH = 9  # "undefined"


def print_run_summary(
    record: Mapping[str, Any],
    steps: int,
    processes: int,
    directory: Path,
    footprint: Footprint,
    engine: str | None = None,
) -> None:
    """Print the run summary: samples, parameters, memory of the embedding tables, bytes per step, run directory.

    Args:
        record: record of the run.
        steps: training steps per epoch; 0 without training.
        processes: number of processes.
        directory: run directory.
        footprint: memory and communication; with several processes, the bytes per step are shown.
        engine: how the training steps are executed; None omits the line.
    """
    config, parameters, samples = record["config"], record["parameters"], record["dataset_manifest"]["rows"]
    batch = config["dataset"]["batch_size"]
    stage = f", stage {record['stage']}," if record.get("stage") else ""
    title = f"{record['model']}{stage} on {record['dataset']}"
    table = Table(title=_title(title, record["sample"], run_limits(config, record.get("stage1"))), show_header=False)
    memory = f"{format_bytes(footprint.embedding_total)} per process ({table_contents(config['optim'])})"
    accumulated, most = (config["trainer"][key] for key in ("accumulate_grad_batches", "max_steps"))
    limit = f" and {most:,} steps" if most else ""
    lines = {
        "samples": "  ".join(f"{split} {count:,}" for split, count in samples.items()),
        "parameters": f"dense {parameters['dense']:,}  embedding {parameters['embedding']:,}",
        **({"pretrained": pretrained_words(record["pretrained"])} if record.get("pretrained") else {}),
        "embedding memory": memory,
        "steps": f"{steps:,} per epoch, {batch * processes * accumulated:,} samples per step on {processes} "
        f"process{'es' * (processes > 1)}, at most {config['trainer']['max_epochs']} epochs{limit}"
        if steps
        else "nothing to train",
        **({"reduced per step": _communication(footprint)} if footprint.ranks > 1 else {}),
        **({"execution": engine} if engine is not None else {}),
    }
    for name, text in lines.items():
        table.add_row(name, escape(text))
    rich.get_console().print(table)
    print_unwrapped(f"run directory: {directory}")


def _communication(footprint: Footprint) -> str:
    tables = f", {format_bytes(BYTES * footprint.reduced_tables)} of them of embedding tables"
    text = f"{format_bytes(footprint.reduced)} of gradients per process{tables if footprint.reduced_tables else ''}"
    if footprint.exchanged:
        kind = "embeddings" if footprint.row_states is None else "gradients of embedding rows"
        text += f"; at most {format_bytes(footprint.exchanged)} of {kind} exchanged"
    return text


def print_unwrapped(text: str) -> None:
    """Print a text with a path: never wrapped, so that the path can be copied; no markup is read in it."""
    rich.get_console().print(text, soft_wrap=True, highlight=False, markup=False)


def print_metrics(
    metrics: Mapping[str, float | None],
    split: str,
    tasks: Sequence[str],
    spec: DatasetSpec | SequenceSpec,
    epochs: int,
    best: Path,
    limits: Mapping[str, int] | None = None,
) -> None:
    """Print the final metrics: one row per task; for ranking models one row per metric and one column per cut-off.

    If the dataset has scenarios, a second table has one row per scenario and one column per task and metric.

    Args:
        metrics: full metric name -> value.
        split: ``test`` or ``val``.
        tasks: measured tasks; none for ranking models.
        spec: spec of the dataset: name, scenarios, whether it is synthetic.
        epochs: number of epochs run; 0 if the checkpoint was not trained in this run.
        best: the evaluated checkpoint.
        limits: limits on the batches of the training or of this evaluation.
    """
    title = _title(f"{split} metrics of {spec.name}", spec.sample, limits)
    table = Table(title=title, min_width=min(len(title), rich.get_console().width))
    of_split = {name.partition("/")[2]: value for name, value in metrics.items() if name.startswith(f"{split}/")}
    if tasks:
        _add_task_rows(table, of_split, tasks)
    else:
        _add_ranking_rows(table, of_split)
    rich.get_console().print(table)
    scenarios = spec.scenarios if isinstance(spec, DatasetSpec) else ()
    if tasks and any(key.count("/") >= 2 for key in of_split) and scenarios:
        rich.get_console().print(
            _scenario_table(of_split, tasks, scenarios, _title(f"{split} metrics by scenario", spec.sample, limits))
        )
    text = f"best of {epochs} epochs: {best}" if epochs else str(best)
    print_unwrapped(text)


def print_task_epochs(best: Mapping[str, Mapping[str, Any]] | None) -> None:
    """Print the best epoch of each task, if each has its own (``callbacks.checkpoint.per_task``)."""
    if best is not None:
        epochs = ", ".join(f"{task} {of_task['epoch']}" for task, of_task in best.items())
        print_unwrapped(f"metrics of each task from its own best epoch: {epochs}")


def _add_task_rows(table: Table, metrics: Mapping[str, float | None], tasks: Sequence[str]) -> None:
    shown = [name for name in _with_own(_TASK_METRICS, metrics) if any(f"{name}/{task}" in metrics for task in tasks)]
    table.add_column("task")
    for name in shown:
        table.add_column(name, justify="right")
    for task in tasks:
        regression = any(f"{name}/{task}" in metrics for name in REGRESSION_METRICS)
        own = [(name in REGRESSION_METRICS) == regression and name in BUILT_IN for name in shown]
        keys = [f"{name}/{task}" for name in shown]
        cells = zip(keys, own, strict=True)
        values = (format_metric(metrics.get(key)) if one else _cell(metrics, key) for key, one in cells)
        table.add_row(escape(task), *values)
    if len(tasks) > 1:
        table.add_row("mean", *(_cell(metrics, name) for name in shown), style="bold")


def _scenario_table(
    metrics: Mapping[str, float | None], tasks: Sequence[str], scenarios: Sequence[str], title: str
) -> Table:
    """Return a table with one row per scenario and one column per task and metric: at least the first metric."""
    width = rich.get_console().width - max(map(len, ("scenario", *scenarios))) - 4
    known = _with_own(_SCENARIO_METRICS, metrics)
    measured = [name for name in known if any(f"{name}/{task}/{scenarios[0]}" in metrics for task in tasks)]
    shown = measured[: max(1, width // sum(max(_MIN_COLUMN_WIDTH, len(task)) + 3 for task in tasks))]
    table = Table(title=title)
    table.add_column("scenario")
    columns = [(task, name) for task in tasks for name in shown if f"{name}/{task}/{scenarios[0]}" in metrics]
    for task, name in columns:
        table.add_column(escape(f"{task}\n{name}"), justify="right")
    for scenario in scenarios:
        values = (format_metric(metrics.get(f"{name}/{task}/{scenario}")) for task, name in columns)
        table.add_row(escape(scenario), *values)
    return table


def _with_own(known: Sequence[str], metrics: Mapping[str, float | None]) -> list[str]:
    """Return the shown metrics of stemlab, and those of the user."""
    return [
        *known,
        *dict.fromkeys(base for base in (name.partition("/")[0] for name in metrics) if base not in BUILT_IN),
    ]


def _cell(metrics: Mapping[str, float | None], name: str) -> str:
    """Return the metric, or nothing if the kind of the task does not have it."""
    return format_metric(metrics[name]) if name in metrics else ""


def _add_ranking_rows(table: Table, metrics: Mapping[str, float | None]) -> None:
    names = dict.fromkeys(name.partition("@")[0] for name in metrics)
    cuts = dict.fromkeys(cut for _, _, cut in (name.partition("@") for name in metrics) if cut)
    table.add_column("metric")
    for cut in cuts:
        table.add_column(f"@{cut}", justify="right")
    if any(name in metrics for name in names):  # metrics without a cut-off, such as mrr
        table.add_column("all", justify="right")
    for name in names:
        cells = [format_metric(metrics[key]) if (key := f"{name}@{cut}") in metrics else "" for cut in cuts]
        table.add_row(name, *cells, *([format_metric(metrics[name])] if name in metrics else []))


def format_metric(value: float | None) -> str:
    """Return the value with five decimals, or ``undefined``."""
    return "undefined" if value is None or value != value else f"{value:.5f}"


def _title(text: str, sample: bool, limits: Mapping[str, int] | None = None) -> str:
    """Return the title of a table, marked if the data are synthetic or only a part of the batches is used."""
    marks = ["SAMPLE: synthetic data, not a result"] * sample
    marks += [f"{LIMITED}: {limits_text(limits)}"] if limits else []
    return escape(text + "".join(f"  [{mark}]" for mark in marks))
