"""Metrics of the user: ``metrics.own.<name>._target_=my_metrics.Brier`` (docs/own/metric.md)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stemlab.config.cross_checks import effective_tasks, is_sequential
from stemlab.config.instantiate import TARGET, check_settings, import_target, instantiate
from stemlab.config.objective_checks import label_kinds
from stemlab.config.own_class import completed_node, is_own, missing_settings
from stemlab.config.validation_messages import Origin, unknown_origin
from stemlab.errors import StemlabError
from stemlab.metric_directions import BUILT_IN
from stemlab.types import Mode

KEY = "metrics.own"
_PAGE = "docs/own/metric.md"
_DIRECTION = "higher_is_better"
_MODES: dict[bool | None, Mode | None] = {True: "max", False: "min", None: None}


def own_metric_nodes(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return name -> node of the metrics of the user, in the order of the config.

    Raises:
        StemlabError: a value is not a mapping.
    """
    metrics = config.get("metrics")  # a list of names in the config of a report
    nodes = metrics.get("own") or {} if isinstance(metrics, Mapping) else {}
    named = nodes.items() if isinstance(nodes, Mapping) else ()
    for key, value in {KEY: nodes, **{f"{KEY}.{name}": node or {} for name, node in named}}.items():
        if not isinstance(value, Mapping):
            raise StemlabError(
                f"{key}={value!r} must be a mapping: set {KEY}.<name>.{TARGET}=<module>.<Class>; see {_PAGE}."
            )
    return {name: node for name, node in nodes.items() if node}


def complete_own_metrics(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config whose own metrics have the defaults of their signatures, and their directions.

    A record then holds the directions, which reports read without the classes.
    """
    nodes = own_metric_nodes(config)
    if not nodes:
        return config
    completed = {name: _directed(completed_node(node)) for name, node in nodes.items()}
    return {**config, "metrics": {**config["metrics"], "own": completed}}


def _directed(node: dict[str, Any]) -> dict[str, Any]:
    try:
        target = import_target(node)
    except StemlabError:  # reported by the checks of the config
        return node
    return {_DIRECTION: getattr(target, _DIRECTION), **node} if hasattr(target, _DIRECTION) else node


def own_directions(config: Mapping[str, Any]) -> dict[str, Mode | None]:
    """Return name -> direction of the metrics of the user in a config, also in one of a record."""
    nodes = {
        name: node if _DIRECTION in node else _directed(dict(node)) for name, node in own_metric_nodes(config).items()
    }
    return {name: _MODES.get(node.get(_DIRECTION)) for name, node in nodes.items()}


def own_metric_kinds(config: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return name -> kinds of labels that the metrics of the user measure; empty for metrics of ranks."""
    return {name: tuple(getattr(import_target(node), "kinds", ())) for name, node in own_metric_nodes(config).items()}


def check_own_metrics(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse metrics that do not fit the model or its labels, and wrong settings of them.

    Raises:
        StemlabError: the first such metric; the message names everything that its class lacks.
    """
    for name, node in own_metric_nodes(config).items():
        key = f"{KEY}.{name}"
        if not re.fullmatch(r"[A-Za-z]\w*", name):
            raise StemlabError(f"{key} ({origin(key)}): the name of a metric has letters, digits and _ only.")
        if name in BUILT_IN:
            raise StemlabError(f"{key} ({origin(key)}): stemlab has a metric {name}; choose another name.")
        target = import_target(node, key=key, origin=origin)
        if found := [*_problems(target, node, is_sequential(config)), *missing_settings(_settings(node), key, origin)]:
            where = f"{key}.{TARGET}={node[TARGET]} ({origin(f'{key}.{TARGET}')})"
            raise StemlabError(f"{where}: {'; '.join(found)}; see {_PAGE}.")
        check_settings(_settings(node), key=key, origin=origin)
        if not is_sequential(config):
            _check_labels(key, target, config, origin)
    check_own_weights(config, (config.get("dataset") or {}).get("weight") is not None)


def check_own_weights(config: Mapping[str, Any], weighted: bool) -> None:
    """Refuse metrics of the user that leave out the weights of the samples.

    Args:
        config: config of a training.
        weighted: whether the samples have weights.
    """
    for name, node in own_metric_nodes(config).items():
        target = import_target(node)
        if weighted and target.reads == "impressions" and not target.weighted:
            raise StemlabError(
                f"{KEY}.{name} does not read sample weights, and the dataset has them (dataset.weight): let "
                f"{target.__name__}.measure read samples.weights and set weighted = True, see {_PAGE}."
            )


def own_ranking_names(config: Mapping[str, Any], topk: Sequence[int]) -> list[str]:
    """Return the measured names of the metrics of the user of a sequential model, ``precision@5`` for each cut-off."""
    if not own_metric_nodes(config):
        return []
    from stemlab.metrics.own import ranking_names

    return list(ranking_names({name: import_target(node) for name, node in own_metric_nodes(config).items()}, topk))


def build_own_metrics(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return name -> metric of the user, in the order of the config."""
    return {
        name: instantiate(_settings(node), key=f"{KEY}.{name}", origin=unknown_origin)
        for name, node in own_metric_nodes(config).items()
    }


def _settings(node: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in node.items() if name != _DIRECTION}


def _problems(target: Any, node: Mapping[str, Any], sequential: bool) -> Iterator[str]:
    """Yield what a metric lacks."""
    from stemlab.metrics.own import CutoffMetric, RankMetric, TaskMetric

    wanted = (RankMetric, CutoffMetric) if sequential else (TaskMetric,)
    if not inspect.isclass(target) or not issubclass(target, wanted):
        family, names = "sequential" if sequential else "multitask", " or ".join(one.__name__ for one in wanted)
        yield f"a metric of model.family={family} is a class derived from {names} of {TaskMetric.__module__}"
        return
    if missing := sorted(getattr(target, "__abstractmethods__", ())):
        yield f"it lacks {', '.join(missing)}"
    if required := [p.name for p in inspect.signature(target).parameters.values() if _is_positional(p)]:
        yield f"its constructor must have the form __init__(self, *, settings), but {required[0]!r} is positional"
    direction = getattr(target, _DIRECTION, "missing")
    if direction not in (True, False, None):
        yield f"it lacks the class attribute {_DIRECTION} = True, False or None"
    elif node.get(_DIRECTION, direction) is not direction:
        yield f"{_DIRECTION} is a class attribute, here {direction}, and no setting"
    if unknown := sorted(set(getattr(target, "kinds", ())) - {"binary", "regression"}):
        yield f"its class attribute kinds has {unknown[0]!r}, which is neither binary nor regression"


def _is_positional(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) and (
        parameter.default is parameter.empty
    )


def _check_labels(key: str, target: Any, config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse a metric that measures none of the trained tasks; an own dataset may set the kinds of labels itself."""
    tasks, kinds = effective_tasks(config), label_kinds(config["dataset"])
    if not is_own(config["dataset"]) and not any(kinds.get(task, "binary") in target.kinds for task in tasks):
        raise StemlabError(
            f"{key} ({origin(key)}) measures {' and '.join(target.kinds)} labels, and {', '.join(tasks)} have none: "
            "leave it out."
        )
