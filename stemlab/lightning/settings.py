"""What the module needs to know besides the network, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stemlab.callbacks.improvement import Mode
from stemlab.nn.loss import LossForm
from stemlab.optim import OptimConfig, Penalty, PenaltyMode, parse_penalty


@dataclass(frozen=True, slots=True)
class ModuleSettings:
    """Rules of a training.

    Attributes:
        optim: Adam, clipping, plateau rule.
        embedding_penalty: of the embedding tables.
        net_penalty: of all other weights.
        penalty_mode: whole tables at every step (published), or the rows of the batch.
        loss_form: cross-entropy of logits, or of probabilities with cut logarithms (published).
        monitor: validation metric that drives the plateau rule.
        monitor_mode: whether larger or smaller is better.
        seed: of dropout.
        compile: whether the network is compiled for training.
    """

    optim: OptimConfig
    embedding_penalty: Penalty = field(default_factory=Penalty)
    net_penalty: Penalty = field(default_factory=Penalty)
    penalty_mode: PenaltyMode = "dense"
    loss_form: LossForm = "logits"
    monitor: str = "val/auc"
    monitor_mode: Mode = "max"
    seed: int = 2023
    compile: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any], optim: OptimConfig) -> ModuleSettings:
        """Read the groups ``model``, ``callbacks`` and ``trainer`` of a validated, resolved config."""
        model, checkpoint = config["model"], config["callbacks"]["checkpoint"]
        return cls(
            optim=optim,
            embedding_penalty=parse_penalty(model["embedding_regularizer"]),
            net_penalty=parse_penalty(model["net_regularizer"]),
            penalty_mode=model["embedding_regularizer_mode"],
            loss_form=model["loss_form"],
            monitor=checkpoint["monitor"],
            monitor_mode=checkpoint["mode"],
            seed=config["seed"],
            compile=config["trainer"]["compile"],
        )
