"""Checkpoints of the best epoch and of the last epoch."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities import rank_zero_info

from stemlab.callbacks.improvement import Improvement
from stemlab.callbacks.task_selection import TaskSelection
from stemlab.data.io.zip_checksums import find_zip_damage
from stemlab.errors import StemlabError
from stemlab.lightning.interval_loop import AfterValidation
from stemlab.lightning.metric_values import metric_value
from stemlab.types import Mode

BEST, LAST = "best.ckpt", "last.ckpt"


class BestCheckpoint(AfterValidation, Checkpoint):
    """Write ``best.ckpt`` after each epoch that improved and ``last.ckpt`` after every epoch.

    Both files are written after all other callbacks of the epoch, so that they contain the early-stopping and plateau
    state of that epoch. The best epoch is selected by the same rule as in early stopping. While the metric is
    undefined, the latest epoch counts as the best.

    With ``min_delta=0`` an epoch with a value equal to the best replaces it, both file and epoch number. The released
    ranking code (docs/methods/timirec.md#checkpoint-selection) also overwrites the file, but its log reports the first
    such epoch. Here the epoch number always belongs to the weights in the file, which are evaluated at the end.

    Lightning's ModelCheckpoint differs: it loses the best value when a run is resumed in another directory, and an
    epoch improves only if value > best.

    Args:
        directory: output directory; created when needed.
        monitor: metric name, ``split/metric[/task]``.
        mode: whether larger or smaller is better.
        min_delta: an epoch improves if value >= best + min_delta (with the sign of ``mode``).
        save_last: whether ``last.ckpt`` is written.

    Attributes:
        improvement: best value and its epoch.
        step: steps of the training until the best value; None before it.
    """

    def __init__(self, directory: Path, monitor: str, mode: Mode, min_delta: float, save_last: bool) -> None:
        self.directory, self.monitor, self.save_last = directory, monitor, save_last
        self.improvement = Improvement(mode, min_delta)
        self.step: int | None = None
        self._resumed = False

    @property
    def best_path(self) -> Path:
        """Checkpoint of the best epoch."""
        return self.directory / BEST

    @property
    def last_path(self) -> Path:
        """Checkpoint of the last epoch, or of the step at which the run was interrupted."""
        return self.directory / LAST

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the best checkpoints of the resumed run into the directory of this run."""
        if self._resumed and trainer.is_global_zero:
            for path, epoch in self._best_epochs().items():
                if epoch >= 0:
                    self._copy_best(Path(str(trainer.ckpt_path)), path, epoch)
        trainer.strategy.barrier("best checkpoint copied")

    def _best_epochs(self) -> dict[Path, int]:
        """Return path -> epoch, from 0, of the checkpoints of best epochs; -1: not written yet."""
        return {self.best_path: self.improvement.epoch}

    def _copy_best(self, resumed_from: Path, path: Path, epoch: int) -> None:
        beside, below = resumed_from.with_name(path.name), resumed_from.parent / "checkpoints" / path.name
        source = below if below.exists() and not beside.exists() else beside
        if source.exists() and (damage := find_zip_damage(source)):
            raise StemlabError(
                f"cannot resume from {resumed_from}: {source} is damaged ({damage}). It is the best checkpoint (epoch "
                f"{epoch + 1}) of that run: copy it again."
            )
        if path.exists() and source.exists() and path.samefile(source):
            return
        if not source.exists():
            raise StemlabError(
                f"cannot resume from {resumed_from}: {source} does not exist. It is the best checkpoint (epoch "
                f"{epoch + 1}) of that run: copy it there."
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        shutil.copyfile(source, part)
        part.replace(path)

    def on_interval_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoints of the last validation."""
        paths = self._improved_paths(trainer, pl_module)
        if self.save_last:
            paths.append(self.last_path)
        if paths:
            trainer.save_checkpoint(paths[0])
        if trainer.is_global_zero:
            for path in paths[1:]:
                _link(paths[0], path)

    def _improved_paths(self, trainer: Trainer, pl_module: LightningModule) -> list[Path]:
        """Update the best epoch with the last validation; return the checkpoints of which it is the best epoch."""
        improved = self.improvement.update(metric_value(pl_module, self.monitor), trainer.current_epoch)
        if improved is None and self.improvement.best is None:
            rank_zero_info(
                f"warning: {self.monitor} is undefined in epoch {trainer.current_epoch + 1}, which counts as the best."
            )
            self.improvement.epoch = trainer.current_epoch
            improved = True
        if improved:
            self.step = trainer.global_step
        return [self.best_path] if improved else []

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for the checkpoint."""
        return {**self.improvement.state_dict(), "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.improvement.load_state_dict(state_dict)
        self.step = state_dict.get("step")
        self._resumed = True


class TaskCheckpoints(BestCheckpoint):
    """Also write a checkpoint of the best epoch of each task (``callbacks.checkpoint.per_task``).

    Args:
        directory: output directory; created when needed.
        monitor: metric whose best epoch is ``best.ckpt``, ``split/metric``.
        mode: whether larger or smaller is better.
        min_delta: as in ``BestCheckpoint``.
        save_last: whether ``last.ckpt`` is written.
        selection: best epochs of the tasks; it is called before this callback.
    """

    def __init__(
        self, directory: Path, monitor: str, mode: Mode, min_delta: float, save_last: bool, selection: TaskSelection
    ) -> None:
        super().__init__(directory, monitor, mode, min_delta, save_last)
        self.selection = selection

    def path_of(self, task: str) -> Path:
        """Return the checkpoint of the best epoch of a task: ``best_task2_is_comment.ckpt`` of the second task."""
        number = self.selection.tasks.index(task) + 1
        return self.directory / f"best_task{number}_{re.sub(r'[^0-9A-Za-z_-]', '_', task)}.ckpt"

    def _best_epochs(self) -> dict[Path, int]:
        return super()._best_epochs() | {self.path_of(task): best.epoch for task, best in self.selection.best.items()}

    def _improved_paths(self, trainer: Trainer, pl_module: LightningModule) -> list[Path]:
        of_mean = super()._improved_paths(trainer, pl_module)
        return of_mean + [self.path_of(task) for task in self.selection.improved]


def _link(source: Path, path: Path) -> None:
    """Give a checkpoint a second name; a hard link avoids writing the same content twice."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:  # file system without hard links
        shutil.copyfile(source, part)
    part.replace(path)
