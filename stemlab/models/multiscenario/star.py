"""STAR: each layer is the product of a shared and a scenario layer.

Sheng et al., "One Model to Serve All: Star Topology Adaptive Recommender for Multi-Domain CTR Prediction", CIKM 2021
(docs/methods/multiscenario.md#star).

Legend: B samples, R samples of one scenario, S scenarios, I input width, O output width, F fields,
D embedding width, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemlab.models.multiscenario.base import (
    Fields,
    ScenarioNet,
    merge_scenarios,
    new_vectors,
    samples_by_scenario,
    split_by_scenario,
    vectors_of,
)
from stemlab.models.multitask.base import GateWeights
from stemlab.nn.dropout import SubsetDropout
from stemlab.nn.init import initialise
from stemlab.nn.kernels.batched_scenarios import linear_of_own, normalise_by_own, own_scenario
from stemlab.nn.kernels.dispatch import static_shapes
from stemlab.nn.mlp import MLP, Activation, MLPStyle, activation
from stemlab.nn.norm import SubsetBatchNorm
from stemlab.types import Dropout, PositiveInt, Widths


class PartitionedNorm(nn.Module):
    """Batch normalisation with statistics per scenario (section 3.3 of the paper).

    z' = (gamma * gamma_s) (z - mu_s) / sqrt(var_s + eps) + (beta + beta_s); running statistics in evaluation, and in
    training for a scenario with fewer than two samples in the batch.
    """

    def __init__(self, width: int, scenarios: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(SubsetBatchNorm(width) for _ in range(scenarios))
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, scenario: int, input_RI: Tensor) -> Tensor:
        """Return the normalised samples (R, I) of a scenario."""
        norm = self.norms[scenario]
        assert isinstance(norm, SubsetBatchNorm)
        return norm.normalise(input_RI, self.weight * norm.weight, self.bias + norm.bias)

    def of_own(self, input_BI: Tensor, own_BS: Tensor) -> Tensor:
        """Return ``forward`` of each sample's own scenario (B, I), in static shapes."""
        norms = [norm for norm in self.norms if isinstance(norm, SubsetBatchNorm)]
        scale_SI = self.weight * torch.stack([norm.weight for norm in norms])
        shift_SI = self.bias + torch.stack([norm.bias for norm in norms])
        return normalise_by_own(norms, input_BI, own_BS, scale_SI, shift_SI)


class StarLinear(nn.Module):
    """Linear layer with weight W * W_s and bias b + b_s (section 3.4), (R, I) -> (R, O)."""

    def __init__(self, input_width: int, output_width: int, scenarios: int) -> None:
        super().__init__()
        self.shared = nn.Linear(input_width, output_width)
        # W_s = 1 and b_s = 0: each scenario starts as the shared network.
        self.weight_SOI = nn.Parameter(torch.ones(scenarios, output_width, input_width))
        self.bias_SO = nn.Parameter(torch.zeros(scenarios, output_width))

    def forward(self, scenario: int, input_RI: Tensor) -> Tensor:
        """Return the outputs of the samples of a scenario."""
        weight_OI = self.shared.weight * self.weight_SOI[scenario]
        return functional.linear(input_RI, weight_OI, self.shared.bias + self.bias_SO[scenario])

    def of_own(self, input_BI: Tensor, own_BS: Tensor) -> Tensor:
        """Return ``forward`` of each sample's own scenario (B, O), in static shapes."""
        return linear_of_own(input_BI, self.shared.weight * self.weight_SOI, self.shared.bias + self.bias_SO, own_BS)


class STAR(ScenarioNet):
    """logit = main_s(PN_s(e)) + aux([v_s; e]) with star layers in main (sections 3.3 to 3.5).

    The paper has one task; here the last layers of both networks have one output per task. Scenario-Wise-Rec differs
    (docs/methods/multiscenario.md#differences-between-paper-and-released-code); this follows the paper.

    Args:
        fields: field -> embedding rows, or the sizes of the dataset.
        tasks: label names.
        embedding_dim: embedding width of a field.
        hidden_units: hidden widths of the star layers.
        scenario_dim: width of a scenario vector v_s.
        aux_hidden_units: hidden widths of the auxiliary network.
        hidden_activations: activation of all hidden layers.
        net_dropout: dropout after every hidden layer.
        padding: id 0 is padding: its row is zero and is not trained.
    """

    def __init__(
        self,
        fields: Fields,
        tasks: Sequence[str],
        *,
        embedding_dim: PositiveInt,
        hidden_units: Widths,
        scenario_dim: PositiveInt,
        aux_hidden_units: list[PositiveInt],
        hidden_activations: Activation = "relu",
        net_dropout: Dropout = 0.0,
        padding: bool = True,
    ) -> None:
        super().__init__(fields, tasks, embedding_dim, padding)
        self.vector_SC = new_vectors(len(self.scenarios), scenario_dim)
        width, scenarios = self.embedding.output_width, len(self.scenarios)
        self.norm = PartitionedNorm(width, scenarios)
        widths = [width, *hidden_units, len(tasks)]
        self.layers = nn.ModuleList(StarLinear(before, after, scenarios) for before, after in pairwise(widths))
        self.between = nn.Sequential(activation(hidden_activations), SubsetDropout(net_dropout))
        style = MLPStyle(hidden_activations, net_dropout)
        self.aux = MLP(width + scenario_dim, aux_hidden_units, len(tasks), style=style)
        initialise(self)

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) per task and no gates, from embeddings (B, F*D) and scenarios (B,)."""
        input_BI, scenario_B = inputs
        main_BT = self.mains_of_own(input_BI, scenario_B) if static_shapes(input_BI) else self.mains(*inputs)
        logit_BT = main_BT + self.aux(torch.cat([vectors_of(self.vector_SC, scenario_B), input_BI], dim=1))
        return list(logit_BT.split(1, dim=1)), ()

    def task_dimensions(self) -> dict[str, int]:
        """Return name -> dimension of the parameters with one part per task: those of the last layers."""
        last, aux = f"layers.{len(self.layers) - 1}", f"aux.{len(self.aux) - 1}"
        outputs = {f"{last}.weight_SOI": 1, f"{last}.bias_SO": 1, f"{last}.shared.weight": 0, f"{last}.shared.bias": 0}
        return outputs | {f"{aux}.weight": 0, f"{aux}.bias": 0}

    def mains(self, input_BI: Tensor, scenario_B: Tensor) -> Tensor:
        """Return the logits (B, T) of the main networks, computed scenario by scenario."""
        samples = samples_by_scenario(scenario_B, len(self.scenarios))
        mains = [self.main(scenario, own_RI) for scenario, own_RI in enumerate(split_by_scenario(input_BI, samples))]
        return merge_scenarios(mains, samples, len(input_BI))

    def mains_of_own(self, input_BI: Tensor, scenario_B: Tensor) -> Tensor:
        """Return ``mains`` in static shapes."""
        own_BS = own_scenario(scenario_B, len(self.scenarios))
        state_BO = self.norm.of_own(input_BI, own_BS)
        for number, layer in enumerate(cast(Sequence[StarLinear], self.layers)):
            state_BO = layer.of_own(self.between(state_BO) if number else state_BO, own_BS)
        return state_BO

    def main(self, scenario: int, own_RI: Tensor) -> Tensor:
        """Return the logits (R, T) of the main network for the samples of a scenario."""
        state_RO: Tensor = self.norm(scenario, own_RI)
        for number, layer in enumerate(self.layers):
            state_RO = layer(scenario, self.between(state_RO) if number else state_RO)
        return state_RO
