"""OMoE: one gate for all tasks (the one-gate baseline of Ma et al., KDD 2018).

Legend: B batch, F fields, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor

from stemlab.models.multitask.base import GateWeights, TabularNet, build_towers, run_towers
from stemlab.models.multitask.expert_layout import one_pool_layout
from stemlab.nn.experts import MixtureLayer, MixtureStack
from stemlab.nn.init import Init, initialise
from stemlab.nn.mlp import Activation, MLPStyle
from stemlab.types import Dropout, PositiveInt, Widths


class OMoE(TabularNet):
    """Embeddings -> experts -> one mixture -> one tower per task (docs/methods/multitask.md#omoe).

    ``m = sum_e softmax(gate(x))_e expert_e(x);  logit_t = tower_t(m)``, x the concatenated embeddings. With batch
    normalisation the gate's running statistics move once per task in each step, as in the released code.

    Args:
        fields: field -> number of rows of its embedding table.
        tasks: label names.
        embedding_dim: embedding width of a field.
        num_experts: number of experts.
        expert_hidden_units: widths of an expert; every layer is followed by the activation.
        gate_hidden_units: hidden widths of the gate; empty for a linear gate.
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
        self.batch_norm = batch_norm
        style = MLPStyle(hidden_activations, net_dropout, batch_norm)
        layout = one_pool_layout(num_experts, 1, [0] * num_experts, [0])
        self.mixture = MixtureStack(
            self.embedding.output_width, [layout], 1, expert_hidden_units, gate_hidden_units, style
        )
        self.towers = build_towers(len(tasks), expert_hidden_units[-1], tower_hidden_units, style)
        initialise(self, init)

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) per task and the gate weights, from the shared input (B, F*D)."""
        states, gates = self.mixture(inputs)
        if self.training and self.batch_norm:
            # the released code runs the gate once per task, so its running statistics move T times
            gate = cast(MixtureLayer, self.mixture.layers[0]).gates[0]
            for _ in self.tasks[1:]:
                gate(inputs[0])
        return run_towers(self.towers, states * len(self.tasks)), gates
