"""MMoE: one gate per task.

Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018.

Legend: B batch, F fields, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from stemlab.models.multitask.base import GateWeights, TabularNet, build_towers, run_towers
from stemlab.models.multitask.expert_layout import one_pool_layout
from stemlab.nn.experts import MixtureStack
from stemlab.nn.init import Init, initialise
from stemlab.nn.mlp import Activation, MLPStyle
from stemlab.types import Dropout, PositiveInt, Widths


class MMoE(TabularNet):
    """Embeddings -> experts -> one mixture and one tower per task (docs/methods/multitask.md#mmoe).

    ``m_t = sum_e softmax(gate_t(x))_e expert_e(x);  logit_t = tower_t(m_t)``, x the concatenated embeddings.

    Args:
        fields: field -> number of rows of its embedding table.
        tasks: label names.
        embedding_dim: embedding width of a field.
        num_experts: number of experts.
        expert_hidden_units: widths of an expert; every layer is followed by the activation.
        gate_hidden_units: hidden widths of a gate; empty for the linear gates of the paper.
        tower_hidden_units: hidden widths of a tower.
        hidden_activations: activation of all hidden layers.
        net_dropout: dropout after every hidden layer.
        batch_norm: batch normalisation before every activation.
        padding: id 0 is padding: its row is zero and not trained.
        init: initial weights of the STEM code or of MTReclib (see ``initialise``).
    """

    def __init__(
        self,
        fields: Mapping[str, int],
        tasks: Sequence[str],
        *,
        embedding_dim: PositiveInt,
        num_experts: PositiveInt,
        expert_hidden_units: Widths,
        gate_hidden_units: list[PositiveInt],
        tower_hidden_units: list[PositiveInt],
        hidden_activations: Activation = "relu",
        net_dropout: Dropout = 0.0,
        batch_norm: bool = False,
        padding: bool = True,
        init: Init = "stem",
    ) -> None:
        super().__init__(fields, tasks, ["shared"], embedding_dim, padding)
        style = MLPStyle(hidden_activations, net_dropout, batch_norm)
        layout = one_pool_layout(num_experts, len(tasks), [0] * num_experts, [0])
        self.mixture = MixtureStack(
            self.embedding.output_width, [layout], len(tasks), expert_hidden_units, gate_hidden_units, style
        )
        self.towers = build_towers(len(tasks), expert_hidden_units[-1], tower_hidden_units, style)
        initialise(self, init)

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) per task and the gate weights, from the shared input (B, F*D)."""
        states, gates = self.mixture(inputs)
        return run_towers(self.towers, states), gates
