"""Typed models of ``conf/callbacks``."""

from __future__ import annotations

from typing import Literal

from stemlab.config.section import Mode, Monitor, Section
from stemlab.config.types import NonNegativeFloat, PositiveInt


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


class CallbacksConfig(CommonCallbacks):
    """``conf/callbacks/default.yaml``.

    Attributes:
        paper_selection: also record the best epochs on the test split, a scenario (published rule; optimistic).
    """

    early_stop: EarlyStopConfig
    paper_selection: bool = False


class RankingCallbacksConfig(CommonCallbacks):
    """``conf/callbacks/ranking.yaml``."""

    early_stop: WindowStopConfig
