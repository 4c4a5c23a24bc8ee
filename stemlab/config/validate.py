"""Check a composed config, section by section, cheapest first: data is read only when all of it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemlab.config import rules
from stemlab.config.instantiate import TARGET, import_target, typed, typed_settings
from stemlab.config.schema import COMMANDS, REBUILDING, SECTIONS, SavedTrainerConfig
from stemlab.config.sentences import Origin, told_by_file
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
    if command in COMMANDS:
        typed(COMMANDS[command], config, origin=origin)
    for name, model in SECTIONS.items():
        if name == "trainer" and command in REBUILDING:
            model = SavedTrainerConfig
        if isinstance(config.get(name), Mapping):
            typed(model, config[name], key=name, origin=origin)
    if isinstance(config.get("trainer"), Mapping):
        rules.check_trainer(config["trainer"], origin)
    if isinstance(config.get("dataset"), Mapping):
        rules.check_dataset(config["dataset"], origin)
    _validate_built(config, origin)


def _validate_built(config: Mapping[str, Any], origin: Origin) -> None:
    """The part that imports torch: optimiser, dataset and network."""
    if "optim" in config:
        from stemlab.optim import OptimConfig

        typed(OptimConfig, config["optim"], key="optim", origin=origin)
    if TARGET in config.get("dataset", {}):
        typed_settings(config["dataset"], key="dataset", origin=origin)
    if "model" in config:
        net = import_target(config["model"]["net"], key="model.net", origin=origin)
        typed_settings(config["model"]["net"], key="model.net", origin=origin)
        _check_penalties(config["model"], origin)
        if "dataset" in config:
            rules.check_tasks(config, net, origin)
            rules.check_monitors(config, origin)


def _check_penalties(model: Mapping[str, Any], origin: Origin) -> None:
    from stemlab.optim import parse_penalty

    for name in ("embedding_regularizer", "net_regularizer"):
        try:
            parse_penalty(model[name])
        except StemlabError as error:
            key = f"model.{name}"
            raise StemlabError(f"{key}={model[name]!r} ({origin(key)}): {error}") from None
