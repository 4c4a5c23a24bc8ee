"""Checks of monitors and objectives: existing metrics, tasks and scenarios, directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stemlab.config.cross_checks import effective_tasks, is_sequential, list_text
from stemlab.config.objective_checks import label_kinds, wrong_kind
from stemlab.config.own_metrics import own_directions, own_metric_kinds, own_ranking_names
from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError, nearest
from stemlab.metric_directions import BEYOND_ACCURACY, REGRESSION_METRICS, TASK_METRICS, metric_direction
from stemlab.types import LabelKind, Mode

_BETTER_VALUES = {"max": "larger", "min": "smaller"}


def check_monitors(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse monitors and objectives that are not metrics of this run; monitors must be validation metrics."""
    callbacks = config.get("callbacks", {})
    monitors = {f"callbacks.{name}.monitor": callbacks[name]["monitor"] for name in _monitoring(callbacks)}
    for key, value in {**monitors, "objective": config.get("objective")}.items():
        if not isinstance(value, str):
            continue
        if key != "objective" and not value.startswith("val/"):
            example = "val/ndcg@5" if is_sequential(config) else "val/auc"
            raise StemlabError(f"{key}={value!r} ({origin(key)}) must be a validation metric, such as {example!r}.")
        if is_sequential(config):
            _check_ranking(key, value, config, origin)
        else:
            _check_task_metric(key, value, config, origin)
        if key != "objective":
            _check_mode(key.removesuffix(".monitor"), value, config, origin)
    if config.get("test") is False and (callbacks.get("paper_selection") or config.get("save_scores")):
        key = "callbacks.paper_selection" if callbacks.get("paper_selection") else "save_scores"
        raise StemlabError(f"{key}=true ({origin(key)}) reads the test split and needs test=true.")
    if config.get("test") is False and str(config.get("objective")).startswith("test/"):
        raise StemlabError(f"objective={config['objective']!r} ({origin('objective')}) needs test=true.")


def _check_mode(node: str, monitor: str, config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse a monitor without a direction, and a mode that contradicts the direction of the monitor."""
    direction = metric_direction(monitor, own_directions(config))
    mode = config["callbacks"][node.rpartition(".")[2]].get("mode")
    if direction is None:
        key, remark = f"{node}.monitor", " (it is best at 1)" if "/calibration" in monitor else ""
        raise StemlabError(
            f"{key}={monitor!r} ({origin(key)}) cannot be monitored: neither larger nor smaller values are better"
            f"{remark}; use logloss, ece or another metric."
        )
    if mode not in (None, direction):
        raise StemlabError(
            f"{node}.mode={mode} ({origin(f'{node}.mode')}) contradicts {node}.monitor={monitor!r}, of which "
            f"{_BETTER_VALUES[direction]} values are better: set it to {direction} or leave it out."
        )


def check_search_direction(
    objective: str, sweeper: Mapping[str, Any], own: Mapping[str, Mode | None] | None = None
) -> None:
    """Refuse a sweeper that searches the objective in the wrong direction (``hydra.sweeper.direction``).

    Args:
        objective: name of a metric.
        sweeper: settings of the sweeper.
        own: directions of metrics of the user.
    """
    chosen = sweeper["direction"] if "direction" in sweeper else None  # noqa: SIM401 (0.2 ms for a config node)
    wanted = {"maximize": "max", "minimize": "min"}.get(str(chosen).rpartition(".")[2].lower())
    direction = metric_direction(objective, own)
    if wanted is not None and wanted != direction:
        better = "neither larger nor smaller" if direction is None else _BETTER_VALUES[direction]
        raise StemlabError(
            f"hydra.sweeper.direction={sweeper['direction']} does not fit objective={objective!r}, of which {better} "
            "values are better: change one of them."
        )


def _check_task_metric(key: str, value: str, config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse ``split/metric[/task[/scenario]]`` with an unknown metric, task or scenario."""
    wrong = wrong_task_metric(value, config)
    if wrong is not None:  # origin() is slow, so it is called for errors only
        raise StemlabError(f"{key}={value!r} ({origin(key)}): {wrong}")


def wrong_task_metric(value: str, config: Mapping[str, Any]) -> str | None:
    """Return why ``split/metric[/task[/scenario]]`` is no metric of a multi-task run, or None if it is."""
    kinds, own = label_kinds(config["dataset"]), own_metric_kinds(config)
    return _wrong_metric(value, effective_tasks(config), kinds, configured_scenarios(config["dataset"]), own)


def _wrong_metric(
    value: str,
    tasks: list[str],
    kinds: Mapping[str, LabelKind],
    scenarios: list[str] | None,
    own: Mapping[str, Sequence[str]],
) -> str | None:
    _, metric, *rest = value.split("/", 3)
    known = list(TASK_METRICS | (REGRESSION_METRICS if "regression" in kinds.values() else {})) + list(own)
    if metric not in known:
        return f"the metrics are {', '.join(known)}.{nearest(metric, known)}"
    if not rest and metric == "calibration":
        return f"calibration has no mean over tasks; add a task, such as {value}/{tasks[0]}."
    if rest and rest[0] not in tasks:
        return f"the tasks trained are {', '.join(tasks)}.{nearest(rest[0], tasks)}"
    if metric in own:
        measured = [task for task in tasks if kinds.get(task, "binary") in own[metric]]
        if not measured or (rest and rest[0] not in measured):
            return f"{metric} measures {' and '.join(own[metric])} tasks, here {', '.join(measured) or 'none'}."
    elif (wrong := wrong_kind(metric, rest[0] if rest else None, tasks, kinds)) is not None:
        return wrong
    if len(rest) == 2 and scenarios is not None:
        return _wrong_scenario(rest[1], scenarios)
    return None


def configured_scenarios(dataset: Mapping[str, Any]) -> list[str] | None:
    """Return the scenarios of a dataset; ``None`` if they are only known from its rows, empty if there are none."""
    named = dataset.get("scenarios")
    if isinstance(named, list) and named and all(isinstance(name, str) for name in named):
        return [str(name) for name in named]
    return None if "scenarios" in dataset or "scenario" in dataset else []


def check_scenarios(config: Mapping[str, Any], scenarios: Sequence[str]) -> None:
    """Refuse a monitor or objective of a scenario that the prepared dataset does not have."""
    monitored = {f"callbacks.{name}.monitor": config["callbacks"][name] for name in _monitoring(config["callbacks"])}
    values = {key: node["monitor"] for key, node in monitored.items()} | {"objective": config["objective"]}
    for key, value in values.items():
        if isinstance(value, str) and value.count("/") > 2:
            wrong = _wrong_scenario(value.split("/", 3)[3], list(scenarios))
            if wrong is not None:
                raise StemlabError(f"{key}={value!r}: {wrong}")


def _wrong_scenario(name: str, scenarios: list[str]) -> str | None:
    if name in scenarios:
        return None
    known = f"the scenarios are {', '.join(scenarios)}" if scenarios else "the dataset has no scenarios"
    return f"{known}.{nearest(name, scenarios)}"


def _check_ranking(key: str, value: str, config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse metrics that are not computed; epochs compute the first cut-off and the checkpoint monitor only."""
    split, topk = value.split("/")[0], config["dataset"]["evaluation"]["topk"]
    known = [f"{split}/{name}" for name in _ranking_metrics(topk)]
    own_topk = topk
    if key == "callbacks.early_stop.monitor":
        own_topk = topk[:1]
        chosen = config["callbacks"]["checkpoint"]["monitor"]
        known = list(dict.fromkeys([*(f"{split}/{name}" for name in _ranking_metrics(topk[:1])), chosen]))
    if key == "objective" and config["model"].get("beyond_accuracy"):  # measured after the training
        known += [f"{split}/{name}@{k}" for k in topk for name in BEYOND_ACCURACY]
    known += [name for one in own_ranking_names(config, own_topk) if (name := f"{split}/{one}") not in known]
    if value not in known:
        raise StemlabError(
            f"{key}={value!r} ({origin(key)}) must be one of {', '.join(known)}; dataset.evaluation.topk is "
            f"{list_text(topk)}.{nearest(value, known)}"
        )


def _ranking_metrics(topk: Sequence[int]) -> list[str]:
    """Return the names of the ranking metrics at the given cut-offs."""
    return [*(f"hr@{k}" for k in topk), *(f"ndcg@{k}" for k in topk), "mrr"]


def _monitoring(callbacks: Mapping[str, Any]) -> list[str]:
    named = [(name, node) for name, node in callbacks.items() if isinstance(node, Mapping) and name != "own"]
    return [name for name, node in named if "monitor" in node]
