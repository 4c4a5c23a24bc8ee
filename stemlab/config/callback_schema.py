"""Typed models of ``conf/callbacks``."""

from __future__ import annotations

from typing import Literal

from stemlab.config.section import Monitor, Section
from stemlab.types import Mode, NonNegativeFloat, PositiveInt


class EarlyStopConfig(Section):
    """Stop when the monitored metric has not improved for ``patience`` epochs."""

    enabled: bool
    monitor: Monitor
    mode: Mode
    patience: PositiveInt
    min_delta: NonNegativeFloat


class WindowStopConfig(Section):
    """The stopping rule of ranking models (spec/timirec.md section 7): it speaks only after 20 epochs.

    Attributes:
        window: stop when the last so many values only fell or stayed.
        patience: stop when the first best value is more than so many epochs old.
    """

    enabled: bool
    monitor: Monitor
    mode: Mode
    window: PositiveInt
    patience: PositiveInt


class CheckpointConfig(Section):
    """Which epoch is the best one, and whether the last one is kept too."""

    monitor: Monitor
    mode: Mode
    save_last: bool


class CommonCallbacks(Section):
    """What ``conf/callbacks`` says for the models of all families."""

    checkpoint: CheckpointConfig
    progress: bool | Literal["auto"]


class DiagnosticsConfig(Section):
    """What goes on inside a multi-task network, logged once an epoch.

    Attributes:
        rows: rows of a batch whose gates and gradients are looked at.
        row_norm: whether rows of tables are divided by their length before their abundance is measured.
    """

    enabled: bool
    every_n_epochs: PositiveInt
    rows: PositiveInt
    row_norm: Literal["l2", "none"]


class CallbacksConfig(CommonCallbacks):
    """``conf/callbacks/default.yaml``.

    Attributes:
        paper_selection: also record the best epochs on the test split, a scenario (published rule; optimistic).
    """

    early_stop: EarlyStopConfig
    paper_selection: bool
    diagnostics: DiagnosticsConfig


class RankingCallbacksConfig(CommonCallbacks):
    """``conf/callbacks/ranking.yaml``."""

    early_stop: WindowStopConfig
