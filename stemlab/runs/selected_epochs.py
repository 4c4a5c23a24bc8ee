"""Evaluation of the selected epochs of a training on the validation and test splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pytorch_lightning import Trainer

from stemlab.callbacks.checkpoint import BestCheckpoint, TaskCheckpoints
from stemlab.callbacks.improvement import Improvement
from stemlab.metrics.multitask import task_means
from stemlab.runs.build import DataModule, Module
from stemlab.runs.score_file import ScoreFile

_Value = TypeVar("_Value")


def evaluate_selected(
    trainer: Trainer,
    module: Module,
    datamodule: DataModule,
    checkpoint: BestCheckpoint,
    test: bool,
    scores: ScoreFile | None = None,
) -> None:
    """Set the metrics of the module to those of the best epoch, or of the best epoch of each task. Collective.

    Args:
        trainer: the trainer, after the training.
        module: the trained module; it keeps the weights evaluated last.
        datamodule: the dataset.
        checkpoint: the selected epochs.
        test: whether the test split is evaluated, too.
        scores: file of the test scores, or None.
    """
    trainer.strategy.barrier("checkpoints written")
    if not isinstance(checkpoint, TaskCheckpoints):
        _evaluate(trainer, module, datamodule, checkpoint.best_path, test, scores)
        return
    tasks = checkpoint.selection.tasks
    values: dict[str, float] = {}
    for path, selected in tasks_by_checkpoint(checkpoint).items():
        if scores is not None:
            scores.tasks = selected
        _evaluate(trainer, module, datamodule, path, test, scores)
        values |= metrics_of_tasks(module.metric_values, selected)
    names = [name for name in module.metric_values if name.count("/") == 1]
    module.metric_values = task_means(values, tasks, names) | values


def tasks_by_checkpoint(checkpoint: TaskCheckpoints) -> dict[Path, list[str]]:
    """Return checkpoint -> tasks whose best epoch it is; tasks with equal best epochs share one."""
    groups: dict[tuple[int, int | None], list[str]] = {}
    for task, best in checkpoint.selection.best.items():
        groups.setdefault((best.epoch, checkpoint.selection.step[task]), []).append(task)
    return {  # a network without training has no checkpoints of tasks
        checkpoint.best_path if epoch < 0 else checkpoint.path_of(tasks[0]): tasks
        for (epoch, _), tasks in groups.items()
    }


def metrics_of_tasks(values: Mapping[str, _Value], tasks: Sequence[str]) -> dict[str, _Value]:
    """Return the metrics of some tasks, those per scenario included: ``test/auc/click``, ``test/auc/click/nl``."""
    return {name: value for name, value in values.items() if (*name.split("/", 3), "", "")[2] in tasks}


def unselected_epoch(monitor: str, improvement: Improvement) -> str | None:
    """Return a warning if the monitored metric was undefined in every validation, else None."""
    return f"{monitor} was never defined, so the last epoch was kept." if improvement.best is None else None


def still_improved(improvement: Improvement, epochs: int) -> bool:
    """Return whether the last epoch of a training has the best value of the monitored metric."""
    return improvement.best is not None and improvement.epoch == epochs - 1


def _evaluate(
    trainer: Trainer, module: Module, datamodule: DataModule, path: Path, test: bool, scores: ScoreFile | None
) -> None:
    trainer.validate(module, datamodule=datamodule, ckpt_path=str(path), weights_only=True, verbose=False)
    if test:
        module.before_metrics = scores
        trainer.test(module, datamodule=datamodule, verbose=False)  # with the weights just loaded
        module.before_metrics = None
