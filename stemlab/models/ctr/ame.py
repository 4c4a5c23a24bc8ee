"""AME (asymmetric multi-embedding): a few embedding tables of different widths, mixed per task.

Pan et al., "Ads Recommendation in a Collapsed and Entangled World", KDD 2024, arXiv 2403.00793
(docs/methods/recscope.md#ame). The gate input is not published; here it is the concatenation of all tables.

Legend: B samples, F fields, M tables, D_m width of a field in table m, H output width of an expert, X sum of F * D_m.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.models.multitask.base import GateWeights, TabularNet, build_towers, run_towers
from stemlab.nn.embedding import FieldEmbedding
from stemlab.nn.init import initialise
from stemlab.nn.mlp import MLP, Activation, MLPStyle
from stemlab.types import Dropout, PositiveInt, Widths


class AME(TabularNet):
    """h_m = expert_m(e_m), g_t = softmax(gate_t([e_1; ...; e_M])), logit_t = tower_t(sum_m g_tm h_m).

    e_m is the concatenation of all fields in table m. No table belongs to a task and no gradient is stopped; the gate
    weights show which tasks use which tables.

    Args:
        fields: field -> embedding rows, or the sizes of the dataset.
        tasks: label names.
        dims: D_1 to D_M, embedding width of a field in each table.
        expert_hidden_units: widths of an expert; each layer is followed by the activation.
        gate_hidden_units: hidden widths of a gate; empty for one linear layer.
        tower_hidden_units: hidden widths of a tower.
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
        dims: Widths,
        expert_hidden_units: Widths,
        gate_hidden_units: list[PositiveInt],
        tower_hidden_units: list[PositiveInt],
        hidden_activations: Activation = "relu",
        net_dropout: Dropout = 0.0,
        batch_norm: bool = False,
        padding: bool = True,
    ) -> None:
        super().__init__(fields, tasks, ["expert:0"], dims[0], padding)
        self.further = nn.ModuleList(
            FieldEmbedding(fields, [f"expert:{m}"], width, padding) for m, width in enumerate(dims[1:], start=1)
        )
        style = MLPStyle(hidden_activations, net_dropout, batch_norm)
        widths = [tables.output_width for tables in self.tables]
        self.experts = nn.ModuleList(MLP(width, expert_hidden_units, style=style) for width in widths)
        self.gates = nn.ModuleList(MLP(sum(widths), gate_hidden_units, len(dims), style=style) for _ in tasks)
        self.towers = build_towers(len(tasks), expert_hidden_units[-1], tower_hidden_units, style)
        for tables in self.tables:
            initialise(tables, "mtreclib")

    @property
    def tables(self) -> list[FieldEmbedding]:
        """The M embedding tables, each with all fields at one width."""
        return [self.embedding, *(tables for tables in self.further if isinstance(tables, FieldEmbedding))]

    def inputs(self, batch: ImpressionBatch) -> list[Tensor]:
        """Return the inputs of ``score``: e_m (B, F * D_m) of each table."""
        return [tables.of(batch)[0] for tables in self.tables]

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) and one gate (B, M) per task, from the inputs e_m (B, F * D_m)."""
        state_BMH = torch.stack([expert(x_BW) for expert, x_BW in zip(self.experts, inputs, strict=True)], dim=1)
        all_BX = torch.cat(list(inputs), dim=1)
        weights = [gate(all_BX).softmax(dim=1) for gate in self.gates]
        mixed = [(weight_BM.unsqueeze(2) * state_BMH).sum(dim=1) for weight_BM in weights]
        return run_towers(self.towers, mixed), [weights]

    def embedding_tables(self) -> dict[str, dict[str, Tensor]]:
        """Return field -> role -> (rows, D_m) view; role is ``expert:<m>``."""
        views = [tables.views() for tables in self.tables]
        return {field: {role: view for found in views for role, view in found[field].items()} for field in views[0]}

    def embedding_parameters(self) -> list[nn.Parameter]:
        """Return the weights of all embedding tables."""
        return [weight for tables in self.tables for weight in tables.weights()]
