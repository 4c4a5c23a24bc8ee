"""Optimisers inside CUDA graphs: which ones can be captured, and which of their values a graph contains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adadelta, Adam, Optimizer

from stemlab.optim.schedule import rates_to_numbers

_NOT_IN_THE_GRAPH = {
    "params",
    "name",
    "foreach",
    "fused",
    "capturable",
    "differentiable",
    "maximize",
    "base_lr",
    "kind",
}


def uncapturable_optimizer(kind: type[Optimizer], scheduled: bool = False) -> str | None:
    """Return why the steps of an optimiser class cannot be captured, or None if they can.

    Args:
        kind: the class.
        scheduled: whether the learning rate changes in every step, so that it must be a tensor.
    """
    if scheduled and issubclass(kind, Adadelta):
        return f"{kind.__name__} has no fused step that reads the learning rate of optim.schedule from a tensor"
    if issubclass(kind, Adam | Adadelta | SGD):
        return None
    return f"PyTorch computes a part of the step of {kind.__name__} on the CPU"


def make_capturable(optimizer: Optimizer) -> None:
    """Let a step of an optimiser be captured: its step counts are on the device of the parameters.

    The numbers do not change. ``plain_groups`` removes the setting from a checkpoint.
    """
    for group in optimizer.param_groups:
        if "capturable" not in group:  # SGD has neither the setting nor a step count
            continue
        group["capturable"] = group["params"][0].device.type == "cuda"
        for parameter in group["params"]:
            step = optimizer.state.get(parameter, {}).get("step")
            if isinstance(step, Tensor):
                optimizer.state[parameter]["step"] = step.to(parameter.device, torch.float32)


def plain_groups(optimizer_state: dict[str, Any]) -> None:
    """Remove the settings of captured steps from a state dictionary, which a run on the CPU may load."""
    rates_to_numbers(optimizer_state["param_groups"])
    for group in optimizer_state["param_groups"]:
        if "capturable" in group:
            group["capturable"] = False


def captured_values(optimizer: Optimizer) -> tuple[Any, ...]:
    """Return the values that a captured step contains as constants; the graph is stale once they change.

    A learning rate that is a tensor is not among them: the step reads it.
    """
    # the weight decay of PenalisedAdam follows from l2 at every step
    skipped = [_NOT_IN_THE_GRAPH | ({"weight_decay"} if "l2" in group else set()) for group in optimizer.param_groups]
    return tuple(
        tuple(value for key, value in sorted(group.items()) if key not in keys and not isinstance(value, Tensor))
        for group, keys in zip(optimizer.param_groups, skipped, strict=True)
    )
