"""Early stopping and best epoch of each task by its own metric (``callbacks.checkpoint.per_task``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_info

from stemlab.callbacks.improvement import Improvement
from stemlab.lightning.interval_loop import AfterValidation
from stemlab.lightning.metric_values import metric_value
from stemlab.types import Mode


class TaskSelection(AfterValidation):
    """Apply the rule of ``EarlyStop`` to each task; the training ends when all tasks have stopped.

    A task stops after ``patience`` epochs (validations) without improvement of its own metric. Its best epoch does not
    change after that, as if it were the only task. Validations with an undefined metric are not counted; until a task
    has its first defined value, the latest epoch counts as its best. The state is part of the checkpoint.

    Args:
        tasks: trained tasks.
        monitor: metric name without the task, ``val/auc``.
        mode: whether larger or smaller is better.
        min_delta: an epoch improves if value >= best + min_delta (with the sign of ``mode``).
        patience: number of epochs without improvement; ``None``: tasks do not stop.

    Attributes:
        best: task -> best value and its epoch.
        waited: task -> epochs since then.
        step: task -> steps of the training until its best value.
        improved: tasks whose best epoch is the latest validation.
    """

    def __init__(self, tasks: Sequence[str], monitor: str, mode: Mode, min_delta: float, patience: int | None) -> None:
        self.tasks, self.monitor, self.patience = tuple(tasks), monitor, patience
        self.best = {task: Improvement(mode, min_delta) for task in tasks}
        self.waited = dict.fromkeys(tasks, 0)
        self.step: dict[str, int | None] = dict.fromkeys(tasks)
        self.improved: tuple[str, ...] = ()

    def metric_of(self, task: str) -> str:
        """Return the full name of the metric of a task."""
        return f"{self.monitor}/{task}"

    def has_stopped(self, task: str) -> bool:
        """Return whether the best epoch of a task does not change any more."""
        return self.patience is not None and self.waited[task] >= self.patience

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once if all tasks of the resumed run had already stopped."""
        if all(map(self.has_stopped, self.tasks)):
            rank_zero_info(f"nothing to resume: {self.monitor} of no task has improved for {self.patience} epochs.")
            trainer.should_stop = True

    def on_interval_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Update the tasks after a validation."""
        running = [task for task in self.tasks if not self.has_stopped(task)]
        values = {task: metric_value(pl_module, self.metric_of(task)) for task in running}
        self.improved = tuple(task for task, value in values.items() if self._update(task, value, trainer))
        if all(map(self.has_stopped, self.tasks)):
            trainer.should_stop = True

    def _update(self, task: str, value: float, trainer: Trainer) -> bool:
        """Return whether the latest epoch is now the best of a task."""
        best = self.best[task]
        if math.isnan(value) and best.best is not None:
            return False
        improved = best.update(value, trainer.current_epoch)
        if improved is None:
            best.epoch = trainer.current_epoch
        if improved is False:
            self.waited[task] += 1
            return False
        self.waited[task], self.step[task] = 0, trainer.global_step
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for the checkpoint."""
        best = {task: rule.state_dict() for task, rule in self.best.items()}
        return {"best": best, "waited": dict(self.waited), "step": dict(self.step)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.waited, self.step = dict(state_dict["waited"]), dict(state_dict["step"])
        for task, state in state_dict["best"].items():
            self.best[task].load_state_dict(state)
