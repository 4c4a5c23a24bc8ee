"""Gate shares and gradient conflict of the tasks, on one batch; the network does not change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.models.api import MultiTaskOutput
from stemlab.models.multitask.gate_shares import gate_shares
from stemlab.models.multitask.gradient_cosines import gradient_cosines, record_lookups
from stemlab.nn.modes import evaluation_mode


@dataclass(frozen=True, slots=True)
class GateGradientDiagnostics:
    """Gate shares and pairwise gradient cosines of one batch.

    Attributes:
        gates: layer -> gate -> expert group -> share; empty without gates.
        cosines: pair of tasks -> ``tables`` or ``experts`` -> cosine of their gradients.
    """

    gates: Sequence[Mapping[str, Mapping[str, float]]]
    cosines: Mapping[tuple[str, str], Mapping[str, float]]

    def by_name(self) -> dict[str, float]:
        """Return ``gate/like/shared`` (with the layer's number if there are several) and ``conflict/a-b/tables``."""
        several = len(self.gates) > 1
        named = {f"{number}/" if several else "": layer for number, layer in enumerate(self.gates, 1)}
        shares = {
            f"gate/{prefix}{gate}/{group}": share
            for prefix, layer in named.items()
            for gate, groups in layer.items()
            for group, share in groups.items()
        }
        return shares | {
            f"conflict/{a}-{b}/{part}": value for (a, b), parts in self.cosines.items() for part, value in parts.items()
        }


def diagnose_batch(net: nn.Module, batch: ImpressionBatch, loss: Callable[[Tensor], Tensor]) -> GateGradientDiagnostics:
    """Return gate shares and gradient cosines of a batch, in evaluation mode.

    Weights, their ``grad``, random state and the modes of all submodules do not change.

    Args:
        net: a network that reads impressions.
        batch: samples, on the device of the network.
        loss: outputs of the network (B, T) -> losses of the tasks (T,), whose gradients are compared.
    """
    tasks: Sequence[str] = _any(net).tasks
    with evaluation_mode(net):
        with torch.enable_grad(), record_lookups(net) as lookups:
            output: MultiTaskOutput = net.forward(batch)
            cosines = gradient_cosines(net, loss(output.logit_BT), tasks, lookups)
        own = getattr(net, "gate_shares", None)  # networks whose output has no gates
        gates = gate_shares(_any(net), output) if own is None else own(batch)
    return GateGradientDiagnostics(gates, cosines)


def _any(net: nn.Module) -> Any:
    """Return the network typed as Any: its attributes are read, not its class."""
    return net
