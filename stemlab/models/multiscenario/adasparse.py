"""AdaSparse: neurons are pruned per scenario.

Yang et al., "AdaSparse: Learning Adaptively Sparse Structures for Multi-Domain Click-Through Rate Prediction",
CIKM 2022 (docs/methods/multiscenario.md#adasparse).

Legend: B samples, H width of a layer's input, C width of a scenario vector, F fields, D embedding width, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.errors import StemlabError
from stemlab.models.api import MultiTaskOutput
from stemlab.models.multiscenario.base import Fields, ScenarioNet, new_vectors, vectors_of
from stemlab.models.multitask.base import GateWeights, build_towers, run_towers
from stemlab.nn.global_batch import BatchShare, global_mean
from stemlab.nn.init import initialise
from stemlab.nn.mlp import MLP, Activation, MLPStyle
from stemlab.types import Dropout, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, Widths


class AdaSparse(ScenarioNet):
    """Embeddings -> layers with pruned inputs -> one tower per task.

    Before each layer: v = beta * sigmoid(alpha * W [v_s; h]), h <- v * 1[v >= eps] * h (fusion form of the paper).
    alpha starts at 1 and grows with each training step. The paper has one task; here all tasks share the pruned layers
    and each has a tower.

    Args:
        fields: field -> embedding rows, or the sizes of the dataset.
        tasks: label names.
        embedding_dim: embedding width of a field.
        hidden_units: widths of the layers with pruned inputs; each is followed by the activation.
        tower_hidden_units: hidden widths of a tower; empty for a linear.
        scenario_dim: C, width of a scenario vector v_s.
        beta: upper bound of v.
        eps: smaller values of v are set to zero.
        alpha_growth: added to alpha in each training step.
        sparsity_weight: weight of the penalty, the mean over layers of (r - (sparsity_min + sparsity_max) / 2)^2 for
            layers whose share r of pruned neurons is outside the range; 0 turns it off. r is a count, so its gradient
            is that of v / beta (straight-through).
        sparsity_min: lower end of the range of r.
        sparsity_max: upper end of the range of r.
        hidden_activations: activation of all hidden layers.
        net_dropout: dropout after every hidden layer.
        batch_norm: batch normalisation before every activation.
        padding: id 0 is padding: its row is zero and is not trained.

    Raises:
        StemlabError: ``sparsity_min`` is above ``sparsity_max``.
    """

    batch_share: BatchShare | None = None

    alpha: Tensor

    def __init__(
        self,
        fields: Fields,
        tasks: Sequence[str],
        *,
        embedding_dim: PositiveInt,
        hidden_units: Widths,
        tower_hidden_units: list[PositiveInt],
        scenario_dim: PositiveInt,
        beta: PositiveFloat = 2.0,
        eps: PositiveFloat = 0.01,
        alpha_growth: NonNegativeFloat = 1e-4,
        sparsity_weight: NonNegativeFloat = 0.0,
        sparsity_min: Fraction = 0.15,
        sparsity_max: Fraction = 0.25,
        hidden_activations: Activation = "relu",
        net_dropout: Dropout = 0.0,
        batch_norm: bool = False,
        padding: bool = True,
    ) -> None:
        self.check_settings({"sparsity_min": sparsity_min, "sparsity_max": sparsity_max})
        super().__init__(fields, tasks, embedding_dim, padding)
        self.vector_SC = new_vectors(len(self.scenarios), scenario_dim)
        style = MLPStyle(hidden_activations, net_dropout, batch_norm)
        widths = [self.embedding.output_width, *hidden_units[:-1]]
        self.pruners = nn.ModuleList(nn.Linear(scenario_dim + width, width) for width in widths)
        self.layers = nn.ModuleList(
            MLP(width, [hidden], style=style) for width, hidden in zip(widths, hidden_units, strict=True)
        )
        self.towers = build_towers(len(tasks), hidden_units[-1], tower_hidden_units, style)
        self.beta, self.eps, self.alpha_growth = beta, eps, alpha_growth
        self.sparsity_weight, self.sparsity_range = sparsity_weight, (sparsity_min, sparsity_max)
        self.register_buffer("alpha", torch.ones(()))
        initialise(self)

    @classmethod
    def check_settings(cls, settings: Mapping[str, object]) -> None:
        """Raise StemlabError if the range of sparsity is empty; needs no data, only settings."""
        low, high = settings["sparsity_min"], settings["sparsity_max"]
        if not low <= high:  # type: ignore[operator]
            raise StemlabError(
                f"model.net.sparsity_min={low} is above model.net.sparsity_max={high}: swap the two values."
            )

    def forward(self, batch: ImpressionBatch) -> MultiTaskOutput:
        """Score a batch; in training the output has the penalty if ``sparsity_weight`` is not 0."""
        state_BH, pruned = self.prune(*self.inputs(batch))
        logits = run_towers(self.towers, [state_BH] * len(self.tasks))
        penalty = self.penalty(pruned) if self.training and self.sparsity_weight else None
        return MultiTaskOutput(torch.cat(logits, dim=1), penalty=penalty, logits=logits)

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) per task and no gates, from embeddings (B, F*D) and scenarios (B,)."""
        state_BH, _ = self.prune(*inputs)
        return run_towers(self.towers, [state_BH] * len(self.tasks)), ()

    def prune(self, state_BH: Tensor, scenario_B: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the state of the last layer (B, H) and, for each layer, the share () of pruned neurons."""
        alpha, pruned = self.alpha.clone(), []  # a copy: the backward pass needs the alpha of this step
        if self.training:
            self.alpha += self.alpha_growth
        vector_BC = vectors_of(self.vector_SC, scenario_B)
        for pruner, layer in zip(self.pruners, self.layers, strict=True):
            soft_BH = (alpha * pruner(torch.cat([vector_BC, state_BH], dim=1))).sigmoid()
            kept_BH = (self.beta * soft_BH >= self.eps).to(soft_BH.dtype)
            pruned.append(1 - global_mean((kept_BH + soft_BH - soft_BH.detach()).mean(), self.batch_share))
            state_BH = layer(self.beta * soft_BH * kept_BH * state_BH)
        return state_BH, pruned

    def penalty(self, pruned: Sequence[Tensor]) -> Tensor:
        """Return the weighted penalty () of the layers whose share of pruned neurons is outside the range."""
        low, high = self.sparsity_range
        pruned_L = torch.stack(list(pruned))
        distance_L = torch.where(
            (pruned_L < low) | (pruned_L > high), pruned_L - (low + high) / 2, torch.zeros_like(pruned_L)
        )
        return self.sparsity_weight * distance_L.square().mean()
