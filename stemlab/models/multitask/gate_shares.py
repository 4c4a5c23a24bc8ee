"""What gates read from whom.

Legend: B rows, E experts a gate sees.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stemlab.models.api import MultiTaskOutput
from stemlab.models.multitask.base import TabularNet
from stemlab.nn.experts import MixtureLayer, group_shares


def gate_shares(net: TabularNet, output: MultiTaskOutput) -> list[dict[str, dict[str, float]]]:
    """Return, a layer, gate -> expert group -> share of the gate (batch mean, adding up to one).

    Gates are named after their task, ``shared`` for a shared gate and ``all`` for the one gate of OMoE; groups are
    ``task:<name>``, ``shared`` or ``expert:<m>`` (all that networks without expert pools have: DCNv2, AME). Networks
    without gates give an empty list.
    Source: spec/stem.md section 2, property 6.
    """
    layers = [module for module in net.modules() if isinstance(module, MixtureLayer)]
    if not layers:
        return [_by_expert(net.tasks, gates) for gates in output.gates]
    shares = []
    for layer, gates in zip(layers, output.gates, strict=True):
        names = ["all"] if len(layer.gates) < len(net.tasks) else [*net.tasks, "shared"]
        shares.append(
            {
                name: {
                    group: float(share)
                    for group, share in group_shares(weight_BE, layer.wiring.sees[gate], layer.wiring.groups).items()
                }
                for gate, (name, weight_BE) in enumerate(zip(names, gates, strict=False))
            }
        )
    return shares


def _by_expert(tasks: Sequence[str], gates: Sequence[Tensor]) -> dict[str, dict[str, float]]:
    """Shares of gates that all see the same experts, one a table."""
    names = tasks if len(gates) == len(tasks) and len(tasks) > 1 else ["all"]
    means = [weight_BE.mean(dim=0).tolist() for weight_BE in gates]
    return {
        name: {f"expert:{e}": share for e, share in enumerate(mean)} for name, mean in zip(names, means, strict=True)
    }
