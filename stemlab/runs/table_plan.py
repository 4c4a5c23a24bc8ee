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
from stemlab.nn.sharded.network import Chosen
from stemlab.runs.table_lookups import lookups_per_sample, table_weight

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
    step: tables with more rows than ``dataset.batch_size`` times the lookups of a sample. It divides none with one
    process, and where tables cannot be divided. ``column_sharded`` leaves tables of a sequential network whole that
    have fewer columns than there are processes, such as biases of items.

    Args:
        config: validated, plain config of a training.
        net: its network, with whole tables.
        setting: used instead of ``trainer.embedding``.

    Raises:
        StemlabError: tables must be divided and the network has none that can be.
    """
    setting, ranks = setting or config["trainer"]["embedding"], process_count(config["trainer"])
    if setting == "replicated" or (setting == "auto" and (ranks == 1 or not can_divide(config, net))):
        return None
    if ranks == 1:  # of trainer.devices=-1; other values are refused with the config
        raise StemlabError(f"trainer.embedding={setting} needs several processes: set trainer.embedding=replicated.")
    batch = config["dataset"]["batch_size"]
    reads = lookups_per_sample(net, config["dataset"])
    chosen: Chosen
    if setting == "auto":
        chosen = {
            module: [table for table, lookups in of.items() if len(table_weight(module, table)) > batch * lookups]
            for module, of in reads.items()
        }
    else:
        chosen = {module: list(of) for module, of in reads.items()}
    chosen = {module: [table for table in tables if _may_divide(module, table)] for module, tables in chosen.items()}
    if setting == "column_sharded":
        chosen = _without_narrow_tables(chosen, ranks)
    chosen = {module: tables for module, tables in chosen.items() if tables}
    if not chosen:
        if setting == "auto":
            return None
        raise StemlabError(
            f"trainer.embedding={setting} needs a network with embedding tables that are read by id, and "
            f"{type(net).__name__} has none: set trainer.embedding=replicated."
        )
    return _plan("row_sharded" if setting == "auto" else setting, chosen, reads, ranks, batch)


def can_divide(config: Mapping[str, Any], net: nn.Module) -> bool:
    """Return whether the settings of a training and its network allow that tables are divided."""
    if cannot_divide(config) is not None or getattr(net, "reads_whole_tables", None) is not None:
        return False
    return bool(lookups_per_sample(net, config["dataset"]))


def _plan(
    division: Division, chosen: Chosen, reads: Mapping[nn.Module, Mapping[int, int]], ranks: int, batch: int
) -> TablePlan:
    layout, whole, part, exchanged = TableLayout(division, 0, ranks), 0, 0, 0
    for module, tables in chosen.items():
        width = table_weight(module, tables[0]).shape[1]
        if division == "column_sharded" and width < ranks:
            raise StemlabError(
                f"trainer.embedding=column_sharded cannot divide tables of {width} columns among {ranks} processes: "
                "set trainer.embedding=row_sharded."
            )
        own = -(-width // ranks) if division == "column_sharded" else width
        for table in tables:
            rows = len(table_weight(module, table))
            whole, part = whole + rows * width, part + layout.local_rows(rows) * own
            unique = min(rows, batch * reads[module][table])
            exchanged += unique * (2 * width * _BYTES + _ID_BYTES) * (ranks - 1) // ranks
    return TablePlan(division, chosen, whole, part, exchanged)


def _may_divide(module: nn.Module, position: int) -> bool:
    """Return whether a table is of the common width and trained; others (``model.pretrained``) stay whole."""
    if not isinstance(module, FieldEmbedding):
        return True
    return module.weights()[position].requires_grad and str(position) not in (module.projections or {})


def _without_narrow_tables(chosen: Chosen, ranks: int) -> Chosen:
    """Return the tables of a sequential network that have a column for each rank; all if there are none."""
    wide = {
        module: tables
        for module, tables in chosen.items()
        if not isinstance(module, nn.Embedding) or module.weight.shape[1] >= ranks
    }
    return wide or chosen
