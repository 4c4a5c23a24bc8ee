"""Parameter groups with learning rates of their own (``optim.lr_groups``)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from stemlab.errors import StemlabError
from stemlab.optim.config import RateGroups
from stemlab.optim.penalty import split_parameters

_GATE = re.compile(r"(^|[._])gates?\.")
Group = dict[str, Any]


def parameter_kinds(net: nn.Module) -> dict[int, str]:
    """Return the ``id()`` of each trainable parameter -> its kind: ``tables``, ``gates`` or ``dense``.

    Tables are the weights of ``nn.Embedding``; gates are the other parameters below a module whose name is ``gate`` or
    ``gates``, or ends with ``_gate`` or ``_gates``.
    """
    tables = {id(parameter) for parameter in split_parameters(net)[0]}
    kinds = {id(p): "gates" if _GATE.search(name) else "dense" for name, p in net.named_parameters() if p.requires_grad}
    return {key: "tables" if key in tables else kind for key, kind in kinds.items()}


def with_rates(groups: Sequence[Group], net: nn.Module, rates: RateGroups) -> list[Group]:
    """Return the non-empty groups, split so that each kind with a rate of its own has it.

    Groups with the learning rate of the optimiser come first: that of the first group is the one that is logged.

    Args:
        groups: parameter groups; those with the key ``lr`` stay as they are.
        net: the network of the parameters.
        rates: learning rate per kind.

    Raises:
        StemlabError: the network has no parameters of a kind that has a rate.
    """
    own = {kind: rate for kind in ("tables", "gates", "dense") if (rate := getattr(rates, kind)) is not None}
    if not own:
        return [group for group in groups if group["params"]]
    kinds = parameter_kinds(net)
    if missing := [kind for kind in own if kind not in kinds.values()]:
        raise StemlabError(
            f"optim.lr_groups.{missing[0]}={own[missing[0]]}: {type(net).__name__} has no such parameters."
        )
    common, split = [], []
    for group in groups:
        chosen = {} if "lr" in group else own
        rest = [p for p in group["params"] if kinds[id(p)] not in chosen]
        common.append({**group, "params": rest})
        for kind, rate in chosen.items():
            params = [p for p in group["params"] if kinds[id(p)] == kind]
            split.append({**group, "name": f"{group['name']}, {kind}", "params": params, "lr": rate, "kind": kind})
    return [group for group in [*common, *split] if group["params"]]


def named_rates(optimizer: Optimizer, rates: Sequence[float] | None = None) -> dict[str, float]:
    """Return learning rates by logged name: ``train/lr``, and ``train/lr/<kind>`` for groups with a rate of their own.

    Args:
        optimizer: optimiser with the groups of ``with_rates``.
        rates: one per group; ``None`` for the current ones.
    """
    groups = optimizer.param_groups
    values = [float(group["lr"]) for group in groups] if rates is None else rates
    named = {f"train/lr/{group['kind']}": rate for group, rate in zip(groups, values, strict=True) if "kind" in group}
    return {"train/lr": values[0], **named}
