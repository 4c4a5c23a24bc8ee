"""Single values for settings that are lists: ``runs=runs/a`` means ``runs=[runs/a]``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from stemlab.config.instantiate import TARGET, node_model
from stemlab.config.validation_messages import inner_model, model_fields
from stemlab.errors import StemlabError

_NODES = ("dataset", "analysis")  # nodes with a _target_, beside model.net


def single_values_as_lists(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config of the user with single values of list settings in a list of one.

    Settings that also accept a single value (``trainer.devices``) keep it; so do empty texts and null.

    Args:
        config: plain config of a command; not changed.
    """
    changed = {**config}
    for model in _command_models(reads_runs="model" not in config):
        changed = _wrapped(changed, model)
    for name in _NODES:
        if isinstance(config.get(name), Mapping):
            changed[name] = _wrapped_node(config[name])
    model_node = config.get("model")
    if isinstance(model_node, Mapping) and isinstance(model_node.get("net"), Mapping):
        changed["model"] = {**model_node, "net": _wrapped_node(model_node["net"])}
    return changed


@cache
def _command_models(reads_runs: bool) -> tuple[Any, ...]:
    """Return the models of the top level of all commands: a key of the same name has the same type in each.

    Args:
        reads_runs: whether the command may be one of those that read runs; their models are imported only then.
    """
    from stemlab.config.schema import COMMAND_MODELS

    if not reads_runs:
        return tuple(COMMAND_MODELS.values())
    from stemlab.config.analyze_schema import AnalyzeConfig
    from stemlab.config.dashboard_schema import DashboardConfig
    from stemlab.config.report_schema import ReportConfig

    return (*COMMAND_MODELS.values(), AnalyzeConfig, DashboardConfig, ReportConfig)


def _wrapped_node(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node with a ``_target_``, and the analyses of a report below it, with lists."""
    wrapped = dict(node)
    if isinstance(node.get("parts"), Mapping):
        wrapped["parts"] = {
            name: _wrapped_node(part) if isinstance(part, Mapping) else part for name, part in node["parts"].items()
        }
    if not isinstance(node.get(TARGET), str):
        return wrapped
    try:
        model = node_model(node)
    except StemlabError:  # no such class: named by the validation
        return wrapped
    return _wrapped(wrapped, model)


def _wrapped(values: Mapping[str, Any], model: Any) -> dict[str, Any]:
    changed = dict(values)
    for name, nested in _list_settings(model).items():
        value = values.get(name)
        if nested is not None and isinstance(value, Mapping):
            changed[name] = _wrapped(value, nested)
        elif nested is None and isinstance(value, str | int | float) and value != "":
            changed[name] = [value]
    return changed


@cache
def _list_settings(model: Any) -> dict[str, Any]:
    """Return the settings that are lists (name -> None) or have settings of their own (name -> their model)."""
    found: dict[str, Any] = {}
    for name, field in model_fields(model).items():
        annotation = getattr(field, "annotation", None)
        nested = inner_model(annotation)
        if nested is not None or _is_list(annotation):
            found[name] = nested
    return found


def _is_list(annotation: Any) -> bool:
    """Return whether a type is a list of any length, or null; a type that also has single values is not."""
    origin, members = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _is_list(members[0])
    if origin in (Union, UnionType):
        return all(_is_list(member) for member in members if member is not NoneType)
    return origin is list or (origin is tuple and members[-1] is Ellipsis)
