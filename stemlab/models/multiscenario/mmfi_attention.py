"""MMFI's attention: bottom, shared and specific experts under gates, one linear layer per scenario and task.

A slot is a pair of fields or a field (docs/methods/mmfi.md#attention). ``SlotAttention.mixtures`` is the equation;
``SlotAttention.merged_mixtures`` gives the same values faster and runs unless ``trainer.kernels=off``
(docs/methods/kernels.md).

Legend: R samples of one scenario, Q slots, E width of a slot vector, S scenarios, T tasks, I width of an indicator,
H width of the bottom, N shared experts, O specific experts of a scenario and task, G = N + O experts of a gate, M width
of an expert output, X = Q * R, Y several outputs of linear layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemlab.nn.kernels.dispatch import kernels_off
from stemlab.nn.mlp import Activation, activation
from stemlab.nn.norm import SubsetBatchNorm

Affine = tuple[Tensor, Tensor]
"""Weight (outputs, inputs) and bias (outputs,) of a linear layer."""


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Sizes of a ``SlotAttention``.

    Attributes:
        scenarios: S.
        tasks: T.
        width: E.
        indicator: I.
        bottom: H.
        expert: M.
        shared: N.
        own: O.
        activation: after the bottom and after the experts.
    """

    scenarios: int
    tasks: int
    width: int
    indicator: int
    bottom: int
    expert: int
    shared: int
    own: int
    activation: Activation | Literal["none"]


def linear_parameter(fan_in: int, *shape: int) -> nn.Parameter:
    """Return weights or biases (shape) of several linear layers, drawn as in ``torch.nn.Linear``."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


class SlotGates(nn.Module):
    """The gates of one scenario, one per task: g^t_q = softmax(W_g^t [I^t; v_q] + c_g^t).

    Args:
        shape: sizes.
    """

    def __init__(self, shape: AttentionShape) -> None:
        super().__init__()
        inputs, experts = shape.indicator + shape.width, shape.shared + shape.own
        self.weight_TGX = linear_parameter(inputs, shape.tasks, experts, inputs)
        self.bias_TG = linear_parameter(inputs, shape.tasks, experts)

    def forward(self, slot_RQE: Tensor, indicator_TI: Tensor) -> Tensor:
        """Return the gate weights (R, Q, T, G)."""
        weight_YE, bias_Y = self.affine(indicator_TI)
        score_RQY = functional.linear(slot_RQE, weight_YE, bias_Y)
        return score_RQY.view(*slot_RQE.shape[:2], *self.bias_TG.shape).softmax(dim=3)

    def affine(self, indicator_TI: Tensor) -> Affine:
        """Return weight (T*G, E) and bias (T*G,) on v alone: W [I; v] + c = W_v v + (W_I I + c), I being constant."""
        width = indicator_TI.shape[1]
        indicator_weight_TGI, slot_weight_TGE = self.weight_TGX[..., :width], self.weight_TGX[..., width:]
        bias_TG = self.bias_TG + (indicator_weight_TGI @ indicator_TI.unsqueeze(2)).squeeze(2)
        return slot_weight_TGE.flatten(0, 1), bias_TG.flatten()


class ScenarioLayers(nn.Module):
    """The layers of one scenario: specific experts, linear layer and batch norm of each task.

    Args:
        slots: Q.
        shape: all other sizes.
    """

    def __init__(self, slots: int, shape: AttentionShape) -> None:
        super().__init__()
        T, outputs, inputs = shape.tasks, shape.own * shape.expert, shape.expert * slots
        self.weight_TYH = linear_parameter(shape.bottom, T, outputs, shape.bottom)
        self.bias_TY = linear_parameter(shape.bottom, T, outputs)
        self.tower_TQX = linear_parameter(inputs, T, slots, inputs)  # inputs: output 1 of all slots, then output 2 ...
        self.bias_TQ = linear_parameter(inputs, T, slots)
        self.norm = SubsetBatchNorm(T * slots)

    def linear(self, mixture_TMQR: Tensor) -> Tensor:
        """Return Linear^t(o^t), the scores (R, T, Q) before batch norm."""
        input_TYR = mixture_TMQR.flatten(1, 2)
        return torch.baddbmm(self.bias_TQ.unsqueeze(2), self.tower_TQX, input_TYR).permute(2, 0, 1)


class SlotAttention(nn.Module):
    """Slots (R, Q, E) of each scenario -> scores y^{s,t} (R, T, Q), normalised over samples.

    Args:
        slots: Q.
        shape: all other sizes.
    """

    def __init__(self, slots: int, shape: AttentionShape) -> None:
        super().__init__()
        self.slots, self.shape = slots, shape
        self.bottom = nn.Linear(shape.width, shape.bottom)
        self.shared = nn.Linear(shape.bottom, shape.shared * shape.expert)
        self.own = nn.ModuleList(ScenarioLayers(slots, shape) for _ in range(shape.scenarios))
        self.activation = nn.Identity() if shape.activation == "none" else activation(shape.activation)

    def forward(
        self, slots: Sequence[Tensor], gates: nn.ModuleList, indicators: Sequence[Tensor], all_rows: bool
    ) -> list[Tensor]:
        """Return, for each scenario, the scores y = BatchNorm(Linear(o)) (R, T, Q) of its samples.

        Args:
            slots: for each scenario, the vectors (R, Q, E) of its samples; R may be 0.
            gates: one ``SlotGates`` per scenario.
            indicators: for each scenario, (T, I).
            all_rows: if True, the batch norm of a scenario sees the samples of all scenarios (released code); if False,
                only those of its own.
        """
        mixtures = self.mixtures if kernels_off() else self.merged_mixtures
        found = []
        for s, own in enumerate(cast(Sequence[ScenarioLayers], self.own)):
            seen = range(len(slots)) if all_rows else (s,)
            gate = cast(SlotGates, gates[s])
            raw = [own.linear(mixtures(slots[g], own, gate, indicators[g])) for g in seen]
            score_RTQ = torch.cat(raw) if all_rows else raw[0]
            score_RTQ = own.norm(score_RTQ.flatten(1)).view(score_RTQ.shape)
            found.append(torch.split(score_RTQ, [len(slots[g]) for g in seen])[s if all_rows else 0])
        return found

    def mixtures(self, slot_RQE: Tensor, own: ScenarioLayers, gates: SlotGates, indicator_TI: Tensor) -> Tensor:
        """Return o^t_q = sum_n g^t_qn Exp_n(h_q) + sum_n g^t_q,N+n Exp^t_n(h_q), (T, M, Q, R): the plain equation."""
        shared, own_count, width = self.shape.shared, self.shape.own, self.shape.expert
        hidden_RQH = self.activation(self.bottom(slot_RQE))  # h_q = W_0 v_q + c_0
        shared_RQNM = self.activation(self.shared(hidden_RQH)).unflatten(2, (shared, width))
        own_RQTY = torch.einsum("rqh,tyh->rqty", hidden_RQH, own.weight_TYH) + own.bias_TY
        own_RQTOM = self.activation(own_RQTY).unflatten(3, (own_count, width))
        gate_RQTN, gate_RQTO = gates(slot_RQE, indicator_TI).split([shared, own_count], dim=3)
        shared_TMQR = torch.einsum("rqtn,rqnm->tmqr", gate_RQTN, shared_RQNM)
        return shared_TMQR + torch.einsum("rqto,rqtom->tmqr", gate_RQTO, own_RQTOM)

    def merged_mixtures(self, slot_RQE: Tensor, own: ScenarioLayers, gates: SlotGates, indicator_TI: Tensor) -> Tensor:
        """Return ``mixtures`` by one matrix product in a layout with samples last.

        Without activation, bottom and experts are one linear map of v: W_1 (W_0 v + c_0) + c_1 = (W_1 W_0) v +
        (W_1 c_0 + c_1). All experts and gate scores of a slot are then rows of one matrix. With samples last, the
        product and each softmax run over long contiguous rows. These are plain operations on any device.
        """
        shape, slot_EQR = self.shape, slot_RQE.permute(2, 1, 0)
        N, T, G, M, (_, Q, R) = shape.shared, shape.tasks, shape.shared + shape.own, shape.expert, slot_EQR.shape
        expert_YX, gate_YX = self._experts_and_gates(slot_EQR.flatten(1), own, gates.affine(indicator_TI))
        shared_YX, own_YX = torch.split(expert_YX, [N * M, T * (G - N) * M])
        gate_TNX, gate_TOX = torch.split(gate_YX.view(T, G, Q * R).softmax(dim=1), [N, G - N], dim=1)
        shared_TMX = (gate_TNX.unsqueeze(2) * shared_YX.view(N, M, Q * R)).sum(dim=1)
        own_TMX = (gate_TOX.unsqueeze(2) * own_YX.view(T, G - N, M, Q * R)).sum(dim=1)
        return (shared_TMX + own_TMX).view(T, M, Q, R)

    def _experts_and_gates(self, slot_EX: Tensor, own: ScenarioLayers, gate: Affine) -> tuple[Tensor, Tensor]:
        """Return the outputs of the shared and the scenario's experts (Y, X), and the gate scores (T*G, X)."""
        weight_YH = torch.cat([self.shared.weight, own.weight_TYH.flatten(0, 1)])
        bias_Y = torch.cat([self.shared.bias, own.bias_TY.flatten()])
        if self.shape.activation == "none":
            weight = torch.cat([weight_YH @ self.bottom.weight, gate[0]])
            bias = torch.cat([weight_YH @ self.bottom.bias + bias_Y, gate[1]])
            experts, gates = torch.split(_apply((weight, bias), slot_EX), [len(bias_Y), len(gate[1])])
            return experts, gates
        hidden_HX = self.activation(_apply((self.bottom.weight, self.bottom.bias), slot_EX))
        return self.activation(_apply((weight_YH, bias_Y), hidden_HX)), _apply(gate, slot_EX)


def _apply(affine: Affine, input_EX: Tensor) -> Tensor:
    return torch.addmm(affine[1].unsqueeze(1), affine[0], input_EX)
