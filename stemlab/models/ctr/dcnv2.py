"""DCNv2 with one or several embedding tables.

Wang et al., "DCN V2", WWW 2021, arXiv 2008.13535, section 3; Guo et al., "On the Embedding Collapse When Scaling Up
Recommendation Models", ICML 2024, arXiv 2310.04400, section 5, in the form of its released code
(docs/methods/recscope.md#dcnv2).

Legend: B samples, F fields, D width of a field, M tables, H hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from stemlab.data.spec import ImpressionSizes
from stemlab.models.multitask.base import GateWeights, TabularNet, build_towers, run_towers
from stemlab.nn.cross import CrossNetV2
from stemlab.nn.init import initialise
from stemlab.nn.mlp import MLP, Activation, MLPStyle
from stemlab.types import Dropout, PositiveInt, Widths


class DCNv2(TabularNet):
    """h_m = act(A_m cross_m(x_m)), h = sum_m g_m h_m, logit_t = head_t(MLP(h)) with cross x <- x_m * (W x + b) + x.

    ``stacked``: A_m has the first hidden width, the MLP the others; with one table this is the stacked DCNv2.
    ``parallel``: an MLP on all x_m runs in parallel, and the heads read [h; MLP([x_1; ...; x_M])]; with one table h is
    the output of the cross network without A and activation, which is the parallel DCNv2. Without the activation per
    table, several tables would be equivalent to one wide table.

    The MLP of the released code has batch normalisation (``batch_norm=True``); the default has none, as in the paper.

    Args:
        fields: field -> embedding rows, or the sizes of the dataset.
        tasks: label names.
        embedding_dim: embedding width of a field in one table.
        num_tables: M; table m feeds cross network m only.
        num_cross_layers: layers of a cross network.
        hidden_units: hidden widths; the first one is the output width of A_m.
        tower_hidden_units: hidden widths of a head; empty for one linear layer.
        structure: MLP after the cross networks (``stacked``) or in parallel with them (``parallel``).
        fusion: g_m = 1/M (``mean``), or softmax of a linear layer on all tables (``gate``).
        shared_interaction: one cross network and one A for all tables (ablation ME-SI).
        hidden_activations: activation of all hidden layers.
        net_dropout: dropout after every hidden layer.
        batch_norm: batch normalisation before every activation.
        padding: id 0 is padding: its row is zero and is not trained.
    """

    def __init__(
        self,
        fields: Mapping[str, int] | ImpressionSizes,
        tasks: Sequence[str],
        *,
        embedding_dim: PositiveInt,
        num_tables: PositiveInt,
        num_cross_layers: PositiveInt,
        hidden_units: Widths,
        tower_hidden_units: list[PositiveInt],
        structure: Literal["stacked", "parallel"] = "stacked",
        fusion: Literal["mean", "gate"] = "mean",
        shared_interaction: bool = False,
        hidden_activations: Activation = "relu",
        net_dropout: Dropout = 0.0,
        batch_norm: bool = False,
        padding: bool = True,
    ) -> None:
        blocks = ["shared"] if num_tables == 1 else [f"expert:{m}" for m in range(num_tables)]
        super().__init__(fields, tasks, blocks, embedding_dim, padding)
        style = MLPStyle(hidden_activations, net_dropout, batch_norm)
        width, own = self.embedding.output_width, 1 if shared_interaction else num_tables
        self.crosses = nn.ModuleList(CrossNetV2(width, num_cross_layers) for _ in range(own))
        plain = structure == "parallel" and num_tables == 1
        first = [] if plain else hidden_units[:1]
        self.after = nn.ModuleList(MLP(width, first, style=style) for _ in range(own))
        self.gate = nn.Linear(num_tables * width, num_tables) if fusion == "gate" and num_tables > 1 else None
        state = width if plain else hidden_units[0]
        if structure == "parallel":
            self.parallel_mlp: MLP | None = MLP(num_tables * width, hidden_units, style=style)
            state += hidden_units[-1]
        else:
            self.parallel_mlp = None
            self.stacked_mlp = MLP(state, hidden_units[1:], style=style)
            state = hidden_units[-1]
        self.towers = build_towers(len(tasks), state, tower_hidden_units, style)
        initialise(self, "mtreclib")

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) per task and the gate, from the inputs x_m (B, F*D)."""
        own = len(self.crosses)
        states = [self.after[m % own](self.crosses[m % own](x_BW)) for m, x_BW in enumerate(inputs)]
        state_BMH, gates = torch.stack(states, dim=1), []
        if self.gate is None:
            state_BH = state_BMH.mean(dim=1)
        else:
            weight_BM = self.gate(torch.cat(list(inputs), dim=1)).softmax(dim=1)
            state_BH = (weight_BM.unsqueeze(2) * state_BMH).sum(dim=1)
            gates.append([weight_BM])
        if self.parallel_mlp is not None:
            state_BH = torch.cat([state_BH, self.parallel_mlp(torch.cat(list(inputs), dim=1))], dim=1)
        else:
            state_BH = self.stacked_mlp(state_BH)
        return run_towers(self.towers, [state_BH] * len(self.tasks)), gates

    def interaction_projection(self, toward: str, source: str, role: str) -> Tensor | None:
        """Return the block (D, D) of the first cross layer's W that maps field ``source`` to field ``toward``.

        Args:
            toward: the field whose embedding is multiplied with the projection.
            source: the field whose embedding is projected.
            role: role of the table, as in ``embedding_tables``.

        Returns:
            The block, or ``None`` for an unknown field or role.
        """
        names = self.embedding.inputs
        if role not in self.embedding.blocks or toward not in names or source not in names:
            return None
        table, width = self.embedding.blocks.index(role), self.embedding.embedding_dim
        rows, columns = (slice(field * width, (field + 1) * width) for field in map(names.index, (toward, source)))
        return cast(CrossNetV2, self.crosses[table % len(self.crosses)]).first_block(rows, columns)
