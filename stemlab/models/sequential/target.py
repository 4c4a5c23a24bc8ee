"""Base class of networks with target attention (TIN, DIN): the user vector depends on the candidate.

Legend: B samples, N candidates, L history width, D width of an item vector, X input width of the head, I items,
C categories, H longest history.
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
from stemlab.nn.init import initialise
from stemlab.nn.mlp import MLP, Activation, MLPStyle
from stemlab.nn.precision import at_least_float32

CorrelationInputs = tuple[Literal["tin", "din", "din_plus"], Tensor, Tensor | None]
"""Inputs of the formula of learned correlation (docs/methods/recscope.md#learned-correlation): kind of attention,
category embeddings (C, E) and the matching columns (H+1, E) of the position encodings."""

_MAX_FLOATS = 1 << 22
"""Largest number of intermediate values of one block when scoring without gradients: 16 MiB of float32."""


class TargetNet(SequenceNet):
    """logit(i) = MLP(features(history, i)) + bias_i; an item vector is [item embedding; category embedding].

    Training is pointwise, as in the released code: binary cross-entropy on the positive and on each negative
    (docs/methods/sequential.md#pointwise-loss). No dot product of a user and an item vector gives the score, so
    evaluation scores each pair of user and candidate.

    Args:
        sizes: number of users, items and categories, longest history.
        embedding_dim: width of an item embedding.
        category_dim: width of a category embedding; 0 leaves categories out.
        features: width of the result of ``features``, in multiples of D.
        hidden_units: hidden widths of the MLP.
        hidden_activations: activation after each hidden layer.
        item_bias: add one trained bias per item.

    Raises:
        StemlabError: categories are needed and the dataset has none.
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
                f"{type(self).__name__} needs item categories, but the dataset has none: set model.net.category_dim=0, "
                "or choose dataset=ml1m, grocery or beauty with the category file in dataset.raw_dir."
            )
        self.width = embedding_dim + category_dim
        self.items = nn.Embedding(sizes.items + 1, embedding_dim)
        self.categories = nn.Embedding(sizes.categories + 1, category_dim) if category_dim else None
        self.head = MLP(features * self.width, hidden_units, 1, style=MLPStyle(hidden_activations))
        self.item_bias = nn.Embedding(sizes.items + 1, 1) if item_bias else None
        # A buffer: the checkpoint must keep the categories of training, even if the raw files change.
        self.register_buffer("category_I", torch.zeros(sizes.items + 1, dtype=torch.int64))

    def initialise(self) -> None:
        """Draw tables and linear weights Xavier-uniform; biases are zero, as in the framework of the released code."""
        initialise(self, "tin")
        if self.item_bias is not None:
            nn.init.zeros_(self.item_bias.weight)

    def set_categories(self, category_I: Tensor) -> None:
        """Store the category of each item: 1 to C, 0 for none and for padding."""
        if self.categories is not None:
            self.category_I.copy_(category_I)

    def embed_items(self, item: Tensor) -> Tensor:
        """Return the item vectors (..., D) of item ids (...)."""
        vector: Tensor = self.items(item)
        if self.categories is None:
            return vector
        return torch.cat([vector, self.categories(self.category_I[item])], dim=-1)

    @abstractmethod
    def behaviours(self, batch: SequenceBatch) -> Tensor:
        """Return the encoded items of the history (B, L, D)."""

    @abstractmethod
    def targets(self, item_BN: Tensor) -> Tensor:
        """Return the encoded candidates (B, N, D)."""

    @abstractmethod
    def features(self, behaviour_BLD: Tensor, target_BND: Tensor, history_BL: Tensor) -> Tensor:
        """Return the input of the MLP, (B, N, features * D)."""

    @abstractmethod
    def floats_per_candidate(self) -> int:
        """Return the number of intermediate values for one candidate of one user (sets the block size)."""

    def forward(self, batch: SequenceBatch, phase: Phase = "eval") -> SequenceOutput:
        """Score the candidates of a batch; both phases are the same."""
        del phase
        return SequenceOutput(self.scores(batch, batch.candidates_BN))

    def scores(self, batch: SequenceBatch, item_BN: Tensor) -> Tensor:
        """Return the logits (B, N) of any items for the users of a batch; without gradients, block by block.

        Args:
            batch: users and histories; its own candidates are ignored.
            item_BN: item ids.
        """
        behaviour_BLD = self.behaviours(batch)
        if torch.is_grad_enabled() or torch.compiler.is_exporting():  # blocks depend on the size of the batch
            return self._score(behaviour_BLD, batch.history_BL, item_BN)
        floats = self.floats_per_candidate()
        width = max(1, min(item_BN.shape[1], _MAX_FLOATS // floats))
        rows = max(1, _MAX_FLOATS // (width * floats))
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
        """Return the binary cross-entropy over positives (column 0) and negatives."""
        score_BN = at_least_float32(output.score_BN)
        label_BN = torch.zeros_like(score_BN)
        label_BN[:, 0] = 1
        return {"click": functional.binary_cross_entropy_with_logits(score_BN, label_BN)}

    def represent(self, batch: SequenceBatch) -> Tensor:
        """Raise StemlabError: the user vector depends on the candidate."""
        raise self._no_vectors()

    def item_vectors(self) -> Tensor:
        """Raise StemlabError, as ``represent``."""
        raise self._no_vectors()

    def _no_vectors(self) -> StemlabError:
        return StemlabError(
            f"{type(self).__name__} has no user and item vectors, because the user vector depends on the candidate: "
            "use scores or item lists instead."
        )

    def target_attention(self) -> CorrelationInputs | None:
        """Return the inputs of the formula of learned correlation, or ``None`` if the formula does not apply."""
        return None

    def embedding_tables(self) -> dict[str, dict[str, Tensor]]:
        """Return field -> role -> (rows, D) view."""
        category = {} if self.categories is None else {"category": {"shared": self.categories.weight}}
        return {"item_id": {"shared": self.items.weight}, **category}
