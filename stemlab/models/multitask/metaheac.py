"""MetaHeac: experts and critics under gates that know the task.

Zhu et al., "Learning to Expand Audience via Meta Hybrid Experts and Critics for Recommendation and Advertising",
KDD 2021; equations as in MTReclib's code (spec/mmfi.md section 10.1).

Legend: B rows, Q of them query rows, F' inputs side by side, D embedding width, T tasks, C critics, E experts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.models.api import MultiTaskOutput
from stemlab.models.multitask.base import Gates, TabularNet, build_towers
from stemlab.nn.experts import mix_experts
from stemlab.nn.init import Init, initialise
from stemlab.nn.mlp import MLP, Activation, MLPStyle
from stemlab.types import Dropout, NonNegativeFloat, PositiveInt, Widths

CriticSum = Literal["sum", "mean"]


class MetaHeac(TabularNet):
    """Embeddings -> a mixture of experts a task -> a mixture of critics' probabilities.

    Both gates read [the task's vector; the mean of the fields' embeddings] and are linear. Experts and critics are
    shared by all tasks. In training, a batch is cut into ``meta_batches`` parts and each into halves: the loss of the
    first half (support) moves the tasks' vectors by one gradient step, and the second half (query) is scored with the
    moved vectors; the loss that is trained is that of the query halves, through the step (second order).

    Args:
        fields: field -> embedding rows, or these with numerical fields.
        tasks: label names.
        embedding_dim: D, also the width of a task's vector.
        num_experts: number of experts.
        expert_hidden_units: widths of an expert; each is followed by the activation.
        num_critics: C.
        critic_hidden_units: hidden widths of a critic.
        critics: ``sum``: p_t = sum over critics of gate * probability; ``mean``: as MTReclib, that sum divided by C, so
            that no probability exceeds 1/C.
        hidden_activations: activation of all hidden layers.
        net_dropout: dropout after every hidden layer.
        batch_norm: batch normalisation before every activation.
        padding: id 0 is padding: a zero row that is never trained.
        inner_rate: learning rate of the step on the tasks' vectors; 0 trains without meta training, on all rows.
        meta_batches: parts of a batch that take such a step, each by itself. MTReclib joins two batches to one outer
            step: as here with 2 and twice its batch size.
        init: initial weights, as the STEM code or as MTReclib draws them (see ``initialise``).
    """

    def __init__(
        self,
        fields: Mapping[str, int] | ImpressionSizes,
        tasks: Sequence[str],
        *,
        embedding_dim: PositiveInt,
        num_experts: PositiveInt,
        expert_hidden_units: Widths,
        num_critics: PositiveInt,
        critic_hidden_units: list[PositiveInt],
        critics: CriticSum = "sum",
        hidden_activations: Activation = "relu",
        net_dropout: Dropout = 0.0,
        batch_norm: bool = False,
        padding: bool = True,
        inner_rate: NonNegativeFloat = 2e-4,
        meta_batches: PositiveInt = 2,
        init: Init = "mtreclib",
    ) -> None:
        super().__init__(fields, tasks, ["shared"], embedding_dim, padding)
        style, width = MLPStyle(hidden_activations, net_dropout, batch_norm), self.embedding.output_width
        self.experts = nn.ModuleList(MLP(width, expert_hidden_units, style=style) for _ in range(num_experts))
        self.critics = build_towers(num_critics, expert_hidden_units[-1], critic_hidden_units, style)
        self.expert_gate = nn.Linear(2 * embedding_dim, num_experts)
        self.critic_gate = nn.Linear(2 * embedding_dim, num_critics)
        self.vector_TD = nn.Parameter(nn.init.xavier_uniform_(torch.empty(len(tasks), embedding_dim)))
        self.inner_rate, self.meta_batches = inner_rate, meta_batches
        self.scale = num_critics if critics == "mean" else 1
        initialise(self, init)

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], Gates]:
        """Return one logit (B, 1) a task and no gates, from the shared input (B, F'*D)."""
        (input_BI,) = inputs
        mean_BD = input_BI.view(len(input_BI), -1, self.embedding.embedding_dim).mean(dim=1)
        contexts = [torch.cat([vector_D.expand_as(mean_BD), mean_BD], dim=1) for vector_D in self.vector_TD]
        weights = [self.expert_gate(context).softmax(dim=1) for context in contexts]
        experts = [expert(input_BI) for expert in self.experts]
        table = [range(len(experts))] * len(contexts)
        states = mix_experts(experts, weights, table, [[True] * len(experts)] * len(contexts))
        return [self.judge(*pair) for pair in zip(states, contexts, strict=True)], ()

    def meta_output(
        self, batch: ImpressionBatch, labels_BT: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[MultiTaskOutput, Tensor]:
        """Return the query rows' output, scored with vectors moved by their support rows, and their labels (Q, T).

        Args:
            batch: training rows.
            labels_BT: their labels.
            loss: of logits and labels, a scalar.
        """
        rows = len(labels_BT) // (2 * self.meta_batches)
        if self.inner_rate == 0 or rows == 0:  # too few rows to be halved are learnt from as they are
            return self(batch), labels_BT
        (input_BI,) = self.embedding(batch.ids_BF, batch.dense_BN, batch.scenario_B)
        logits, labels = [], []
        for part_BI, part_BT in zip(input_BI.chunk(self.meta_batches), labels_BT.chunk(self.meta_batches), strict=True):
            half = len(part_BT) // 2
            support = loss(self._score_plainly(part_BI[:half], self.vector_TD), part_BT[:half])
            (gradient_TD,) = torch.autograd.grad(support, self.vector_TD, create_graph=True)
            logits.append(self._score_plainly(part_BI[half:], self.vector_TD - self.inner_rate * gradient_TD))
            labels.append(part_BT[half:])
        return MultiTaskOutput(torch.cat(logits)), torch.cat(labels)

    def _score_plainly(self, input_BI: Tensor, vector_TD: Tensor) -> Tensor:
        """Return the logits (B, T) by operations that can be differentiated twice; the fast ones cannot."""
        mean_BD = input_BI.view(len(input_BI), -1, self.embedding.embedding_dim).mean(dim=1)
        expert_BEH = torch.stack([_layer_by_layer(expert, input_BI) for expert in self.experts], dim=1)
        logits = []
        for vector_D in vector_TD:
            context = torch.cat([vector_D.expand_as(mean_BD), mean_BD], dim=1)
            weight_BE = self.expert_gate(context).softmax(dim=1)
            logits.append(self.judge((weight_BE.unsqueeze(2) * expert_BEH).sum(dim=1), context, plain=True))
        return torch.cat(logits, dim=1)

    def judge(self, state_BH: Tensor, context_BD: Tensor, plain: bool = False) -> Tensor:
        """Return the logit (B, 1) of the critics' mixture of probabilities, finite whatever theirs are."""
        scores = [_layer_by_layer(c, state_BH) if plain else c(state_BH) for c in self.critics]
        score_BC = torch.cat(scores, dim=1).float()
        gate_BC = self.critic_gate(context_BD).float().log_softmax(dim=1)
        log_p_B1 = (gate_BC + logsigmoid(score_BC)).logsumexp(dim=1, keepdim=True)
        log_not_p_B1 = (gate_BC + logsigmoid(-score_BC)).logsumexp(dim=1, keepdim=True)
        if self.scale > 1:  # p / C over 1 - p / C = (C - 1 + 1 - p) / C
            rest = torch.full_like(log_not_p_B1, math.log(self.scale - 1))
            log_not_p_B1 = torch.logaddexp(rest, log_not_p_B1)
        logit_B1: Tensor = log_p_B1 - log_not_p_B1
        return logit_B1


def _layer_by_layer(stack: nn.Module, state: Tensor) -> Tensor:
    for layer in cast(MLP, stack):
        state = layer(state)
    return state
