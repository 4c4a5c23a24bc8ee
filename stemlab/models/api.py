"""What every network gives back and says about itself.

Legend: B rows, T tasks, G gates, E experts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from stemlab.data.batch import ImpressionBatch


@dataclass(slots=True)
class MultiTaskOutput:
    """Result of a multi-task network.

    Attributes:
        logit_BT: one logit a task; ``sigmoid(logit)`` is the predicted probability (ESMM's second column is the logit
            of the product of its two towers).
        gates: layer -> gate weights, one (B, E) tensor a gate, softmax over the experts that the gate sees.
    """

    logit_BT: Tensor
    gates: Sequence[Sequence[Tensor]] = field(default_factory=tuple)


@runtime_checkable
class MultiTaskNet(Protocol):
    """A pure network: no device, rank, file or logger."""

    tasks: tuple[str, ...]

    def forward(self, batch: ImpressionBatch) -> MultiTaskOutput:
        """Score a batch."""
        ...

    def embedding_tables(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Field -> role -> (rows, D) view; role is ``shared``, ``task:<name>`` or ``expert:<m>``."""
        ...
