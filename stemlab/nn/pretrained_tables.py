"""Embedding tables that hold pretrained vectors (docs/vectors.md).

Legend: V rows of a table, P width of a vector, S blocks, D width of a block, R ids that have a vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from stemlab.errors import StemlabError, nearest
from stemlab.nn.embedding import FieldEmbedding, field_embeddings
from stemlab.nn.init import EMBEDDING_STD


def use_pretrained(net: nn.Module, field: str, width: int, *, frozen: bool, projection: bool | None) -> None:
    """Let the tables of a field hold vectors of another origin, in place.

    Where a projection is needed, the table (V, S*D) becomes a table (V, P) and a linear layer without bias from P to
    S*D numbers, so that each of several tables of a network (STEM) has a projection of its own and padding stays zero.

    Args:
        net: a network with initial weights.
        field: a field with a table of its own.
        width: P.
        frozen: whether the vectors are not trained; the projection always is.
        projection: whether vectors are projected; ``None``: where P differs from D.

    Raises:
        StemlabError: the network has no table of the field, or P differs from D without a projection.
    """
    for embedding, position in _tables_of(net, field):
        table = cast(nn.Embedding, embedding.tables[position])
        if projection or (projection is None and width != embedding.embedding_dim):
            table = nn.Embedding(
                len(table.weight), width, padding_idx=table.padding_idx, _weight=torch.empty(len(table.weight), width)
            )
            nn.init.normal_(table.weight, std=EMBEDDING_STD)
            if table.padding_idx is not None:
                with torch.no_grad():
                    table.weight[table.padding_idx].zero_()
            layer = nn.Linear(width, embedding.embedding_dim * len(embedding.blocks), bias=False)
            nn.init.xavier_normal_(layer.weight)
            embedding.tables[position] = table
            embedding.projections = embedding.projections or nn.ModuleDict()
            embedding.projections[str(position)] = layer
        elif width != embedding.embedding_dim:
            raise StemlabError(
                f"model.pretrained.{field}: vectors of {width} numbers need a projection to tables of width "
                f"{embedding.embedding_dim}: leave out projection=false."
            )
        table.weight.requires_grad_(not frozen)


@torch.no_grad()
def set_vectors(net: nn.Module, field: str, ids_R: Tensor, rows_RP: Tensor) -> None:
    """Write vectors into the tables of a field; without a projection into every block.

    Rows without a vector (padding, out-of-vocabulary, ids missing in the file) become zero in frozen tables and keep
    their initial values in others.

    Args:
        net: a network after ``use_pretrained``.
        field: the field.
        ids_R: rows of the table, int64.
        rows_RP: their vectors, float32.
    """
    for embedding, position in _tables_of(net, field):
        weight = cast(nn.Embedding, embedding.tables[position]).weight
        if not weight.requires_grad:
            weight.zero_()
        for block in torch.split(weight, rows_RP.shape[1], dim=1):
            block.index_copy_(0, ids_R, rows_RP)


def _tables_of(net: nn.Module, field: str) -> Iterator[tuple[FieldEmbedding, int]]:
    """Yield each embedding of a network and the position of the field's table in it."""
    embeddings = field_embeddings(net)
    if not embeddings:
        raise StemlabError(
            f"model.pretrained is for networks with embedding tables of fields, not {type(net).__name__}."
        )
    for embedding in embeddings:
        own = [name for n, name in enumerate(embedding.fields) if n != embedding.scenario_table]
        if field in embedding.columns and field not in own:
            owner = embedding.fields[embedding.table_of[embedding.columns.index(field)]]
            raise StemlabError(
                f"model.pretrained.{field}: {field!r} shares the table of {owner!r}: set model.pretrained.{owner}."
            )
        if field not in own:
            raise StemlabError(
                f"model.pretrained.{field} is no field of the dataset (known: {', '.join(own)}).{nearest(field, own)}"
            )
        yield embedding, embedding.fields.index(field)
