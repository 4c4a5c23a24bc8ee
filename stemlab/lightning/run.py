"""One training, from a plain config to a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer, seed_everything
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_info

from stemlab.config.build import (
    RunCallbacks,
    build_callbacks,
    build_datamodule,
    build_module,
    build_trainer,
)
from stemlab.config.delegate import process_count
from stemlab.config.rules import effective_tasks
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.lightning.card import print_card, print_metrics
from stemlab.lightning.environment import hush, is_first_process
from stemlab.lightning.loggers import build_loggers, finish_loggers, log_final
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.recorder import Recorder, Status
from stemlab.lightning.resume import check_resumable
from stemlab.models import parameter_counts


class TrainingRun:
    """Prepare, build, fit, evaluate the best epoch, record; whatever happens, close the loggers and say how it ended.

    Args:
        config: validated, plain and resolved.
        overrides: what was typed.
        sweep_id: the sweep this run belongs to, if any.
    """

    def __init__(self, config: Mapping[str, Any], overrides: Sequence[str], sweep_id: str | None) -> None:
        self.config, self.sweep_id = config, sweep_id
        self.directory = Path(config["paths"]["output_dir"])
        self.recorder = Recorder("train", config, overrides, self.directory, process_count(config["trainer"]))
        self.loggers: list[Logger] = []

    def go(self) -> float:
        """Run it all and return the objective."""
        hush()
        status: Status = "failed"
        try:
            metrics = self._train()
            status = "finished"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except BaseException as error:
            self.recorder.failed_with(error)
            raise
        finally:
            try:
                self.recorder.write(status)
            finally:
                finish_loggers(self.loggers, failed=status != "finished")
        value = metrics[self.config["objective"]]
        return float("nan") if value is None else value

    def _train(self) -> Mapping[str, float | None]:
        seed_everything(self.config["seed"], workers=True, verbose=False)
        datamodule = build_datamodule(self.config)
        datamodule.prepare()
        if self.config["ckpt_path"]:
            epoch = check_resumable(self.config, datamodule.manifest["fingerprint"])
            rank_zero_info(f"going on after epoch {epoch + 1} of {self.config['ckpt_path']}")
        module = build_module(self.config, datamodule.spec, datamodule.manifest["fingerprint"])
        self._say_task()
        self.recorder.describe(datamodule.manifest, datamodule.spec.sample, parameter_counts(module.net))
        self.loggers = build_loggers(self.config, self.directory, datamodule.spec.sample, self.sweep_id)
        callbacks = build_callbacks(self.config, self.directory)
        steps = self._steps(datamodule)
        trainer = build_trainer(self.config, self.directory, callbacks.all(), self.loggers, module.net, steps)
        if is_first_process():
            print_card(self.recorder.record, steps, process_count(self.config["trainer"]), self.directory)
        try:
            fit(trainer, module, datamodule, self.config["ckpt_path"])
        finally:  # a run that was interrupted has a best epoch too
            if callbacks.checkpoint.improvement.epoch >= 0:
                self.recorder.fitted(trainer.current_epoch, callbacks.checkpoint, callbacks.throughput)
        return self._evaluate_best(trainer, module, datamodule, callbacks)

    def _say_task(self) -> None:
        if self.config["model"]["name"] == "single_task" and self.config["model"]["task"] is None:
            task = effective_tasks(self.config)[0]
            rank_zero_info(f"model.task is not set: training the first task, {task!r}.")

    def _steps(self, datamodule: ImpressionDataModule) -> int:
        """Training steps an epoch on each process."""
        rows = len(datamodule.store("train")) // process_count(self.config["trainer"])
        limit = self.config["trainer"]["limit_train_batches"]
        steps = -(-rows // datamodule.batch_size)
        return min(steps, limit) if limit else steps

    def _evaluate_best(
        self, trainer: Trainer, module: MultiTaskModule, datamodule: ImpressionDataModule, callbacks: RunCallbacks
    ) -> Mapping[str, float | None]:
        """Measure the best epoch's weights on the validation and test splits."""
        checkpoint, epochs, step = callbacks.checkpoint, trainer.current_epoch, trainer.global_step
        trainer.loggers = []  # the curves stay as the epochs drew them
        best = str(checkpoint.best_path)
        trainer.validate(module, datamodule=datamodule, ckpt_path=best, weights_only=True, verbose=False)
        if self.config["test"]:
            trainer.test(module, datamodule=datamodule, verbose=False)  # with the weights just loaded
        self.recorder.measured(module.metric_values, module.metric_warnings, callbacks.throughput)
        log_final(self.loggers, self.recorder.metrics, step)
        if is_first_process():
            split = "test" if self.config["test"] else "val"
            print_metrics(self.recorder.metrics, split, module.tasks, datamodule.spec, epochs, checkpoint.best_path)
        return self.recorder.metrics


def fit(trainer: Trainer, module: LightningModule, datamodule: ImpressionDataModule, ckpt_path: str | None) -> None:
    """Train; an interruption from the keyboard, which Lightning turns into an exit, stays an interruption.

    Args:
        trainer: the Trainer.
        module: the module.
        datamodule: prepared.
        ckpt_path: checkpoint to go on from, or None.
    """
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True)
    except SystemExit:
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
