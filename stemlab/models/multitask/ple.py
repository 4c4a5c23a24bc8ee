"""PLE: experts of tasks beside shared experts (Tang et al., "Progressive Layered Extraction (PLE)", RecSys 2020)."""

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
    """Embeddings -> layers of task experts, shared experts and gates -> a tower a task (spec/stem.md section 4).

    Args:
        fields: field -> embedding rows.
        tasks: label names.
        embedding_dim: embedding width of a field.
        num_layers: extraction layers.
        num_shared_experts: shared experts a layer.
        num_specific_experts: experts of each task a layer.
        expert_hidden_units: widths of an expert; each is followed by the activation.
        one_width_a_layer: read them otherwise: a layer's experts have one hidden layer, of that layer's width
            (MTReclib).
        gate_hidden_units: hidden widths of a gate; empty for linear gates (MTReclib).
        tower_hidden_units: hidden widths of a tower.
        shared_gate: whether the shared gate mixes the shared experts only (``shared``: the published code) or all
            experts (``all``: the original paper and MTReclib). It matters from two layers on.
        hidden_activations: activation of all hidden layers.
        net_dropout: dropout after every hidden layer.
        batch_norm: batch normalisation before every activation.
        padding: id 0 is padding: a zero row that is never trained.
        init: initial weights, as the STEM code or as MTReclib draws them (see ``initialise``).

    Raises:
        StemlabError: ``one_width_a_layer`` and as many widths as layers do not go together.
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
        one_width_a_layer: bool = False,
        shared_gate: SharedGate = "shared",
        hidden_activations: Activation = "relu",
        net_dropout: Dropout = 0.0,
        batch_norm: bool = False,
        padding: bool = True,
        init: Init = "stem",
    ) -> None:
        layers = {"num_layers": num_layers, "expert_hidden_units": expert_hidden_units}
        self.check_settings({**layers, "one_width_a_layer": one_width_a_layer})
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
            one_width_a_layer,
        )
        self.towers = build_towers(len(tasks), expert_hidden_units[-1], tower_hidden_units, style)
        initialise(self, init)

    @classmethod
    def check_settings(cls, settings: Mapping[str, object]) -> None:
        """Raise StemlabError unless every layer has its width; needs no data, so a config can be checked."""
        widths = len(cast(Sequence[int], settings["expert_hidden_units"]))
        if settings["one_width_a_layer"] and widths != settings["num_layers"]:
            raise StemlabError(
                f"model.net.one_width_a_layer=true needs a width a layer, but model.net.expert_hidden_units has "
                f"{widths} and model.net.num_layers is {settings['num_layers']}; make them equal."
            )

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) a task and the gates; every path of the first layer reads the one input (B, F*D)."""
        states, gates = self.mixture([inputs[0]] * (len(self.tasks) + 1))
        return run_towers(self.towers, states), gates
