"""Typed settings of the LightningModules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stemlab.balancing_methods import BalancingSettings
from stemlab.config.cross_checks import effective_tasks
from stemlab.config.own_metrics import build_own_metrics
from stemlab.nn.loss import LossForm, LossReduction
from stemlab.optim import OptimConfig, Penalty, PenaltyMode, RankingOptimConfig, parse_penalty
from stemlab.types import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonSettings:
    """Settings common to all model families.

    Attributes:
        seed: seed of dropout and of other random numbers of the network.
        compile: whether the network is compiled for training.
        own_metrics: metrics of the user by name.
    """

    seed: int = 2023
    compile: bool = False
    own_metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleSettings(CommonSettings):
    """Settings of multi-task training.

    Attributes:
        optim: Adam, clipping, plateau scheduler.
        embedding_penalty: penalty of the embedding tables.
        net_penalty: penalty of all other weights.
        penalty_mode: ``dense``: whole tables at every step (released code); ``batch``: the rows looked up in the batch.
        loss_form: ``logits``: cross-entropy of logits; ``probability``: cross-entropy of probabilities with clamped
            logarithms (released code).
        loss_reduction: ``sum`` or ``mean`` over the task losses.
        losses: task -> its loss (``stemlab.nn.task_loss.parse_loss``); the default of its kind if absent.
        positive_weights: task -> factor of the cross-entropy of positive samples.
        balancing: a method that combines the losses instead of ``loss_reduction``, or None.
        monitor: validation metric of the plateau scheduler.
        monitor_mode: whether larger or smaller is better.
    """

    optim: OptimConfig
    embedding_penalty: Penalty = field(default_factory=Penalty)
    net_penalty: Penalty = field(default_factory=Penalty)
    penalty_mode: PenaltyMode = "dense"
    loss_form: LossForm = "logits"
    loss_reduction: LossReduction = "sum"
    losses: Mapping[str, Any] = field(default_factory=dict)
    positive_weights: Mapping[str, float] = field(default_factory=dict)
    balancing: BalancingSettings | None = None
    monitor: str = "val/auc"
    monitor_mode: Mode = "max"

    @classmethod
    def from_config(cls, config: Mapping[str, Any], optim: OptimConfig) -> ModuleSettings:
        """Return the settings in the groups ``model``, ``callbacks`` and ``trainer`` of a resolved config."""
        model, checkpoint = config["model"], config["callbacks"]["checkpoint"]
        balancing = BalancingSettings.from_config(model, effective_tasks(config))
        return cls(
            optim=optim,
            embedding_penalty=parse_penalty(model["embedding_regularizer"]),
            net_penalty=parse_penalty(model["net_regularizer"]),
            penalty_mode=model["embedding_regularizer_mode"],
            loss_form=model["loss_form"],
            losses=model.get("losses") or {},
            positive_weights=model.get("positive_weights") or {},
            loss_reduction=balancing.reduction or model["loss_reduction"],
            balancing=None if balancing.reduction else balancing,
            monitor=checkpoint["monitor"],
            monitor_mode=checkpoint["mode"],
            seed=config["seed"],
            compile=config["trainer"]["compile"],
            own_metrics=build_own_metrics(config),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialSettings(CommonSettings):
    """Settings of sequential training.

    Attributes:
        optim: optimiser, learning rate, L2.
        monitor: validation metric that selects the best epoch; measured after every epoch.
    """

    optim: RankingOptimConfig
    monitor: str = "val/ndcg@5"

    @classmethod
    def from_config(cls, config: Mapping[str, Any], optim: RankingOptimConfig) -> SequentialSettings:
        """Return the settings in the groups ``callbacks`` and ``trainer`` of a resolved config."""
        return cls(
            optim=optim,
            monitor=config["callbacks"]["checkpoint"]["monitor"],
            seed=config["seed"],
            compile=config["trainer"]["compile"],
            own_metrics=build_own_metrics(config),
        )
