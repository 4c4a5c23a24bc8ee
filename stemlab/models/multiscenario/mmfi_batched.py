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
    layers = cast(Sequence[ScenarioLayers], attention.own)
    experts, chosen = _experts(attention, layers), _gates(cast(Sequence[SlotGates], gates), indicator_STI)
    if all_rows:
        every = [_scores_of_all(attention, slot_BQE, s, (experts, chosen), own_BS) for s in range(len(layers))]
        return select_own(torch.stack(every, dim=2), own_BS)
    expert, gate = (_per_sample(affine, own_BS) for affine in (experts, (chosen[0], _diagonal(chosen[1]))))
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
    attention: SlotAttention, slot_BQE: Tensor, scenario: int, affine: tuple[Affine, Affine], own_BS: Tensor
) -> Tensor:
    """Return the scores (B, T, Q) of all samples from the layers of one scenario, with the samples' own indicators."""
    (expert_SYE, bias_SY), (gate_SYE, gate_SSY) = affine
    layer, B = cast(ScenarioLayers, attention.own[scenario]), slot_BQE.shape[0]
    expert = expert_SYE[scenario].expand(B, -1, -1), bias_SY[scenario].expand(B, -1)
    gate = gate_SYE[scenario].expand(B, -1, -1), lookup_own(gate_SSY[scenario], own_BS)
    mixture_TBX = _mixtures(attention, slot_BQE, expert, gate)
    raw_TBQ = torch.baddbmm(layer.bias_TQ.unsqueeze(1), mixture_TBX, layer.tower_TQX.transpose(1, 2))
    score_BTQ = raw_TBQ.transpose(0, 1)
    normed: Tensor = layer.norm(score_BTQ.flatten(1))
    return normed.view(score_BTQ.shape)


def _experts(attention: SlotAttention, layers: Sequence[ScenarioLayers]) -> Affine:
    """Return weights (S, Y, E or H) and biases (S, Y) of the shared and each scenario's experts.

    Without activation they apply to the slot vector itself, otherwise to the output of the bottom.
    """
    S, shared = len(layers), attention.shared
    own_SYH = torch.stack([layer.weight_TYH for layer in layers]).flatten(1, 2)
    weight_SYH = torch.cat([shared.weight.expand(S, -1, -1), own_SYH], dim=1)
    bias_SY = torch.cat([shared.bias.expand(S, -1), torch.stack([layer.bias_TY for layer in layers]).flatten(1)], dim=1)
    if attention.shape.activation != "none":
        return weight_SYH, bias_SY
    return weight_SYH @ attention.bottom.weight, weight_SYH @ attention.bottom.bias + bias_SY


def _gates(gates: Sequence[SlotGates], indicator_STI: Tensor) -> Affine:
    """Return ``SlotGates.affine`` of all scenarios: weights (S, T*G, E), biases (S, S, T*G) for every indicator."""
    width = indicator_STI.shape[2]
    weight_STGX = torch.stack([gate.weight_TGX for gate in gates])
    bias_S1TG = torch.stack([gate.bias_TG for gate in gates]).unsqueeze(1)
    constant_SSTG = torch.einsum("stgi,uti->sutg", weight_STGX[..., :width], indicator_STI)
    return weight_STGX[..., width:].flatten(1, 2), (constant_SSTG + bias_S1TG).flatten(2)


def _diagonal(bias_SSY: Tensor) -> Tensor:
    """Return the biases (S, Y) of the gates of each scenario for its own indicators."""
    return torch.diagonal(bias_SSY, dim1=0, dim2=1).t()


def _per_sample(affine: Affine, own_BS: Tensor) -> Affine:
    """Return weight (B, Y, E) and bias (B, Y) of each sample's scenario, from those of all scenarios."""
    weight_SYE, bias_SY = affine
    row_BX = lookup_own(torch.cat([weight_SYE.flatten(1), bias_SY], dim=1), own_BS)
    weight_BX, bias_BY = torch.split(row_BX, [weight_SYE[0].numel(), bias_SY.shape[1]], dim=1)
    return weight_BX.view(-1, *weight_SYE.shape[1:]), bias_BY


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
