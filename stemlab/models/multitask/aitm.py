"""AITM: the state of each task is transferred to the next task.

Xi et al., "Modeling the Sequential Dependence among Audience Multi-step Conversions with Multi-task Learning in
Targeted Display Advertising", KDD 2021.

Legend: B batch, F fields, D embedding width, H bottom output width, T tasks, P pairs of a task and the next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.models.api import MultiTaskOutput
from stemlab.models.multitask.base import GateWeights, TabularNet, build_towers, run_towers
from stemlab.nn.init import Init, initialise
from stemlab.nn.kernels.batched_stacks import run_each
from stemlab.nn.mlp import MLP, Activation, MLPStyle
from stemlab.nn.precision import at_least_float32
from stemlab.types import Dropout, NonNegativeFloat, PositiveInt, Widths


class AITM(TabularNet):
    """Embeddings -> one bottom per task -> attention over the transferred and the own state -> towers.

    The behavioural-expectation calibrator of the paper (equation 9; neither in the released code of STEM nor in
    MTReclib) is an option (docs/methods/multitask.md#aitm).

    Args:
        fields: field -> number of rows of its embedding table.
        tasks: label names, in the order of the transfer.
        embedding_dim: embedding width of a field.
        bottom_hidden_units: widths of a bottom; every layer is followed by the activation.
        tower_hidden_units: hidden widths of a tower.
        calibrator_weight: weight of the calibrator, the sum over tasks of mean(max(p_t - p_{t-1}, 0)); 0 is off, 0.6 is
            commonly used.
        hidden_activations: activation of all hidden layers.
        net_dropout: dropout after every hidden layer.
        batch_norm: batch normalisation before every activation.
        padding: id 0 is padding: its row is zero and not trained.
        init: initial weights of the STEM code or of MTReclib (see ``initialise``).
    """

    label_limits: ClassVar[Mapping[str, str]] = {
        "regression": "transfers from each action of a user to the next one, each of which happens or not",
        "given": "trains each action on all impressions",
    }

    def __init__(
        self,
        fields: Mapping[str, int],
        tasks: Sequence[str],
        *,
        embedding_dim: PositiveInt,
        bottom_hidden_units: Widths,
        tower_hidden_units: list[PositiveInt],
        calibrator_weight: NonNegativeFloat = 0.0,
        hidden_activations: Activation = "relu",
        net_dropout: Dropout = 0.0,
        batch_norm: bool = False,
        padding: bool = True,
        init: Init = "stem",
    ) -> None:
        super().__init__(fields, tasks, ["shared"], embedding_dim, padding)
        style = MLPStyle(hidden_activations, net_dropout, batch_norm)
        width, hidden = self.embedding.output_width, bottom_hidden_units[-1]
        self.bottoms = nn.ModuleList(MLP(width, bottom_hidden_units, style=style) for _ in tasks)
        self.transfers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in tasks[1:])
        self.value, self.key, self.query = (nn.Linear(hidden, hidden) for _ in range(3))
        self.towers = build_towers(len(tasks), hidden, tower_hidden_units, style)
        self.calibrator_weight = calibrator_weight
        initialise(self, init)

    def forward(self, batch: ImpressionBatch) -> MultiTaskOutput:
        """Score a batch; in training, add the calibrator's penalty if it has a weight."""
        output = super().forward(batch)
        if self.training and self.calibrator_weight:
            prob_BT = at_least_float32(output.logit_BT).sigmoid()
            excess_BP = (prob_BT[:, 1:] - prob_BT[:, :-1]).relu()
            output.penalty = self.calibrator_weight * excess_BP.mean(dim=0).sum()
        return output

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) per task and no gates, from the shared input (B, F*D)."""
        states = run_each(self.bottoms, [inputs[0]] * len(self.bottoms))
        for task, transfer in enumerate(self.transfers, start=1):
            states[task] = self.attend(transfer(states[task - 1]), states[task])
        return run_towers(self.towers, states), ()

    def attend(self, transferred_BH: Tensor, own_BH: Tensor) -> Tensor:
        """Return the attention-weighted sum (B, H) of the transferred state and the task's own.

        ``w = softmax_i(<key(x_i), query(x_i)> / sqrt(H)),  sum_i w_i value(x_i)`` over the two states x_1, x_2. Key and
        query come from the same state; there is no product across the two.
        """
        pair_B2H = torch.stack([transferred_BH, own_BH], dim=1)
        score_B2 = (self.key(pair_B2H) * self.query(pair_B2H)).sum(dim=2) / math.sqrt(own_BH.shape[1])
        weight_B2 = score_B2.softmax(dim=1)
        mixed_BH: Tensor = (weight_B2.unsqueeze(2) * self.value(pair_B2H)).sum(dim=1)
        return mixed_BH
