"""M2M: weights of the attention over experts and of the towers are generated from a scenario vector.

Zhang et al., "Leaving No One Behind: A Multi-Scenario Multi-Task Meta Learning Approach for Advertiser Modeling",
WSDM 2022 (docs/methods/multiscenario.md#m2m).

Legend: B samples, R samples of one scenario, S scenarios, C width of a scenario vector or of its MLP output,
K experts, H width, F fields, D embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
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
)
from stemlab.models.multitask.base import GateWeights
from stemlab.nn.init import initialise
from stemlab.nn.kernels.batched_scenarios import linear_of_own, own_scenario
from stemlab.nn.kernels.batched_stacks import run_each
from stemlab.nn.kernels.dispatch import static_shapes
from stemlab.nn.mlp import MLP, Activation, MLPStyle
from stemlab.types import Dropout, PositiveInt, Widths


class MetaUnit(nn.Module):
    """Meta(x; s) = x W(s) + b(s), (R, ..., H) -> (R, ..., H), with weights generated from the scenario.

    W(s) = reshape(A_W v + a_W) and b(s) = A_b v + a_b with v = MLP(v_s) for the scenario vector v_s, computed once per
    scenario, not per sample.
    """

    def __init__(self, scenario_width: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.weight = nn.Linear(scenario_width, width * width)
        self.bias = nn.Linear(scenario_width, width)

    def forward(self, vector_C: Tensor, input_RH: Tensor) -> Tensor:
        """Return x W(s) + b(s) for v = MLP(v_s) (C,) and samples of scenario s."""
        weight_HH: Tensor = self.weight(vector_C).view(self.width, self.width)
        bias_H: Tensor = self.bias(vector_C)
        return input_RH @ weight_HH + bias_H

    def of_own(self, vector_SC: Tensor, own_BS: Tensor, input_BH: Tensor) -> Tensor:
        """Return ``forward`` (B, ..., H) of each sample's own scenario, in static shapes."""
        weight_SHH: Tensor = self.weight(vector_SC).view(-1, self.width, self.width).transpose(1, 2)
        return linear_of_own(input_BH, weight_SHH, self.bias(vector_SC), own_BS)


class MetaTask(nn.Module):
    """One task: meta attention over the experts, then a tower of meta layers.

    a_k = softmax_k(<q, LeakyReLU(Meta([E_k; T]; s))>), R = sum_k a_k E_k; per meta layer
    R <- LeakyReLU(Meta(R; s) + R); logit = Linear(R).
    """

    def __init__(self, scenario_width: int, expert_width: int, task_dim: int, tower_layers: int) -> None:
        super().__init__()
        self.vector_1H = new_vectors(1, task_dim)
        self.attention = MetaUnit(scenario_width, expert_width + task_dim)
        self.direction = nn.Linear(expert_width + task_dim, 1, bias=False)  # q; a bias would not change the softmax
        self.tower = nn.ModuleList(MetaUnit(scenario_width, expert_width) for _ in range(tower_layers))
        self.head = nn.Linear(expert_width, 1)

    def forward(self, vector: Tensor, expert_RKH: Tensor, own_BS: Tensor | None = None) -> Tensor:
        """Return the logits (R, 1) of the samples of one scenario, or with ``own_BS`` of the whole batch.

        Args:
            vector: v of the scenario (C,), or of all scenarios (S, C).
            expert_RKH: outputs of the experts.
            own_BS: ``own_scenario`` for static shapes.
        """

        def meta(unit: nn.Module, state: Tensor) -> Tensor:
            unit = cast(MetaUnit, unit)
            output: Tensor = unit(vector, state) if own_BS is None else unit.of_own(vector, own_BS, state)
            return output

        task_RKH = self.vector_1H.expand(*expert_RKH.shape[:2], -1)
        hidden_RKH = functional.leaky_relu(meta(self.attention, torch.cat([expert_RKH, task_RKH], dim=2)))
        weight_RK1 = self.direction(hidden_RKH).softmax(dim=1)
        state_RH = (weight_RK1 * expert_RKH).sum(dim=1)
        for layer in self.tower:
            state_RH = functional.leaky_relu(meta(layer, state_RH) + state_RH)
        logit_R1: Tensor = self.head(state_RH)
        return logit_R1


class M2M(ScenarioNet):
    """Embeddings -> backbone -> K experts -> meta attention and meta tower of each task (``MetaTask``).

    The backbone is an MLP; the paper has a transformer over a behaviour sequence, which impressions do not have.

    Args:
        fields: field -> embedding rows, or the sizes of the dataset.
        tasks: label names.
        embedding_dim: embedding width of a field.
        backbone_hidden_units: widths of the backbone; each layer is followed by the activation.
        num_experts: K.
        expert_width: H, output width of an expert and width of the towers.
        task_dim: width of the task vector T.
        scenario_dim: C, width of a scenario vector v_s.
        scenario_hidden_units: widths of the MLP on v_s, whose output v the weight generators A_W and A_b read.
        tower_layers: meta layers of a tower.
        hidden_activations: activation of backbone, experts and scenario layers.
        net_dropout: dropout after every hidden layer of backbone and experts.
        batch_norm: batch normalisation before every activation of backbone and experts.
        padding: id 0 is padding: its row is zero and is not trained.
    """

    def __init__(
        self,
        fields: Fields,
        tasks: Sequence[str],
        *,
        embedding_dim: PositiveInt,
        backbone_hidden_units: Widths,
        num_experts: PositiveInt,
        expert_width: PositiveInt,
        task_dim: PositiveInt,
        scenario_dim: PositiveInt,
        scenario_hidden_units: Widths,
        tower_layers: PositiveInt,
        hidden_activations: Activation = "relu",
        net_dropout: Dropout = 0.0,
        batch_norm: bool = False,
        padding: bool = True,
    ) -> None:
        super().__init__(fields, tasks, embedding_dim, padding)
        style = MLPStyle(hidden_activations, net_dropout, batch_norm)
        self.backbone = MLP(self.embedding.output_width, backbone_hidden_units, style=style)
        self.experts = nn.ModuleList(
            MLP(backbone_hidden_units[-1], [expert_width], style=style) for _ in range(num_experts)
        )
        self.vector_SC = new_vectors(len(self.scenarios), scenario_dim)
        self.scenario_layers = MLP(scenario_dim, scenario_hidden_units, style=MLPStyle(hidden_activations))
        self.heads = nn.ModuleList(
            MetaTask(scenario_hidden_units[-1], expert_width, task_dim, tower_layers) for _ in tasks
        )
        initialise(self)

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) per task and no gates, from embeddings (B, F*D) and scenarios (B,)."""
        input_BI, scenario_B = inputs
        state_BH = self.backbone(input_BI)
        expert_BKH = torch.stack(run_each(self.experts, [state_BH] * len(self.experts)), dim=1)
        vector_SC = self.scenario_layers(self.vector_SC)
        if static_shapes(input_BI):
            own_BS = own_scenario(scenario_B, len(self.scenarios))
            return [head(vector_SC, expert_BKH, own_BS) for head in self.heads], ()
        samples = samples_by_scenario(scenario_B, len(self.scenarios))
        experts = split_by_scenario(expert_BKH, samples)
        logits = []
        for head in self.heads:
            parts = [head(vector_C, own_RKH) for vector_C, own_RKH in zip(vector_SC, experts, strict=True)]
            logits.append(merge_scenarios(parts, samples, len(input_BI)))
        return logits, ()
