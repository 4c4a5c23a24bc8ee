"""Memory per rank and communication per step of a training, computed from its config and numbers of parameters.

The only place of this arithmetic: the run summary and ``dry_run`` read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stemlab.config.job_process import process_count
from stemlab.runs.table_plan import TablePlan

BYTES = 4
"""Weights, gradients and optimiser states are float32 in every precision: autocast converts copies."""
_STATES = {"adam": 2, "adamw": 2, "sgd": 0, "adagrad": 1, "adadelta": 2}  # values per parameter
_ROW_STATES = {"sparse_adam": 2, "rowwise_adagrad": 0, "torchrec_rowwise_adagrad": 0}
"""Values per weight of tables that are trained by rows, which have no gradient of their size; Adagrad: one per row."""
_STATE_NAMES = {
    "adam": "Adam moments",
    "adamw": "Adam moments",
    "adagrad": "sums of squared gradients",
    "adadelta": "averages of squared gradients and updates",
}


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory of each rank for parameters, and what is reduced over the ranks in each step; sizes in bytes.

    Attributes:
        ranks: number of ranks.
        dense: parameters outside the embedding tables, on each rank.
        embedding: parameters of the embedding tables, on each rank.
        optimizer_states: values per parameter that the optimiser (Adam: 2) and the average of the weights keep.
        reduced_parameters: parameters whose gradients are all-reduced in each step; 0 for one rank.
        reduced_tables: those of them that are in embedding tables.
        exchanged: largest number of bytes that a rank receives in each step for tables that are divided among the
            ranks (embeddings, gradients and ids) or trained by rows (gradients and ids).
        row_states: values that optimiser and average keep per weight of tables trained by rows; None if tables are
            trained as all other parameters.
    """

    ranks: int
    dense: int
    embedding: int
    optimizer_states: int
    reduced_parameters: int
    reduced_tables: int = 0
    exchanged: int = 0
    row_states: int | None = None

    @property
    def weights(self) -> int:
        """Bytes of the weights of a rank."""
        return BYTES * (self.dense + self.embedding)

    @property
    def gradients(self) -> int:
        """Bytes of the gradients of a rank, dense also for embedding tables that are not trained by rows."""
        return self.weights if self.row_states is None else BYTES * self.dense

    @property
    def optimizer(self) -> int:
        """Bytes of the optimiser states of a rank."""
        states = self.optimizer_states
        return BYTES * (states * self.dense + (states if self.row_states is None else self.row_states) * self.embedding)

    @property
    def total(self) -> int:
        """Bytes of weights, gradients and optimiser states of a rank."""
        return self.weights + self.gradients + self.optimizer

    @property
    def embedding_total(self) -> int:
        """Bytes of the embedding tables of a rank, with their gradients and optimiser states."""
        values = 2 + self.optimizer_states if self.row_states is None else 1 + self.row_states
        return BYTES * self.embedding * values

    @property
    def reduced(self) -> int:
        """Bytes of gradients that are all-reduced in each step; 0 for one rank."""
        return BYTES * self.reduced_parameters

    @property
    def sent(self) -> int:
        """Bytes that each rank sends (and receives) per step in a ring all-reduce: 2 (n - 1) / n times ``reduced``."""
        return 2 * (self.ranks - 1) * self.reduced // self.ranks

    def record(self) -> dict[str, int]:
        """Return the values for the record of a run."""
        names = ("ranks", "weights", "gradients", "optimizer", "embedding_total", "reduced", "sent", "exchanged")
        return {name: getattr(self, name) for name in names}


def training_footprint(
    config: Mapping[str, Any],
    parameters: Mapping[str, int],
    plan: TablePlan | None = None,
    row_gradients: int = 0,
) -> Footprint:
    """Return the footprint of a training.

    Args:
        config: validated, plain config; ``trainer`` and ``optim`` are read.
        parameters: ``{"dense": ..., "embedding": ...}``, as ``stemlab.models.parameter_counts`` returns them.
        plan: the embedding tables that are divided among the ranks; None if all ranks have the whole network.
        row_gradients: what ``row_gradient_bytes`` returns.
    """
    optim = config["optim"]
    ranks, average = max(1, process_count(config["trainer"])), int(optim.get("ema") is not None)
    states = _states(optim) + average
    dense, embedding = parameters["dense"], parameters["embedding"]
    by_rows = _ROW_STATES.get(optim.get("tables", "dense_adam"))
    if by_rows is not None:
        row_states = by_rows + average
        return Footprint(ranks, dense, embedding, states, dense if ranks > 1 else 0, 0, row_gradients, row_states)
    if ranks == 1:
        return Footprint(ranks, dense, embedding, states, 0)
    if plan is None:
        return Footprint(ranks, dense, embedding, states, dense + embedding, embedding)
    whole = embedding - plan.parameters
    return Footprint(ranks, dense, whole + plan.rank_parameters, states, dense + whole, whole, plan.exchanged)


def _states(optim: Mapping[str, Any]) -> int:
    """Return the number of values that the optimiser keeps per parameter."""
    return 1 if optim["name"] == "sgd" and optim.get("momentum") else _STATES[optim["name"]]


def table_contents(optim: Mapping[str, Any]) -> str:
    """Return what ``Footprint.embedding_total`` counts: ``weights, gradients, Adam moments``.

    Args:
        optim: group ``optim`` of the config.
    """
    rule = optim.get("tables", "dense_adam")
    parts = ["weights"]
    if rule == "dense_adam":
        state = "momentum" if optim.get("momentum") else _STATE_NAMES.get(optim["name"])
        parts += ["gradients", *([state] if state else [])]
    elif rule == "sparse_adam":
        parts.append(_STATE_NAMES["adam"])
    if optim.get("ema") is not None:
        parts.append("average of the weights")
    return ", ".join(parts) + ("; one number more per row" if rule.endswith("rowwise_adagrad") else "")


def reduction_warning(footprint: Footprint, rows: TablePlan | None) -> str | None:
    """Return a sentence if the gradients of embedding tables dominate what is reduced per step, else None.

    Args:
        footprint: footprint of the training.
        rows: the plan of ``trainer.embedding=row_sharded``; None if it cannot be used.
    """
    tables = BYTES * footprint.reduced_tables
    if rows is None or 2 * tables <= footprint.reduced or rows.exchanged >= tables:
        return None
    return (
        f"each step reduces {format_bytes(footprint.reduced)} of gradients per process, {format_bytes(tables)} of them "
        f"of embedding tables: trainer.embedding=row_sharded exchanges at most {format_bytes(rows.exchanged)} of rows "
        "instead of these."
    )


def format_bytes(count: float) -> str:
    """Return a number of bytes in a readable unit: ``57.2 kB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
