"""DCNv2, and its multi-embedding form.

Wang et al., "DCN V2", WWW 2021, arXiv 2008.13535, section 3; Guo et al., "On the Embedding Collapse When Scaling Up
Recommendation Models", ICML 2024, arXiv 2310.04400, section 5, in the form of its released code (spec/recscope.md
sections 2.4 and 5).

Legend: B rows, F fields, D width of a field, M tables, H hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from stemlab.models.multitask.base import Gates, TabularNet, build_towers, run_towers
from stemlab.nn.cross import CrossNetV2
from stemlab.nn.init import initialise
from stemlab.nn.mlp import MLP, Activation, MLPStyle
from stemlab.types import Dropout, PositiveInt, Widths


class DCNv2(TabularNet):
    """Tables -> a cross network and a hidden layer each -> their mean or mixture -> further layers -> a head a task.

    ``stacked``: h_m = act(A_m cross_m(x_m)), h = sum_m g_m h_m, then the hidden layers behind the first. With one table
    this is the stacked DCNv2. ``parallel``: beside them an MLP reads all x_m, and the heads read both; with one table
    the crosses go to the heads as they are, which is the parallel DCNv2. Several tables need the activation after each:
    without it they would be one wide table.

    Args:
        fields: field -> embedding rows.
        tasks: label names.
        embedding_dim: embedding width of a field in one table.
        num_tables: M; table m feeds cross network m only.
        num_cross_layers: crosses of each.
        hidden_units: widths of the hidden layers; the first is what every table's crosses are brought to.
        tower_hidden_units: hidden widths of a task's head; empty for one linear.
        structure: where the MLP stands, behind the crosses or beside them.
        fusion: ``mean`` of the tables' states, or a ``gate``, softmax of a linear that reads all tables.
        shared_interaction: one cross network and hidden layer for all tables (the ablation ME-SI).
        hidden_activations: activation of all hidden layers.
        net_dropout: dropout after every hidden layer.
        batch_norm: batch normalisation before every activation.
        padding: id 0 is padding: a zero row that is never trained.
    """

    def __init__(
        self,
        fields: Mapping[str, int],
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
            self.beside: MLP | None = MLP(num_tables * width, hidden_units, style=style)
            state += hidden_units[-1]
        else:
            self.beside = None
            self.behind = MLP(state, hidden_units[1:], style=style)
            state = hidden_units[-1]
        self.towers = build_towers(len(tasks), state, tower_hidden_units, style)
        initialise(self, "mtreclib")

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], Gates]:
        """Return one logit (B, 1) a task and the gate, from one input (B, F*D) a table."""
        own = len(self.crosses)
        states = [self.after[m % own](self.crosses[m % own](x_BW)) for m, x_BW in enumerate(inputs)]
        state_BMH, gates = torch.stack(states, dim=1), []
        if self.gate is None:
            state_BH = state_BMH.mean(dim=1)
        else:
            weight_BM = self.gate(torch.cat(list(inputs), dim=1)).softmax(dim=1)
            state_BH = (weight_BM.unsqueeze(2) * state_BMH).sum(dim=1)
            gates.append([weight_BM])
        if self.beside is not None:
            state_BH = torch.cat([state_BH, self.beside(torch.cat(list(inputs), dim=1))], dim=1)
        else:
            state_BH = self.behind(state_BH)
        return run_towers(self.towers, [state_BH] * len(self.tasks)), gates

    def interaction_projection(self, toward: str, source: str, role: str) -> Tensor | None:
        """Return the block (D, D) of the first cross layer by which a row of ``source`` meets ``toward``.

        Args:
            toward: the field that is met.
            source: the field whose rows are projected.
            role: of the tables, as in ``embedding_tables``.
        """
        names = self.embedding.inputs
        if role not in self.embedding.blocks or toward not in names or source not in names:
            return None
        table, width = self.embedding.blocks.index(role), self.embedding.embedding_dim
        rows, columns = (slice(place * width, (place + 1) * width) for place in map(names.index, (toward, source)))
        return cast(CrossNetV2, self.crosses[table % len(self.crosses)]).first_block(rows, columns)
