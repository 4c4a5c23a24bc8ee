"""Which embedding tables are divided among the ranks (``trainer.embedding``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from stemlab.config.embedding_checks import cannot_divide
from stemlab.config.job_process import process_count
from stemlab.errors import StemlabError
from stemlab.nn.embedding import FieldEmbedding
from stemlab.nn.sharded.layout import Division, TableLayout
from stemlab.nn.sharded.network import Chosen, field_embeddings
from stemlab.runs.table_lookups import fields_of_tables

_BYTES = 4
_ID_BYTES = 4

EmbeddingSetting = Literal["replicated", "row_sharded", "column_sharded", "auto"]


@dataclass(frozen=True)
class TablePlan:
    """The tables that are divided, and what that costs.

    Attributes:
        division: how they are divided.
        chosen: the divided tables.
        parameters: their parameters, on all ranks together.
        rank_parameters: their parameters on a rank.
        exchanged: largest number of bytes that a rank receives per step: rows and their gradients, and ids.
    """

    division: Division
    chosen: Chosen
    parameters: int
    rank_parameters: int
    exchanged: int

    def layout(self, rank: int, ranks: int) -> TableLayout:
        """Return the layout for a rank."""
        return TableLayout(self.division, rank, ranks)


def plan_tables(config: Mapping[str, Any], net: nn.Module, setting: EmbeddingSetting | None = None) -> TablePlan | None:
    """Return which tables of a network are divided, or None if every rank has all of them.

    ``auto`` divides the tables by rows whose gradient has more bytes than the rows that a rank can look up in them in a
    step: tables with more rows than ``dataset.batch_size`` times the fields that read them. It divides none with one
    process, and where tables cannot be divided.

    Args:
        config: validated, plain config of a training.
        net: its network, with whole tables.
        setting: used instead of ``trainer.embedding``.

    Raises:
        StemlabError: tables must be divided and the network has none that can be.
    """
    setting, ranks = setting or config["trainer"]["embedding"], process_count(config["trainer"])
    if setting == "replicated" or (setting == "auto" and (ranks == 1 or cannot_divide(config) is not None)):
        return None
    if ranks == 1:  # of trainer.devices=-1; other values are refused with the config
        raise StemlabError(f"trainer.embedding={setting} needs several processes: set trainer.embedding=replicated.")
    batch = config["dataset"]["batch_size"]
    reads = {embedding: fields_of_tables(embedding) for embedding in field_embeddings(net)}
    if setting == "auto":
        chosen = {
            embedding: [table for table, fields in of.items() if _rows(embedding, table) > batch * fields]
            for embedding, of in reads.items()
        }
    else:
        chosen = {embedding: list(of) for embedding, of in reads.items()}
    chosen = {embedding: tables for embedding, tables in chosen.items() if tables}
    if not chosen:
        if setting == "auto":
            return None
        raise StemlabError(
            f"trainer.embedding={setting} needs a network with embedding tables of fields, and "
            f"{type(net).__name__} has none: set trainer.embedding=replicated."
        )
    return _plan("row_sharded" if setting == "auto" else setting, chosen, reads, ranks, batch)


def _plan(
    division: Division, chosen: Chosen, reads: Mapping[FieldEmbedding, Mapping[int, int]], ranks: int, batch: int
) -> TablePlan:
    layout, whole, part, exchanged = TableLayout(division, 0, ranks), 0, 0, 0
    for embedding, tables in chosen.items():
        width = embedding.weights()[0].shape[1]
        if division == "column_sharded" and width < ranks:
            raise StemlabError(
                f"trainer.embedding=column_sharded cannot divide tables of {width} columns among {ranks} processes: "
                "set trainer.embedding=row_sharded."
            )
        own = -(-width // ranks) if division == "column_sharded" else width
        for table in tables:
            rows = _rows(embedding, table)
            whole, part = whole + rows * width, part + layout.local_rows(rows) * own
            unique = min(rows, batch * reads[embedding][table])
            exchanged += unique * (2 * width * _BYTES + _ID_BYTES) * (ranks - 1) // ranks
    return TablePlan(division, chosen, whole, part, exchanged)


def _rows(embedding: FieldEmbedding, table: int) -> int:
    return len(embedding.weights()[table])
