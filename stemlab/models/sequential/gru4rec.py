"""GRU4Rec: a GRU reads the history.

Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016, in the form of the released
code of Wang et al., CIKM 2022 (docs/methods/sequential.md#gru4rec): histories and candidates share one item table.

Legend: B samples, L history width, D embedding width.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.sequential.one_vector import OneVectorNet
from stemlab.nn.init import initialise
from stemlab.nn.kernels.embedding_lookup import HistoryLookup, UniqueEmbeddings
from stemlab.nn.recurrent import LastStateGRU
from stemlab.types import PositiveInt


class GRU4Rec(OneVectorNet):
    """u = W g + b, where g is the state of the GRU after the last item.

    Args:
        sizes: number of users and items, longest history.
        embedding_dim: D.
        hidden_dim: width of the GRU state.
    """

    def __init__(self, sizes: SequenceSizes, *, embedding_dim: PositiveInt = 64, hidden_dim: PositiveInt = 64) -> None:
        super().__init__(sizes, embedding_dim)
        self.gru = LastStateGRU(embedding_dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, embedding_dim)
        initialise(self, "rechorus")

    def encode(self, history_BLD: Tensor, batch: SequenceBatch) -> Tensor:
        """Return the user vectors (B, D)."""
        user_BD: Tensor = self.output(self.gru(history_BLD, batch.length_B))
        return user_BD

    def user_encoder(self) -> Callable[[SequenceBatch], Tensor]:
        """Return ``represent``; on the CPU, products of an item are computed once for all batches."""
        if (type(self).represent, type(self).encode) != (GRU4Rec.represent, GRU4Rec.encode):  # a subclass has its own
            return self.represent
        look_up = HistoryLookup(self.items)

        def encode(batch: SequenceBatch) -> Tensor:
            items = look_up(batch.history_BL)
            if not isinstance(items, UniqueEmbeddings):
                return self.encode(items, batch).unsqueeze(1)
            user_BD: Tensor = self.output(self.gru.forward_unique(items, batch.length_B))
            return user_BD.unsqueeze(1)

        return encode
