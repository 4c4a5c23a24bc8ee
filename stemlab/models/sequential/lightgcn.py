"""LightGCN: matrix factorisation with vectors averaged over the graph of users and items.

He et al., "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation", SIGIR 2020, equations 3
and 4 (docs/methods/sequential.md#lightgcn). The edges are the training pairs (user, item), without duplicates.

Legend: B samples, N candidates, D embedding width, I items, V nodes (all users with id 0, then all items with id 0).
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
from stemlab.models.sequential.bprmf import BPRMF
from stemlab.nn.interest import dot_scores
from stemlab.types import NonNegativeInt, PositiveInt


class LightGCN(SequenceNet):
    """score(u, i) = <x_u, x_i> with x = 1/(K+1) sum_{k=0..K} (D^-1/2 A D^-1/2)^k e and K = ``num_layers``.

    A is the adjacency matrix of the graph, D here its degree matrix, e the users' and items' embeddings.

    Each training step propagates through the whole graph, as in the released code; an evaluation does so once. Call
    ``observe`` before scoring: the graph is part of the training data, not of the checkpoint.

    Args:
        sizes: number of users and items.
        embedding_dim: width of a vector.
        num_layers: K, number of propagations; 0 is BPRMF.
    """

    reads_history: ClassVar[bool] = False
    reads_whole_tables: ClassVar[str | None] = "propagates all rows of its tables in each step"
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
        self._cache: tuple[tuple[int, ...], Tensor] | None = None

    def observe(self, user: Tensor, item: Tensor) -> None:
        """Build the normalised adjacency matrix (compressed rows) of the training pairs, int64 ids."""
        nodes = self.first_item + self.sizes.items + 1
        one_way = torch.stack([user, item + self.first_item])
        edges_2E = torch.unique(torch.cat([one_way, one_way.flip(0)], dim=1), dim=1)  # sorted by row, then column
        degree_V = torch.bincount(edges_2E[0], minlength=nodes)
        scale_V = degree_V.double().clamp(min=1).rsqrt()
        device = self.values.device
        self.rows = functional.pad(degree_V.cumsum(0), (1, 0)).to(device, torch.int32)
        self.columns = edges_2E[1].to(device, torch.int32)
        self.values = (scale_V[edges_2E[0]] * scale_V[edges_2E[1]]).to(device, torch.float32)
        self._cache = None

    def forward(self, batch: SequenceBatch, phase: Phase = "eval") -> SequenceOutput:
        """Score the candidates; both phases are the same."""
        nodes_BX = torch.cat([batch.user_B.unsqueeze(1), batch.candidates_BN + self.first_item], dim=1)
        vector_BXD = functional.embedding(nodes_BX, self.propagated())
        return SequenceOutput(dot_scores(vector_BXD[:, 0], vector_BXD[:, 1:]))

    def represent(self, batch: SequenceBatch) -> Tensor:
        """Return the propagated user vectors (B, 1, D)."""
        return self.propagated()[batch.user_B].unsqueeze(1)

    def item_vectors(self) -> Tensor:
        """Return the propagated item vectors (I+1, D)."""
        return self.propagated()[self.first_item :]

    def embedding_tables(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Return field -> role -> (rows, D) view, before propagation."""
        return {"user_id": {"shared": self.users.weight}, **super().embedding_tables()}

    def for_export(self) -> BPRMF:
        """Return the network of the propagated vectors, which needs no graph."""
        net = BPRMF(self.sizes, embedding_dim=self.users.embedding_dim)
        with torch.no_grad():
            mean_VD = self.propagated().clone()
        for table, part in ((net.users, mean_VD[: self.first_item]), (net.items, mean_VD[self.first_item :])):
            table.weight = nn.Parameter(part, requires_grad=False)
        return net.eval()

    def propagated(self) -> Tensor:
        """Return the mean over layers (V, D), float32; without gradients it is cached until a parameter changes."""
        if not self.values.numel():
            raise RuntimeError("LightGCN has no graph: call observe(user, item) with the training pairs first.")
        if self.training or torch.is_grad_enabled():
            self._cache = None
            return self.propagate()
        state = tuple(part for weight in self.parameters() for part in (weight.data_ptr(), weight._version))
        if self._cache is None or self._cache[0] != state:
            self._cache = (state, self.propagate())
        return self._cache[1]

    def propagate(self) -> Tensor:
        """Compute the mean over layers (V, D) in float32, also under autocast."""
        with torch.autocast(self.values.device.type, enabled=False):
            first_VD = torch.cat([self.users.weight, self.items.weight])
            graph = (self.rows, self.columns, self.values)
            mean_VD: Tensor = _Mean.apply(first_VD, self.num_layers, *graph)  # type: ignore[no-untyped-call]
            return mean_VD


class _Mean(torch.autograd.Function):
    """``mean_over_layers``; the matrix is symmetric, so the backward pass applies the same function to the gradient."""

    @staticmethod
    def forward(ctx: Any, first_VD: Tensor, layers: int, *graph: Tensor) -> Tensor:
        ctx.graph, ctx.layers = graph, layers
        return mean_over_layers(first_VD, layers, *graph)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return mean_over_layers(gradients[0], ctx.layers, *ctx.graph), None, None, None, None


def mean_over_layers(first_VD: Tensor, layers: int, rows: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """Return (1 + A + ... + A^layers) e / (layers + 1), (V, D), for a sparse A in compressed rows.

    Each row of A x is a weighted sum of rows of x, which is an embedding bag; on the CPU it is 3 to 8 times as fast as
    the sparse product of PyTorch.
    """
    first_VD = first_VD.contiguous()
    sum_VD = first_VD
    for _ in range(layers):  # Horner's scheme
        sum_VD = functional.embedding_bag(
            columns, sum_VD, rows, mode="sum", per_sample_weights=values, include_last_offset=True
        ).add_(first_VD)
    return sum_VD.div_(layers + 1) if layers else first_VD
