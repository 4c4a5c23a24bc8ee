"""STEM-Net: one embedding table per task and a shared table.

Su et al., "STEM: Unleashing the Power of Embeddings for Multi-task Recommendation", AAAI 2024.

Legend: B batch, F fields, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from stemlab.errors import StemlabError
from stemlab.models.multitask.base import GateWeights, TabularNet, build_towers, run_towers
from stemlab.models.multitask.expert_layout import GateInput, GateRule, SharedGate, roles, specific_shared_layout
from stemlab.nn.experts import MixtureStack
from stemlab.nn.init import initialise
from stemlab.nn.mlp import Activation, MLPStyle
from stemlab.types import Dropout, NonNegativeInt, PositiveInt, Widths

Tables = Literal["shared+specific", "specific_only", "shared_only"]


class STEM(TabularNet):
    """Task tables and a shared table -> experts and All-Forward Task-specific-Backward (AFTB) gates -> towers.

    ``m_t = sum_e softmax(gate_t(x_t + x_s))_e * h_e`` over the experts e of all tasks and the shared ones, where
    ``h_e = expert_e(x_e)`` if e belongs to task t or is shared, and ``stop_gradient(expert_e(x_e))`` otherwise
    (``mix_experts``; docs/methods/stem.md#gate).

    With one layer, the loss of a task gives exactly zero gradient to the tables of other tasks. With more layers it
    does not: the shared mixture of the first layer stops no gradient, as in the released code
    (docs/methods/stem.md#gradient-isolation).

    Args:
        fields: field -> number of rows of its embedding table.
        tasks: label names.
        embedding_dim: embedding width of a field in one table.
        num_layers: STEM layers.
        num_shared_experts: shared experts per layer.
        num_specific_experts: experts per task and layer.
        expert_hidden_units: widths of an expert; every layer is followed by the activation.
        gate_hidden_units: hidden widths of a gate.
        tower_hidden_units: hidden widths of a tower.
        gate: ``aftb`` sees all experts and trains those of the task and the shared ones; ``all_backward`` trains all;
            ``cgc`` sees those of the task and the shared ones only, as in PLE; ``stop_shared_too`` trains those of the
            task only.
        gate_input: the gate of a task reads the ``sum`` of the task's and the shared input, the task's (``task``) or
            the ``shared`` one.
        tables: ``shared+specific``; ``specific_only``: the shared experts read the mean of the task inputs,
            with stop-gradient if ``gate`` is ``aftb`` or ``stop_shared_too``, so that tables stay isolated;
            ``shared_only``: one table for all (PLE with cross-task experts).
        hidden_activations: activation of all hidden layers.
        net_dropout: dropout after every hidden layer.
        batch_norm: batch normalisation before every activation.
        padding: id 0 is padding: its row is zero and not trained.

    Raises:
        StemlabError: no expert at all, or ``gate=cgc`` without shared experts.
    """

    def __init__(
        self,
        fields: Mapping[str, int],
        tasks: Sequence[str],
        *,
        embedding_dim: PositiveInt,
        num_layers: PositiveInt,
        num_shared_experts: NonNegativeInt,
        num_specific_experts: NonNegativeInt,
        expert_hidden_units: Widths,
        gate_hidden_units: list[PositiveInt],
        tower_hidden_units: list[PositiveInt],
        gate: GateRule = "aftb",
        gate_input: GateInput = "sum",
        tables: Tables = "shared+specific",
        hidden_activations: Activation = "relu",
        net_dropout: Dropout = 0.0,
        batch_norm: bool = False,
        padding: bool = True,
    ) -> None:
        experts = {"num_shared_experts": num_shared_experts, "num_specific_experts": num_specific_experts}
        self.check_settings({**experts, "gate": gate})
        blocks = {"shared+specific": roles(tasks), "specific_only": roles(tasks)[:-1], "shared_only": ["shared"]}
        super().__init__(fields, tasks, blocks[tables], embedding_dim, padding)
        style = MLPStyle(hidden_activations, net_dropout, batch_norm)
        shared_gate: SharedGate = "shared" if gate == "cgc" else "all"
        layout = specific_shared_layout(tasks, num_specific_experts, num_shared_experts, gate, gate_input, shared_gate)
        self.mixture = MixtureStack(
            self.embedding.output_width,
            [layout] * num_layers,
            len(tasks),
            expert_hidden_units,
            gate_hidden_units,
            style,
        )
        self.towers = build_towers(len(tasks), expert_hidden_units[-1], tower_hidden_units, style)
        self.tables = tables
        self.stops = gate in ("aftb", "stop_shared_too")
        initialise(self)

    @classmethod
    def check_settings(cls, settings: Mapping[str, object]) -> None:
        """Raise StemlabError if a gate has no expert to mix; reads settings only."""
        if settings["num_shared_experts"] == settings["num_specific_experts"] == 0:
            raise StemlabError(
                "model.net.num_shared_experts and model.net.num_specific_experts are both 0, but a gate needs an "
                "expert; set one of them to 1 or more."
            )
        if settings["gate"] == "cgc" and settings["num_shared_experts"] == 0:
            raise StemlabError(
                "model.net.gate=cgc needs shared experts; set model.net.num_shared_experts to 1 or more."
            )

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) per task and the gate weights, from one input (B, F*D) per table."""
        states, gates = self.mixture(self.paths(inputs))
        return run_towers(self.towers, states), gates

    def paths(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the input (B, F*D) of every task and, last, the shared one, from one input per table."""
        if self.tables == "shared_only":
            return [inputs[0]] * (len(self.tasks) + 1)
        if self.tables == "shared+specific":
            return list(inputs)
        read = [input_BD.detach() if self.stops else input_BD for input_BD in inputs]
        return [*inputs, torch.stack(read).mean(dim=0)]
