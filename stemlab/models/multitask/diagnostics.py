"""What gates read and whether tasks pull shared weights the same way, on a batch; the network is left as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.models.api import MultiTaskOutput
from stemlab.models.multitask.gate_shares import gate_shares
from stemlab.models.multitask.gradient_cosines import gradient_cosines, record_lookups
from stemlab.nn.loss import LossForm, task_losses


@dataclass(frozen=True, slots=True)
class GateGradientDiagnostics:
    """What was seen.

    Attributes:
        gates: layer -> gate -> expert group -> share; empty without gates.
        cosines: two tasks -> ``tables`` or ``experts`` -> cosine of their gradients.
    """

    gates: Sequence[Mapping[str, Mapping[str, float]]]
    cosines: Mapping[tuple[str, str], Mapping[str, float]]

    def by_name(self) -> dict[str, float]:
        """Return ``gate/like/shared`` (with the layer's number where there are several) and ``conflict/a-b/tables``."""
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


def diagnose_batch(
    net: nn.Module, batch: ImpressionBatch, labels_BT: Tensor, form: LossForm
) -> GateGradientDiagnostics:
    """Return gates and gradient cosines on a batch, without dropout and with running statistics.

    Weights, their ``grad``, random numbers and the modes of all parts stay as they are.

    Args:
        net: a network of impressions.
        batch: rows, on its device.
        labels_BT: labels of its tasks.
        form: of the loss whose gradients are taken.
    """
    tasks: Sequence[str] = _any(net).tasks
    modes = [(part, part.training) for part in net.modules()]
    net.eval()
    try:
        with torch.enable_grad(), record_lookups(net) as lookups:
            output: MultiTaskOutput = net.forward(batch)
            losses_T = task_losses(output.logit_BT, labels_BT, form)
            cosines = gradient_cosines(net, losses_T, tasks, lookups)
        own = getattr(net, "gate_shares", None)  # where gates are too many for the output
        gates = gate_shares(_any(net), output) if own is None else own(batch)
    finally:
        for part, training in modes:
            part.training = training
    return GateGradientDiagnostics(gates, cosines)


def _any(net: nn.Module) -> Any:
    """A network by what it has, not by its class."""
    return net
