"""One expert pool and its gates, for OMoE, MMoE, PLE, PLE-ME and STEM.

What distinguishes those models is written in three small tables (``Wiring``): which input every expert reads, which
experts every gate sees, and which of those it may train. ``stemlab.nn.kernels.expert_mixture`` computes the mixtures.

Legend: B rows, D input width, H expert output width, E experts a gate sees.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stemlab.nn.kernels.dispatch import use_cpu_kernel
from stemlab.nn.kernels.expert_mixture import mix
from stemlab.nn.mlp import MLP, MLPStyle


@dataclass(frozen=True, slots=True)
class Wiring:
    """The tables of one layer; inputs, experts and gates are numbered from 0.

    Attributes:
        reads: expert -> the input that it reads.
        groups: expert -> the name of the group that it belongs to: ``task:<name>``, ``shared`` or ``expert:<m>``.
        sees: gate -> the experts that it mixes, in the order of its outputs.
        trains: gate -> for every expert it sees, whether its loss may train that expert (else stop-gradient).
        gate_reads: gate -> the inputs that are added up to the gate's input.
        gate_mean: divide that sum by the number of inputs.
    """

    reads: tuple[int, ...]
    groups: tuple[str, ...]
    sees: tuple[tuple[int, ...], ...]
    trains: tuple[tuple[bool, ...], ...]
    gate_reads: tuple[tuple[int, ...], ...]
    gate_mean: bool = False

    def __post_init__(self) -> None:
        if not all(self.sees) or not all(self.gate_reads):
            raise ValueError("every gate must see an expert and read an input")
        if [len(row) for row in self.sees] != [len(row) for row in self.trains]:
            raise ValueError("sees and trains must have the same shape")


def mix_experts(
    experts: Sequence[Tensor],
    weights: Sequence[Tensor],
    sees: Sequence[Sequence[int]],
    trains: Sequence[Sequence[bool]],
) -> list[Tensor]:
    """Return the mixture (B, H) of every gate k: ``sum_e g_k[e] * h_e``, the sum over the experts that it sees.

    An expert that the gate's loss may not train is read with its gradient stopped; the gate weight keeps its gradient.

    Args:
        experts: outputs h_e of all experts of the layer, (B, H) each.
        weights: gate weights g_k, (B, E) each; E may differ from gate to gate.
        sees: gate -> indices into ``experts``, in the order of the columns of its weights.
        trains: gate -> for every expert it sees, whether its loss may train that expert.
    """
    if use_cpu_kernel(*weights, *experts):
        return mix(experts, weights, sees, trains)
    mixtures = []
    for weight_BE, seen, trained in zip(weights, sees, trains, strict=True):
        outputs = [experts[e] if train else experts[e].detach() for e, train in zip(seen, trained, strict=True)]
        gate_columns = torch.split(weight_BE.to(outputs[0].dtype), 1, dim=1)
        products = [g_B1 * h_BH for g_B1, h_BH in zip(gate_columns, outputs, strict=True)]
        mixtures.append(functools.reduce(torch.add, products))
    return mixtures


class MixtureLayer(nn.Module):
    """Experts and gates of one layer: inputs (B, D) -> one mixture (B, H) a gate."""

    def __init__(
        self,
        input_width: int,
        wiring: Wiring,
        expert_hidden_units: Sequence[int],
        gate_hidden_units: Sequence[int],
        style: MLPStyle,
    ) -> None:
        super().__init__()
        self.wiring = wiring
        self.batch_norm = style.batch_norm
        self.experts = nn.ModuleList(MLP(input_width, expert_hidden_units, style=style) for _ in wiring.reads)
        self.gates = nn.ModuleList(MLP(input_width, gate_hidden_units, len(row), style=style) for row in wiring.sees)

    def forward(self, inputs: Sequence[Tensor], used: int | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """Return the mixtures and the gate weights.

        Args:
            inputs: (B, D) each.
            used: only the first ``used`` gates are wanted; the others have no weights and no mixture (all by default).

        Returns:
            Mixtures (B, H) and softmax weights (B, E), one a gate.
        """
        used = len(self.gates) if used is None else used
        experts = [expert(inputs[read]) for expert, read in zip(self.experts, self.wiring.reads, strict=True)]
        weights = [self._gate(gate, inputs).softmax(dim=1) for gate in range(used)]
        if self.training and self.batch_norm:
            # The published code runs idle gates too, which shows in their running statistics.
            for gate in range(used, len(self.gates)):
                self._gate(gate, inputs)
        return mix_experts(experts, weights, self.wiring.sees[:used], self.wiring.trains[:used]), weights

    def _gate(self, gate: int, inputs: Sequence[Tensor]) -> Tensor:
        """Return a gate's scores (B, E) before the softmax."""
        first, *others = (inputs[read] for read in self.wiring.gate_reads[gate])
        total_BD = first
        for other_BD in others:
            total_BD = total_BD + other_BD
        if self.wiring.gate_mean and others:
            total_BD = total_BD / (1 + len(others))
        scores_BE: Tensor = self.gates[gate](total_BD)
        return scores_BE


class MixtureStack(nn.Module):
    """Layers whose mixtures feed the next: inputs (B, D) -> the first ``used`` mixtures of the last layer.

    A shared gate comes after the tasks' gates; in the last layer it mixes for nobody and is not computed.

    Args:
        input_width: D of the first layer.
        wirings: tables of every layer.
        used: gates of the last layer whose mixtures are wanted.
        expert_hidden_units: widths of an expert in every layer; with ``one_width_a_layer``, a layer's experts have one
            hidden layer, of that layer's width (MTReclib's PLE).
        gate_hidden_units: hidden widths of a gate.
        style: of hidden layers.
        one_width_a_layer: how the experts' widths are read.
    """

    def __init__(
        self,
        input_width: int,
        wirings: Sequence[Wiring],
        used: int,
        expert_hidden_units: Sequence[int],
        gate_hidden_units: Sequence[int],
        style: MLPStyle,
        one_width_a_layer: bool = False,
    ) -> None:
        super().__init__()
        every = list(expert_hidden_units)
        units = [[width] for width in every] if one_width_a_layer else [every] * len(wirings)
        widths = [input_width, *(layer[-1] for layer in units[:-1])]
        self.layers = nn.ModuleList(
            MixtureLayer(width, wiring, layer, gate_hidden_units, style)
            for width, wiring, layer in zip(widths, wirings, units, strict=True)
        )
        self.used = used

    def forward(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Return the last layer's mixtures (B, H) and, a layer, the gate weights (B, E)."""
        gates: list[list[Tensor]] = []
        for number, layer in enumerate(self.layers, start=1):
            inputs, weights = layer(inputs, self.used if number == len(self.layers) else None)
            gates.append(weights)
        return list(inputs), gates


def group_shares(weight_BE: Tensor, sees: Sequence[int], groups: Sequence[str]) -> dict[str, Tensor]:
    """Return how much of a gate goes to every expert group.

    Args:
        weight_BE: gate weights.
        sees: the experts behind the columns.
        groups: expert -> group name.

    Returns:
        Group -> batch mean of the weights summed inside the group, float32; adds up to one. A group that the gate does
        not see has zero.
    """
    mean_E = weight_BE.detach().float().mean(dim=0)
    shares = {group: mean_E.new_zeros(()) for group in groups}
    for column, expert in enumerate(sees):
        shares[groups[expert]] = shares[groups[expert]] + mean_E[column]
    return shares
