"""Base class of all sequential networks (docs/methods/sequential.md#common-rules).

Legend: B samples, L history width, N candidates, K interests, D embedding width, I items.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar

from torch import Tensor, nn

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.api import Phase, SequenceOutput
from stemlab.nn.ranking_loss import ranking_loss
from stemlab.nn.sharded.id_tables import rows_of_table


class SequenceNet(nn.Module, ABC):
    """A network that scores candidate items for users with histories.

    Subclasses with trained item vectors store them in ``items``, which histories and candidates share.

    Args:
        sizes: number of users and items, longest history; ids start at 1, id 0 is padding.
    """

    reads: ClassVar[str] = "sequences"
    """Kind of batches that the network reads; multi-task networks read ``impressions``."""
    needs_training: ClassVar[bool] = True
    reads_history: ClassVar[bool] = True
    """If False, the first interaction of each user is also a training sample, as in the released code."""
    factorises: ClassVar[bool] = True
    """If True, scores are dot products of ``represent`` and ``item_vectors``; if False, only ``forward`` gives them."""
    reads_categories: ClassVar[bool] = False
    reads_whole_tables: ClassVar[str | None] = None
    """Why every row of its tables is read in each step, or ``None``. Then they cannot be trained by rows or divided
    among processes; other networks read their tables by calling them."""
    uncapturable: str | None = None
    """Why training steps cannot be captured as CUDA graphs, or ``None``; with these, all batches have the longest
    history that is allowed."""
    items: nn.Embedding

    def __init__(self, sizes: SequenceSizes) -> None:
        super().__init__()
        self.sizes = sizes

    @abstractmethod
    def forward(self, batch: SequenceBatch, phase: Phase = "eval") -> SequenceOutput:
        """Score the candidates of a batch.

        Args:
            batch: samples with histories and candidates.
            phase: in ``train`` the network may read the positive (column 0), for instance to select an interest.
                Dropout depends on the training mode of the module, not on the phase.
        """

    @abstractmethod
    def represent(self, batch: SequenceBatch) -> Tensor:
        """Return the user vectors (B, K, D) of evaluation; an item scores its largest dot product with them."""

    def user_encoder(self) -> Callable[[SequenceBatch], Tensor]:
        """Return ``represent`` for many batches with the present weights; it may compute values of all items once."""
        return self.represent

    def item_vectors(self) -> Tensor:
        """Return the item vectors (I+1, D) that ``represent`` is multiplied with; row 0 is padding."""
        return rows_of_table(self.items)

    def embedding_tables(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Return field (``item_id``, ``user_id``, ``position`` ...) -> role -> (rows, D) view."""
        return {"item_id": {"shared": self.items.weight}}

    def losses(self, output: SequenceOutput) -> dict[str, Tensor]:
        """Return the named terms of the loss for an output of phase ``train``; training minimises their sum."""
        return {"rank": ranking_loss(output.score_BN)}

    def observe(self, user: Tensor, item: Tensor) -> None:
        """Read all training interactions once, before training (LightGCN: graph, POP: counts); default: nothing.

        Args:
            user: int64 user ids of the training interactions.
            item: int64 item ids of the training interactions.
        """

    def set_categories(self, category_I: Tensor) -> None:
        """Store the category of each item, once, before training; default: nothing.

        Args:
            category_I: (I+1,) int64, 1 to C; 0 for items without category and for padding.
        """

    def for_export(self) -> SequenceNet:
        """Return a network with the scores of evaluation that torch.export can trace; default: this one."""
        return self

    def scores(self, batch: SequenceBatch, item_BN: Tensor) -> Tensor:
        """Return the scores (B, N) of any items for the users of a batch.

        Args:
            batch: users and histories; its own candidates are ignored.
            item_BN: int64 item ids.
        """
        score_BN: Tensor = self(replace(batch, candidates_BN=item_BN), "eval").score_BN
        return score_BN


def counted_padding(setting: str, counted: bool) -> str | None:
    """Return the reason against captured steps of a network whose result depends on the padding of a batch.

    Args:
        setting: the setting that counts padding, for the message.
        counted: whether it is set.
    """
    return f"{setting} counts padding, which captured steps add" if counted else None
