"""Base class of the networks that read impressions: embedding tables, towers, output.

Legend: B batch, F fields, D embedding width, T tasks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.errors import StemlabError
from stemlab.models.api import MultiTaskOutput
from stemlab.nn.embedding import FieldEmbedding
from stemlab.nn.kernels.batched_stacks import run_each
from stemlab.nn.mlp import MLP, MLPStyle

GateWeights = Sequence[Sequence[Tensor]]
"""Layer -> gate -> weights (B, E)."""


class TabularNet(nn.Module, ABC):
    """Embedding tables, then the network of a paper (``score``).

    Args:
        fields: field -> number of rows of its embedding table, in the order of ``ImpressionBatch.ids_BF``; or
            sizes that include numerical fields and scenarios.
        tasks: label names in the order of ``ImpressionBatch.labels_BT``.
        blocks: roles of the table blocks (see ``FieldEmbedding``).
        embedding_dim: D, the width of one block.
        padding: id 0 is padding: its row is zero and not trained.
    """

    reads: ClassVar[str] = "impressions"
    """Kind of batches; sequential networks read ``sequences``."""
    label_limits: ClassVar[Mapping[str, str]] = {}
    """``regression``, ``given`` or ``weight`` -> why the network cannot train such labels."""

    def __init__(
        self,
        fields: Mapping[str, int] | ImpressionSizes,
        tasks: Sequence[str],
        blocks: Sequence[str],
        embedding_dim: int,
        padding: bool,
    ) -> None:
        super().__init__()
        self.check_tasks(tasks)
        self.tasks = tuple(tasks)
        self.embedding = FieldEmbedding(fields, blocks, embedding_dim, padding)

    @classmethod
    def check_tasks(cls, tasks: Sequence[str]) -> None:
        """Raise StemlabError unless the network can be built for these tasks."""
        if not tasks:
            raise StemlabError(f"{cls.__name__} needs at least one task, but the dataset's task list is empty.")

    @abstractmethod
    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) per task and the gate weights, from one (B, F*D) input per table block."""

    def inputs(self, batch: ImpressionBatch) -> list[Tensor]:
        """Return the inputs of ``score``: one (B, F*D) tensor per table block."""
        return self.embedding.of(batch)

    def forward(self, batch: ImpressionBatch) -> MultiTaskOutput:
        """Score a batch."""
        logits, gates = self.score(self.inputs(batch))
        return MultiTaskOutput(torch.cat(logits, dim=1), gates, logits=logits)

    def embedding_tables(self) -> dict[str, dict[str, Tensor]]:
        """Return field -> role -> (rows, D) view; role is ``shared``, ``task:<name>`` or ``expert:<m>``."""
        return self.embedding.views()

    def task_dimensions(self) -> dict[str, int]:
        """Return name -> dimension of the parameters with one part per task: T in the suffix of their names."""
        suffixes = {name: name.rpartition("_")[2] for name, _ in self.named_parameters()}
        return {name: suffix.index("T") for name, suffix in suffixes.items() if suffix.isupper() and "T" in suffix}

    def embedding_parameters(self) -> list[nn.Parameter]:
        """Return the weights of all embedding tables."""
        return self.embedding.weights()


def build_towers(tasks: int, input_width: int, hidden_units: Sequence[int], style: MLPStyle) -> nn.ModuleList:
    """Return one MLP (B, input_width) -> (B, 1) per task."""
    return nn.ModuleList(MLP(input_width, hidden_units, 1, style=style) for _ in range(tasks))


def run_towers(towers: nn.ModuleList, states: Sequence[Tensor]) -> list[Tensor]:
    """Return every tower's logit (B, 1) for its own state (B, H)."""
    return run_each(towers, states)
