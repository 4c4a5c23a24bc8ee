"""MMFI's attention over slots: fully shared bottom, partially shared experts, a scenario's and task's own tower.

A slot is a pair of fields, or a field. Rows come last inside: every product of matrices and every softmax then works on
long contiguous pieces.

Legend: R rows of one scenario, Q slots, E width of a slot's vector, S scenarios, T tasks, I width of an indicator,
H width of the bottom, M width of an expert's output, N shared experts, O a task's own experts, Y several of these
outputs, X = Q * R.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stemlab.nn.mlp import Activation, activation
from stemlab.nn.norm import RowsNorm

Line = tuple[Tensor, Tensor]
"""Weight (outputs, inputs) and bias (outputs,)."""


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Sizes of an attention.

    Attributes:
        scenarios: S.
        tasks: T.
        width: E.
        indicator: I.
        bottom: H.
        expert: M.
        shared: N.
        own: O.
        activation: of bottom and experts.
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


def stacked(fan_in: int, *shape: int) -> nn.Parameter:
    """Return weights or biases of linear layers on top of each other, with torch's initial values of each."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


class Gates(nn.Module):
    """A scenario's gates: what a slot takes from the experts, softmax(W [indicator; slot] + c) a task."""

    def __init__(self, shape: AttentionShape) -> None:
        super().__init__()
        inputs, experts = shape.indicator + shape.width, shape.shared + shape.own
        self.weight_TNX = stacked(inputs, shape.tasks, experts, inputs)
        self.bias_TN = stacked(inputs, shape.tasks, experts)

    def line(self, indicator_TI: Tensor) -> Line:
        """Return the line of all tasks over a slot's vector; the indicator, equal for all slots, is in its bias."""
        indicator = indicator_TI.shape[1]
        of_indicator, of_slot = self.weight_TNX[..., :indicator], self.weight_TNX[..., indicator:]
        bias_TN = self.bias_TN + (of_indicator @ indicator_TI.unsqueeze(2)).squeeze(2)
        return of_slot.flatten(0, 1), bias_TN.flatten()


class OwnAttention(nn.Module):
    """What one scenario has for itself: every task's experts and tower, and their batch norm."""

    def __init__(self, slots: int, shape: AttentionShape) -> None:
        super().__init__()
        T, outputs, inputs = shape.tasks, shape.own * shape.expert, shape.expert * slots
        self.weight_TYH = stacked(shape.bottom, T, outputs, shape.bottom)
        self.bias_TY = stacked(shape.bottom, T, outputs)
        self.tower_TQX = stacked(inputs, T, slots, inputs)  # inputs: the first outputs of all slots, then the second
        self.bias_TQ = stacked(inputs, T, slots)
        self.norm = RowsNorm(T * slots)

    def scores(self, mixture_TMX: Tensor, slots: int) -> Tensor:
        """Return a score a slot before batch norm, (R, T, Q)."""
        T, M, X = mixture_TMX.shape
        input_TYR = mixture_TMX.reshape(T, M * slots, X // slots)
        return torch.baddbmm(self.bias_TQ.unsqueeze(2), self.tower_TQX, input_TYR).permute(2, 0, 1)


class Attention(nn.Module):
    """Slots (E, Q, R) of every scenario -> scores (R, T, Q), normalised over rows (spec/mmfi.md section 4).

    Without activation all before the softmax of the gates is one linear map of a slot's vector, and computed as one.

    Args:
        slots: Q.
        shape: all other sizes.
    """

    def __init__(self, slots: int, shape: AttentionShape) -> None:
        super().__init__()
        self.slots, self.shape = slots, shape
        self.bottom = nn.Linear(shape.width, shape.bottom)
        self.shared = nn.Linear(shape.bottom, shape.shared * shape.expert)
        self.own = nn.ModuleList(OwnAttention(slots, shape) for _ in range(shape.scenarios))
        self.activation = nn.Identity() if shape.activation == "none" else activation(shape.activation)

    def forward(
        self, slots: Sequence[Tensor], gates: nn.ModuleList, indicators: Sequence[Tensor], all_rows: bool
    ) -> list[Tensor]:
        """Return, a scenario, the scores (R, T, Q) of its rows.

        Args:
            slots: a scenario, the vectors (E, Q, R) of its rows; there may be none.
            gates: a scenario's ``Gates`` each.
            indicators: a scenario, (T, I).
            all_rows: a scenario's batch norm sees the rows of all scenarios (published), not its own only.
        """
        found = []
        for s, own in enumerate(cast(Sequence[OwnAttention], self.own)):
            seen = range(len(slots)) if all_rows else (s,)
            lines = {g: cast(Gates, gates[s]).line(indicators[g]) for g in seen}
            raw = [own.scores(self.mixtures(slots[g], own, line), self.slots) for g, line in lines.items()]
            score_RTQ = torch.cat(raw) if all_rows else raw[0]
            score_RTQ = own.norm(score_RTQ.flatten(1)).view(score_RTQ.shape)
            rows = [slots[g].shape[2] for g in seen]
            found.append(torch.split(score_RTQ, rows)[s if all_rows else 0])
        return found

    def mixtures(self, slot_EQR: Tensor, own: OwnAttention, gate: Line) -> Tensor:
        """Return the experts' mixture (T, M, X) for every slot and task."""
        expert_YX, gate_YX = self._experts_and_gates(slot_EQR.flatten(1), own, gate)
        shape, X = self.shape, expert_YX.shape[1]
        outputs = [shape.shared * shape.expert, shape.tasks * shape.own * shape.expert]
        shared_YX, own_YX = torch.split(expert_YX, outputs)
        return mix_slots(
            gate_YX.view(shape.tasks, shape.shared + shape.own, X).softmax(dim=1),
            shared_YX.view(shape.shared, shape.expert, X),
            own_YX.view(shape.tasks, shape.own, shape.expert, X),
        )

    def _experts_and_gates(self, slot_EX: Tensor, own: OwnAttention, gate: Line) -> tuple[Tensor, Tensor]:
        """Return the outputs of the shared and the scenario's own experts, and the gates' scores."""
        weight_YH = torch.cat([self.shared.weight, own.weight_TYH.flatten(0, 1)])
        bias_Y = torch.cat([self.shared.bias, own.bias_TY.flatten()])
        if self.shape.activation == "none":
            weight = torch.cat([weight_YH @ self.bottom.weight, gate[0]])
            bias = torch.cat([weight_YH @ self.bottom.bias + bias_Y, gate[1]])
            experts, gates = torch.split(_apply((weight, bias), slot_EX), [len(bias_Y), len(gate[1])])
            return experts, gates
        hidden_HX = self.activation(_apply((self.bottom.weight, self.bottom.bias), slot_EX))
        return self.activation(_apply((weight_YH, bias_Y), hidden_HX)), _apply(gate, slot_EX)


def _apply(line: Line, input_EX: Tensor) -> Tensor:
    return torch.addmm(line[1].unsqueeze(1), line[0], input_EX)


def mix_slots(weight_TNX: Tensor, shared_NMX: Tensor, own_TOMX: Tensor) -> Tensor:
    """Return sum_n w_tn expert_n + sum_o w_t,N+o own_to, (T, M, X), without a copy of the experts a task."""
    dtype = weight_TNX.dtype  # float32 under autocast, where the experts are not
    mixed: Tensor = _Mixture.apply(weight_TNX, shared_NMX.to(dtype), own_TOMX.to(dtype))  # type: ignore[no-untyped-call]
    return mixed


class _Mixture(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight_TNX: Tensor, shared_NMX: Tensor, own_TOMX: Tensor) -> Tensor:
        ctx.save_for_backward(weight_TNX, shared_NMX, own_TOMX)
        T, M, X = len(weight_TNX), *shared_NMX.shape[1:]
        mixed_TMX = weight_TNX.new_zeros(T, M, X)
        for weight_TX, expert in zip(weight_TNX.unbind(1), [*shared_NMX, *own_TOMX.unbind(1)], strict=True):
            mixed_TMX.addcmul_(weight_TX.unsqueeze(1), expert)
        return mixed_TMX

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TMX: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight_TNX, shared_NMX, own_TOMX = ctx.saved_tensors
        shared = len(shared_NMX)
        d_weight, d_shared, d_own = (torch.empty_like(t) for t in (weight_TNX, shared_NMX, own_TOMX))
        for n, expert in enumerate([*shared_NMX, *own_TOMX.unbind(1)]):
            torch.sum(grad_TMX * expert, dim=1, out=d_weight[:, n])
            weighted = grad_TMX * weight_TNX[:, n].unsqueeze(1)
            if n < shared:
                torch.sum(weighted, dim=0, out=d_shared[n])
            else:
                d_own[:, n - shared] = weighted
        return d_weight, d_shared, d_own
