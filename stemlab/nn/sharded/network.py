"""Divide the embedding tables of a network among the ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn

from stemlab.nn.embedding import FieldEmbedding, field_embeddings
from stemlab.nn.row_embedding import row_tables
from stemlab.nn.sharded.exchange import Exchange, ShardedTables
from stemlab.nn.sharded.id_tables import divide, sharded_tables
from stemlab.nn.sharded.layout import TableLayout

Chosen = Mapping[nn.Module, Sequence[int]]
"""Tables to divide: for each ``FieldEmbedding``, positions in its ``tables``; for each ``nn.Embedding`` that a
sequential network reads by id, the position 0."""


class ShardedEmbedding(nn.Embedding):
    """A table of which this rank holds a part; hooks on it see the ids and the rows of each lookup."""

    def forward(self, ids_B: Tensor, row_BW: Tensor) -> Tensor:  # type: ignore[override]
        """Return the rows, which ``ShardedFields`` has fetched."""
        del ids_B
        return row_BW


class ShardedFields:
    """Lookups of a ``FieldEmbedding`` some of whose tables are divided among the ranks.

    Args:
        exchange: the exchange of the network.
        embedding: the embedding; the tables at ``chosen`` keep a part of their weights.
        chosen: positions of tables.
    """

    def __init__(self, exchange: Exchange, embedding: FieldEmbedding, chosen: Sequence[int]) -> None:
        self._all = embedding.tables
        self._position = {table: position for position, table in enumerate(chosen)}
        tables = [embedding.tables[table] for table in chosen]
        self.tables: ShardedTables = exchange.add([table for table in tables if isinstance(table, nn.Embedding)])
        for table in tables:
            table.__class__ = ShardedEmbedding

    def look_up(self, ids: Sequence[Tensor], tables: Sequence[int]) -> list[Tensor]:
        """Return the embeddings (B, W) of each field. Collective.

        Args:
            ids: for each field, (B,).
            tables: for each field, the position of its table.
        """
        divided = [field for field, table in enumerate(tables) if table in self._position]
        row_BFW = self.tables.look_up([ids[f] for f in divided], [self._position[tables[f]] for f in divided])
        rows = dict(zip(divided, row_BFW.unbind(1), strict=True))
        return [
            self._all[table](own, rows[field]) if field in rows else self._all[table](own)
            for field, (own, table) in enumerate(zip(ids, tables, strict=True))
        ]


def shard_tables(
    net: nn.Module, chosen: Chosen, layout: TableLayout, group: distributed.ProcessGroup | None = None
) -> Exchange:
    """Divide tables of a network among the ranks, in place; every rank has the whole tables before.

    Args:
        net: the network.
        chosen: the tables to divide.
        layout: how they are divided.
        group: process group for the lookups.

    Returns:
        The exchange, which ``exchange_of`` returns from now on.
    """
    exchange = Exchange(layout, group)
    for embedding in field_embeddings(net):
        if chosen.get(embedding):
            embedding.sharded = ShardedFields(exchange, embedding, chosen[embedding])
    for table in row_tables(net).values():
        if chosen.get(table):
            divide(exchange, table)
    return exchange


def exchange_of(net: nn.Module) -> Exchange | None:
    """Return the exchange of a network, None if every rank has whole tables."""
    for embedding in field_embeddings(net):
        if embedding.sharded is not None:
            return embedding.sharded.tables.exchange
    return next((table.parts.exchange for table in sharded_tables(net)), None)


def finish_lookups(net: nn.Module) -> None:
    """Answer the lookups of the other ranks until no rank has further samples; no effect for whole tables.

    Call it on all ranks after an evaluation, in which the ranks may have different numbers of batches.
    """
    exchange = exchange_of(net)
    if exchange is not None:
        exchange.join()


def sharded_weights(net: nn.Module) -> Iterator[tuple[str, ShardedTables, int]]:
    """Yield the name of each weight of which this rank holds a part, its tables, and its position among them."""
    exchange = exchange_of(net)
    places = {
        id(table.weight): (tables, position)
        for tables in (exchange.lookups if exchange is not None else ())
        for position, table in enumerate(tables.tables)
    }
    for name, parameter in net.named_parameters():
        if id(parameter) in places:
            yield (name, *places[id(parameter)])


@contextmanager
def whole_shapes(net: nn.Module) -> Iterator[dict[int, tuple[ShardedTables, int]]]:
    """Give the divided tables their whole shape, without values (device ``meta``), inside the ``with`` block.

    Yields:
        ``id()`` of each of these weights -> its tables, and its position among them.
    """
    exchange, found, parts = exchange_of(net), {}, []
    for tables in exchange.lookups if exchange is not None else ():
        for position, table in enumerate(tables.tables):
            parts.append((table, table.weight))
            table.weight = nn.Parameter(torch.empty(tables.sizes[position], tables.width, device="meta"))
            found[id(table.weight)] = (tables, position)
    try:
        yield found
    finally:
        for table, weight in parts:
            table.weight = weight
