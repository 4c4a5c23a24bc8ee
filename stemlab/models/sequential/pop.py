"""POP: the most popular items, the same for all users (docs/methods/sequential.md#pop).

Legend: B samples, N candidates, I items.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.api import Phase, SequenceOutput
from stemlab.models.sequential.base import SequenceNet


class POP(SequenceNet):
    """score(i) = number of training interactions of item i; no parameters, ``observe`` is the whole training.

    Args:
        sizes: number of users and items.
    """

    needs_training: ClassVar[bool] = False
    reads_history: ClassVar[bool] = False
    count: Tensor

    def __init__(self, sizes: SequenceSizes) -> None:
        super().__init__(sizes)
        self.register_buffer("count", torch.zeros(sizes.items + 1), persistent=False)

    def observe(self, user: Tensor, item: Tensor) -> None:
        """Count the training interactions of each item (int64 item ids)."""
        self.count = torch.bincount(item, minlength=self.sizes.items + 1).to(self.count)

    def forward(self, batch: SequenceBatch, phase: Phase = "eval") -> SequenceOutput:
        """Score the candidates by their counts."""
        return SequenceOutput(self.count[batch.candidates_BN])

    def represent(self, batch: SequenceBatch) -> Tensor:
        """Return ones (B, 1, 1), the same vector for all users."""
        return self.count.new_ones(batch.candidates_BN.shape[0], 1, 1)

    def item_vectors(self) -> Tensor:
        """Return the counts (I+1, 1)."""
        return self.count.unsqueeze(1)

    def embedding_tables(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Return an empty dictionary: there are no embeddings."""
        return {}
