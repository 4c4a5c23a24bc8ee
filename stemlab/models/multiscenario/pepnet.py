"""PEPNet: scenario gates on the embeddings (EPNet), personal gates on each layer of each task (PPNet).

Chang et al., "PEPNet: Parameter and Embedding Personalized Network for Infusing with Personalized Prior Information",
KDD 2023 (docs/methods/multiscenario.md#pepnet).

Legend: B samples, I input width, O output width, C width of a scenario vector, F fields, D embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from stemlab.errors import StemlabError, nearest
from stemlab.models.multiscenario.base import Fields, ScenarioNet, new_vectors, vectors_of
from stemlab.models.multitask.base import GateWeights
from stemlab.nn.init import initialise
from stemlab.nn.mlp import MLP, Activation, MLPStyle
from stemlab.types import Dropout, PositiveInt, Widths


class GateUnit(nn.Sequential):
    """Gate(x) = 2 sigmoid(W_2 ReLU(W_1 x)), (B, I) -> (B, O): the Gate Neural Unit of the paper."""

    def __init__(self, input_width: int, hidden_width: int, output_width: int) -> None:
        super().__init__(nn.Linear(input_width, hidden_width), nn.ReLU(), nn.Linear(hidden_width, output_width))

    def forward(self, input: Tensor) -> Tensor:
        """Return factors (B, O) between 0 and 2."""
        return 2 * cast(Tensor, super().forward(input)).sigmoid()  # type: ignore[no-untyped-call]


class PersonalTower(nn.Module):
    """PPNet of one task: h^{l+1} = f((h^l * Gate^l(o)) W^l + b^l) with prior o; the last layer gives the logit."""

    def __init__(
        self, input_width: int, prior_width: int, hidden_units: Sequence[int], gate_width: int, style: MLPStyle
    ) -> None:
        super().__init__()
        widths = [input_width, *hidden_units]
        self.gates = nn.ModuleList(GateUnit(prior_width, gate_width, width) for width in widths)
        hidden = [MLP(before, [after], style=style) for before, after in pairwise(widths)]
        self.layers = nn.ModuleList([*hidden, nn.Linear(widths[-1], 1)])

    def forward(self, state_BH: Tensor, prior_BI: Tensor) -> Tensor:
        """Return a logit (B, 1)."""
        for gate, layer in zip(self.gates, self.layers, strict=True):
            state_BH = layer(state_BH * gate(prior_BI))
        return state_BH


class PEPNet(ScenarioNet):
    """Embeddings e, gated by the scenario -> one tower per task, each layer gated by the personal fields.

    EPNet: e' = e * Gate([v_s; stopgrad(e)]). PPNet: ``PersonalTower`` on e' with the prior
    o = [embeddings of the personal fields; stopgrad(e')].

    Args:
        fields: field -> embedding rows, or the sizes of the dataset.
        tasks: label names.
        embedding_dim: embedding width of a field.
        personal_fields: fields with user, item and author ids; the gates of PPNet read and train their embeddings; may
            be empty.
        hidden_units: hidden widths of a tower.
        gate_width: hidden width of a gate.
        scenario_dim: C, width of a scenario vector v_s.
        hidden_activations: activation of the hidden layers of a tower.
        net_dropout: dropout after every hidden layer of a tower.
        batch_norm: batch normalisation before every activation of a tower.
        padding: id 0 is padding: its row is zero and is not trained.

    Raises:
        StemlabError: a personal field is not a categorical field of the dataset.
    """

    def __init__(
        self,
        fields: Fields,
        tasks: Sequence[str],
        *,
        embedding_dim: PositiveInt,
        personal_fields: list[str],
        hidden_units: Widths,
        gate_width: PositiveInt,
        scenario_dim: PositiveInt,
        hidden_activations: Activation = "relu",
        net_dropout: Dropout = 0.0,
        batch_norm: bool = False,
        padding: bool = True,
    ) -> None:
        super().__init__(fields, tasks, embedding_dim, padding)
        self.personal = [self.column(name) for name in personal_fields]
        self.vector_SC = new_vectors(len(self.scenarios), scenario_dim)
        width = self.embedding.output_width
        self.scenario_gate = GateUnit(scenario_dim + width, gate_width, width)
        prior, style = width + embedding_dim * len(self.personal), MLPStyle(hidden_activations, net_dropout, batch_norm)
        self.towers = nn.ModuleList(PersonalTower(width, prior, hidden_units, gate_width, style) for _ in tasks)
        initialise(self)

    def column(self, name: str) -> int:
        """Return the index of a field among the embeddings."""
        known = list(self.embedding.columns)
        if name not in known:
            raise StemlabError(
                f"model.net.personal_fields names {name!r}, which is not a categorical field of the dataset. "
                f"Valid fields: {', '.join(known)}.{nearest(name, known)}"
            )
        return known.index(name)

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) per task and no gates, from embeddings (B, F*D) and scenarios (B,)."""
        input_BI, scenario_B = inputs
        gate_BI = self.scenario_gate(torch.cat([vectors_of(self.vector_SC, scenario_B), input_BI.detach()], dim=1))
        gated_BI = input_BI * gate_BI
        by_field = torch.split(input_BI, self.embedding.embedding_dim, dim=1)
        prior_BI = torch.cat([*(by_field[column] for column in self.personal), gated_BI.detach()], dim=1)
        return [tower(gated_BI, prior_BI) for tower in self.towers], ()
