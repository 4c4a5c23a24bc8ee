"""STAR: every layer is a shared one times a scenario's own.

Sheng et al., "One Model to Serve All: Star Topology Adaptive Recommender for Multi-Domain CTR Prediction", CIKM 2021.

Legend: B rows, R rows of one scenario, S scenarios, I input width, O output width, F fields,
D embedding width, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemlab.models.multiscenario.base import Fields, ScenarioNet, join_rows, new_vectors, rows_by_scenario, take_rows
from stemlab.models.multitask.base import Gates
from stemlab.nn.init import initialise
from stemlab.nn.mlp import MLP, Activation, MLPStyle, activation
from stemlab.nn.norm import RowsNorm
from stemlab.types import Dropout, PositiveInt, Widths


class PartitionedNorm(nn.Module):
    """Batch normalisation with statistics a scenario (the paper's section 3.3).

    z' = (gamma * gamma_s) (z - mu_s) / sqrt(var_s + eps) + (beta + beta_s); running statistics in evaluation, and in
    training for a scenario with fewer than two rows in the batch.
    """

    def __init__(self, width: int, scenarios: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(RowsNorm(width) for _ in range(scenarios))
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, scenario: int, input_RI: Tensor) -> Tensor:
        """Return the normalised rows (R, I) of a scenario."""
        norm = self.norms[scenario]
        assert isinstance(norm, RowsNorm)
        return norm.normalise(input_RI, self.weight * norm.weight, self.bias + norm.bias)


class StarLinear(nn.Module):
    """A linear layer with weights W * W_s and biases b + b_s (section 3.4), (R, I) -> (R, O)."""

    def __init__(self, input_width: int, output_width: int, scenarios: int) -> None:
        super().__init__()
        self.shared = nn.Linear(input_width, output_width)
        # Ones and zeros: a scenario begins as the shared network.
        self.weight_SOI = nn.Parameter(torch.ones(scenarios, output_width, input_width))
        self.bias_SO = nn.Parameter(torch.zeros(scenarios, output_width))

    def forward(self, scenario: int, input_RI: Tensor) -> Tensor:
        """Return the outputs of a scenario's rows."""
        weight_OI = self.shared.weight * self.weight_SOI[scenario]
        return functional.linear(input_RI, weight_OI, self.shared.bias + self.bias_SO[scenario])


class STAR(ScenarioNet):
    """Embeddings -> partitioned norm -> star layers; plus an auxiliary network that knows the scenario.

    logit = main_s(PN_s(e)) + aux([scenario vector; e]) (sections 3.3 to 3.5). The paper has one task: here the last
    layers of both networks have an output a task. Scenario-Wise-Rec's version differs, and is not followed: it
    normalises by the mixed batch in evaluation too, ends in a ReLU, and leaves the scenario out of the auxiliary net.

    Args:
        fields: field -> embedding rows, or the dataset's sizes.
        tasks: label names.
        embedding_dim: embedding width of a field.
        hidden_units: hidden widths of the star layers.
        scenario_dim: width of a scenario's vector.
        aux_hidden_units: hidden widths of the auxiliary network.
        hidden_activations: activation of all hidden layers.
        net_dropout: dropout after every hidden layer.
        padding: id 0 is padding: a zero row that is never trained.
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
        self.between = nn.Sequential(activation(hidden_activations), nn.Dropout(net_dropout))
        style = MLPStyle(hidden_activations, net_dropout)
        self.aux = MLP(width + scenario_dim, aux_hidden_units, len(tasks), style=style)
        initialise(self)

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], Gates]:
        """Return one logit (B, 1) a task and no gates, from embeddings (B, F*D) and scenario ids (B,)."""
        input_BI, scenario_B = inputs
        rows = rows_by_scenario(scenario_B, len(self.scenarios))
        mains = [self.main(scenario, own_RI) for scenario, own_RI in enumerate(take_rows(input_BI, rows))]
        vector_BC = self.vector_SC[scenario_B]
        logit_BT = join_rows(mains, rows, len(input_BI)) + self.aux(torch.cat([vector_BC, input_BI], dim=1))
        return list(logit_BT.split(1, dim=1)), ()

    def main(self, scenario: int, own_RI: Tensor) -> Tensor:
        """Return the logits (R, T) of a scenario's rows before the auxiliary network's."""
        state_RO: Tensor = self.norm(scenario, own_RI)
        for number, layer in enumerate(self.layers):
            state_RO = layer(scenario, self.between(state_RO) if number else state_RO)
        return state_RO
