"""How embedding tables are divided among ranks: by rows or by columns.

Legend: V rows of a table, L rows of the part of a rank, W width of a table, N ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, distributed

Division = Literal["row_sharded", "column_sharded"]
_BLOCK_VALUES = 1 << 22
"""Values of a rank that are sent at once when a table is gathered: 16 MB."""


@dataclass(frozen=True)
class TableLayout:
    """The part of each table that a rank holds.

    ``row_sharded``: rank r holds the rows r, r + N, r + 2N, ..., so that frequent ids, which often are neighbours, are
    distributed evenly. All ranks hold equally many rows, L = ceil(V / N); rows beyond V are zero and never looked up.
    ``column_sharded``: rank r holds all rows and the r-th of N ranges of columns.

    Attributes:
        division: ``row_sharded`` or ``column_sharded``.
        rank: rank of this process.
        ranks: N.
    """

    division: Division
    rank: int
    ranks: int

    def local_rows(self, rows: int) -> int:
        """Return L for a table of V rows."""
        return -(-rows // self.ranks) if self.division == "row_sharded" else rows

    def columns(self, width: int, rank: int) -> slice:
        """Return the columns that a rank holds of a table of width W."""
        if self.division == "row_sharded":
            return slice(0, width)
        return slice(rank * width // self.ranks, (rank + 1) * width // self.ranks)

    def part(self, whole_VW: Tensor) -> Tensor:
        """Return a copy of this rank's part of a table or of a tensor of its shape."""
        if self.division == "column_sharded":
            return whole_VW[:, self.columns(whole_VW.shape[1], self.rank)].clone(memory_format=torch.contiguous_format)
        own = whole_VW[self.rank :: self.ranks]
        part_LW = own.new_zeros(self.local_rows(len(whole_VW)), own.shape[1])
        part_LW[: len(own)] = own
        return part_LW

    def row_blocks(
        self, part: Tensor, rows: int, width: int, group: distributed.ProcessGroup | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield blocks of a table on rank 0: row numbers, and these rows in full width. Collective.

        On the other ranks nothing is yielded; exhaust the iterator there, too.

        Args:
            part: this rank's part.
            rows: V.
            width: W.
            group: process group of the ranks.
        """
        step = max(1, _BLOCK_VALUES // width)
        for start in range(0, len(part), step):
            block = part.detach()[start : start + step].contiguous()
            if self.rank:
                distributed.send(block, 0, group)
                continue
            blocks = [block]
            for rank in range(1, self.ranks):
                columns = self.columns(width, rank)
                other = block.new_empty(len(block), columns.stop - columns.start)
                distributed.recv(other, rank, group)
                blocks.append(other)
            number_L = torch.arange(start, start + len(block))
            if self.division == "column_sharded":
                yield number_L, torch.cat(blocks, dim=1)
                continue
            for rank, other in enumerate(blocks):
                number = number_L * self.ranks + rank
                yield number[number < rows], other[: int((number < rows).sum())]

    def whole(self, part: Tensor, rows: int, width: int, group: distributed.ProcessGroup | None) -> Tensor | None:
        """Return a whole table (V, W) in main memory on rank 0, None on the other ranks. Collective.

        Args:
            part: this rank's part.
            rows: V.
            width: W.
            group: process group of the ranks.
        """
        whole_VW = None if self.rank else torch.empty(rows, width, dtype=part.dtype)
        for number, block in self.row_blocks(part, rows, width, group):
            assert whole_VW is not None
            whole_VW[number] = block.cpu()
        return whole_VW

    def on_every_rank(
        self, part: Tensor, rows: int, width: int, group: distributed.ProcessGroup | None = None
    ) -> Tensor:
        """Return a whole table (V, W) on every rank, on the device of the part. Collective.

        Args:
            part: this rank's part.
            rows: V.
            width: W.
            group: process group of the ranks.
        """
        whole_VW = part.new_empty(rows, width)
        for rank in range(self.ranks):
            columns = self.columns(width, rank)
            own = part.detach() if rank == self.rank else part.new_empty(len(part), columns.stop - columns.start)
            distributed.broadcast(own, rank, group)
            if self.division == "column_sharded":
                whole_VW[:, columns] = own
            else:
                target = whole_VW[rank :: self.ranks]
                target.copy_(own[: len(target)])
        return whole_VW
