"""Lightning's loop over the steps of an epoch, without the parts that a step does not need.

Lightning calls about 60 hooks per step, each under a profiler, and looks for values to log after every step. For a
small network that takes about as long as the step. ``StepLoop`` executes steps directly: the same operations in the
same order, the same counts (so checkpoints and resumed runs are equal), the same hooks of callbacks at the start and at
the end of a batch, the same logged values. Lightning executes the first step of a resumed run, the steps that log in
several processes, and all steps where another hook or option is in use (``lightning_reason``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.loops.fetchers import _DataFetcher, _PrefetchDataFetcher, _profile_nothing
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor

from stemlab.lightning.interval_loop import IntervalEpochLoop

_CALLBACK_HOOKS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
_TRANSFER_HOOKS = ("on_before_batch_transfer", "on_after_batch_transfer")
_MODULE_HOOKS = (
    *_CALLBACK_HOOKS,
    *(*_TRANSFER_HOOKS, "on_train_batch_start", "on_train_batch_end"),
    *("backward", "optimizer_step", "optimizer_zero_grad", "lr_scheduler_step"),
)
"""Hooks within a step, which a direct step does not call."""
_BATCH_HOOKS = ("on_train_batch_start", "on_train_batch_end")


class StepLoop(IntervalEpochLoop):
    """Epoch loop that executes steps without the hooks that nothing uses.

    Args:
        trainer: the trainer; ``install`` puts the loop into it.

    Attributes:
        reason: why all steps of the epoch are executed by Lightning, or None; known after the start of an epoch.
        direct_steps: number of steps executed directly.
    """

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(trainer)
        self.reason: str | None = None
        self.direct_steps = 0
        self._direct = False  # the current step is executed directly
        self._transfers = True
        self._hooks: dict[str, list[Callable[..., None]]] = {}

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        """Decide at the start of an epoch whether steps can be executed directly."""
        super().on_run_start(data_fetcher)
        self.reason = lightning_reason(self.trainer, data_fetcher)
        if self.reason is None and type(self.trainer.profiler) is PassThroughProfiler:
            data_fetcher._start_profiler = data_fetcher._stop_profiler = _profile_nothing
        self._transfers = self.trainer.strategy.root_device.type != "cpu" or _transfers_itself(self.trainer)
        for name in _BATCH_HOOKS:
            found = (getattr(callback, name) for callback in self.trainer.callbacks)
            self._hooks[name] = [hook for hook in found if hook is not None]

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Execute one training step."""
        logs = self._may_log()
        self._direct = self.reason is None and not self.restarting and not (logs and self._needs_lightning_to_log())
        trainer, module, progress = self.trainer, self.trainer.lightning_module, self.batch_progress
        vars(module)["may_log"] = logs or not self._direct  # nn.Module.__setattr__ is slow
        if not self._direct:
            super().advance(data_fetcher)
            return
        batch = next(data_fetcher)[0]
        number = progress.current.ready
        progress.is_last_batch = data_fetcher.done
        if self._transfers:
            batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
        progress.increment_ready()
        self._results.batch, self._results.batch_size, self._results.dataloader_idx = batch, None, None
        if logs:
            trainer._logger_connector.on_batch_start(batch)
            module.step_values = {}
        self._call(module, "on_train_batch_start", batch, number)
        progress.increment_started()
        outputs = {"loss": self._step(module, batch, number)}
        progress.increment_processed()
        if logs:
            self._show(module)
        self._call(module, "on_train_batch_end", outputs, batch, number)
        if logs:
            trainer._logger_connector.on_batch_end()
        self._results.batch = self._results.batch_size = None
        progress.increment_completed()
        if logs:
            self._log(module)
        self.direct_steps += 1

    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        """Count a direct step; otherwise and at the end of an epoch, validate and save as Lightning does."""
        trainer = self.trainer
        ends = self.batch_progress.is_last_batch or trainer.should_stop or trainer.received_sigterm
        if self._direct and not (ends or self.validates_next() or self.reaches_limit()):
            self._batches_that_stepped += 1
        else:
            super().on_advance_end(data_fetcher)

    def _may_log(self) -> bool:
        """Return whether the module or Lightning logs values in the next step."""
        every = cast(int, self.trainer.log_every_n_steps)
        step = self.automatic_optimization.optim_progress.optimizer.step.total.completed
        ends_interval = every and ((step + 1) % every == 0 or (self._batches_that_stepped + 1) % every == 0)
        return bool(ends_interval) or self.batch_progress.current.ready == 0 or self.trainer.should_stop

    def _needs_lightning_to_log(self) -> bool:
        """Return whether values must be averaged over processes, or the module leaves them to Lightning."""
        trainer = self.trainer
        return trainer.world_size > 1 or trainer.should_stop or not hasattr(trainer.lightning_module, "step_values")

    def _show(self, module: Any) -> None:
        """Let callbacks see the values that the module logs in this step."""
        connector = self.trainer._logger_connector
        connector._callback_metrics.update(module.step_values)
        connector._logged_metrics.update(module.step_values)

    def _log(self, module: Any) -> None:
        """Log the values of the module, then those of callbacks, if the step ends a logging interval."""
        connector, values = self.trainer._logger_connector, module.step_values
        module.step_values = None
        if connector.should_update_logs:
            connector.log_metrics({**values, **connector.metrics["log"]})

    def _step(self, module: LightningModule, batch: Any, number: int) -> Tensor:
        """Execute forward and backward pass, clipping and optimiser; return the loss."""
        strategy, optimizer = self.trainer.strategy, self.trainer.optimizers[0]
        counts = self.automatic_optimization.optim_progress.optimizer
        counts.step.increment_ready()
        vars(module)["_current_fx_name"] = "training_step"
        if strategy.model is module and type(strategy.precision_plugin) is Precision:
            loss = cast(Tensor, module.training_step(batch, number))  # the context of this precision does nothing
        else:
            loss = cast(Tensor, strategy.training_step(batch, number))
        counts.zero_grad.increment_ready()
        counts.zero_grad.increment_started()
        optimizer.zero_grad()
        counts.zero_grad.increment_completed()
        loss.backward()  # type: ignore[no-untyped-call]
        module.configure_gradient_clipping(optimizer)
        optimizer.step()
        counts.step.increment_completed()
        return loss.detach()

    def _call(self, module: LightningModule, name: str, *arguments: Any) -> None:
        """Call a hook of all callbacks that have it."""
        vars(module)["_current_fx_name"] = name  # for values that a callback logs
        for hook in self._hooks[name]:
            hook(self.trainer, module, *arguments)
        vars(module)["_current_fx_name"] = None


def install(trainer: Trainer, kind: type[IntervalEpochLoop] = StepLoop) -> IntervalEpochLoop:
    """Let a trainer execute its training steps by a loop of stemlab, and return it."""
    given = trainer.fit_loop.epoch_loop
    loop = kind(trainer)
    loop.min_steps, loop.max_steps = given.min_steps, given.max_steps
    trainer.fit_loop.epoch_loop = loop
    return loop


def lightning_reason(trainer: Trainer, data_fetcher: _DataFetcher) -> str | None:
    """Return why the steps of an epoch must be executed by Lightning, or None."""
    module = trainer.lightning_module
    if not module.automatic_optimization:
        return "training in blocks of steps, or another optimisation by the module"
    if type(trainer.precision_plugin) not in (Precision, MixedPrecision) or _scaler(trainer) is not None:
        return f"precision {trainer.precision}"
    if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
        return f"strategy {type(trainer.strategy).__name__}"
    if getattr(trainer.strategy, "_ddp_comm_hook", None) or getattr(trainer.strategy, "_model_averager", None):
        return "communication hook of DDP"
    if type(data_fetcher) is not _PrefetchDataFetcher:
        return "the module reads the loader itself"
    options = {
        "accumulate_grad_batches": trainer.accumulate_grad_batches != 1,
        "gradient_clip_val": trainer.gradient_clip_val is not None,
        "val_check_interval": trainer.val_check_interval not in (None, 1.0),
        "max_steps": trainer.max_steps != -1,
        "fast_dev_run": bool(trainer.fast_dev_run),  # type: ignore[attr-defined]
        "profiler": not isinstance(trainer.profiler, PassThroughProfiler),  # type: ignore[attr-defined]
        "log_every_n_steps": not trainer.log_every_n_steps,  # type: ignore[attr-defined]
    }
    if chosen := [name for name, is_set in options.items() if is_set]:
        return f"trainer option {chosen[0]}"
    if len(trainer.optimizers) != 1 or trainer.lr_scheduler_configs:
        return "several optimisers, or schedulers of Lightning"
    return _hook_reason(trainer, module)


def _scaler(trainer: Trainer) -> Any:
    return getattr(trainer.precision_plugin, "scaler", None)


def _transfers_itself(trainer: Trainer) -> bool:
    """Return whether a datamodule from outside stemlab copies batches to the device; on the CPU nothing is copied."""
    copy = getattr(trainer.datamodule, "transfer_batch_to_device", None)  # type: ignore[attr-defined]
    return copy is not None and not copy.__module__.startswith(("stemlab.", "pytorch_lightning."))


def _hook_reason(trainer: Trainer, module: LightningModule) -> str | None:
    """Return which hook within a step is in use, or None."""
    owners: list[tuple[Any, type, tuple[str, ...]]] = [(module, LightningModule, _MODULE_HOOKS)]
    if trainer.datamodule is not None:  # type: ignore[attr-defined]
        owners.append((trainer.datamodule, LightningDataModule, _TRANSFER_HOOKS))  # type: ignore[attr-defined]
    owners += [(callback, Callback, _CALLBACK_HOOKS) for callback in trainer.callbacks]  # type: ignore[attr-defined]
    for owner, parent, hooks in owners:
        for hook in hooks:
            if callable(getattr(owner, hook)) and is_overridden(hook, owner, parent):
                return f"hook {type(owner).__name__}.{hook}"
    return None
