"""Memory per rank and communication per step of a training, computed from its config and numbers of parameters.

The only place of this arithmetic: the run summary and ``dry_run`` read it. A layout that keeps only a part of the
embedding tables on each rank changes ``embedding`` of ``rank_parameters`` and, if its gradients are not reduced
over the ranks, ``reduced_parameters``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stemlab.config.job_process import process_count

BYTES = 4
"""Weights, gradients and optimiser states are float32 in every precision: autocast converts copies."""
_STATES = {"adam": 2, "sgd": 0, "adagrad": 1, "adadelta": 2}  # values per parameter


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory of each rank for parameters, and what is reduced over the ranks in each step; sizes in bytes.

    Attributes:
        ranks: number of ranks.
        dense: parameters outside the embedding tables, on each rank.
        embedding: parameters of the embedding tables, on each rank.
        optimizer_states: optimiser states per parameter (Adam: 2).
        reduced_parameters: parameters whose gradients are all-reduced in each step; 0 for one rank.
    """

    ranks: int
    dense: int
    embedding: int
    optimizer_states: int
    reduced_parameters: int

    @property
    def weights(self) -> int:
        """Bytes of the weights of a rank."""
        return BYTES * (self.dense + self.embedding)

    @property
    def gradients(self) -> int:
        """Bytes of the gradients of a rank, dense also for the embedding tables."""
        return self.weights

    @property
    def optimizer(self) -> int:
        """Bytes of the optimiser states of a rank."""
        return self.optimizer_states * self.weights

    @property
    def total(self) -> int:
        """Bytes of weights, gradients and optimiser states of a rank."""
        return self.weights + self.gradients + self.optimizer

    @property
    def embedding_total(self) -> int:
        """Bytes of the embedding tables of a rank, with their gradients and optimiser states."""
        return BYTES * self.embedding * (2 + self.optimizer_states)

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
        names = ("ranks", "weights", "gradients", "optimizer", "reduced", "sent")
        return {name: getattr(self, name) for name in names}


def training_footprint(config: Mapping[str, Any], parameters: Mapping[str, int]) -> Footprint:
    """Return the footprint of a training whose ranks all have the whole network (DDP).

    Args:
        config: validated, plain config; ``trainer`` and ``optim`` are read.
        parameters: ``{"dense": ..., "embedding": ...}``, as ``stemlab.models.parameter_counts`` returns them.
    """
    ranks = max(1, process_count(config["trainer"]))
    dense, embedding = parameters["dense"], parameters["embedding"]
    states = _STATES[config["optim"]["name"]]
    return Footprint(ranks, dense, embedding, states, dense + embedding if ranks > 1 else 0)
