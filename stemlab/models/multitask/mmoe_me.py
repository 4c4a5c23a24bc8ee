"""MMoE_ME: MMoE with one embedding table per expert, the multi-embedding baseline of the STEM paper.

The class was never released. That expert n reads table n is inferred from released table widths. That the gates read
the mean of the tables, which keeps their size, is a choice of stemlab (docs/methods/multitask.md#mmoe_me).

Legend: B batch, F fields, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from stemlab.models.multitask.base import GateWeights, TabularNet, build_towers, run_towers
from stemlab.models.multitask.expert_layout import one_pool_layout
from stemlab.nn.experts import MixtureStack
from stemlab.nn.init import initialise
from stemlab.nn.mlp import Activation, MLPStyle
from stemlab.types import Dropout, PositiveInt, Widths


class MMoE_ME(TabularNet):  # noqa: N801 - name of the STEM paper
    """Embeddings, one table per expert -> experts -> one mixture and one tower per task.

    ``m_t = sum_e softmax(gate_t(mean_e x_e))_e expert_e(x_e)``, x_e the embeddings of table e.

    Args:
        fields: field -> number of rows of its embedding table.
        tasks: label names.
        embedding_dim: embedding width of a field in one table.
        num_experts: number of experts.
        expert_hidden_units: widths of an expert; every layer is followed by the activation.
        gate_hidden_units: hidden widths of a gate; empty for the linear gates of the paper.
        tower_hidden_units: hidden widths of a tower.
        hidden_activations: activation of all hidden layers.
        net_dropout: dropout after every hidden layer.
        batch_norm: batch normalisation before every activation.
        padding: id 0 is padding: its row is zero and not trained.
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
    ) -> None:
        super().__init__(fields, tasks, [f"expert:{e}" for e in range(num_experts)], embedding_dim, padding)
        style = MLPStyle(hidden_activations, net_dropout, batch_norm)
        layout = one_pool_layout(num_experts, len(tasks), range(num_experts), range(num_experts))
        self.mixture = MixtureStack(
            self.embedding.output_width, [layout], len(tasks), expert_hidden_units, gate_hidden_units, style
        )
        self.towers = build_towers(len(tasks), expert_hidden_units[-1], tower_hidden_units, style)
        initialise(self)

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) per task and the gate weights, from one input (B, F*D) per expert."""
        states, gates = self.mixture(inputs)
        return run_towers(self.towers, states), gates
