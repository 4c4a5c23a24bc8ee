"""POP: the most popular items, the same for everybody (spec/timirec.md section 9).

Legend: B rows, N candidates.
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
    """score(i) = number of training rows of i. It has no parameters; ``observe`` is all its training.

    Args:
        sizes: users and items.
    """

    needs_training: ClassVar[bool] = False
    reads_history: ClassVar[bool] = False
    count: Tensor

    def __init__(self, sizes: SequenceSizes) -> None:
        super().__init__(sizes)
        self.register_buffer("count", torch.zeros(sizes.items + 1), persistent=False)

    def observe(self, user: Tensor, item: Tensor) -> None:
        """Count the training rows (int64 item ids) of every item."""
        self.count = torch.bincount(item, minlength=self.sizes.items + 1).to(self.count)

    def forward(self, batch: SequenceBatch, phase: Phase = "eval") -> SequenceOutput:
        """Score the candidates by their counts."""
        return SequenceOutput(self.count[batch.candidates_BN])

    def represent(self, batch: SequenceBatch) -> Tensor:
        """Return 1 for every user, (B, 1, 1)."""
        return self.count.new_ones(len(batch), 1, 1)

    def item_vectors(self) -> Tensor:
        """Return the counts, (I+1, 1)."""
        return self.count.unsqueeze(1)

    def embedding_tables(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Nothing is embedded."""
        return {}
