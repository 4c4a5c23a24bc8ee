"""Embedding tables: one physical table per field, split along its width into blocks; projection of numerical fields.

Legend: B batch, F categorical fields, F' concatenated inputs, N numerical fields, V rows of a table, S blocks,
D width of a block, K columns of all lists of ids, W columns of all lists of weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.errors import StemlabError
from stemlab.nn.kernels.grouped_lookup import can_group, look_up_together
from stemlab.nn.pooling import ListPooling

if TYPE_CHECKING:
    from stemlab.nn.fused_tables import FusedFields
    from stemlab.nn.sharded.network import ShardedFields

SCENARIO, NUMERICAL = "scenario", "numerical"
"""Names of the inputs that are not categorical fields of the dataset."""


class FieldEmbedding(nn.Module):
    """Ids (B, F) -> one input (B, F'*D) per block.

    A table is (V, S*D); input s concatenates block s of all fields, so one lookup per field serves all blocks
    (docs/methods/stem.md#embedding-tables). Fields may share a table. If the scenario is a feature, it is the next
    field (its table has one row per scenario, one for padding and one for out-of-vocabulary). A field that holds a list
    of values is pooled to one vector (``stemlab.nn.pooling``); these fields follow. One linear layer projects all
    numerical fields to one last field (docs/methods/multitask.md#numerical-fields).

    Args:
        sizes: field -> table rows, in the order of the id columns; or sizes that include numerical fields and
            scenarios.
        blocks: roles in the order of the blocks, such as ``task:like``, ``shared`` or ``expert:3``.
        embedding_dim: D.
        padding: id 0 is padding: its row is zero and not trained.

    Attributes:
        projections: position of a table -> linear layer from its rows to the inputs (``stemlab.nn.pretrained_tables``);
            ``None`` without such tables.
        sharded: the lookups if tables are divided among ranks, else None.
        fused: the lookups if FBGEMM trains the tables, else None.
    """

    sharded: ShardedFields | None = None
    fused: FusedFields | None = None

    def __init__(
        self, sizes: Mapping[str, int] | ImpressionSizes, blocks: Sequence[str], embedding_dim: int, padding: bool
    ) -> None:
        super().__init__()
        sizes = ImpressionSizes.of(sizes)
        self.blocks = tuple(blocks)
        self.embedding_dim = embedding_dim
        width = embedding_dim * len(self.blocks)
        self.columns = tuple(sizes.fields)
        with_scenario = sizes.scenario_feature and bool(sizes.scenarios)
        rows = {name: size for name, size in sizes.fields.items() if name not in sizes.tables}
        rows |= {field.name: field.size for field in sizes.lists if field.table is None}
        if with_scenario:
            rows[SCENARIO if SCENARIO not in rows else f"{SCENARIO}_"] = len(sizes.scenarios) + 2
        self.fields = tuple(rows)
        self.scenario_table = len(rows) - 1 if with_scenario else None
        self.table_of = tuple(self.fields.index(sizes.tables.get(name, name)) for name in self.columns)
        # A list, not a dictionary: a field may be called "type" or "keys", which a ModuleDict refuses.
        self.tables = nn.ModuleList(
            nn.Embedding(size, width, padding_idx=0 if padding else None) for size in rows.values()
        )
        self.numerical = nn.Linear(len(sizes.numericals), width) if sizes.numericals else None
        self.lists = ListPooling(sizes.lists, len(self.blocks), embedding_dim) if sizes.lists else None
        self.projections: nn.ModuleDict | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the concatenated inputs: fields, ``scenario``, ``numerical``."""
        scenario = () if self.scenario_table is None else (self.fields[self.scenario_table],)
        lists = () if self.lists is None else self.lists.names
        return (*self.columns, *scenario, *lists, *(() if self.numerical is None else (NUMERICAL,)))

    @property
    def output_width(self) -> int:
        """Width of one input: F'*D."""
        return len(self.inputs) * self.embedding_dim

    def of(self, batch: ImpressionBatch) -> list[Tensor]:
        """Return one (B, F'*D) input per block; errors as in ``forward``."""
        inputs: list[Tensor] = self(
            batch.ids_BF, batch.dense_BN, batch.scenario_B, batch.list_ids_BK, batch.list_weights_BW
        )
        return inputs

    def forward(
        self,
        ids_BF: Tensor,
        dense_BN: Tensor | None = None,
        scenario_B: Tensor | None = None,
        list_ids_BK: Tensor | None = None,
        list_weights_BW: Tensor | None = None,
    ) -> list[Tensor]:
        """Return one (B, F'*D) input per block.

        Raises:
            StemlabError: the batch lacks numerical values, scenarios or lists.
        """
        ids = [ids_BF[:, column] for column in range(len(self.table_of))]
        positions = list(self.table_of)
        if self.scenario_table is not None:
            # scenario s has row s + 1; row 0 is padding, as in the other tables
            ids.append(_given(scenario_B, "scenario_B") + 1)
            positions.append(self.scenario_table)
        tables = [cast(nn.Embedding, self.tables[position]) for position in positions]
        numerical = [] if self.numerical is None else [self.numerical(_given(dense_BN, "dense_BN"))]
        if self.sharded is not None:
            found = self.sharded.look_up(ids, positions)
        elif self.fused is not None and self.fused.is_used():
            found = self.fused.look_up(ids, positions)
        elif self.training and self.projections is None and can_group(tables):
            vector_BFW = look_up_together(ids, tables)
            pooled = self._pool(vector_BFW.unbind(1), list_ids_BK, list_weights_BW)
            return self._together(vector_BFW, [*pooled, *numerical])
        else:
            found = [table(own_B) for table, own_B in zip(tables, ids, strict=True)]
        if self.projections is not None:
            found = [self._projected(position, rows) for position, rows in zip(positions, found, strict=True)]
        vectors: list[Tensor] = [*found, *self._pool(found, list_ids_BK, list_weights_BW), *numerical]
        if len(self.blocks) == 1:
            return [torch.cat(vectors, dim=1)]
        by_field = [torch.split(vector, self.embedding_dim, dim=1) for vector in vectors]
        return [torch.cat(block, dim=1) for block in zip(*by_field, strict=True)]

    def _pool(
        self, vectors: Sequence[Tensor], list_ids_BK: Tensor | None, list_weights_BW: Tensor | None
    ) -> list[Tensor]:
        """Return one (B, S*D) vector per list, from the vectors of the categorical fields."""
        if self.lists is None:
            return []
        tables = {field.name: self._table(self.fields.index(field.table or field.name)) for field in self.lists.fields}
        fields = dict(zip(self.columns, vectors, strict=False))  # the scenario may follow
        weights_BW = _given(list_weights_BW, "list_weights_BW") if self.lists.weighted else None
        pooled: list[Tensor] = self.lists(_given(list_ids_BK, "list_ids_BK"), weights_BW, tables, fields)
        return pooled

    def _table(self, position: int) -> nn.Module:
        """Return a table as a module from ids to inputs."""
        table, key = self.tables[position], str(position)
        if self.projections is None or key not in self.projections:
            return table
        return nn.Sequential(table, self.projections[key])

    def _projected(self, position: int, rows: Tensor) -> Tensor:
        """Return the inputs of the rows of a table."""
        if self.projections is None or str(position) not in self.projections:
            return rows
        inputs: Tensor = self.projections[str(position)](rows)
        return inputs

    def _together(self, vector_BFW: Tensor, further: list[Tensor]) -> list[Tensor]:
        """Return one (B, F'*D) input per block from the rows (B, F, S*D) of all tables and further inputs (B, S*D)."""
        if further:
            vector_BFW = torch.cat([vector_BFW, *(vector.unsqueeze(1) for vector in further)], dim=1)
        B, F, S = len(vector_BFW), vector_BFW.shape[1], len(self.blocks)
        vector_SBFD = vector_BFW.view(B, F, S, self.embedding_dim).permute(2, 0, 1, 3)
        return list(vector_SBFD.reshape(S, B, F * self.embedding_dim).unbind(dim=0))

    def weights(self) -> list[nn.Parameter]:
        """Return the tables (V, S*D): one per field with its own table, then the scenario's.

        A table with a projection is (V, P).
        """
        return [cast(nn.Parameter, table.weight) for table in self.tables]

    def views(self) -> dict[str, dict[str, Tensor]]:
        """Return field -> role -> (V, D) view into the weights; a shared table is listed under its owner.

        Rows of a table with a projection are projected.
        """
        weights = [self._projected(position, weight) for position, weight in enumerate(self.weights())]
        return {
            field: dict(zip(self.blocks, torch.split(weight, self.embedding_dim, dim=1), strict=True))
            for field, weight in zip(self.fields, weights, strict=True)
        }


def field_embeddings(net: nn.Module) -> list[FieldEmbedding]:
    """Return the embeddings of a network, in the order of its modules."""
    return [module for module in net.modules() if isinstance(module, FieldEmbedding)]


def _given(values: Tensor | None, name: str) -> Tensor:
    """Return the values; raise StemlabError if the batch has none."""
    if values is None:
        raise StemlabError(f"the network reads {name}, but the batch has none: use the dataset of training.")
    return values
