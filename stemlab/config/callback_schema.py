"""Typed models of ``conf/callbacks``; ``stemlab.config.resolve`` derives a ``mode`` of ``None`` from the monitor."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from stemlab.config.section import Monitor, Section
from stemlab.types import Mode, NonNegativeFloat, PositiveInt


class EarlyStopConfig(Section):
    """Stop when the monitored metric has not improved for ``patience`` epochs.

    Attributes:
        enabled: stop early; false: train ``trainer.max_epochs`` epochs.
        monitor: validation metric, ``val/metric[/task[/scenario]]``.
    """

    enabled: bool
    monitor: Monitor
    mode: Mode | None
    patience: PositiveInt
    min_delta: Annotated[NonNegativeFloat, Field(le=1)]


class WindowStopConfig(Section):
    """Early stopping of ranking models, inactive for the first 20 epochs (docs/methods/timirec.md#early-stopping).

    Attributes:
        enabled: stop early; false: train ``trainer.max_epochs`` epochs.
        monitor: validation metric, such as ``val/ndcg@5``.
        window: stop if this many last values never improve from one to the next.
        patience: stop if the first epoch with the best value is this many epochs ago.
    """

    enabled: bool
    monitor: Monitor
    mode: Mode | None
    window: PositiveInt
    patience: PositiveInt


class CheckpointConfig(Section):
    """Metric that selects the best epoch, and whether the last epoch is kept as well.

    Attributes:
        monitor: validation metric of which the best epoch is kept (``best.ckpt``) and tested.
        save_last: also keep the last epoch (``last.ckpt``), from which a run is resumed.
    """

    monitor: Monitor
    mode: Mode | None
    save_last: bool


class TaskCheckpointConfig(CheckpointConfig):
    """Selection of the best epoch of multi-task models.

    Attributes:
        per_task: select the best epoch of each task by its own metric, and stop each task by it.
    """

    per_task: bool


class CommonCallbacks(Section):
    """Settings of ``conf/callbacks`` for models of both families.

    Attributes:
        own: name -> class (``_target_``) and settings of a callback of the user (docs/own/callback.md).
    """

    checkpoint: CheckpointConfig
    own: dict[str, dict[str, Any]] = Field(default_factory=dict)
    progress: bool | Literal["auto"]


class DiagnosticsConfig(Section):
    """Gate weights, gradient cosines and Information Abundance of a multi-task network, logged per epoch.

    Attributes:
        enabled: compute and log them.
        every_n_epochs: epochs between two computations.
        rows: samples of a batch for gates and gradients.
        row_norm: whether embeddings are divided by their norm before Information Abundance is computed.
    """

    enabled: bool
    every_n_epochs: PositiveInt
    rows: PositiveInt
    row_norm: Literal["l2", "none"]


class CallbacksConfig(CommonCallbacks):
    """``conf/callbacks/default.yaml``.

    Attributes:
        paper_selection: also record the best epoch of each scenario on the test split (rule of MMFI's released code).
    """

    early_stop: EarlyStopConfig
    checkpoint: TaskCheckpointConfig
    paper_selection: bool
    diagnostics: DiagnosticsConfig


class RankingCallbacksConfig(CommonCallbacks):
    """``conf/callbacks/ranking.yaml``."""

    early_stop: WindowStopConfig
