"""SAR-Net: inputs scaled per scenario, and a mixture of shared and scenario-specific experts.

Shen et al., "SAR-Net: A Scenario-Aware Ranking Network for Personalized Fair Recommendation in Hundreds of Travel
Scenarios", CIKM 2021; equations of the code of Scenario-Wise-Rec
(docs/methods/multiscenario.md#sar-net).

Legend: B samples, R samples of one scenario, S scenarios, I input width, E experts, H expert width, F fields,
D embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from stemlab.models.multiscenario.base import (
    Fields,
    ScenarioNet,
    merge_scenarios,
    samples_by_scenario,
    split_by_scenario,
    vectors_of,
)
from stemlab.models.multitask.base import GateWeights, build_towers, run_towers
from stemlab.nn.experts import mix_experts
from stemlab.nn.init import initialise
from stemlab.nn.kernels.batched_scenarios import linear_of_own, normalise_by_own, own_scenario
from stemlab.nn.kernels.dispatch import static_shapes
from stemlab.nn.mlp import Activation, MLPStyle
from stemlab.nn.norm import SubsetBatchNorm
from stemlab.types import Dropout, PositiveInt


class NormLinearExperts(nn.Module):
    """E experts, each a batch norm and a linear layer, (R, I) -> (R, E, H)."""

    def __init__(self, input_width: int, count: int, width: int, norm: type[nn.BatchNorm1d | SubsetBatchNorm]) -> None:
        super().__init__()
        self.experts = nn.ModuleList(
            nn.Sequential(norm(input_width), nn.Linear(input_width, width)) for _ in range(count)
        )

    def forward(self, input_RI: Tensor) -> Tensor:
        """Return the outputs of all experts."""
        return torch.stack([expert(input_RI) for expert in self.experts], dim=1)


class SARNet(ScenarioNet):
    """e_s = e * w_s + b_s, g = softmax(W e_s), z = sum_n g_n Exp_n(e_s), logit_t = Tower_t(z).

    The sum is over the shared experts and those of scenario s. An expert is a batch norm and a linear layer. The batch
    norm of a scenario expert uses only samples of its scenario; with one such sample in a training batch it uses the
    running statistics. The paper has one task; here all tasks share the mixture z and each has a tower.

    Args:
        fields: field -> embedding rows, or the sizes of the dataset.
        tasks: label names.
        embedding_dim: embedding width of a field.
        num_shared_experts: experts of all scenarios.
        num_specific_experts: experts of each scenario.
        expert_width: H.
        tower_hidden_units: hidden widths of a tower.
        hidden_activations: activation of the hidden layers of a tower.
        net_dropout: dropout after every hidden layer.
        batch_norm: batch normalisation before every activation of the towers.
        padding: id 0 is padding: its row is zero and is not trained.
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
        self.shared = NormLinearExperts(width, num_shared_experts, expert_width, nn.BatchNorm1d)
        self.specific = nn.ModuleList(
            NormLinearExperts(width, num_specific_experts, expert_width, SubsetBatchNorm) for _ in range(scenarios)
        )
        self.gate = nn.Linear(width, num_shared_experts + num_specific_experts)
        style = MLPStyle(hidden_activations, net_dropout, batch_norm)
        self.towers = build_towers(len(tasks), expert_width, tower_hidden_units, style)
        initialise(self)

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) per task and no gates, from embeddings (B, F*D) and scenarios (B,)."""
        embedded_BI, scenario_B = inputs
        input_BI = embedded_BI * vectors_of(self.scale_SI, scenario_B) + vectors_of(self.shift_SI, scenario_B)
        weight_BE = self.gate(input_BI).softmax(dim=1)
        experts = [*self.shared(input_BI).unbind(dim=1), *self.own_experts(input_BI, scenario_B)]
        everyone = range(len(experts))
        (mixed_BH,) = mix_experts(experts, [weight_BE], [everyone], [[True] * len(experts)])
        return run_towers(self.towers, [mixed_BH] * len(self.tasks)), ()

    def own_experts(self, input_BI: Tensor, scenario_B: Tensor) -> list[Tensor]:
        """Return the outputs (B, H) of the scenario experts; each sample uses the experts of its own scenario."""
        if static_shapes(input_BI):
            own_BS = own_scenario(scenario_B, len(self.scenarios))
            by_scenario = [cast(NormLinearExperts, experts).experts for experts in self.specific]
            return [expert_of_own(input_BI, own_BS, layers) for layers in zip(*by_scenario, strict=True)]
        samples = samples_by_scenario(scenario_B, len(self.scenarios))
        parts = [
            experts(own_RI) for experts, own_RI in zip(self.specific, split_by_scenario(input_BI, samples), strict=True)
        ]
        return list(merge_scenarios(parts, samples, len(input_BI)).unbind(dim=1))


def expert_of_own(input_BI: Tensor, own_BS: Tensor, experts: Sequence[Any]) -> Tensor:
    """Return the outputs (B, H) of one expert of each sample's own scenario, in static shapes.

    Args:
        input_BI: (B, I).
        own_BS: ``own_scenario``.
        experts: for each scenario, a batch norm and a linear layer.
    """
    norms, linears = zip(*experts, strict=True)
    scale_SI, shift_SI = (torch.stack([getattr(norm, name) for norm in norms]) for name in ("weight", "bias"))
    weight_SHI, bias_SH = (torch.stack([getattr(linear, name) for linear in linears]) for name in ("weight", "bias"))
    return linear_of_own(normalise_by_own(norms, input_BI, own_BS, scale_SI, shift_SI), weight_SHI, bias_SH, own_BS)
