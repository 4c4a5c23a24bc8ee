"""Embedding lookups in tables of which every rank holds a part.

Each rank sends the unique ids of its samples to the ranks that hold their rows and receives the rows; in the backward
pass the gradients of these rows go back the same way. Reference: ``torch.nn.functional.embedding`` in whole tables,
with gradients averaged over the ranks as in DDP.

Why not ``torch.distributed.tensor``: see docs/devices.md#embedding-tables-across-ranks.

Legend: B samples, F fields, T tables, U unique ids of a rank, M rows that other ranks request, W width, N ranks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from stemlab.nn.kernels.embedding_lookup import unique_ids
from stemlab.nn.sharded.layout import TableLayout

_JOINED = -1
"""Number in the header of a rank that requests nothing."""


class Exchange:
    """Lookups of all ranks in the tables of a network. All ranks make the same lookups in the same order.

    A rank without further samples calls ``join``, so that ranks may have different numbers of samples to evaluate.

    Args:
        layout: how tables are divided.
        group: process group of its own, so that its collectives cannot get mixed up with those of DDP, which run at
            the same time; None for the default group.
    """

    def __init__(self, layout: TableLayout, group: distributed.ProcessGroup | None = None) -> None:
        self.layout, self.group = layout, group
        self.lookups: list[ShardedTables] = []

    def add(self, tables: Sequence[nn.Embedding]) -> ShardedTables:
        """Replace the weights of tables of the same width by the part of this rank; return what looks up in them."""
        self.lookups.append(ShardedTables(self, len(self.lookups), tables))
        return self.lookups[-1]

    def join(self) -> None:
        """Answer the lookups of the other ranks until all of them have joined. Collective."""
        while True:
            headers = self.headers(_JOINED, [[] for _ in range(self.layout.ranks)])
            number = max(header[0] for header in headers)
            if number == _JOINED:
                return
            self.lookups[number].answer(headers)

    def headers(self, number: int, counts: Sequence[Sequence[int]]) -> list[list[int]]:
        """Exchange headers: the number of the lookup and the number of requested rows of each table.

        Args:
            number: number of the lookup.
            counts: for each rank, the number of rows that this rank requests from it, per table.

        Returns:
            For each rank, its header.
        """
        width = 1 + max(len(lookup.starts) for lookup in self.lookups)
        own = [[number, *of_rank, *[0] * (width - 1 - len(of_rank))] for of_rank in counts]
        send = torch.tensor(own, device=self.device)
        receive = torch.empty_like(send)
        distributed.all_to_all_single(receive, send, group=self.group)
        headers: list[list[int]] = receive.tolist()
        return headers

    @property
    def device(self) -> torch.device:
        """Device of the tables."""
        return self.lookups[0].tables[0].weight.device

    def swap(self, send: Tensor, send_counts: Sequence[int], receive_counts: Sequence[int]) -> Tensor:
        """Send consecutive values to the ranks and return those that the ranks send; counts are per rank."""
        receive = send.new_empty(sum(receive_counts))
        distributed.all_to_all_single(receive, send, list(receive_counts), list(send_counts), group=self.group)
        return receive


@dataclass(slots=True)
class Request:
    """The rows that a rank requests in one lookup, and the rows that the other ranks request from it.

    Attributes:
        counts_N: requested rows per rank.
        requested_N: rows that each rank requests from this one.
        row_M: their positions among the rows of all tables of this rank.
    """

    counts_N: list[int]
    requested_N: list[int]
    row_M: Tensor


class ShardedTables:
    """Tables of the same width of which this rank holds a part.

    Args:
        exchange: the exchange that they belong to.
        number: number of the lookup in the exchange.
        tables: the tables; their weights are replaced. A padding row must be row 0.

    Attributes:
        sizes: V of each table.
        width: W.
        starts: first row of each table among the L rows of all tables of this rank.
        rows: number of these rows.
    """

    def __init__(self, exchange: Exchange, number: int, tables: Sequence[nn.Embedding]) -> None:
        self.exchange, self.number, self.tables = exchange, number, list(tables)
        self.sizes, self.width = [len(table.weight) for table in tables], tables[0].weight.shape[1]
        local = [exchange.layout.local_rows(size) for size in self.sizes]
        self.starts = [0, *itertools.accumulate(local)][:-1]
        self.rows = sum(local)
        for table in tables:
            part = exchange.layout.part(table.weight.detach())
            table.weight = nn.Parameter(part, requires_grad=table.weight.requires_grad)

    def row_blocks(self, position: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield blocks of a table on rank 0: row numbers, and these rows. Collective; see ``TableLayout``."""
        weight, layout = self.tables[position].weight, self.exchange.layout
        return layout.row_blocks(weight, self.sizes[position], self.width, self.exchange.group)

    def look_up(self, ids: Sequence[Tensor], tables: Sequence[int]) -> Tensor:
        """Return the rows of F fields (B, F, W). Collective.

        Args:
            ids: ids of each field, (B,).
            tables: for each field, the position of its table.
        """
        layout = self.exchange.layout
        id_BF = torch.stack(list(ids), dim=1).long()
        start_F = torch.tensor([self.starts[table] for table in tables], device=id_BF.device)
        if layout.division == "row_sharded":  # sorted by rank, then by table
            rank_BF = id_BF % layout.ranks
            position_BF = (id_BF - rank_BF).div_(layout.ranks, rounding_mode="floor")
            position_BF.add_(start_F).add_(rank_BF, alpha=self.rows)
        else:
            position_BF = id_BF + start_F
        unique_U, index_BF = unique_ids(position_BF, self.rows * self._requested_ranks)
        weights = [table.weight for table in self.tables]
        row_UW: Tensor = _Fetch.apply(self, unique_U, *weights)  # type: ignore[no-untyped-call]
        return functional.embedding(index_BF, row_UW)

    @property
    def _requested_ranks(self) -> int:
        """Number of ranks with different rows."""
        return self.exchange.layout.ranks if self.exchange.layout.division == "row_sharded" else 1

    def fetch(self, unique_U: Tensor) -> tuple[Tensor, Request]:
        """Return the requested rows (U, W), and the request for ``give_back``. Collective."""
        ranks = self._requested_ranks
        first = torch.tensor(
            [rank * self.rows + start for rank in range(ranks) for start in self.starts] + [ranks * self.rows],
            device=unique_U.device,
        )
        ends = torch.searchsorted(unique_U, first).tolist()
        counts = [end - start for start, end in itertools.pairwise(ends)]
        T, N = len(self.starts), self.exchange.layout.ranks
        counts_NT = [counts[rank * T : rank * T + T] for rank in range(ranks)] * (N // ranks)
        headers = self.exchange.headers(self.number, counts_NT)
        local_U = unique_U % self.rows if ranks > 1 else unique_U.repeat(N)
        return self._exchange_rows(local_U.int(), [sum(of_rank) for of_rank in counts_NT], headers)

    def answer(self, headers: Sequence[Sequence[int]]) -> None:
        """Send the rows that other ranks request; request nothing."""
        nothing = torch.empty(0, dtype=torch.int32, device=self.exchange.device)
        self._exchange_rows(nothing, [0] * self.exchange.layout.ranks, headers)

    def _exchange_rows(
        self, local_U: Tensor, counts_N: list[int], headers: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Request]:
        exchange, layout = self.exchange, self.exchange.layout
        requested_N = [sum(header[1:]) for header in headers]
        row_M = exchange.swap(local_U, counts_N, requested_N)
        found = self._rows_of_tables(row_M, headers)
        widths = self._widths()
        sent = [asked * found.shape[1] for asked in requested_N]
        received = [count * width for count, width in zip(counts_N, widths, strict=True)]
        flat = exchange.swap(found.flatten(), sent, received)
        request = Request(counts_N, requested_N, row_M)
        if layout.division == "row_sharded":
            return flat.view(-1, self.width), request
        parts = torch.split(flat, received)
        return torch.cat([part.view(-1, width) for part, width in zip(parts, widths, strict=True)], dim=1), request

    def _widths(self) -> list[int]:
        """Return the number of columns that each rank holds."""
        columns = [self.exchange.layout.columns(self.width, rank) for rank in range(self.exchange.layout.ranks)]
        return [own.stop - own.start for own in columns]

    def _rows_of_tables(self, row_M: Tensor, headers: Sequence[Sequence[int]]) -> Tensor:
        """Return rows of this rank's parts; ``row_M`` is sorted by rank and table as the headers count them."""
        weights = [table.weight.detach() for table in self.tables]
        found = weights[0].new_empty(len(row_M), weights[0].shape[1])
        end = 0
        for header in headers:
            for weight, first, count in zip(weights, self.starts, header[1:], strict=False):
                if count:
                    start, end = end, end + count
                    torch.index_select(weight, 0, row_M[start:end] - first, out=found[start:end])
        return found

    def give_back(self, grad_UW: Tensor, request: Request) -> tuple[Tensor, ...]:
        """Return the gradients of this rank's parts: the mean over the ranks, as in DDP. Collective."""
        layout, widths = self.exchange.layout, self._widths()
        grad_UW = grad_UW / layout.ranks
        if layout.division == "row_sharded":
            sent = grad_UW.flatten()
        else:
            parts = [grad_UW[:, layout.columns(self.width, rank)].flatten() for rank in range(layout.ranks)]
            sent = torch.cat(parts)
        own = widths[layout.rank]
        send_counts = [count * width for count, width in zip(request.counts_N, widths, strict=True)]
        flat = self.exchange.swap(sent, send_counts, [asked * own for asked in request.requested_N])
        grad = flat.new_zeros(self.rows, own).index_add_(0, request.row_M, flat.view(-1, own))
        grads = torch.split(grad, [len(table.weight) for table in self.tables])
        if layout.rank == 0 or layout.division == "column_sharded":
            for table, of_table in zip(self.tables, grads, strict=True):
                if table.padding_idx is not None:
                    of_table[0] = 0
        return grads


class _Fetch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tables: ShardedTables, unique_U: Tensor, *weights: Tensor) -> Tensor:
        del weights
        row_UW, ctx.request = tables.fetch(unique_U)
        ctx.tables = tables
        return row_UW

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_UW: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *ctx.tables.give_back(grad_UW, ctx.request))
