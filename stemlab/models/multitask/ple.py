"""PLE: task experts and shared experts (Tang et al., "Progressive Layered Extraction (PLE)", RecSys 2020).

Legend: B batch, F fields, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor

from stemlab.errors import StemlabError
from stemlab.models.multitask.base import GateWeights, TabularNet, build_towers, run_towers
from stemlab.models.multitask.expert_layout import SharedGate, specific_shared_layout
from stemlab.nn.experts import MixtureStack
from stemlab.nn.init import Init, initialise
from stemlab.nn.mlp import Activation, MLPStyle
from stemlab.types import Dropout, PositiveInt, Widths


class PLE(TabularNet):
    """Embeddings -> layers of task experts, shared experts and gates -> one tower per task.

    ``m_t = sum_e softmax(gate_t(x_t))_e h_e`` over the experts of task t and the shared ones; an expert of task t reads
    x_t, a shared expert x_s. The next layer reads x_t = m_t and x_s = m_s, the mixture of the shared gate, which reads
    x_s. In the first layer, x_t and x_s are the concatenated embeddings (docs/methods/multitask.md#ple).

    Args:
        fields: field -> number of rows of its embedding table.
        tasks: label names.
        embedding_dim: embedding width of a field.
        num_layers: extraction layers.
        num_shared_experts: shared experts per layer.
        num_specific_experts: experts per task and layer.
        expert_hidden_units: widths of an expert; every layer is followed by the activation.
        one_width_per_layer: read ``expert_hidden_units`` as one width per extraction layer; its experts have one
            hidden layer (MTReclib).
        gate_hidden_units: hidden widths of a gate; empty for linear gates (MTReclib).
        tower_hidden_units: hidden widths of a tower.
        shared_gate: the shared gate mixes the shared experts only (``shared``, released code of STEM) or all experts
            (``all``, paper and MTReclib). No effect with one layer.
        hidden_activations: activation of all hidden layers.
        net_dropout: dropout after every hidden layer.
        batch_norm: batch normalisation before every activation.
        padding: id 0 is padding: its row is zero and not trained.
        init: initial weights of the STEM code or of MTReclib (see ``initialise``).

    Raises:
        StemlabError: ``one_width_per_layer`` is set and the number of widths is not the number of layers.
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
        one_width_per_layer: bool = False,
        shared_gate: SharedGate = "shared",
        hidden_activations: Activation = "relu",
        net_dropout: Dropout = 0.0,
        batch_norm: bool = False,
        padding: bool = True,
        init: Init = "stem",
    ) -> None:
        layers = {"num_layers": num_layers, "expert_hidden_units": expert_hidden_units}
        self.check_settings({**layers, "one_width_per_layer": one_width_per_layer})
        super().__init__(fields, tasks, ["shared"], embedding_dim, padding)
        style = MLPStyle(hidden_activations, net_dropout, batch_norm)
        layout = specific_shared_layout(tasks, num_specific_experts, num_shared_experts, "cgc", "task", shared_gate)
        self.mixture = MixtureStack(
            self.embedding.output_width,
            [layout] * num_layers,
            len(tasks),
            expert_hidden_units,
            gate_hidden_units,
            style,
            one_width_per_layer,
        )
        self.towers = build_towers(len(tasks), expert_hidden_units[-1], tower_hidden_units, style)
        initialise(self, init)

    @classmethod
    def check_settings(cls, settings: Mapping[str, object]) -> None:
        """Raise StemlabError unless every layer has a width; reads settings only."""
        widths = len(cast(Sequence[int], settings["expert_hidden_units"]))
        if settings["one_width_per_layer"] and widths != settings["num_layers"]:
            raise StemlabError(
                f"model.net.one_width_per_layer=true needs one width per layer, but model.net.expert_hidden_units has "
                f"{widths} and model.net.num_layers is {settings['num_layers']}; make them equal."
            )

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) per task and the gate weights, from the input (B, F*D) of all first-layer experts."""
        states, gates = self.mixture([inputs[0]] * (len(self.tasks) + 1))
        return run_towers(self.towers, states), gates
