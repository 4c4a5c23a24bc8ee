"""M2M: a scenario's vector generates weights of the attention over experts and of the towers.

Zhang et al., "Leaving No One Behind: A Multi-Scenario Multi-Task Meta Learning Approach for Advertiser Modeling",
WSDM 2022.

Legend: B rows, R rows of one scenario, S scenarios, C width of a scenario's vector, K experts, H width, F fields,
D embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemlab.models.multiscenario.base import (
    Fields,
    ScenarioNet,
    join_rows,
    new_vectors,
    rows_by_scenario,
    take_rows,
)
from stemlab.models.multitask.base import Gates
from stemlab.nn.init import initialise
from stemlab.nn.mlp import MLP, Activation, MLPStyle
from stemlab.types import Dropout, PositiveInt, Widths


class MetaUnit(nn.Module):
    """Linear layers (R, ..., H) -> (R, ..., H), one a scenario, whose weights come from the scenario's vector.

    W(s) = reshape(A s + a) and b(s) = C s + c (the paper's meta unit). They are made once a scenario, not once a row.
    """

    def __init__(self, scenario_width: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.weight = nn.Linear(scenario_width, width * width)
        self.bias = nn.Linear(scenario_width, width)

    def forward(self, vector_C: Tensor, input_RH: Tensor) -> Tensor:
        """Return x W(s) + b(s)."""
        weight_HH: Tensor = self.weight(vector_C).view(self.width, self.width)
        bias_H: Tensor = self.bias(vector_C)
        return input_RH @ weight_HH + bias_H


class MetaTask(nn.Module):
    """A task: meta attention over the experts, then a tower of meta layers.

    a_k = softmax_k(v' LeakyReLU(Meta([E_k; T]; s))), R = sum_k a_k E_k; L <- LeakyReLU(Meta(L; s) + L); one linear.
    """

    def __init__(self, scenario_width: int, expert_width: int, task_dim: int, tower_layers: int) -> None:
        super().__init__()
        self.vector_1H = new_vectors(1, task_dim)
        self.attention = MetaUnit(scenario_width, expert_width + task_dim)
        self.direction = nn.Linear(expert_width + task_dim, 1, bias=False)  # a bias would not change the softmax
        self.tower = nn.ModuleList(MetaUnit(scenario_width, expert_width) for _ in range(tower_layers))
        self.head = nn.Linear(expert_width, 1)

    def forward(self, vector_C: Tensor, expert_RKH: Tensor) -> Tensor:
        """Return a logit (R, 1) of a scenario's rows."""
        task_RKH = self.vector_1H.expand(*expert_RKH.shape[:2], -1)
        hidden_RKH = functional.leaky_relu(self.attention(vector_C, torch.cat([expert_RKH, task_RKH], dim=2)))
        weight_RK1 = self.direction(hidden_RKH).softmax(dim=1)
        state_RH = (weight_RK1 * expert_RKH).sum(dim=1)
        for layer in self.tower:
            state_RH = functional.leaky_relu(layer(vector_C, state_RH) + state_RH)
        logit_R1: Tensor = self.head(state_RH)
        return logit_R1


class M2M(ScenarioNet):
    """Embeddings -> backbone -> experts -> a task's meta attention and meta tower, in the row's scenario.

    The backbone is an MLP (the paper's is a transformer over a sequence of behaviours, which impressions do not have).

    Args:
        fields: field -> embedding rows, or the dataset's sizes.
        tasks: label names.
        embedding_dim: embedding width of a field.
        backbone_hidden_units: widths of the backbone; each is followed by the activation.
        num_experts: K.
        expert_width: H, of an expert's output and of the towers.
        task_dim: width of a task's vector.
        scenario_dim: width of a scenario's vector.
        scenario_hidden_units: widths of the layers between a scenario's vector and the generators.
        tower_layers: meta layers of a tower.
        hidden_activations: activation of backbone, experts and scenario layers.
        net_dropout: dropout after every hidden layer of backbone and experts.
        batch_norm: batch normalisation before every activation of backbone and experts.
        padding: id 0 is padding: a zero row that is never trained.
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

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], Gates]:
        """Return one logit (B, 1) a task and no gates, from embeddings (B, F*D) and scenario ids (B,)."""
        input_BI, scenario_B = inputs
        state_BH = self.backbone(input_BI)
        expert_BKH = torch.stack([expert(state_BH) for expert in self.experts], dim=1)
        rows = rows_by_scenario(scenario_B, len(self.scenarios))
        taken = take_rows(expert_BKH, rows)
        vector_SC = self.scenario_layers(self.vector_SC)
        logits = []
        for head in self.heads:
            parts = [head(vector_C, own_RKH) for vector_C, own_RKH in zip(vector_SC, taken, strict=True)]
            logits.append(join_rows(parts, rows, len(input_BI)))
        return logits, ()
