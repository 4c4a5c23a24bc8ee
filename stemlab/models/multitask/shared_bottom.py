"""SharedBottom: one bottom for all tasks (Caruana, "Multitask Learning", Machine Learning 1997).

Legend: B batch, F fields, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from stemlab.models.multitask.base import GateWeights, TabularNet, build_towers, run_towers
from stemlab.nn.init import Init, initialise
from stemlab.nn.mlp import MLP, Activation, MLPStyle
from stemlab.types import Dropout, PositiveInt, Widths


class SharedBottom(TabularNet):
    """Embeddings -> one bottom -> one tower per task (docs/methods/multitask.md#sharedbottom).

    ``logit_t = tower_t(bottom(x))``, x the concatenated embeddings.

    Args:
        fields: field -> number of rows of its embedding table.
        tasks: label names.
        embedding_dim: embedding width of a field.
        bottom_hidden_units: widths of the bottom; every layer is followed by the activation.
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
        bottom_hidden_units: Widths,
        tower_hidden_units: list[PositiveInt],
        hidden_activations: Activation = "relu",
        net_dropout: Dropout = 0.0,
        batch_norm: bool = False,
        padding: bool = True,
        init: Init = "stem",
    ) -> None:
        super().__init__(fields, tasks, ["shared"], embedding_dim, padding)
        style = MLPStyle(hidden_activations, net_dropout, batch_norm)
        self.bottom = MLP(self.embedding.output_width, bottom_hidden_units, style=style)
        self.towers = build_towers(len(tasks), bottom_hidden_units[-1], tower_hidden_units, style)
        initialise(self, init)

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) per task and no gates, from the shared input (B, F*D)."""
        state_BH = self.bottom(inputs[0])
        return run_towers(self.towers, [state_BH] * len(self.tasks)), ()
