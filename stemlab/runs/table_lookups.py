"""How many rows of each embedding table a training step looks up, at most, and the size of their gradients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from stemlab.config.job_process import process_count
from stemlab.data.list_layout import values_of
from stemlab.models.sequential.base import SequenceNet
from stemlab.nn.embedding import FieldEmbedding, field_embeddings
from stemlab.nn.row_embedding import row_tables

_BYTES, _ROW_NUMBER_BYTES = 4, 8


LookupsPerSample = dict[nn.Module, dict[int, int]]
"""For each ``FieldEmbedding`` and each ``nn.Embedding`` that a sequential network reads by id: position of a table (0
for the latter) -> largest number of its rows that a training sample looks up."""


def lookups_per_sample(net: nn.Module, dataset: Mapping[str, Any]) -> LookupsPerSample:
    """Return how many rows of its tables a network looks up.

    Args:
        net: the network.
        dataset: settings of the dataset: ``num_negatives`` of a sequential one.
    """
    if not isinstance(net, SequenceNet):
        return {embedding: _fields_of_tables(embedding) for embedding in field_embeddings(net)}
    candidates = 1 + int(dataset.get("num_negatives", 1))
    items = candidates + (net.sizes.history_max if net.reads_history else 0)
    number = {"users": 1, "item_bias": candidates}
    return {table: {0: number.get(name.rpartition(".")[2], items)} for name, table in row_tables(net).items()}


def table_weight(module: nn.Module, position: int) -> Tensor:
    """Return the weight (V, W) of a table of ``lookups_per_sample``."""
    if isinstance(module, FieldEmbedding):
        return module.weights()[position]
    assert isinstance(module, nn.Embedding)
    return module.weight


def _fields_of_tables(embedding: FieldEmbedding) -> dict[int, int]:
    """Return position of a table -> number of ids of a sample that are looked up in it."""
    found = Counter(embedding.table_of)
    if embedding.scenario_table is not None:
        found[embedding.scenario_table] += 1
    for field in () if embedding.lists is None else embedding.lists.fields:
        found[embedding.fields.index(field.table or field.name)] += values_of(field).max_length
    return dict(sorted(found.items()))


def row_gradient_bytes(config: Mapping[str, Any], net: nn.Module) -> int:
    """Return the largest number of bytes that a rank receives per step for tables that are trained by rows.

    Every rank gets the distinct rows of all others: an int64 number and the gradient of each (``row_gradients.py``).

    Args:
        config: validated, plain config of a training.
        net: its network, with whole tables.
    """
    if config["optim"].get("tables", "dense_adam") == "dense_adam":
        return 0
    batch, other_ranks = config["dataset"]["batch_size"], max(1, process_count(config["trainer"])) - 1
    tables = [
        (table_weight(module, position), lookups)
        for module, of_tables in lookups_per_sample(net, config["dataset"]).items()
        for position, lookups in of_tables.items()
    ]
    rows = [
        min(len(weight), batch * lookups) * (_ROW_NUMBER_BYTES + _BYTES * weight.shape[1])
        for weight, lookups in tables
        if weight.requires_grad
    ]
    received: int = other_ranks * sum(rows)
    return received
