"""Refuse settings with which no best epoch per task can be selected (``callbacks.checkpoint.per_task``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemlab.config.cross_checks import effective_tasks
from stemlab.config.monitor_checks import wrong_task_metric
from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError

_KEY = "callbacks.checkpoint.per_task"
_MONITOR, _STOP = "callbacks.checkpoint.monitor", "callbacks.early_stop.monitor"


def selects_per_task(config: Mapping[str, Any]) -> bool:
    """Return whether each task has its own best epoch; False in configs that are older than the setting."""
    return bool(config.get("callbacks", {}).get("checkpoint", {}).get("per_task"))


def check_task_selection(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse a selection per task with one task, with monitors that are not one mean over tasks, or without a metric.

    Raises:
        StemlabError: the first such setting.
    """
    if not selects_per_task(config):
        return
    tasks, callbacks = effective_tasks(config), config["callbacks"]
    monitor, stop = callbacks["checkpoint"]["monitor"], callbacks["early_stop"]
    where = f"{_KEY}=true ({origin(_KEY)})"
    if len(tasks) < 2:
        raise StemlabError(
            f"{where} needs several trained tasks, but model={config['model']['name']} trains {', '.join(tasks)} only: "
            "leave it out."
        )
    if monitor.count("/") > 1:
        raise StemlabError(
            f"{where} selects each task by its own metric, but {_MONITOR}={monitor} ({origin(_MONITOR)}) names a task: "
            f"set it to {'/'.join(monitor.split('/')[:2])}."
        )
    if stop["enabled"] and stop["monitor"] != monitor:
        raise StemlabError(
            f"{where} stops each task by the metric that selects its epoch: set {_STOP}={monitor} instead of "
            f"{stop['monitor']} ({origin(_STOP)})."
        )
    for task in tasks:
        if (wrong := wrong_task_metric(f"{monitor}/{task}", config)) is not None:
            raise StemlabError(f"{where} needs {monitor}/{task} ({_MONITOR}, {origin(_MONITOR)}): {wrong}")
