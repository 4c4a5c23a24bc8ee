"""Mean gate weight per expert group.

Legend: B batch, E experts that a gate sees.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stemlab.models.api import MultiTaskOutput
from stemlab.models.multitask.base import TabularNet
from stemlab.nn.experts import MixtureLayer, expert_group_shares


def gate_shares(net: TabularNet, output: MultiTaskOutput) -> list[dict[str, dict[str, float]]]:
    """Return, per layer, gate -> expert group -> share of the gate (batch mean; shares of a gate sum to one).

    Gates are named after their task, ``shared`` for a shared gate and ``all`` for the one gate of OMoE. Groups are
    ``task:<name>``, ``shared`` or ``expert:<m>``; networks with gates but without ``MixtureLayer`` (DCNv2, AME) have
    ``expert:<m>`` only. Networks without gates return an empty list. Source: docs/methods/stem.md#gate-shares.
    """
    layers = [module for module in net.modules() if isinstance(module, MixtureLayer)]
    if not layers:
        return [_shares_per_expert(net.tasks, gates) for gates in output.gates]
    return [_shares_of_layer(net, layer, gates) for layer, gates in zip(layers, output.gates, strict=True)]


def _shares_of_layer(net: TabularNet, layer: MixtureLayer, gates: Sequence[Tensor]) -> dict[str, dict[str, float]]:
    names = ["all"] if len(layer.gates) < len(net.tasks) else [*net.tasks, "shared"]
    visible, groups = layer.layout.visible_experts, layer.layout.expert_groups
    return {
        name: {group: float(share) for group, share in expert_group_shares(gate_BE, experts, groups).items()}
        for name, gate_BE, experts in zip(names, gates, visible, strict=False)
    }


def _shares_per_expert(tasks: Sequence[str], gates: Sequence[Tensor]) -> dict[str, dict[str, float]]:
    """Return the shares of gates that all see the same experts, each of which reads one table."""
    names = tasks if len(gates) == len(tasks) and len(tasks) > 1 else ["all"]
    means = [gate_BE.mean(dim=0).tolist() for gate_BE in gates]
    return {
        name: {f"expert:{e}": share for e, share in enumerate(mean)} for name, mean in zip(names, means, strict=True)
    }
