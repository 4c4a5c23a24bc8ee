"""What is printed before a run and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich
from rich.table import Table

from stemlab.data.spec import DatasetSpec

COPIES = 4  # a table's weights, gradients and Adam's two moments, float32 each
SHOWN = ("auc", "gauc", "logloss", "calibration", "ece")


def print_card(record: Mapping[str, Any], steps: int, processes: int, directory: Path) -> None:
    """Print what is about to be trained: rows, parameters, memory of the tables, steps, where.

    Args:
        record: the run's record so far.
        steps: training steps an epoch.
        processes: number of processes.
        directory: run directory.
    """
    config, parameters, rows = record["config"], record["parameters"], record["dataset_manifest"]["rows"]
    batch = config["dataset"]["batch_size"]
    card = Table(title=_title(f"{record['model']} on {record['dataset']}", record["sample"]), show_header=False)
    lines = {
        "rows": "  ".join(f"{split} {count:,}" for split, count in rows.items()),
        "parameters": f"dense {parameters['dense']:,}  embedding {parameters['embedding']:,}",
        "embedding memory": f"{size(parameters['embedding'] * 4 * COPIES)} a process (weights, gradients, Adam)",
        "steps": f"{steps:,} an epoch of {batch * processes:,} rows on {processes} process{'es' * (processes > 1)}, "
        f"at most {config['trainer']['max_epochs']} epochs",
        "run directory": str(directory),
    }
    card.add_column()
    card.add_column(overflow="fold")  # a path is there to be copied: never cut short
    for name, told in lines.items():
        card.add_row(name, told)
    rich.get_console().print(card)


def print_metrics(
    metrics: Mapping[str, float | None], split: str, tasks: Sequence[str], spec: DatasetSpec, epochs: int, best: Path
) -> None:
    """Print the final metrics, a row a task.

    Args:
        metrics: full names -> values.
        split: ``test`` or ``val``.
        tasks: tasks that were measured.
        spec: dataset, for its name and whether it is a sample.
        epochs: epochs run.
        best: the checkpoint measured.
    """
    title = _title(f"{split} metrics of {spec.name}", spec.sample)
    table = Table(title=title, min_width=min(len(title), rich.get_console().width))
    shown = [name for name in SHOWN if any(f"{split}/{name}/{task}" in metrics for task in tasks)]
    table.add_column("task")
    for name in shown:
        table.add_column(name, justify="right")
    for task in tasks:
        table.add_row(task, *(number(metrics.get(f"{split}/{name}/{task}")) for name in shown))
    if len(tasks) > 1:
        names = [f"{split}/{name}" for name in shown]
        table.add_row("mean", *(number(metrics[name]) if name in metrics else "" for name in names), style="bold")
    rich.get_console().print(table)
    told = f"best of {epochs} epochs: {best}" if epochs else str(best)
    rich.get_console().print(told, soft_wrap=True, highlight=False, markup=False)


def number(value: float | None) -> str:
    """Return five decimals, or ``undefined``."""
    return "undefined" if value is None or value != value else f"{value:.5f}"


def size(count: float) -> str:
    """Return bytes in a readable unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _title(text: str, sample: bool) -> str:
    return f"{text}  [SAMPLE: synthetic rows, not a result]".replace("[", r"\[") if sample else text
