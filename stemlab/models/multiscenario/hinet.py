"""HiNet: a scenario layer, then a task layer.

Zhou et al., "HiNet: Novel Multi-Scenario & Multi-Task Learning with Hierarchical Information Extraction", ICDE 2023;
docs/methods/multiscenario.md#hinet.

Legend: B samples, S scenarios, I input width, H width of an extracted vector, C width of a scenario vector, F fields,
D embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemlab.models.multiscenario.base import Fields, ScenarioNet, new_vectors, vectors_of
from stemlab.models.multitask.base import GateWeights, build_towers, run_towers
from stemlab.models.multitask.expert_layout import specific_shared_layout
from stemlab.nn.experts import MixtureStack, mix_experts
from stemlab.nn.init import initialise
from stemlab.nn.kernels.batched_stacks import run_each
from stemlab.nn.kernels.dispatch import use_batched
from stemlab.nn.mlp import MLP, Activation, MLPStyle
from stemlab.types import Dropout, PositiveInt, Widths


class SubExperts(nn.Module):
    """Sub-expert extractor SEI(x) = sum_k softmax(W x)_k Q_k(x), a small mixture of experts, (B, I) -> (B, H)."""

    def __init__(self, input_width: int, count: int, hidden_units: Sequence[int], style: MLPStyle) -> None:
        super().__init__()
        self.experts = nn.ModuleList(MLP(input_width, hidden_units, style=style) for _ in range(count))
        self.gate = nn.Linear(input_width, count)

    def forward(self, input_BI: Tensor) -> Tensor:
        """Return the mixture."""
        outputs = [expert(input_BI) for expert in self.experts]
        return mix_experts(
            outputs, [self.gate(input_BI).softmax(dim=1)], [range(len(outputs))], [[True] * len(outputs)]
        )[0]


def run_extractors(extractors: Sequence[SubExperts], input_BI: Tensor) -> Tensor:
    """Return the mixtures (B, N, H) of N extractors of the same input."""
    experts = [expert for extractor in extractors for expert in extractor.experts]
    state_BXH = torch.stack(run_each(experts, [input_BI] * len(experts)), dim=1)
    weights = [
        score_BK.softmax(dim=1) for score_BK in run_each([e.gate for e in extractors], [input_BI] * len(extractors))
    ]
    state_BNKH = state_BXH.view(input_BI.shape[0], len(extractors), -1, state_BXH.shape[2])
    return (torch.stack(weights, dim=1).to(state_BXH.dtype).unsqueeze(3) * state_BNKH).sum(dim=2)


class HiNet(ScenarioNet):
    """Embeddings e -> C_s = [G; S_s; A_s] -> one CGC layer of task and shared experts (as PLE) -> one tower per task.

    G = SEI_shared(e), S_j = SEI_j(e), A_s = sum_{j != s} softmax_{j != s}(W v_s)_j S_j for a sample of scenario s. Each
    sample passes through the extractors of all scenarios. With one scenario A_s is zero.

    Args:
        fields: field -> embedding rows, or the sizes of the dataset.
        tasks: label names.
        embedding_dim: embedding width of a field.
        num_sub_experts: experts Q_k of an extractor.
        sub_expert_hidden_units: widths of an expert Q_k; each layer is followed by the activation.
        scenario_dim: C, width of a scenario vector v_s.
        num_shared_experts: experts of the task layer that all tasks share.
        num_specific_experts: experts of each task.
        expert_hidden_units: widths of an expert of the task layer.
        gate_hidden_units: hidden widths of a gate of the task layer.
        tower_hidden_units: hidden widths of a tower.
        stop_foreign: stop-gradient on S_j in A_s, so samples do not train the extractors of other scenarios (they do in
            the paper's equations).
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
        num_sub_experts: PositiveInt,
        sub_expert_hidden_units: Widths,
        scenario_dim: PositiveInt,
        num_shared_experts: PositiveInt,
        num_specific_experts: PositiveInt,
        expert_hidden_units: Widths,
        gate_hidden_units: list[PositiveInt],
        tower_hidden_units: list[PositiveInt],
        stop_foreign: bool = False,
        hidden_activations: Activation = "relu",
        net_dropout: Dropout = 0.0,
        padding: bool = True,
    ) -> None:
        super().__init__(fields, tasks, embedding_dim, padding)
        style, scenarios = MLPStyle(hidden_activations, net_dropout), len(self.scenarios)
        width = self.embedding.output_width
        self.shared, *specific = (
            SubExperts(width, num_sub_experts, sub_expert_hidden_units, style) for _ in range(1 + scenarios)
        )
        self.specific = nn.ModuleList(specific)
        self.vector_SC = new_vectors(scenarios, scenario_dim)
        self.relation = nn.Linear(scenario_dim, scenarios)
        layout = specific_shared_layout(tasks, num_specific_experts, num_shared_experts, "cgc", "task", "shared")
        self.mixture = MixtureStack(
            3 * sub_expert_hidden_units[-1], [layout], len(tasks), expert_hidden_units, gate_hidden_units, style
        )
        self.towers = build_towers(len(tasks), expert_hidden_units[-1], tower_hidden_units, style)
        self.stop_foreign = stop_foreign
        initialise(self)

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) per task and the task gates, from embeddings (B, F*D) and scenarios (B,)."""
        input_BI, scenario_B = inputs
        own_BS = functional.one_hot(scenario_B, len(self.scenarios)).to(input_BI.dtype)
        shared_BH, each_BSH = self.extract(input_BI)
        own_BH = (own_BS.unsqueeze(2) * each_BSH).sum(dim=1)
        others_BSH = each_BSH.detach() if self.stop_foreign else each_BSH
        others_BH = (vectors_of(self.foreign_weights(), scenario_B).unsqueeze(2) * others_BSH).sum(dim=1)
        state_BH = torch.cat([shared_BH, own_BH, others_BH], dim=1)
        states, gates = self.mixture([state_BH] * (len(self.tasks) + 1))
        return run_towers(self.towers, states), gates

    def extract(self, input_BI: Tensor) -> tuple[Tensor, Tensor]:
        """Return G (B, H) and the S_j of all scenarios (B, S, H)."""
        if use_batched(input_BI):
            extractors = [self.shared, *cast(Sequence[SubExperts], self.specific)]
            all_BXH = run_extractors(extractors, input_BI)
            return all_BXH[:, 0], all_BXH[:, 1:]
        each_BSH = torch.stack([extractor(input_BI) for extractor in self.specific], dim=1)
        return self.shared(input_BI), each_BSH

    def foreign_weights(self) -> Tensor:
        """Return softmax_{j != s}(W v_s)_j, (S, S): row s has the weights of the other scenarios j, 0 for j = s."""
        scenarios = len(self.scenarios)
        same_SS = torch.eye(scenarios, dtype=torch.bool, device=self.vector_SC.device)
        score_SS = self.relation(self.vector_SC).masked_fill(same_SS, float("-inf"))
        return score_SS.softmax(dim=1) if scenarios > 1 else torch.zeros_like(score_SS)
