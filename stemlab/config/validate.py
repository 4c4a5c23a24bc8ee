"""Check a composed config, section by section, cheapest first: data is read only when all of it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemlab.config import cross_checks as rules
from stemlab.config.instantiate import (
    check_settings,
    default_settings,
    import_target,
    instantiate,
    typed,
    typed_settings,
)
from stemlab.config.schema import COMMANDS, REBUILDING, SECTIONS, SavedTrainerConfig, section_model
from stemlab.config.validation_messages import Origin, told_by_file
from stemlab.errors import StemlabError


def validate(command: str, config: Mapping[str, Any], origin: Origin = told_by_file) -> None:
    """Refuse what cannot run.

    Args:
        command: ``train``, ``evaluate``, ...: which top-level keys there may be.
        config: plain and resolved.
        origin: who set a key.

    Raises:
        StemlabError: one sentence about the first thing that is wrong.
    """
    top = _top_level(command)
    if top is not None:
        typed(top, config, origin=origin)
    for name in SECTIONS:
        if isinstance(config.get(name), Mapping):
            saved = name == "trainer" and command in (*REBUILDING, "analyze")
            model = SavedTrainerConfig if saved else section_model(name, config[name])
            typed(model, config[name], key=name, origin=origin)
    if isinstance(config.get("trainer"), Mapping):
        rules.check_trainer(config["trainer"], origin)
    if isinstance(config.get("dataset"), Mapping):
        check_settings(config["dataset"], key="dataset", origin=origin)
        rules.check_dataset(config["dataset"], origin)
    if isinstance(config.get("model"), Mapping):
        check_settings(config["model"]["net"], key="model.net", origin=origin)
        rules.check_family(config)
        rules.check_task(config, origin)
        rules.check_stage(config, origin)
        rules.check_monitors(config, origin)
    if isinstance(config.get("analysis"), Mapping):
        _check_analysis(config["analysis"], "analysis", origin)
    _validate_built(config, origin)


def _check_analysis(node: Mapping[str, Any], key: str, origin: Origin) -> None:
    """Check an analysis' settings, and those of the analyses that a report consists of."""
    check_settings(node, key=key, origin=origin)
    for name, part in (node.get("parts") or {}).items():
        _check_analysis(part, f"{key}.parts.{name}", origin)


def _top_level(command: str) -> type[Any] | None:
    """The model of a command's own keys; a config with another name (``--config-name``) has none."""
    if command == "report":
        from stemlab.config.report_schema import ReportConfig

        return ReportConfig
    if command == "analyze":
        from stemlab.config.analyze_schema import AnalyzeConfig

        return AnalyzeConfig
    return COMMANDS.get(command)


def _validate_built(config: Mapping[str, Any], origin: Origin) -> None:
    """What only the classes themselves know, and they import torch and Lightning."""
    if "optim" in config and "model" in config:
        _check_optim(config, origin)
    if "model" in config:
        _check_net(config, origin)
    if "dataset" in config:
        instantiate(config["dataset"], key="dataset", origin=origin)


def _check_optim(config: Mapping[str, Any], origin: Origin) -> None:
    from stemlab import optim

    sequential = rules.is_sequential(config)
    if ("plateau" if sequential else "l2") in config["optim"]:
        fitting, family = "ranking" if sequential else "adam", config["model"]["family"]
        raise StemlabError(f"the optimiser ({origin('optim')}) is not for a {family} model: write optim={fitting}.")
    model = optim.RankingOptimConfig if sequential else optim.OptimConfig
    typed(model, config["optim"], key="optim", origin=origin)


def _check_net(config: Mapping[str, Any], origin: Origin) -> None:
    net = import_target(config["model"]["net"], key="model.net", origin=origin)
    reads, key = getattr(net, "reads", None), "model.net._target_"
    if reads != ("sequences" if rules.is_sequential(config) else "impressions"):
        target, family = config["model"]["net"]["_target_"], config["model"]["family"]
        raise StemlabError(f"{key}={target} ({origin(key)}) is no network of model.family={family}.")
    if hasattr(net, "check_settings"):
        net.check_settings(default_settings(net) | typed_settings(config["model"]["net"], key="model.net"))
    if hasattr(net, "check_tasks"):
        rules.ask_net(config, net, origin)
        _check_penalties(config["model"], origin)


def _check_penalties(model: Mapping[str, Any], origin: Origin) -> None:
    from stemlab.optim import parse_penalty

    for name in ("embedding_regularizer", "net_regularizer"):
        try:
            parse_penalty(model[name])
        except StemlabError as error:
            key = f"model.{name}"
            raise StemlabError(f"{key}={model[name]!r} ({origin(key)}): {error}") from None
