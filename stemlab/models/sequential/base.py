"""What all sequential networks have in common.

Legend: B rows, L history width, N candidates, K interests, D embedding width, I items.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from torch import Tensor, nn

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.api import Phase, SequenceOutput
from stemlab.nn.ranking_loss import ranking_loss

INITIAL_STD = 0.01


class SequenceNet(nn.Module, ABC):
    """Scores candidates for users with histories.

    Args:
        sizes: users, items and the longest history; ids run from 1, 0 is padding.
    """

    reads: ClassVar[str] = "sequences"
    needs_training: ClassVar[bool] = True
    reads_history: ClassVar[bool] = True
    """One that reads none is trained on users' first interactions, too, as published."""
    factorises: ClassVar[bool] = True
    """Whether an item's score is a product of ``represent`` and ``item_vectors``; else only ``forward`` scores."""
    reads_categories: ClassVar[bool] = False

    def __init__(self, sizes: SequenceSizes) -> None:
        super().__init__()
        self.sizes = sizes

    @abstractmethod
    def forward(self, batch: SequenceBatch, phase: Phase = "eval") -> SequenceOutput:
        """Score the candidates of a batch.

        Args:
            batch: instances.
            phase: ``train`` may look at the positive (column 0), for instance to choose an interest by it. Dropout
                follows the module's own training mode.
        """

    @abstractmethod
    def represent(self, batch: SequenceBatch) -> Tensor:
        """Return the vectors (B, K, D) of evaluation: an item's score is its largest dot product with one of them."""

    @abstractmethod
    def item_vectors(self) -> Tensor:
        """Return what ``represent`` is multiplied with, (I+1, D); row 0 is padding."""

    @abstractmethod
    def embedding_tables(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Field (``item_id``, ``user_id``, ``position``) -> role -> (rows, D) view."""

    def losses(self, output: SequenceOutput) -> dict[str, Tensor]:
        """Return the parts of the loss of a ``train``-phase output; their sum is minimised."""
        return {"rank": ranking_loss(output.score_BN)}

    def observe(self, user: Tensor, item: Tensor) -> None:
        """Look at all training pairs once, before training; for nets that need them (a graph, counts).

        Args:
            user: int64 user ids of the training rows.
            item: int64 item ids of the training rows.
        """

    def categorise(self, category_I: Tensor) -> None:
        """Take the category of every item, once, before training; for nets that read categories.

        Args:
            category_I: (I+1,) int64, 1 to C; 0 for items without one and for padding.
        """

    def scores(self, batch: SequenceBatch, item_BN: Tensor) -> Tensor:
        """Return the scores (B, N) of any items for the users of a batch.

        Args:
            batch: users and histories; its own candidates are not looked at.
            item_BN: int64 item ids.
        """
        score_BN: Tensor = self(replace(batch, candidates_BN=item_BN), "eval").score_BN
        return score_BN


def initialise(net: nn.Module) -> None:
    """Draw linear weights and biases and embeddings from N(0, 0.01), in place; nothing else changes.

    The published initial distributions (spec/timirec.md section 7): GRUs and layer norms keep torch's own.
    """
    for module in net.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            for parameter in module.parameters(recurse=False):  # a Linear may have no bias
                nn.init.normal_(parameter, std=INITIAL_STD)
