"""PEPNet: gates of a scenario on the embeddings (EPNet), gates of a person on every layer of every task (PPNet).

Chang et al., "PEPNet: Parameter and Embedding Personalized Network for Infusing with Personalized Prior Information",
KDD 2023.

Legend: B rows, I input width, O output width, C width of a scenario's vector, F fields, D embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from stemlab.errors import StemlabError, nearest
from stemlab.models.multiscenario.base import Fields, ScenarioNet, new_vectors
from stemlab.models.multitask.base import Gates
from stemlab.nn.init import initialise
from stemlab.nn.mlp import MLP, Activation, MLPStyle
from stemlab.types import Dropout, PositiveInt, Widths


class GateUnit(nn.Sequential):
    """2 * sigmoid(W2 relu(W1 x)), (B, I) -> (B, O): the paper's Gate Neural Unit, around one."""

    def __init__(self, input_width: int, hidden_width: int, output_width: int) -> None:
        super().__init__(nn.Linear(input_width, hidden_width), nn.ReLU(), nn.Linear(hidden_width, output_width))

    def forward(self, input: Tensor) -> Tensor:
        """Return factors between 0 and 2."""
        return 2 * cast(Tensor, super().forward(input)).sigmoid()  # type: ignore[no-untyped-call]


class PersonalTower(nn.Module):
    """A task's PPNet: h^{l+1} = f((h^l * Gate^l(prior)) W^l + b), ending in one logit."""

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
    """Embeddings, gated by the scenario -> a tower a task, every layer gated by who it is.

    EPNet: e' = e * Gate([scenario vector; stopgrad(e)]). PPNet: the prior is [the personal fields' embeddings;
    stopgrad(e')], and every layer's input of every task is gated by it. The towers read e' (Scenario-Wise-Rec's PPNet
    starts them from the gates' input instead: not followed).

    Args:
        fields: field -> embedding rows, or the dataset's sizes.
        tasks: label names.
        embedding_dim: embedding width of a field.
        personal_fields: fields of user, item and author ids, whose embeddings the gates of PPNet read and train; may be
            empty.
        hidden_units: hidden widths of a task's tower.
        gate_width: hidden width of a gate.
        scenario_dim: width of a scenario's vector.
        hidden_activations: activation of a tower's hidden layers.
        net_dropout: dropout after every hidden layer of a tower.
        batch_norm: batch normalisation before every activation of a tower.
        padding: id 0 is padding: a zero row that is never trained.

    Raises:
        StemlabError: a personal field is none of the dataset's categorical fields.
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
        """Return the place of a field in the embeddings."""
        known = list(self.embedding.columns)
        if name not in known:
            raise StemlabError(
                f"model.net.personal_fields names {name!r}, which is no categorical field of the dataset (they are: "
                f"{', '.join(known)}).{nearest(name, known)}"
            )
        return known.index(name)

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], Gates]:
        """Return one logit (B, 1) a task and no gates, from embeddings (B, F*D) and scenario ids (B,)."""
        input_BI, scenario_B = inputs
        gate_BI = self.scenario_gate(torch.cat([self.vector_SC[scenario_B], input_BI.detach()], dim=1))
        gated_BI = input_BI * gate_BI
        by_field = torch.split(input_BI, self.embedding.embedding_dim, dim=1)
        prior_BI = torch.cat([*(by_field[column] for column in self.personal), gated_BI.detach()], dim=1)
        return [tower(gated_BI, prior_BI) for tower in self.towers], ()
