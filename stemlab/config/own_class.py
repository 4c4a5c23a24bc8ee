"""Networks and datasets of the user in a config: unset settings get defaults, and what a class lacks is named at once.

``model=own model.net._target_=my_net.CrossStitch`` names a class in ``my_net.py`` of the current folder or in an
installed package (docs/own/README.md).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import OmegaConf

from stemlab.config.instantiate import TARGET, default_settings, import_target
from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError

PAGE = "docs/own/README.md"
_RESOLVER = "class_name"
_METHODS = {
    "impressions": ("forward", "embedding_tables"),
    "sequences": (
        *("forward", "represent", "item_vectors", "embedding_tables", "losses", "observe", "set_categories", "scores"),
        *("reads_history", "reads_categories", "needs_training", "factorises"),
    ),
}
"""What the trainer, the evaluation and the analyses read of a network."""
_BASES = {
    "impressions": "stemlab.models.multitask.base.TabularNet",
    "sequences": "stemlab.models.sequential.base.SequenceNet",
}
_STAGES = ("EXTRACTOR_SETTINGS", "import_extractor")
_LOADERS = ("prepare", "train_dataloader", "val_dataloader", "test_dataloader")
_ARGUMENTS = {"impressions": ("fields", "tasks"), "sequences": ("sizes",)}
"""Positional arguments with which a network is built."""


def is_own(node: Any) -> bool:
    """Return whether a config node is built by a class outside of stemlab."""
    target = node.get(TARGET) if isinstance(node, Mapping) else None
    return isinstance(target, str) and "." in target and not target.startswith("stemlab.")


def with_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config in which the nodes of own classes have the defaults of their signatures.

    The record of a run then holds every setting, and ``dataset.tasks`` may be a default of the class. Defaults that
    are not plain data are left out.
    """
    model = config.get("model")
    if isinstance(model, dict) and is_own(model.get("net")):
        config = {**config, "model": {**model, "net": completed_node(model["net"])}}
    if isinstance(model, dict) and is_own(model.get("balancing")):
        model = {**config["model"], "balancing": completed_node(model["balancing"])}
        config = {**config, "model": model}
    return config | {key: completed_node(config[key]) for key in ("dataset", "analysis") if is_own(config.get(key))}


def completed_node(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node with the defaults of its class that are plain data; as it is if the class cannot be read."""
    try:
        found = default_settings(import_target(node))
    except (StemlabError, TypeError, ValueError):  # reported by the checks of the config
        return dict(node)
    return {name: tuples_as_lists(value) for name, value in found.items() if _is_plain(value)} | dict(node)


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, str | int | float | bool | None)


def tuples_as_lists(value: Any) -> Any:
    """Return a value with lists instead of tuples, as JSON has them."""
    if isinstance(value, Mapping):
        return {key: tuples_as_lists(item) for key, item in value.items()}
    return [tuples_as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def check_own_net(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse an own network that cannot be trained; the message names everything that it lacks.

    Raises:
        StemlabError: it is no network, lacks methods, or has a constructor or settings that do not fit.
    """
    node, key = config["model"]["net"], "model.net"
    if not is_own(node):
        return
    reads = "sequences" if config["model"]["family"] == "sequential" else "impressions"
    stages = config["model"].get("stage") is not None
    found = list(_net_problems(import_target(node, key=key, origin=origin), reads, stages))
    found += missing_settings(node, key, origin)
    if found:
        hint = "" if "model=own" in found[0] else f"derive the class from {_BASES[reads]}, "
        where = f"{key}.{TARGET}={node[TARGET]} ({origin(f'{key}.{TARGET}')})"
        raise StemlabError(f"{where}: {'; '.join(found)}; {hint}see {PAGE}.")


def check_own_dataset(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse an own dataset that cannot be trained on; the message names everything that it lacks.

    Raises:
        StemlabError: it is no datamodule of stemlab, lacks methods, or has required settings that are not set.
    """
    node, key = config["dataset"], "dataset"
    if not is_own(node):
        return
    found = list(_dataset_problems(import_target(node, key=key, origin=origin)))
    found += missing_settings(node, key, origin)
    if found:
        hint = (
            "derive the class from stemlab.data.sources.table.TableDataModule, or from another datamodule of "
            f"stemlab.data, see {PAGE}."
        )
        raise StemlabError(f"{key}.{TARGET}={node[TARGET]} ({origin(f'{key}.{TARGET}')}): {'; '.join(found)}; {hint}")


def check_own_analysis(node: Mapping[str, Any], key: str, origin: Origin) -> None:
    """Refuse an own analysis that cannot be run; the message names everything that it lacks.

    Raises:
        StemlabError: it is no analysis, lacks ``find``, or has required settings that are not set.
    """
    if not is_own(node):
        return
    target = import_target(node, key=key, origin=origin)
    base = inspect.isclass(target) and all(hasattr(target, name) for name in ("find", "sections", "section_names"))
    found = [] if base else ["it is not a class derived from stemlab.analysis.base.Analysis"]
    found += [f"it lacks {name}" for name in sorted(getattr(target, "__abstractmethods__", ()))]
    found += missing_settings(node, key, origin)
    if found:
        where = f"{key}.{TARGET}={node[TARGET]} ({origin(f'{key}.{TARGET}')})"
        raise StemlabError(f"{where}: {'; '.join(found)}; see docs/own/analysis.md.")


def _net_problems(target: Any, reads: str, stages: bool) -> Iterator[str]:
    """Yield what a network lacks; ``stages``: whether it is trained in two of them."""
    from torch import nn

    if not inspect.isclass(target) or not issubclass(target, nn.Module):
        yield "it is not a class derived from torch.nn.Module"
        return
    found = getattr(target, "reads", None)
    if found in _METHODS and found != reads:
        family, other = ("sequential", "multitask") if reads == "impressions" else ("multitask", "sequential")
        yield f"it reads {found}, but model.family={other} models read {reads}: use model=own{_suffix(family)}"
        return
    if found != reads:
        yield f"it lacks the class attribute reads = {reads!r}"
    wanted = (*_METHODS[reads], *(_STAGES if stages else ()))
    missing = [name for name in wanted if not hasattr(target, name)]
    if "forward" not in missing and target.forward is nn.Module.forward:
        missing.insert(0, "forward")
    missing += [name for name in sorted(getattr(target, "__abstractmethods__", ())) if name not in missing]
    if missing:
        yield f"it lacks {', '.join(missing)}"
    yield from constructor_problems(target, (*_ARGUMENTS[reads], *(["stage"] if stages else [])))


def _suffix(family: str) -> str:
    return "_sequential" if family == "sequential" else ""


def _dataset_problems(target: Any) -> Iterator[str]:
    """Yield what a dataset lacks."""
    if not inspect.isclass(target) or not all(hasattr(target, name) for name in _LOADERS):
        yield "it is not a datamodule of stemlab"
        return
    if missing := sorted(getattr(target, "__abstractmethods__", ())):
        yield f"it lacks {', '.join(missing)}"


def constructor_problems(target: Any, arguments: tuple[str, ...]) -> Iterator[str]:
    """Yield why a class cannot be built with positional arguments and its settings."""
    parameters = inspect.signature(target).parameters.values()
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    free = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    optional = 1 if arguments == ("sizes",) else 0  # the stage
    if (len(positional) < len(arguments) and not free) or len(positional) > len(arguments) + optional:
        first = ", ".join(("self", *arguments, "*", "settings"))
        yield f"its constructor must have the form __init__({first}), but has the arguments {', '.join(positional)}"


def missing_settings(node: Mapping[str, Any], key: str, origin: Origin) -> list[str]:
    """Return a phrase with the settings that have neither a value nor a default."""
    target = import_target(node, key=key, origin=origin)
    if not inspect.isclass(target):
        return []
    parameters = inspect.signature(target).parameters.values()
    required = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is inspect.Parameter.empty]
    missing = [f"{key}.{name}" for name in required if name not in node]
    return [f"{', '.join(missing)} {'has' if len(missing) == 1 else 'have'} no value"] if missing else []


def _class_name(target: str) -> str:
    """Resolve ``${class_name:my_net.CrossStitch}`` to ``CrossStitch``."""
    return str(target).rpartition(".")[2]


OmegaConf.register_new_resolver(_RESOLVER, _class_name, replace=True)
