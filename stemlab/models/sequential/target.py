"""Networks whose candidates look at the history themselves: every candidate has a vector of the user of its own.

Legend: B rows, N candidates, L history width, D width of an item's vector, I items, C categories.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.errors import StemlabError
from stemlab.models.api import Phase, SequenceOutput
from stemlab.models.sequential.base import SequenceNet
from stemlab.nn.mlp import MLP, Activation, MLPStyle

Attended = tuple[Literal["tin", "din", "din_plus"], Tensor, Tensor | None]
"""Form of the attention; (C, E) embeddings of categories; the part of (H+1, E) encodings of positions added to them."""

TILE = 1 << 22
"""Most numbers that scoring without gradients holds at once: 16 MiB of float32."""


class TargetNet(SequenceNet):
    """An item is the concatenation of its own and its category's embedding; a network of user and item is the score.

    Trained pointwise, as published: cross-entropy of the positive and of every negative. There are no user and item
    vectors whose product is the score, so evaluation scores every pair by itself.

    Args:
        sizes: users, items, categories, longest history.
        embedding_dim: width of an item's embedding.
        category_dim: width of a category's; 0 leaves categories out.
        features: times D, what ``features`` returns.
        hidden_units: widths of the network behind it.
        hidden_activations: after each of them.
        item_bias: one trained number an item is added to its scores.

    Raises:
        StemlabError: the dataset tells no categories.
    """

    factorises: ClassVar[bool] = False
    reads_categories: ClassVar[bool] = True
    category_I: Tensor

    def __init__(
        self,
        sizes: SequenceSizes,
        embedding_dim: int,
        category_dim: int,
        features: int,
        hidden_units: Sequence[int],
        hidden_activations: Activation,
        item_bias: bool,
    ) -> None:
        super().__init__(sizes)
        if category_dim and not sizes.categories:
            raise StemlabError(
                f"{type(self).__name__} reads the category of items, and this dataset tells none: set "
                "model.net.category_dim=0, or take dataset=ml1m, grocery or beauty with the file of categories beside "
                "the rows."
            )
        self.width = embedding_dim + category_dim
        self.items = nn.Embedding(sizes.items + 1, embedding_dim)
        self.categories = nn.Embedding(sizes.categories + 1, category_dim) if category_dim else None
        self.head = MLP(features * self.width, hidden_units, 1, style=MLPStyle(hidden_activations))
        self.item_bias = nn.Embedding(sizes.items + 1, 1) if item_bias else None
        # saved with the weights: a checkpoint knows the categories that it learnt, whatever the raw files say later
        self.register_buffer("category_I", torch.zeros(sizes.items + 1, dtype=torch.int64))

    def categorise(self, category_I: Tensor) -> None:
        """Take the category of every item: 1 to C, 0 for none (and for padding)."""
        if self.categories is not None:
            self.category_I.copy_(category_I)

    def item_rows(self, item: Tensor) -> Tensor:
        """Return the vectors (..., D) of items."""
        rows: Tensor = self.items(item)
        if self.categories is None:
            return rows
        return torch.cat([rows, self.categories(self.category_I[item])], dim=-1)

    @abstractmethod
    def behaviours(self, batch: SequenceBatch) -> Tensor:
        """Return the encoded behaviours (B, L, D)."""

    @abstractmethod
    def targets(self, item_BN: Tensor) -> Tensor:
        """Return the encoded candidates (B, N, D)."""

    @abstractmethod
    def features(self, behaviour_BLD: Tensor, target_BND: Tensor, history_BL: Tensor) -> Tensor:
        """Return what the network of the score reads, (B, N, features * D)."""

    @abstractmethod
    def cells(self) -> int:
        """Return the numbers that scoring one candidate holds at once."""

    def forward(self, batch: SequenceBatch, phase: Phase = "eval") -> SequenceOutput:
        """Score the candidates of a batch; both phases are the same."""
        del phase
        return SequenceOutput(self.scores(batch, batch.candidates_BN))

    def scores(self, batch: SequenceBatch, item_BN: Tensor) -> Tensor:
        """Return the logits (B, N) of any items for the users of a batch; without gradients in bounded memory.

        Args:
            batch: users and histories; its own candidates are not looked at.
            item_BN: item ids.
        """
        behaviour_BLD = self.behaviours(batch)
        if torch.is_grad_enabled():
            return self._score(behaviour_BLD, batch.history_BL, item_BN)
        width = max(1, min(item_BN.shape[1], TILE // self.cells()))
        rows = max(1, TILE // (width * self.cells()))
        parts = [
            torch.cat(
                [self._score(behaviour_bLD, history_bL, item_bn) for item_bn in torch.split(item_bN, width, 1)], 1
            )
            for behaviour_bLD, history_bL, item_bN in zip(
                *(torch.split(whole, rows) for whole in (behaviour_BLD, batch.history_BL, item_BN)), strict=True
            )
        ]
        return torch.cat(parts)

    def _score(self, behaviour_BLD: Tensor, history_BL: Tensor, item_BN: Tensor) -> Tensor:
        feature_BNX = self.features(behaviour_BLD, self.targets(item_BN), history_BL)
        logit_BN: Tensor = self.head(feature_BNX.flatten(0, 1)).view(item_BN.shape)
        return logit_BN if self.item_bias is None else logit_BN + self.item_bias(item_BN).squeeze(2)

    def losses(self, output: SequenceOutput) -> dict[str, Tensor]:
        """Return the cross-entropy over positives (column 0) and negatives."""
        score_BN = output.score_BN.float()
        label_BN = torch.zeros_like(score_BN)
        label_BN[:, 0] = 1
        return {"click": functional.binary_cross_entropy_with_logits(score_BN, label_BN)}

    def represent(self, batch: SequenceBatch) -> Tensor:
        """Refuse: a user has another vector for every candidate."""
        raise self._no_vectors()

    def item_vectors(self) -> Tensor:
        """Refuse, like ``represent``."""
        raise self._no_vectors()

    def _no_vectors(self) -> StemlabError:
        return StemlabError(
            f"{type(self).__name__} has no vectors of users and items, because every candidate looks at the history "
            "itself: ask for scores or lists of items."
        )

    def target_attention(self) -> Attended | None:
        """Return what the published formula of learnt correlation reads, or ``None`` where it does not apply."""
        return None

    def embedding_tables(self) -> dict[str, dict[str, Tensor]]:
        """Field -> role -> (rows, D) view."""
        category = {} if self.categories is None else {"category": {"shared": self.categories.weight}}
        return {"item_id": {"shared": self.items.weight}, **category}


def initialise(net: nn.Module) -> None:
    """Draw tables and linear weights Xavier-uniformly, biases zero, as the framework of the released code does."""
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.xavier_uniform_(module.weight)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    bias = getattr(net, "item_bias", None)
    if bias is not None:
        nn.init.zeros_(bias.weight)
