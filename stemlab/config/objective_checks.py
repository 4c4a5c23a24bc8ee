"""Checks of the labels and losses of the tasks (``dataset.labels``, ``model.losses``), and their default monitor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stemlab.config.dotted_keys import node_of
from stemlab.config.override_text import typed_text
from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError, nearest
from stemlab.metric_directions import REGRESSION_METRICS, TASK_METRICS
from stemlab.nn.task_loss import chosen_losses
from stemlab.types import LabelKind

BINARY_MONITOR, REGRESSION_MONITOR = "val/auc", "val/rmse"
_MONITORS = ("callbacks.checkpoint.monitor", "callbacks.early_stop.monitor", "objective")


def label_kinds(dataset: Mapping[str, Any]) -> dict[str, LabelKind]:
    """Return task -> kind of its label, for the tasks in ``dataset.labels``; the others are binary."""
    rules = dataset.get("labels")
    if not isinstance(rules, Mapping):
        return {}
    return {name: rule.get("kind", "binary") for name, rule in rules.items() if isinstance(rule, Mapping)}


def monitor_regression(config: dict[str, Any], tasks: Sequence[str]) -> None:
    """Replace the default monitor ``val/auc`` by ``val/rmse`` if all trained tasks are regression; changes the config.

    A monitor on the command line stays: ``wrong_kind`` refuses ``val/auc``.

    Args:
        config: plain config.
        tasks: trained tasks.
    """
    from hydra.core.hydra_config import HydraConfig

    kinds = label_kinds(config["dataset"])
    if not tasks or any(kinds.get(task) != "regression" for task in tasks):
        return
    words = typed_text(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    for key in _MONITORS:
        node, last = node_of(config, key)
        typed = any(word.lstrip("+").startswith(f"{key}=") for word in words)
        if isinstance(node, dict) and node.get(last) == BINARY_MONITOR and not typed:
            node[last] = REGRESSION_MONITOR


def wrong_kind(metric: str, task: str | None, tasks: Sequence[str], kinds: Mapping[str, LabelKind]) -> str | None:
    """Return why a metric does not exist for a task (``None``: for the mean over tasks), or None if it does."""
    measured = tasks if task is None else [task]
    regression = [kinds.get(name, "binary") == "regression" for name in measured]
    if metric in REGRESSION_METRICS:
        known = list(TASK_METRICS)
        return None if any(regression) else f"the metrics of binary tasks are {', '.join(known)}."
    if not all(regression):
        return None
    return f"the metrics of regression tasks are {', '.join(REGRESSION_METRICS)}."


def check_losses(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse losses and positive weights of unknown tasks, and those that do not fit the label."""
    model, tasks = config["model"], [str(task) for task in config["dataset"].get("tasks") or []]
    for key in ("losses", "positive_weights"):
        for task in model.get(key) or {}:
            if task not in tasks:
                raise StemlabError(
                    f"model.{key} ({origin(f'model.{key}')}) has {task!r}, which is no task of "
                    f"{config['dataset'].get('name')}: {', '.join(tasks)}.{nearest(task, tasks)}"
                )
    losses, weights = model.get("losses") or {}, model.get("positive_weights") or {}
    try:
        chosen_losses(tasks, label_kinds(config["dataset"]), losses, weights)
    except StemlabError as error:
        key = "positive_weights" if "positive weight" in str(error) else "losses"
        raise StemlabError(f"model.{key} ({origin(f'model.{key}')}): {error}") from None


def check_net_labels(config: Mapping[str, Any], net: Any, tasks: Sequence[str], origin: Origin) -> None:
    """Refuse labels that the network cannot train (attribute ``label_limits``)."""
    limits: Mapping[str, str] = getattr(net, "label_limits", {})
    dataset = config["dataset"]
    kinds, rules = label_kinds(dataset), dataset.get("labels") or {}
    found = [("regression", task) for task in tasks if kinds.get(task) == "regression"]
    found += [("given", task) for task in tasks if (rules.get(task) or {}).get("given") is not None]
    for limit, task in found:
        if limit in limits:
            kind = "a regression label" if limit == "regression" else "a conditional label"
            raise StemlabError(
                f"model={config['model']['name']} {limits[limit]}, but task {task!r} has {kind} (dataset.labels, "
                f"{origin('dataset.labels')}): choose another model, or leave the task out of dataset.tasks."
            )
    if dataset.get("weight") is not None and "weight" in limits:
        raise StemlabError(
            f"model={config['model']['name']} {limits['weight']}, but dataset.weight={dataset['weight']} "
            f"({origin('dataset.weight')}): choose another model, or set dataset.weight=null."
        )
    regression = next((task for limit, task in found if limit == "regression"), None)
    if regression is not None and config.get("callbacks", {}).get("paper_selection"):
        key = "callbacks.paper_selection"
        raise StemlabError(f"{key}=true ({origin(key)}) compares AUCs, but {regression!r} is a regression task.")
