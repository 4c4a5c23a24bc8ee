"""Checks of the labels of a prepared dataset against the network and the losses of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from stemlab.config.cross_checks import effective_tasks
from stemlab.config.own_metrics import check_own_weights
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.errors import StemlabError
from stemlab.nn.task_loss import parse_loss


def check_prepared_labels(config: Mapping[str, Any], data: ImpressionDataModule, net: nn.Module) -> None:
    """Refuse labels that the network or the chosen loss cannot train.

    Args:
        config: validated, plain config of a training.
        data: the prepared dataset.
        net: the network; its attribute ``label_limits`` names what it cannot train.

    Raises:
        StemlabError: a label is not for the network, or a label of the log-normal loss is below 0.
    """
    spec, name, limits = data.spec, config["model"]["name"], getattr(net, "label_limits", {})
    tasks, losses = effective_tasks(config), config["model"].get("losses") or {}
    for label in (one for one in spec.labels if one.name in tasks):
        kinds = {"regression": label.kind == "regression", "given": label.given is not None}
        for kind in (one for one, found in kinds.items() if found and one in limits):
            raise StemlabError(
                f"model={name} {limits[kind]}, but the label of task {label.name!r} is of another kind: choose another "
                "model, or leave the task out."
            )
        lows = data.manifest.get("labels", {}).get(label.name, {}).get("min", {})
        low = min((value for value in lows.values() if value is not None), default=0.0)
        if label.kind == "regression" and low < 0 and _is_lognormal(losses.get(label.name)):
            raise StemlabError(
                f"the loss lognormal of task {label.name!r} needs labels of at least 0, but the smallest is {low:g}: "
                "choose mse or huber."
            )
    check_own_weights(config, spec.weight is not None)
    if spec.weight is not None and "weight" in limits:
        raise StemlabError(f"model={name} {limits['weight']}, but the samples have weights: choose another model.")


def _is_lognormal(setting: Any) -> bool:
    return setting is not None and parse_loss(setting).name == "lognormal"
