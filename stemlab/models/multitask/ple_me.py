"""PLE_ME: PLE with one table per task and a shared table, the multi-embedding baseline of the STEM paper.

The class was never released. It equals STEM with ``gate=cgc`` and ``gate_input=task``: no task reads the experts of
another task. That a task gate reads the input of its own task is a choice of stemlab
(docs/methods/multitask.md#ple_me).

Legend: B batch, F fields, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from stemlab.models.multitask.base import GateWeights, TabularNet, build_towers, run_towers
from stemlab.models.multitask.expert_layout import SharedGate, roles, specific_shared_layout
from stemlab.nn.experts import MixtureStack
from stemlab.nn.init import initialise
from stemlab.nn.mlp import Activation, MLPStyle
from stemlab.types import Dropout, PositiveInt, Widths


class PLE_ME(TabularNet):  # noqa: N801 - name of the STEM paper
    """Embeddings, one table per task and a shared one -> layers of CGC gates -> one tower per task.

    Args:
        fields: field -> number of rows of its embedding table.
        tasks: label names.
        embedding_dim: embedding width of a field in one table.
        num_layers: extraction layers.
        num_shared_experts: shared experts per layer.
        num_specific_experts: experts per task and layer.
        expert_hidden_units: widths of an expert; every layer is followed by the activation.
        gate_hidden_units: hidden widths of a gate.
        tower_hidden_units: hidden widths of a tower.
        shared_gate: the shared gate mixes the shared experts only (``shared``, released code of STEM) or all experts
            (``all``, paper). No effect with one layer.
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
        num_layers: PositiveInt,
        num_shared_experts: PositiveInt,
        num_specific_experts: PositiveInt,
        expert_hidden_units: Widths,
        gate_hidden_units: list[PositiveInt],
        tower_hidden_units: list[PositiveInt],
        shared_gate: SharedGate = "shared",
        hidden_activations: Activation = "relu",
        net_dropout: Dropout = 0.0,
        batch_norm: bool = False,
        padding: bool = True,
    ) -> None:
        super().__init__(fields, tasks, roles(tasks), embedding_dim, padding)
        style = MLPStyle(hidden_activations, net_dropout, batch_norm)
        layout = specific_shared_layout(tasks, num_specific_experts, num_shared_experts, "cgc", "task", shared_gate)
        self.mixture = MixtureStack(
            self.embedding.output_width,
            [layout] * num_layers,
            len(tasks),
            expert_hidden_units,
            gate_hidden_units,
            style,
        )
        self.towers = build_towers(len(tasks), expert_hidden_units[-1], tower_hidden_units, style)
        initialise(self)

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) per task and the gate weights, from one input (B, F*D) per task and a shared one."""
        states, gates = self.mixture(inputs)
        return run_towers(self.towers, states), gates
