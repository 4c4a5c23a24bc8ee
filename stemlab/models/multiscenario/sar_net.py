"""SAR-Net: a scenario scales its inputs and has experts beside the shared ones.

Shen et al., "SAR-Net: A Scenario-Aware Ranking Network for Personalized Fair Recommendation in Hundreds of Travel
Scenarios", CIKM 2021; equations as in Scenario-Wise-Rec's code (spec/mmfi.md section 10.2).

Legend: B rows, R rows of one scenario, S scenarios, I input width, E experts, H expert width, F fields,
D embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stemlab.models.multiscenario.base import Fields, ScenarioNet, join_rows, rows_by_scenario, take_rows
from stemlab.models.multitask.base import Gates, build_towers, run_towers
from stemlab.nn.experts import mix_experts
from stemlab.nn.init import initialise
from stemlab.nn.mlp import Activation, MLPStyle
from stemlab.nn.norm import RowsNorm
from stemlab.types import Dropout, PositiveInt


class Experts(nn.Module):
    """A batch norm and a linear an expert: rows (R, I) -> (R, E, H)."""

    def __init__(self, input_width: int, count: int, width: int, norm: type[nn.BatchNorm1d] | type[RowsNorm]) -> None:
        super().__init__()
        self.experts = nn.ModuleList(
            nn.Sequential(norm(input_width), nn.Linear(input_width, width)) for _ in range(count)
        )

    def forward(self, input_RI: Tensor) -> Tensor:
        """Return what every expert makes of every row."""
        return torch.stack([expert(input_RI) for expert in self.experts], dim=1)


class SARNet(ScenarioNet):
    """Embeddings -> e_s = e * w_s + b_s -> shared and scenario experts under one gate -> a tower a task.

    An expert is a batch norm and a linear. A scenario's experts see, and are normalised by, its rows only; one row of a
    scenario in a training batch is normalised by running statistics. The paper has one task: here all tasks share the
    mixture and have a tower each.

    Args:
        fields: field -> embedding rows, or the dataset's sizes.
        tasks: label names.
        embedding_dim: embedding width of a field.
        num_shared_experts: experts that all rows go through.
        num_specific_experts: experts of each scenario.
        expert_width: H.
        tower_hidden_units: hidden widths of a tower.
        hidden_activations: activation of a tower's hidden layers.
        net_dropout: dropout after every hidden layer.
        batch_norm: batch normalisation before every activation of the towers.
        padding: id 0 is padding: a zero row that is never trained.
    """

    def __init__(
        self,
        fields: Fields,
        tasks: Sequence[str],
        *,
        embedding_dim: PositiveInt,
        num_shared_experts: PositiveInt,
        num_specific_experts: PositiveInt,
        expert_width: PositiveInt,
        tower_hidden_units: list[PositiveInt],
        hidden_activations: Activation = "relu",
        net_dropout: Dropout = 0.0,
        batch_norm: bool = False,
        padding: bool = True,
    ) -> None:
        super().__init__(fields, tasks, embedding_dim, padding)
        width, scenarios = self.embedding.output_width, len(self.scenarios)
        self.scale_SI = nn.Parameter(torch.ones(scenarios, width))
        self.shift_SI = nn.Parameter(torch.zeros(scenarios, width))
        self.shared = Experts(width, num_shared_experts, expert_width, nn.BatchNorm1d)
        self.specific = nn.ModuleList(
            Experts(width, num_specific_experts, expert_width, RowsNorm) for _ in range(scenarios)
        )
        self.gate = nn.Linear(width, num_shared_experts + num_specific_experts)
        style = MLPStyle(hidden_activations, net_dropout, batch_norm)
        self.towers = build_towers(len(tasks), expert_width, tower_hidden_units, style)
        initialise(self)

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], Gates]:
        """Return one logit (B, 1) a task and no gates, from embeddings (B, F*D) and scenario ids (B,)."""
        embedded_BI, scenario_B = inputs
        input_BI = embedded_BI * self.scale_SI[scenario_B] + self.shift_SI[scenario_B]
        weight_BE = self.gate(input_BI).softmax(dim=1)
        experts = [*self.shared(input_BI).unbind(dim=1), *self.own_experts(input_BI, scenario_B)]
        everyone = range(len(experts))
        (mixed_BH,) = mix_experts(experts, [weight_BE], [everyone], [[True] * len(experts)])
        return run_towers(self.towers, [mixed_BH] * len(self.tasks)), ()

    def own_experts(self, input_BI: Tensor, scenario_B: Tensor) -> list[Tensor]:
        """Return, an expert, what it makes (B, H) of every row; a row goes through its own scenario's experts."""
        rows = rows_by_scenario(scenario_B, len(self.scenarios))
        parts = [experts(own_RI) for experts, own_RI in zip(self.specific, take_rows(input_BI, rows), strict=True)]
        return list(join_rows(parts, rows, len(input_BI)).unbind(dim=1))
