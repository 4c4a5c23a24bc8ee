"""MetaHeac: mixtures of experts and of critics, with gates that read a task vector.

Zhu et al., "Learning to Expand Audience via Meta Hybrid Experts and Critics for Recommendation and Advertising",
KDD 2021; equations as in MTReclib's code (docs/methods/multitask.md#metaheac).

Legend: B batch, Q query samples, F' concatenated inputs, D embedding width, I = F'*D, T tasks, C critics, E experts,
H expert output width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.models.api import MultiTaskOutput
from stemlab.models.multitask.base import GateWeights, TabularNet, build_towers
from stemlab.nn.experts import mix_experts
from stemlab.nn.global_batch import BatchShare, global_mean, rows_of_all_processes
from stemlab.nn.init import Init, initialise
from stemlab.nn.kernels.batched_stacks import mix_stacked, run_each
from stemlab.nn.kernels.dispatch import use_batched
from stemlab.nn.mlp import MLP, Activation, MLPStyle
from stemlab.nn.precision import at_least_float32
from stemlab.types import Dropout, NonNegativeFloat, PositiveInt, Widths

CriticSum = Literal["sum", "mean"]


class MetaHeac(TabularNet):
    """Embeddings -> one mixture of experts per task -> a mixture of the critics' probabilities.

    Both gates are linear and read the context [task vector; mean of the field embeddings]. All tasks share the experts
    and the critics. In training, a batch is split into ``meta_batches`` parts and each part into halves: one gradient
    step on the loss of the first half (support) updates the task vectors, and the second half (query) is scored with
    the updated vectors. The training loss is that of the query halves; its gradient includes the step (second order).

    Args:
        fields: field -> number of rows of its embedding table, or these with numerical fields.
        tasks: label names.
        embedding_dim: D, also the width of a task vector.
        num_experts: number of experts.
        expert_hidden_units: widths of an expert; every layer is followed by the activation.
        num_critics: C.
        critic_hidden_units: hidden widths of a critic.
        critics: ``sum``: p_t = sum over critics of gate * probability; ``mean``: that sum divided by C, as in MTReclib,
            so no probability exceeds 1/C.
        hidden_activations: activation of all hidden layers.
        net_dropout: dropout after every hidden layer.
        batch_norm: batch normalisation before every activation.
        padding: id 0 is padding: a zero row that is not trained.
        inner_rate: learning rate of the step on the task vectors; 0 disables meta training and trains on all samples.
        meta_batches: parts of a batch, each with its own step. MTReclib joins two batches in one outer step, which
            equals 2 here with twice its batch size.
        init: initial weights of the STEM code or of MTReclib (see ``initialise``).
    """

    batch_share: BatchShare | None = None
    label_limits: ClassVar[Mapping[str, str]] = {
        "regression": "adds the probabilities of its critics",
        "given": "compares the mean losses of two halves of a batch, which needs a label of every sample",
        "weight": "compares the mean losses of two halves of a batch, in which all samples count the same",
    }

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
        style = MLPStyle(hidden_activations, net_dropout, batch_norm, subset=True)
        width = self.embedding.output_width
        self.experts = nn.ModuleList(MLP(width, expert_hidden_units, style=style) for _ in range(num_experts))
        self.critics = build_towers(num_critics, expert_hidden_units[-1], critic_hidden_units, style)
        self.expert_gate = nn.Linear(2 * embedding_dim, num_experts)
        self.critic_gate = nn.Linear(2 * embedding_dim, num_critics)
        self.vector_TD = nn.Parameter(nn.init.xavier_uniform_(torch.empty(len(tasks), embedding_dim)))
        self.inner_rate, self.meta_batches = inner_rate, meta_batches
        self.min_half = 2 if batch_norm else 1
        self.scale = num_critics if critics == "mean" else 1
        initialise(self, init)

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) per task and no gates, from the shared input (B, I)."""
        return self._logits(inputs[0], self.vector_TD), ()

    def _logits(self, input_BI: Tensor, vector_TD: Tensor) -> list[Tensor]:
        """Return one logit (B, 1) per task for given task vectors; twice differentiable."""
        embedding = self.embedding
        mean_BD = input_BI.view(input_BI.shape[0], len(embedding.inputs), embedding.embedding_dim).mean(dim=1)
        contexts = [torch.cat([vector_D.expand_as(mean_BD), mean_BD], dim=1) for vector_D in vector_TD]
        weights = [self.expert_gate(context).softmax(dim=1) for context in contexts]
        outputs = run_each(self.experts, [input_BI] * len(self.experts))
        mix = mix_stacked if use_batched(input_BI) else mix_experts
        visible = [range(len(outputs))] * len(contexts)
        states = mix(outputs, weights, visible, [[True] * len(outputs)] * len(contexts))
        return [self.mix_critics(state, context) for state, context in zip(states, contexts, strict=True)]

    def meta_output(
        self, batch: ImpressionBatch, labels_BT: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[MultiTaskOutput, Tensor]:
        """Return the output of the query samples, scored with the updated task vectors, and their labels (Q, T).

        With several processes the global batch is split. All processes return the outputs of all query samples, so
        their losses are equal; gradients flow back to the process of the sample.

        Args:
            batch: training samples.
            labels_BT: their labels.
            loss: of logits and labels, a scalar.
        """
        parts = self._parts((1 if self.batch_share is None else self.batch_share.processes) * len(batch))
        least = min(middle - begin for begin, middle, _ in parts)
        if self.inner_rate == 0 or least < self.min_half:  # too few samples to halve: no meta step
            return self(batch), labels_BT
        (input_BI,) = self.embedding.of(batch)
        logits, labels = [], []
        for begin, middle, end in parts:
            support = loss(*self._scored(input_BI, labels_BT, self.vector_TD, (begin, middle)))
            (gradient_TD,) = torch.autograd.grad(support, self.vector_TD, create_graph=True)
            updated_TD = self.vector_TD - self.inner_rate * global_mean(gradient_TD, self.batch_share)
            logit_QT, label_QT = self._scored(input_BI, labels_BT, updated_TD, (middle, end))
            logits.append(logit_QT)
            labels.append(label_QT)
        return MultiTaskOutput(torch.cat(logits)), torch.cat(labels)

    def _parts(self, samples: int) -> list[tuple[int, int, int]]:
        """Return the parts of a batch as first support sample, first query sample, end; sizes as torch.chunk."""
        size = -(-samples // self.meta_batches)
        ends = ((begin, min(begin + size, samples)) for begin in range(0, samples, size))
        return [(begin, begin + (end - begin) // 2, end) for begin, end in ends]

    def _scored(
        self, input_BI: Tensor, labels_BT: Tensor, vector_TD: Tensor, between: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return logits and labels (Q, T) of the samples ``between`` two positions of the global batch."""
        share, (begin, end), count = self.batch_share, between, len(labels_BT)
        first = 0 if share is None else share.rows(count).start
        own = slice(*(min(max(position - first, 0), count) for position in between))
        logit_RT, label_RT = torch.cat(self._logits(input_BI[own], vector_TD), dim=1), labels_BT[own]
        if share is None:
            return logit_RT, label_RT
        offset, total = min(max(first - begin, 0), end - begin), end - begin
        return rows_of_all_processes(logit_RT, offset, total), rows_of_all_processes(label_RT, offset, total)

    def mix_critics(self, state_BH: Tensor, context_BD: Tensor) -> Tensor:
        """Return the logit (B, 1) of the mixture of the critics' probabilities, finite for all scores."""
        score_BC = torch.cat(run_each(self.critics, [state_BH] * len(self.critics)), dim=1)
        score_BC, gate_BC = at_least_float32(score_BC), at_least_float32(self.critic_gate(context_BD))
        gate_BC = gate_BC.log_softmax(dim=1)
        log_p_B1 = (gate_BC + logsigmoid(score_BC)).logsumexp(dim=1, keepdim=True)
        log_not_p_B1 = (gate_BC + logsigmoid(-score_BC)).logsumexp(dim=1, keepdim=True)
        if self.scale > 1:  # 1 - p / C = ((C - 1) + (1 - p)) / C
            rest_B1 = torch.full_like(log_not_p_B1, math.log(self.scale - 1))
            log_not_p_B1 = torch.logaddexp(rest_B1, log_not_p_B1)
        logit_B1: Tensor = log_p_B1 - log_not_p_B1
        return logit_B1
