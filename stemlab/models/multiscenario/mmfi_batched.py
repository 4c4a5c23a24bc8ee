"""MMFI's attention in static shapes, for accelerators: every sample with the weights of its own scenario.

The layers of a slot are small, so each sample gets its scenario's weights from a table (one lookup) and multiplies them
in a batched product. The linear layer over all slots is large; it is applied with the weights of all scenarios, and
each sample keeps the scores of its own. Values equal ``SlotAttention.forward`` to rounding
(docs/methods/kernels.md#static-shapes).

Legend: B samples, Q slots, E width of a slot vector, S scenarios, T tasks, I width of an indicator, H width of the
bottom, N shared experts, O specific experts, G = N + O, M width of an expert output, Y outputs of linear layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from stemlab.models.multiscenario.mmfi_attention import Affine, ScenarioLayers, SlotAttention, SlotGates
from stemlab.nn.kernels.batched_scenarios import lookup_own, normalise_by_own, select_own


def scores_of_own(
    attention: SlotAttention,
    slot_BQE: Tensor,
    gates: nn.ModuleList,
    indicator_STI: Tensor,
    own_BS: Tensor,
    all_rows: bool,
) -> Tensor:
    """Return the scores y (B, T, Q) of every sample from the layers of its own scenario.

    Args:
        attention: layers of all scenarios.
        slot_BQE: slot vectors.
        gates: one ``SlotGates`` per scenario.
        indicator_STI: indicators of scenarios and tasks.
        own_BS: ``own_scenario``.
        all_rows: if True, the batch norm of a scenario sees all samples; if False, only those of its own.
    """
    layers, chosen = cast(Sequence[ScenarioLayers], attention.own), cast(Sequence[SlotGates], gates)
    if all_rows:
        every = [
            _scores_of_all(attention, slot_BQE, layer, gate, indicator_STI, own_BS)
            for layer, gate in zip(layers, chosen, strict=True)
        ]
        return select_own(torch.stack(every, dim=2), own_BS)
    affine = [gate.affine(indicator_TI) for gate, indicator_TI in zip(chosen, indicator_STI, strict=True)]
    expert_SY = _joined([_expert_affine(attention, layer) for layer in layers])
    expert, gate = (_per_sample(affine_SY, own_BS) for affine_SY in (expert_SY, _joined(affine)))
    mixture_TBX = _mixtures(attention, slot_BQE, expert, gate)
    tower_TXY = torch.cat([layer.tower_TQX for layer in layers], dim=1).transpose(1, 2)
    bias_T1Y = torch.cat([layer.bias_TQ for layer in layers], dim=1).unsqueeze(1)
    every_TBY = torch.baddbmm(bias_T1Y, mixture_TBX, tower_TXY)
    every_TBSQ = every_TBY.view(*every_TBY.shape[:2], len(layers), -1)
    score_BTQ = select_own(every_TBSQ.transpose(0, 1), own_BS)
    norms = [layer.norm for layer in layers]
    scale_SY, shift_SY = (torch.stack([getattr(norm, name) for norm in norms]) for name in ("weight", "bias"))
    return normalise_by_own(norms, score_BTQ.flatten(1), own_BS, scale_SY, shift_SY).view(score_BTQ.shape)


def _scores_of_all(
    attention: SlotAttention,
    slot_BQE: Tensor,
    layer: ScenarioLayers,
    gates: SlotGates,
    indicator_STI: Tensor,
    own_BS: Tensor,
) -> Tensor:
    """Return the scores (B, T, Q) of all samples from the layers of one scenario, indicators of the samples' own."""
    affine = [gates.affine(indicator_TI) for indicator_TI in indicator_STI]
    bias_BY = lookup_own(torch.stack([bias_Y for _, bias_Y in affine]), own_BS)
    weight_YE, bias_Y = _expert_affine(attention, layer)
    B = len(slot_BQE)
    expert, gate = (
        (weight.expand(B, -1, -1), bias.expand(B, -1))
        for weight, bias in ((weight_YE, bias_Y), (affine[0][0], bias_BY))
    )
    mixture_TBX = _mixtures(attention, slot_BQE, expert, gate)
    raw_TBQ = torch.baddbmm(layer.bias_TQ.unsqueeze(1), mixture_TBX, layer.tower_TQX.transpose(1, 2))
    score_BTQ = raw_TBQ.transpose(0, 1)
    normed: Tensor = layer.norm(score_BTQ.flatten(1))
    return normed.view(score_BTQ.shape)


def _expert_affine(attention: SlotAttention, layer: ScenarioLayers) -> Affine:
    """Return weight (Y, E or H) and bias (Y,) of the shared and a scenario's experts, on v if without activation."""
    weight_YH = torch.cat([attention.shared.weight, layer.weight_TYH.flatten(0, 1)])
    bias_Y = torch.cat([attention.shared.bias, layer.bias_TY.flatten()])
    if attention.shape.activation != "none":
        return weight_YH, bias_Y
    return weight_YH @ attention.bottom.weight, weight_YH @ attention.bottom.bias + bias_Y


def _joined(affine: Sequence[Affine]) -> Tensor:
    """Return weights and biases of all scenarios as one table (S, Y, E + 1)."""
    return torch.stack([torch.cat([weight_YE, bias_Y.unsqueeze(1)], dim=1) for weight_YE, bias_Y in affine])


def _per_sample(table_SYX: Tensor, own_BS: Tensor) -> Affine:
    """Return weight (B, Y, E) and bias (B, Y) of each sample's scenario."""
    table_BYX = lookup_own(table_SYX, own_BS)
    return table_BYX[..., :-1], table_BYX[..., -1]


def _mixtures(attention: SlotAttention, slot_BQE: Tensor, expert: Affine, gate: Affine) -> Tensor:
    """Return ``SlotAttention.mixtures`` as the input (T, B, M * Q) of the linear layers.

    Args:
        attention: shared layers.
        slot_BQE: slot vectors.
        expert: weight (B, Y, E or H) and bias (B, Y) of the experts of each sample.
        gate: weight (B, T * G, E) and bias (B, T * G) of the gates of each sample.
    """
    shape, (B, Q, _) = attention.shape, slot_BQE.shape
    N, T, G, M = shape.shared, shape.tasks, shape.shared + shape.own, shape.expert
    input_BQH = slot_BQE if shape.activation == "none" else attention.activation(attention.bottom(slot_BQE))
    expert_BYQ = attention.activation(_apply(expert, input_BQH))
    shared_BYQ, own_BYQ = torch.split(expert_BYQ, [N * M, T * (G - N) * M], dim=1)
    gate_BTGQ = _apply(gate, slot_BQE).view(B, T, G, Q).softmax(dim=2)
    gate_BTNQ, gate_BTOQ = torch.split(gate_BTGQ, [N, G - N], dim=2)
    mixture_BTMQ = (gate_BTNQ.unsqueeze(3) * shared_BYQ.view(B, 1, N, M, Q)).sum(dim=2)
    if G > N:
        mixture_BTMQ = mixture_BTMQ + (gate_BTOQ.unsqueeze(3) * own_BYQ.view(B, T, G - N, M, Q)).sum(dim=2)
    return mixture_BTMQ.flatten(2).transpose(0, 1)


def _apply(affine: Affine, input_BQE: Tensor) -> Tensor:
    return torch.baddbmm(affine[1].unsqueeze(2), affine[0], input_BQE.transpose(1, 2))
