"""Tables of sequential networks, which read each of them by id in several places, divided among the ranks.

Training looks rows up in the tables of all ranks; an evaluation gathers the weights on every rank once, because it
scores every item for every user.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemlab.nn.sharded.exchange import Exchange, ShardedTables


class ShardedTable(nn.Embedding):
    """A table of which this rank holds a part; ``divide`` changes the class of an ``nn.Embedding``.

    Attributes:
        parts: the lookups in the tables of all ranks.
        whole_VW: the table with the parts of all ranks, during an evaluation; else None.
    """

    parts: ShardedTables
    whole_VW: Tensor | None

    def forward(self, input: Tensor) -> Tensor:
        """Return the embeddings (..., W) of ids (...). Collective, unless the table has been gathered."""
        if self.whole_VW is not None and not self.training:
            return functional.embedding(input, self.whole_VW)
        return self.parts.look_up([input.flatten()], [0]).view(*input.shape, self.parts.width)


def divide(exchange: Exchange, table: nn.Embedding) -> None:
    """Replace the weight of a table by the part of this rank, in place; every rank has the whole table before."""
    parts = exchange.add([table])
    table.__class__ = ShardedTable
    assert isinstance(table, ShardedTable)
    table.parts, table.whole_VW = parts, None


def sharded_tables(net: nn.Module) -> list[ShardedTable]:
    """Return the divided tables that a network reads by id, in the order of its modules."""
    return [module for module in net.modules() if isinstance(module, ShardedTable)]


@torch.no_grad()
def gather_tables(net: nn.Module) -> None:
    """Give every rank the weights of all ranks, for an evaluation; no effect for whole tables. Collective."""
    for table in sharded_tables(net):
        exchange = table.parts.exchange
        table.whole_VW = exchange.layout.on_every_rank(
            table.weight, table.parts.sizes[0], table.parts.width, exchange.group
        )


def release_tables(net: nn.Module) -> None:
    """Free the weights of other ranks after an evaluation."""
    for table in sharded_tables(net):
        table.whole_VW = None


def rows_of_table(table: nn.Embedding) -> Tensor:
    """Return all rows (V, W) of a table.

    Raises:
        RuntimeError: this rank holds a part of the table and ``gather_tables`` has not been called.
    """
    if not isinstance(table, ShardedTable):
        return table.weight
    if table.whole_VW is None:
        raise RuntimeError("this process holds a part of the table: call gather_tables on all processes first.")
    return table.whole_VW
