"""The callbacks of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback

from stemlab.callbacks.averaged_weights import AveragedWeights
from stemlab.callbacks.checkpoint import BestCheckpoint, TaskCheckpoints
from stemlab.callbacks.diagnostics import Diagnostics
from stemlab.callbacks.early_stop import EarlyStop, WindowStop
from stemlab.callbacks.optimizer_settings import OptimizerSettings
from stemlab.callbacks.paper_selection import PaperSelection
from stemlab.callbacks.progress import EpochLines, MetricBar, use_progress_bar
from stemlab.callbacks.task_selection import TaskSelection
from stemlab.callbacks.throughput import Throughput
from stemlab.callbacks.trial_reports import TrialReports
from stemlab.config.cross_checks import effective_tasks
from stemlab.config.own_callbacks import build_own_callbacks
from stemlab.config.task_selection_checks import selects_per_task
from stemlab.config.trial_channel import trial_channel


@dataclass(frozen=True, slots=True)
class RunCallbacks:
    """Callbacks of a training; the run reads the results of those that have a field of their own."""

    checkpoint: BestCheckpoint
    throughput: Throughput
    others: tuple[Callback, ...]
    paper_selection: PaperSelection | None = None
    trial: TrialReports | None = None

    def all(self) -> list[Callback]:
        """Return all callbacks in calling order: the checkpoint is last, because it saves the states of the others."""
        optional = [callback for callback in (self.paper_selection, self.trial) if callback is not None]
        return [self.throughput, *self.others, *optional, self.checkpoint]


def build_callbacks(
    config: Mapping[str, Any], run_dir: Path, resumed: bool = False, keep_lr: bool = True
) -> RunCallbacks:
    """Return the callbacks: early stopping, checkpoint, throughput, terminal output and what the config enables.

    Args:
        config: validated, plain config.
        run_dir: run directory.
        resumed: whether the run resumes from a checkpoint.
        keep_lr: whether a resumed run continues with the learning rate of the checkpoint.
    """
    chosen, throughput = config["callbacks"], Throughput()
    stop, best = chosen["early_stop"], chosen["checkpoint"]
    others: list[Callback] = [EpochLines(throughput), *_resumed_settings(config, resumed, keep_lr)]
    if config["optim"].get("ema") is not None:
        others.insert(0, AveragedWeights(config["optim"]["ema"]))
    selection = _task_selection(config) if selects_per_task(config) else None
    if selection is not None:
        others.append(selection)
    elif stop["enabled"]:
        others.append(_early_stop(stop))
    if use_progress_bar(chosen["progress"]):
        others.append(MetricBar(throughput))
    if watched := chosen.get("diagnostics"):
        others += _diagnostics(watched)
    # without min_delta (ranking models) an epoch with a value equal to the best replaces it, as in the released code
    min_delta = stop.get("min_delta", 0.0)
    arguments = (run_dir / "checkpoints", best["monitor"], best["mode"], min_delta, best["save_last"])
    checkpoint = BestCheckpoint(*arguments) if selection is None else TaskCheckpoints(*arguments, selection)
    paper = PaperSelection(stop["patience"]) if chosen.get("paper_selection") else None
    others += build_own_callbacks(config)
    channel = trial_channel(run_dir) if config["objective"] == best["monitor"] else None
    trial = None if channel is None else TrialReports(channel, best["monitor"])
    return RunCallbacks(checkpoint, throughput, tuple(others), paper, trial)


def _resumed_settings(config: Mapping[str, Any], resumed: bool, keep_lr: bool) -> list[Callback]:
    schedule = config["optim"].get("schedule") or {}
    scheduled = bool(schedule.get("name") or schedule.get("warmup_steps"))
    return [OptimizerSettings(keep_lr, scheduled)] if resumed else []


def _diagnostics(watched: Mapping[str, Any]) -> list[Callback]:
    settings = {key: value for key, value in watched.items() if key != "enabled"}
    return [Diagnostics(**settings)] if watched["enabled"] else []


def _task_selection(config: Mapping[str, Any]) -> TaskSelection:
    stop, best = config["callbacks"]["early_stop"], config["callbacks"]["checkpoint"]
    patience = stop["patience"] if stop["enabled"] else None
    return TaskSelection(effective_tasks(config), best["monitor"], best["mode"], stop["min_delta"], patience)


def _early_stop(stop: Mapping[str, Any]) -> Callback:
    if "window" in stop:
        return WindowStop(stop["monitor"], stop["mode"], stop["window"], stop["patience"])
    return EarlyStop(stop["monitor"], stop["mode"], stop["patience"], stop["min_delta"])
