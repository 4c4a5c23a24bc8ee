"""MetaHeac: experts and critics under gates that know the task.

Zhu et al., "Learning to Expand Audience via Meta Hybrid Experts and Critics for Recommendation and Advertising",
KDD 2021; equations as in MTReclib's code (spec/mmfi.md section 10.1).

Legend: B rows, F' inputs side by side, D embedding width, T tasks, C critics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from stemlab.config.types import Dropout, PositiveInt, Widths
from stemlab.data.spec import ImpressionSizes
from stemlab.models.multitask.base import Gates, TabularNet, build_towers
from stemlab.nn.init import Init, initialise
from stemlab.nn.mixing import mix
from stemlab.nn.mlp import MLP, Activation, MLPStyle

CriticSum = Literal["sum", "mean"]


class MetaHeac(TabularNet):
    """Embeddings -> a mixture of experts a task -> a mixture of critics' probabilities.

    Both gates read [the task's vector; the mean of the fields' embeddings] and are linear. Experts and critics are
    shared by all tasks. This is the inner network, trained as any other: the paper's meta training (a gradient step on
    the task's vector with half of a batch, second order) is not implemented.

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
        init: Init = "mtreclib",
    ) -> None:
        super().__init__(fields, tasks, ["shared"], embedding_dim, padding)
        style, width = MLPStyle(hidden_activations, net_dropout, batch_norm), self.embedding.output_width
        self.experts = nn.ModuleList(MLP(width, expert_hidden_units, style=style) for _ in range(num_experts))
        self.critics = build_towers(num_critics, expert_hidden_units[-1], critic_hidden_units, style)
        self.expert_gate = nn.Linear(2 * embedding_dim, num_experts)
        self.critic_gate = nn.Linear(2 * embedding_dim, num_critics)
        self.vector_TD = nn.Parameter(nn.init.xavier_uniform_(torch.empty(len(tasks), embedding_dim)))
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
        states = mix(experts, weights, table, [[True] * len(experts)] * len(contexts))
        return [self.judge(*pair) for pair in zip(states, contexts, strict=True)], ()

    def judge(self, state_BH: Tensor, context_BD: Tensor) -> Tensor:
        """Return the logit (B, 1) of the critics' mixture of probabilities, finite whatever theirs are."""
        score_BC = torch.cat([critic(state_BH) for critic in self.critics], dim=1).float()
        gate_BC = self.critic_gate(context_BD).float().log_softmax(dim=1)
        log_p_B1 = (gate_BC + logsigmoid(score_BC)).logsumexp(dim=1, keepdim=True)
        log_not_p_B1 = (gate_BC + logsigmoid(-score_BC)).logsumexp(dim=1, keepdim=True)
        if self.scale > 1:  # p / C over 1 - p / C = (C - 1 + 1 - p) / C
            rest = torch.full_like(log_not_p_B1, math.log(self.scale - 1))
            log_not_p_B1 = torch.logaddexp(rest, log_not_p_B1)
        logit_B1: Tensor = log_p_B1 - log_not_p_B1
        return logit_B1
