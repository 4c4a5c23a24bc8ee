"""LightGCN: matrix factorisation whose vectors are smoothed over the graph of users and items.

He et al., "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation", SIGIR 2020, equations 3
and 4 (spec/timirec.md section 9). The graph holds the training pairs, each once.

Legend: B rows, N candidates, D embedding width, V nodes (users with id 0, then items with id 0).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.api import Phase, SequenceOutput
from stemlab.models.sequential.base import SequenceNet
from stemlab.nn.interest import dot_scores
from stemlab.types import NonNegativeInt, PositiveInt


class LightGCN(SequenceNet):
    """score(i) = <u, v_i> of the mean over layers 0 to ``num_layers`` of ``(D^-1/2 A D^-1/2)^l e``.

    Every training step propagates through the whole graph, as published; an evaluation does so once. ``observe`` must
    be called before anything is scored: the graph belongs to the training data, not to the checkpoint.

    Args:
        sizes: users and items.
        embedding_dim: D.
        num_layers: propagations; 0 is BPRMF.
    """

    reads_history: ClassVar[bool] = False
    rows: Tensor
    columns: Tensor
    values: Tensor

    def __init__(
        self, sizes: SequenceSizes, *, embedding_dim: PositiveInt = 64, num_layers: NonNegativeInt = 3
    ) -> None:
        super().__init__(sizes)
        self.users = nn.Embedding(sizes.users + 1, embedding_dim)
        self.items = nn.Embedding(sizes.items + 1, embedding_dim)
        self.num_layers = num_layers
        self.first_item = sizes.users + 1  # node of item 0
        for table in (self.users, self.items):
            nn.init.xavier_uniform_(table.weight)
        for name, dtype in (("rows", torch.int32), ("columns", torch.int32), ("values", torch.float32)):
            self.register_buffer(name, torch.empty(0, dtype=dtype), persistent=False)
        self._known: tuple[tuple[int, ...], Tensor] | None = None

    def observe(self, user: Tensor, item: Tensor) -> None:
        """Build the normalised adjacency (compressed rows) of the training pairs, int64 ids."""
        nodes = self.first_item + self.sizes.items + 1
        one_way = torch.stack([user, item + self.first_item])
        edges_2E = torch.unique(torch.cat([one_way, one_way.flip(0)], dim=1), dim=1)  # by row, then column
        degree_V = torch.bincount(edges_2E[0], minlength=nodes)
        scale_V = degree_V.double().clamp(min=1).rsqrt()
        device = self.values.device
        self.rows = functional.pad(degree_V.cumsum(0), (1, 0)).to(device, torch.int32)
        self.columns = edges_2E[1].to(device, torch.int32)
        self.values = (scale_V[edges_2E[0]] * scale_V[edges_2E[1]]).to(device, torch.float32)
        self._known = None

    def forward(self, batch: SequenceBatch, phase: Phase = "eval") -> SequenceOutput:
        """Score the candidates; both phases are the same."""
        nodes_BX = torch.cat([batch.user_B.unsqueeze(1), batch.candidates_BN + self.first_item], dim=1)
        vector_BXD = functional.embedding(nodes_BX, self.propagated())
        return SequenceOutput(dot_scores(vector_BXD[:, 0], vector_BXD[:, 1:]))

    def represent(self, batch: SequenceBatch) -> Tensor:
        """Return the users' propagated vectors, (B, 1, D)."""
        return self.propagated()[batch.user_B].unsqueeze(1)

    def item_vectors(self) -> Tensor:
        """Return the items' propagated vectors, (I+1, D)."""
        return self.propagated()[self.first_item :]

    def embedding_tables(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Field -> role -> (rows, D) view, before propagation."""
        return {"user_id": {"shared": self.users.weight}, "item_id": {"shared": self.items.weight}}

    def propagated(self) -> Tensor:
        """Return the mean over the layers, (V, D), float32; without gradients it is computed once a state."""
        if not self.values.numel():
            raise RuntimeError("LightGCN has no graph: call observe with the training pairs first.")
        if self.training or torch.is_grad_enabled():
            self._known = None
            return self.propagate()
        state = tuple(part for weight in self.parameters() for part in (weight.data_ptr(), weight._version))
        if self._known is None or self._known[0] != state:
            self._known = (state, self.propagate())
        return self._known[1]

    def propagate(self) -> Tensor:
        """Return the mean over the layers, (V, D), float32 whatever the autocast dtype."""
        with torch.autocast(self.values.device.type, enabled=False):
            first_VD = torch.cat([self.users.weight, self.items.weight])
            graph = (self.rows, self.columns, self.values)
            mean_VD: Tensor = _Mean.apply(first_VD, self.num_layers, *graph)  # type: ignore[no-untyped-call]
            return mean_VD


class _Mean(torch.autograd.Function):
    """``mean_over_layers``; the matrix is symmetric, so the gradient is the same function of the gradient."""

    @staticmethod
    def forward(ctx: Any, first_VD: Tensor, layers: int, *graph: Tensor) -> Tensor:
        ctx.graph, ctx.layers = graph, layers
        return mean_over_layers(first_VD, layers, *graph)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return mean_over_layers(gradients[0], ctx.layers, *ctx.graph), None, None, None, None


def mean_over_layers(first_VD: Tensor, layers: int, rows: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """Return (1 + A + ... + A^layers) e / (layers + 1), (V, D), for a sparse A in compressed rows.

    A row of the product A x is a weighted sum of rows of x, which is what an embedding bag is: on a processor 3 to 8
    times as fast as torch's sparse product.
    """
    first_VD = first_VD.contiguous()
    sum_VD = first_VD
    for _ in range(layers):  # Horner's scheme
        sum_VD = functional.embedding_bag(
            columns, sum_VD, rows, mode="sum", per_sample_weights=values, include_last_offset=True
        ).add_(first_VD)
    return sum_VD.div_(layers + 1) if layers else first_VD
