"""One training run, from a plain config to a record."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_info

from stemlab.config.cross_checks import effective_tasks
from stemlab.config.job_process import process_count
from stemlab.config.limits import run_limits
from stemlab.config.process_watch import LOST_RANK_HOOKS
from stemlab.data.batch_order import training_steps
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.errors import StemlabError, TrialPruned
from stemlab.models import parameter_counts
from stemlab.reporting.run_lock import run_lock
from stemlab.runs.allocator import keep_freed_memory
from stemlab.runs.build import (
    DataModule,
    Module,
    build_datamodule,
    build_module,
    build_trainer,
    check_batch_norm,
    require_gpu,
    single_scenario_warning,
)
from stemlab.runs.checkpoint_io import SavedRun
from stemlab.runs.engine import TrainingEngine
from stemlab.runs.environment import is_first_process, silence_lightning
from stemlab.runs.footprint import Footprint, reduction_warning, training_footprint
from stemlab.runs.interruption import InterruptionCheckpoint, interruptions
from stemlab.runs.loggers import build_loggers, finish_loggers, log_checkpoint, log_final
from stemlab.runs.numerics import numeric_mode
from stemlab.runs.own_network import explain_own_network
from stemlab.runs.pretrained import load_pretrained
from stemlab.runs.recorder import Recorder, Status
from stemlab.runs.resume import check_resumable, misfit_refused
from stemlab.runs.run_callbacks import RunCallbacks, build_callbacks
from stemlab.runs.run_directory import Start, clear, earlier_resumptions, finished_words, plan_start, set_curves_aside
from stemlab.runs.score_file import score_file
from stemlab.runs.selected_epochs import evaluate_selected, still_improved, unselected_epoch
from stemlab.runs.signals import SignalGuard
from stemlab.runs.step_plan import rate_schedule, steps_per_epoch
from stemlab.runs.summary import print_metrics, print_run_summary, print_task_epochs
from stemlab.runs.table_lookups import row_gradient_bytes
from stemlab.runs.table_plan import can_divide, plan_tables
from stemlab.runs.wandb_reliability import log_reliability


class TrainingRun:
    """Training, evaluation of the best epoch, and record of a run; writes the record also after an error.

    Args:
        config: validated, plain and resolved config.
        overrides: overrides of the command line.
        group: group of the run in the loggers (a sweep, or both stages of a model), if any.
    """

    def __init__(self, config: Mapping[str, Any], overrides: Sequence[str], group: str | None) -> None:
        self.config, self.overrides, self.group = config, overrides, group
        self.directory = Path(config["paths"]["output_dir"])
        self.recorder = Recorder("train", config, overrides, self.directory, process_count(config["trainer"]))
        self.start, self.guard = Start(), SignalGuard()
        self.keep_lr, self._accepted = True, False
        self.loggers: list[Logger] = []
        self.warnings: list[str] = []

    def run(self) -> float:
        """Run the training and return the objective; NaN where it is undefined.

        Raises:
            StemlabError: another process trains in the directory, or it holds another run; nothing is written then.
        """
        silence_lightning()
        keep_freed_memory()
        self.start = plan_start(self.config)
        if self.start.finished is None:  # a finished run needs no lock: its directory may be read-only
            with self.guard, run_lock(self.directory) if is_first_process() else nullcontext():
                self.start = plan_start(self.config)  # another process may have changed the directory until now
                if self.start.finished is None:
                    return self._run_recorded()
        rank_zero_info(finished_words(self.directory))
        return _defined(self.start.finished["metrics"].get(self.config["objective"]))

    def _run_recorded(self) -> float:
        """Run the training between the first and the last version of its record."""
        if self.config["overwrite"] and is_first_process() and not self.start.in_place:
            clear(self.directory)
        earlier = earlier_resumptions(self.start.checkpoint) if self.start.checkpoint else []
        self.recorder.record["resumptions"] = earlier
        self._accepted = not self.start.in_place  # until then, the record of the earlier part is kept
        self._write_record("running")
        status: Status = "failed"
        LOST_RANK_HOOKS.append(self._record_lost_rank)
        try:
            with numeric_mode(self.config["trainer"]):
                metrics = self._train()
            status = "finished"
        except TrialPruned:
            status, metrics = "pruned", {}
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except BaseException as error:
            self.recorder.set_error(error)
            raise
        finally:
            LOST_RANK_HOOKS.remove(self._record_lost_rank)
            try:
                self._write_record(status)
            finally:
                finish_loggers(self.loggers, status not in ("finished", "pruned"), self.recorder.record)
        return _defined(metrics.get(self.config["objective"]))

    def _record_lost_rank(self, message: str) -> None:
        """Write the record when ``RankWatch`` ends this process."""
        self.recorder.set_error(StemlabError(message))
        self._write_record("failed")

    def _write_record(self, status: Status) -> None:
        if not self._accepted:
            return
        try:
            self.recorder.write(status)
        except StemlabError as error:
            if status == "finished":
                raise
            # the error that ends the run is the one to report; a full disk ends it at the first checkpoint
            print(f"warning: {error}", file=sys.stderr)

    def _train(self) -> Mapping[str, float | None]:
        require_gpu(self.config["trainer"])  # before the data are prepared
        datamodule = build_datamodule(self.config)
        datamodule.prepare()
        resumed = self._check_resumed(datamodule.manifest["fingerprint"])
        module = self._initial_module(datamodule, resumed)
        self._log_default_task()
        self._warn(single_scenario_warning(self.config, module.net))
        self.recorder.set_dataset(datamodule.manifest, datamodule.spec.sample, parameter_counts(module.net))
        footprint = self._footprint(module)
        self._write_record("running")
        limited = bool(run_limits(self.config, self.recorder.record["stage1"]))
        self.loggers = build_loggers(self.config, self.directory, datamodule.spec.sample, self.group, limited)
        callbacks = build_callbacks(self.config, self.directory, resumed is not None, self.keep_lr)
        steps = self._steps_per_epoch(datamodule, module) if needs_training(module) else 0
        module.schedule = rate_schedule(self.config["trainer"], module, steps)
        engine = TrainingEngine(self.config, module, datamodule) if needs_training(module) else None
        everyone = [*callbacks.all(), InterruptionCheckpoint(self.guard, callbacks.checkpoint.last_path)]
        trainer = build_trainer(self.config, self.directory, everyone, self.loggers, module, steps)
        if is_first_process():
            text = engine.summary() if engine is not None else None
            processes = process_count(self.config["trainer"])
            print_run_summary(self.recorder.record, steps, processes, self.directory, footprint, text)
        if engine is not None:
            self._fit(trainer, module, datamodule, callbacks, engine)
            if callbacks.trial is not None and callbacks.trial.pruned:
                rank_zero_info(f"the sweep ended this trial after epoch {trainer.current_epoch}")
                raise TrialPruned
        else:
            self._save_untrained(trainer, module, datamodule, callbacks)
        return self._evaluate_best(trainer, module, datamodule, callbacks)

    def _footprint(self, module: Module) -> Footprint:
        """Record and return memory and communication; warn if the gradients of embedding tables dominate the latter."""
        plan = plan_tables(self.config, module.net)
        rows = row_gradient_bytes(self.config, module.net)
        footprint = training_footprint(self.config, self.recorder.record["parameters"], plan, rows)
        self.recorder.set_footprint(footprint, "replicated" if plan is None else plan.division)
        if plan is None and footprint.ranks > 1 and can_divide(self.config, module.net):
            self._warn(reduction_warning(footprint, plan_tables(self.config, module.net, "row_sharded")))
        return footprint

    def _check_resumed(self, fingerprint: str) -> SavedRun | None:
        if self.start.checkpoint is None:
            return None
        saved, changed = check_resumable(self.config, fingerprint, self.start.checkpoint)
        self._warn(self.start.warning)
        rank_zero_info(f"resuming {'in' if saved.mid_epoch else 'after'} epoch {saved.epochs} of {saved.path}")
        for key, (old, new) in changed.items():
            rank_zero_info(f"changed at this resume: {key}={new} (was {old})")
        if self.start.in_place and is_first_process():
            set_curves_aside(self.directory, saved.epochs)
        values = {"checkpoint": str(saved.path), "epoch": saved.epochs, "step": saved.step, "changed": changed}
        self.recorder.set_resumption(values)
        self._accepted = True
        self.keep_lr = not {"optim.lr", "optim.tables_lr"} & changed.keys()
        return saved

    def _initial_module(self, datamodule: DataModule, resumed: SavedRun | None) -> Module:
        """Return the module at the start of the training."""
        seed_everything(self.config["seed"], workers=True, verbose=False)
        module = build_module(self.config, datamodule)
        if self.config["model"].get("pretrained") and resumed is None:
            self.recorder.set_pretrained(load_pretrained(self.config, datamodule, module.net))
        return module

    def _log_default_task(self) -> None:
        if self.config["model"]["name"] == "single_task" and self.config["model"]["task"] is None:
            task = effective_tasks(self.config)[0]
            rank_zero_info(f"model.task is not set: training on the first task, {task!r}.")

    def _warn(self, warning: str | None) -> None:
        """Print a warning and add it to the record."""
        if warning is not None:
            self.warnings.append(warning)
            rank_zero_info(f"warning: {warning}")

    def _steps_per_epoch(self, datamodule: DataModule, module: Module) -> int:
        """Return the training steps per epoch and process; check that each has enough samples for the network."""
        samples = _training_samples(datamodule) // process_count(self.config["trainer"])
        limit = self.config["trainer"]["limit_train_batches"]
        check_batch_norm(module.net, self.config["trainer"], samples, datamodule.batch_size)
        batches = training_steps(samples, datamodule.batch_size)
        return steps_per_epoch(self.config["trainer"], min(batches, limit) if limit else batches)

    def _fit(
        self,
        trainer: Trainer,
        module: Module,
        datamodule: DataModule,
        callbacks: RunCallbacks,
        engine: TrainingEngine,
    ) -> None:
        try:
            with interruptions(trainer, self.guard), misfit_refused(self.start.checkpoint):
                trainer.fit(module, datamodule=datamodule, ckpt_path=self.start.checkpoint, weights_only=True)
        except Exception as error:
            explain_own_network(self.config, module, error)
            raise
        finally:  # also after an interruption
            self.recorder.set_engine(engine.record(trainer))
            if callbacks.checkpoint.improvement.epoch >= 0:
                self.recorder.set_fit(trainer.current_epoch, callbacks.checkpoint, callbacks.throughput)
            if callbacks.paper_selection is not None:
                self.recorder.set_paper_selection(callbacks.paper_selection.summary())

    def _save_untrained(
        self, trainer: Trainer, module: Module, datamodule: DataModule, callbacks: RunCallbacks
    ) -> None:
        """Evaluate a network without training on the validation split and write it as the best checkpoint."""
        checkpoint = callbacks.checkpoint
        with interruptions(trainer, self.guard):
            trainer.validate(module, datamodule=datamodule, verbose=False)
        checkpoint.improvement.update(module.metric_values[checkpoint.monitor], -1)
        trainer.save_checkpoint(checkpoint.best_path)
        self.recorder.set_fit(0, checkpoint, callbacks.throughput)

    def _evaluate_best(
        self, trainer: Trainer, module: Module, datamodule: DataModule, callbacks: RunCallbacks
    ) -> Mapping[str, float | None]:
        """Evaluate the weights of the best epochs on the validation and test splits."""
        checkpoint, epochs, step = callbacks.checkpoint, trainer.current_epoch, trainer.global_step
        trainer.loggers = []  # this evaluation must not add points to the curves of the training
        with interruptions(trainer, self.guard):
            scores = score_file(self.config, self.directory, datamodule)
            evaluate_selected(trainer, module, datamodule, checkpoint, self.config["test"], scores)
            self.recorder.set_scores(scores)
        self._warn(unselected_epoch(checkpoint.monitor, checkpoint.improvement))
        warnings = [*self.warnings, *module.metric_warnings]
        self.recorder.set_metrics(module.metric_values, warnings, callbacks.throughput)
        log_final(self.loggers, self.recorder.metrics, step)
        log_reliability(self.loggers, scores.scores if scores else None)
        log_checkpoint(self.loggers, self.recorder.record, checkpoint.best_path)
        if is_first_process():
            split, tasks = "test" if self.config["test"] else "val", effective_tasks(self.config)
            limits = run_limits(self.config, self.recorder.record["stage1"])
            print_metrics(self.recorder.metrics, split, tasks, datamodule.spec, epochs, checkpoint.best_path, limits)
            print_task_epochs(self.recorder.record["best"].get("tasks"))
        if epochs == self.config["trainer"]["max_epochs"] and still_improved(checkpoint.improvement, epochs):
            rank_zero_info(
                f"the last epoch was the best: more epochs than trainer.max_epochs={epochs} may improve the metric."
            )
        return self.recorder.metrics


def _defined(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def needs_training(module: Module) -> bool:
    """Return whether the network is trained by gradient descent; POP only counts interactions."""
    return bool(getattr(module.net, "needs_training", True))


def _training_samples(datamodule: DataModule) -> int:
    samples = int(datamodule.manifest["rows"]["train"])
    if not isinstance(datamodule, SequenceDataModule) or not datamodule.first_interactions:
        return samples
    first = datamodule.rows("train") - samples
    rank_zero_info(f"the model reads no history: {first:,} first interactions of users are also training samples")
    return samples + first
