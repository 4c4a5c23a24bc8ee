"""Typed models of the config group ``model``."""

from __future__ import annotations

from typing import Any, Literal

from stemlab.config.balancing_checks import BalancedModel
from stemlab.config.pretrained_checks import PretrainedVectors
from stemlab.config.section import Section
from stemlab.types import PenaltyWeight, PositiveInt


class ModelConfig(Section):
    """``conf/model``: the network and its training settings; ``net`` is checked against its constructor.

    Attributes:
        name: name of the model in records and tables.
        net: class of the network and its settings.
        family: ``multitask`` (networks read impressions) or ``sequential`` (networks read histories).
    """

    family: Literal["multitask", "sequential"]
    name: str
    net: dict[str, Any]


class MultiTaskConfig(ModelConfig, BalancedModel):
    """A multi-task model.

    Attributes:
        task: train this task only.
        embedding_regularizer: a number (L2) or ``l1(a)``, ``l2(a)``, ``l1_l2(a,b)``.
        embedding_regularizer_mode: whole tables in every step (released code), or rows of the batch only.
        loss_form: cross-entropy of logits, or of probabilities with clamped logarithms (released code).
        loss_reduction: sum or mean over the task losses, unless ``balancing`` is set.
        losses: task -> its loss: a name, or a mapping with ``name`` and parameters.
        positive_weights: task -> factor of the cross-entropy of positive samples.
        pretrained: field -> pretrained vectors of its values.
        scenario_feature: whether the scenario, if the dataset has any, is one more categorical field.
    """

    task: str | None
    embedding_regularizer: PenaltyWeight | str
    net_regularizer: PenaltyWeight | str
    embedding_regularizer_mode: Literal["dense", "batch"]
    loss_form: Literal["logits", "probability"]
    loss_reduction: Literal["sum", "mean"]
    losses: dict[str, Any] | None = None
    positive_weights: dict[str, float] | None = None
    pretrained: dict[str, PretrainedVectors] | None = None
    scenario_feature: bool


class SequentialConfig(ModelConfig):
    """A sequential model.

    Attributes:
        max_epochs: default of ``trainer.max_epochs``.
        beyond_accuracy: measure the lists of recommended items in evaluations, too.
    """

    max_epochs: PositiveInt
    beyond_accuracy: bool


class StagedConfig(SequentialConfig):
    """A sequential model with two training stages.

    Attributes:
        stage: ``pretrain``, ``finetune``, or both in this order.
        init_from: run directory or checkpoint of stage 1 for stage 2. ``None``: stage 1 with the settings of this
            config; ``both`` trains it if it is missing.
        allow_scratch: start stage 2 from random weights.
    """

    stage: Literal["both", "pretrain", "finetune"]
    init_from: str | None
    allow_scratch: bool


STAGE_KEYS = ("stage", "init_from", "allow_scratch")
