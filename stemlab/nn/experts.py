"""Expert pool with gates, shared by OMoE, MMoE, PLE, PLE-ME and STEM.

The models differ in the layout (``ExpertLayout``): which input each expert reads, which experts each gate sees, and
which of those experts the loss behind the gate trains.

Legend: B batch, D input width, H expert output width, E experts that a gate sees.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stemlab.nn.kernels.batched_stacks import are_batchable, mix_stacked, run_each, run_stacks
from stemlab.nn.kernels.dispatch import is_transformed, use_batched
from stemlab.nn.kernels.expert_mixture import applies, mix_in_one_pass
from stemlab.nn.mlp import MLP, MLPStyle


@dataclass(frozen=True, slots=True)
class ExpertLayout:
    """Connections of one layer; inputs, experts and gates are numbered from 0.

    Attributes:
        expert_inputs: expert -> the input that it reads.
        expert_groups: expert -> name of its group: ``task:<name>``, ``shared`` or ``expert:<m>``.
        visible_experts: gate -> the experts that it mixes, in the order of its outputs.
        trainable: gate -> for every visible expert, True if the loss trains it through this gate, False for
            stop-gradient.
        gate_inputs: gate -> the inputs that are summed to the gate's input.
        mean_gate_input: divide that sum by the number of inputs.
    """

    expert_inputs: tuple[int, ...]
    expert_groups: tuple[str, ...]
    visible_experts: tuple[tuple[int, ...], ...]
    trainable: tuple[tuple[bool, ...], ...]
    gate_inputs: tuple[tuple[int, ...], ...]
    mean_gate_input: bool = False

    def __post_init__(self) -> None:
        if not all(self.visible_experts) or not all(self.gate_inputs):
            raise ValueError("every gate needs a visible expert and an input")
        if [len(row) for row in self.visible_experts] != [len(row) for row in self.trainable]:
            raise ValueError("visible_experts and trainable must have the same shape")


def mix_experts(
    expert_outputs: Sequence[Tensor],
    gate_weights: Sequence[Tensor],
    visible_experts: Sequence[Sequence[int]],
    trainable: Sequence[Sequence[bool]],
) -> list[Tensor]:
    """Return the mixture of every gate k: ``m_k = sum_e g_k[e] * h_e``, the sum over the experts that it sees.

    ``h_e`` is replaced by ``stop_gradient(h_e)`` where the gate may not train the expert; ``g_k`` keeps its gradient.

    Args:
        expert_outputs: outputs h_e of all experts of the layer, (B, H) each.
        gate_weights: g_k of every gate, (B, E) each; E may differ between gates.
        visible_experts: gate -> indices into ``expert_outputs``, in the order of the columns of its weights.
        trainable: gate -> for every visible expert, whether the gate may train it.

    Returns:
        One (B, H) mixture per gate, in the dtype of the experts.
    """
    mixtures = []
    for gate_BE, experts, flags in zip(gate_weights, visible_experts, trainable, strict=True):
        outputs = [
            expert_outputs[e] if flag else expert_outputs[e].detach() for e, flag in zip(experts, flags, strict=True)
        ]
        columns = torch.split(gate_BE.to(outputs[0].dtype), 1, dim=1)
        products = [g_B1 * h_BH for g_B1, h_BH in zip(columns, outputs, strict=True)]
        mixtures.append(functools.reduce(torch.add, products))
    return mixtures


class MixtureLayer(nn.Module):
    """Experts and gates of one layer: inputs (B, D) -> one mixture (B, H) per gate.

    Args:
        input_width: D.
        layout: connections of experts and gates.
        expert_hidden_units: widths of an expert; the last one is H.
        gate_hidden_units: hidden widths of a gate.
        style: hidden layers of experts and gates.
    """

    def __init__(
        self,
        input_width: int,
        layout: ExpertLayout,
        expert_hidden_units: Sequence[int],
        gate_hidden_units: Sequence[int],
        style: MLPStyle,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.batch_norm = style.batch_norm
        self.experts = nn.ModuleList(MLP(input_width, expert_hidden_units, style=style) for _ in layout.expert_inputs)
        self.gates = nn.ModuleList(
            MLP(input_width, gate_hidden_units, len(experts), style=style) for experts in layout.visible_experts
        )

    def forward(self, inputs: Sequence[Tensor], used: int | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """Return the mixtures and the gate weights.

        Args:
            inputs: (B, D) each.
            used: compute only the first ``used`` gates and their mixtures (default: all).

        Returns:
            Mixtures (B, H) and softmax weights (B, E), one per computed gate.
        """
        used = len(self.gates) if used is None else used
        if use_batched(inputs[0]) and are_batchable(list(self.experts)):
            return self._batched(inputs, used)
        outputs = [expert(inputs[i]) for expert, i in zip(self.experts, self.layout.expert_inputs, strict=True)]
        weights = [self._gate_scores(gate, inputs).softmax(dim=1) for gate in range(used)]
        if self.training and self.batch_norm:
            # The released code runs the unused gates too, which updates their running statistics.
            for gate in range(used, len(self.gates)):
                self._gate_scores(gate, inputs)
        return mix_experts(outputs, weights, self.layout.visible_experts[:used], self.layout.trainable[:used]), weights

    def _batched(self, inputs: Sequence[Tensor], used: int) -> tuple[list[Tensor], list[Tensor]]:
        """Return ``forward`` by batched products; without batch norm."""
        state_EBH = run_stacks(list(self.experts), [inputs[i] for i in self.layout.expert_inputs])
        read = self.layout.gate_inputs[:used]
        gate_inputs = {numbers: self._gate_input(numbers, inputs) for numbers in dict.fromkeys(read)}
        scores = run_each(list(self.gates)[:used], [gate_inputs[numbers] for numbers in read])
        weights = [score_BE.softmax(dim=1) for score_BE in scores]
        visible, trainable = self.layout.visible_experts[:used], self.layout.trainable[:used]
        if applies(state_EBH):
            return mix_in_one_pass(state_EBH, weights, visible, trainable), weights
        if is_transformed():  # torch.compile fuses the plain equation
            return mix_experts(list(state_EBH.unbind(dim=0)), weights, visible, trainable), weights
        return mix_stacked(state_EBH, weights, visible, trainable), weights

    def _gate_scores(self, gate: int, inputs: Sequence[Tensor]) -> Tensor:
        """Return the scores (B, E) of a gate before the softmax."""
        score_BE: Tensor = self.gates[gate](self._gate_input(self.layout.gate_inputs[gate], inputs))
        return score_BE

    def _gate_input(self, numbers: Sequence[int], inputs: Sequence[Tensor]) -> Tensor:
        """Return the sum or the mean (B, D) of the inputs with these numbers."""
        chosen = [inputs[i] for i in numbers]
        input_BD = functools.reduce(torch.add, chosen)
        return input_BD / len(chosen) if self.layout.mean_gate_input and len(chosen) > 1 else input_BD


class MixtureStack(nn.Module):
    """Mixture layers in sequence: inputs (B, D) -> the first ``used`` mixtures (B, H) of the last layer.

    The mixtures of a layer are the inputs of the next one. The shared gate comes after the gates of the tasks. No tower
    reads the shared mixture of the last layer, so it is not computed there.

    Args:
        input_width: D of the first layer.
        layouts: layout of every layer.
        used: number of gates of the last layer whose mixtures are returned.
        expert_hidden_units: widths of an expert in every layer; with ``one_width_per_layer``, the experts of a layer
            have one hidden layer of that layer's width (MTReclib's PLE).
        gate_hidden_units: hidden widths of a gate.
        style: hidden layers of experts and gates.
        one_width_per_layer: read ``expert_hidden_units`` as one width per layer.
    """

    def __init__(
        self,
        input_width: int,
        layouts: Sequence[ExpertLayout],
        used: int,
        expert_hidden_units: Sequence[int],
        gate_hidden_units: Sequence[int],
        style: MLPStyle,
        one_width_per_layer: bool = False,
    ) -> None:
        super().__init__()
        every = list(expert_hidden_units)
        units = [[width] for width in every] if one_width_per_layer else [every] * len(layouts)
        widths = [input_width, *(layer[-1] for layer in units[:-1])]
        self.layers = nn.ModuleList(
            MixtureLayer(width, layout, layer, gate_hidden_units, style)
            for width, layout, layer in zip(widths, layouts, units, strict=True)
        )
        self.used = used

    def forward(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Return the mixtures (B, H) of the last layer and the gate weights (B, E) of every layer."""
        gates: list[list[Tensor]] = []
        for number, layer in enumerate(self.layers, start=1):
            inputs, weights = layer(inputs, self.used if number == len(self.layers) else None)
            gates.append(weights)
        return list(inputs), gates


def expert_group_shares(gate_BE: Tensor, visible_experts: Sequence[int], groups: Sequence[str]) -> dict[str, Tensor]:
    """Return the weight that a gate gives to each expert group.

    Args:
        gate_BE: gate weights.
        visible_experts: the experts behind the columns.
        groups: expert -> name of its group.

    Returns:
        Group -> batch mean of the summed weights of its experts, float32. The shares sum to one; a group that the gate
        does not see has zero.
    """
    mean_E = gate_BE.detach().float().mean(dim=0)
    shares = {group: mean_E.new_zeros(()) for group in groups}
    for column, expert in enumerate(visible_experts):
        shares[groups[expert]] = shares[groups[expert]] + mean_E[column]
    return shares
