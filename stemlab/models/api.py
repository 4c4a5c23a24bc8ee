"""Outputs and protocols of the networks.

Legend: B batch, T tasks, G gates, E experts; N candidates, K interests, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor

from stemlab.data.batch import ImpressionBatch

Phase = Literal["train", "eval"]


@dataclass(slots=True)
class MultiTaskOutput:
    """Result of a multi-task network.

    Attributes:
        logit_BT: one logit per task; ``sigmoid(logit)`` is the predicted probability (ESMM's second column is the logit
            of the product of its two towers).
        gates: layer -> gate weights, one (B, E) tensor per gate, softmax over the experts that the gate sees.
        penalty: term added to the training loss (AITM's calibrator, AdaSparse's range), or ``None``.
        logits: the columns of ``logit_BT`` (B, 1) before they were joined, so that a backward pass for one task visits
            its own part of the network only; empty if they were never separate.
    """

    logit_BT: Tensor
    gates: Sequence[Sequence[Tensor]] = field(default_factory=tuple)
    penalty: Tensor | None = None
    logits: Sequence[Tensor] = field(default_factory=tuple)


@runtime_checkable
class MultiTaskNet(Protocol):
    """A network without device transfer, rank, file or logger (docs/own/README.md).

    It is built with ``(fields, tasks, **settings)``; the base class is ``stemlab.models.multitask.base.TabularNet``.
    """

    reads: ClassVar[str]
    tasks: tuple[str, ...]

    def forward(self, batch: ImpressionBatch) -> MultiTaskOutput:
        """Score a batch."""
        ...

    def embedding_tables(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Return field -> role -> (rows, D) view; role is ``shared``, ``task:<name>`` or ``expert:<m>``."""
        ...


@runtime_checkable
class MetaTrained(Protocol):
    """A network that adapts to one part of a training batch before it scores the other (MetaHeac)."""

    def meta_output(
        self, batch: ImpressionBatch, labels_BT: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[MultiTaskOutput, Tensor]:
        """Return the output for the samples that enter the loss, and their labels."""
        ...


@dataclass(slots=True)
class SequenceOutput:
    """Result of a sequential network.

    Attributes:
        score_BN: one score per candidate; higher is better, column 0 is the positive.
        intent_BK: predicted logits over the interests (TiMiRec finetune).
        target_BK: similarities of the interests to the positive (TiMiRec finetune, training only).
        interests_BKD: interest vectors of the history, for networks that have them.
    """

    score_BN: Tensor
    intent_BK: Tensor | None = None
    target_BK: Tensor | None = None
    interests_BKD: Tensor | None = None
