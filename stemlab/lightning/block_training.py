"""Step counts, logged values and checks of the loss for Lightning while a module is trained in blocks.

Legend: S steps of a block, P logged values of a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from stemlab.data.blocks import BlockLoader
from stemlab.lightning.captured import Block, BlockRunner
from stemlab.optim.capture import make_capturable
from stemlab.optim.groups import named_rates
from stemlab.optim.schedule import rates_to_tensors

if TYPE_CHECKING:
    from stemlab.lightning.module import NetModule


@dataclass(frozen=True, slots=True)
class BlockValues:
    """Logged values of the steps of a block, which are copied to the CPU while the GPU continues.

    Attributes:
        names: names of the P values; the first is the loss.
        values_SP: float64 values, valid after ``wait``.
        first_step: number of the first step of the block in the epoch.
        logged_step: number of the first step of the block in the loggers.
        epoch: epoch of the block.
        rates: learning rates by logged name: of every step, or one entry if they are equal.
        copied: recorded after the copy to the CPU; None on the CPU.
    """

    names: tuple[str, ...]
    values_SP: Tensor
    first_step: int
    logged_step: int
    epoch: int
    rates: list[dict[str, float]]
    copied: torch.cuda.Event | None

    def wait(self) -> None:
        """Wait until the values are in main memory."""
        if self.copied is not None:
            self.copied.synchronize()

    def rates_of(self, step: int) -> dict[str, float]:
        """Return the learning rates of a step of the block by logged name."""
        return self.rates[min(step, len(self.rates) - 1)]

    def first_bad_step(self) -> int | None:
        """Return the first step of the block whose loss is not finite, or None."""
        bad_S = ~torch.isfinite(self.values_SP[:, 0])
        return int(bad_S.nonzero()[0]) if bad_S.any() else None


class BlockTraining:
    """Trains a module in blocks, with the step counts, logged values and checks of a training in batches.

    Losses are checked and logged one block later, while the GPU executes the next one, and at the end of an epoch.

    Args:
        runner: executes the steps.
    """

    def __init__(self, runner: BlockRunner) -> None:
        self.runner = runner
        self._unread: BlockValues | None = None
        self._reason: str | None = None

    def start(self, module: NetModule) -> None:
        """Continue the step counts of a resumed run, which may have been trained in batches.

        Call it when the loaders exist and the optimiser has its state.
        """
        loop = module.trainer.fit_loop.epoch_loop
        counts = loop.manual_optimization.optim_step_progress.total
        counts.ready = counts.completed = loop.automatic_optimization.optim_progress.optimizer_steps
        loader = cast(BlockLoader[Any], module.trainer.train_dataloader)
        if module.trainer.fit_loop.restarting:  # within an epoch: checkpoints count steps, Lightning counts blocks
            done = loader.resumed_blocks
            vars(loop.batch_progress.current).update(_recount(vars(loop.batch_progress.current), done))
        self.runner.copy_columns = loader.residence == "host"
        make_capturable(module.trainer.optimizers[0])
        if module.schedule is not None:
            rates_to_tensors(module.trainer.optimizers[0])

    def step(self, module: NetModule, block: Block) -> dict[str, Any]:
        """Execute the steps of a block.

        Returns:
            ``loss``: mean loss of the steps, on the device; ``steps``: their number.

        Raises:
            StemlabError: a loss of this or of the last block is not finite.
        """
        buffers = self.runner.run(module, block)
        if self.runner.reason != self._reason:
            self._reason = self.runner.reason
            rank_zero_info(
                f"warning: steps are not captured as a CUDA graph ({self._reason}): they are executed one by one."
            )
        assert buffers.values_SP is not None
        values_SP = buffers.values_SP[: block.steps]
        earlier, self._unread = self._unread, self._copy(module, block, buffers.names, values_SP)
        self._count(module, block.steps)
        if earlier is not None:
            self._report(module, earlier)
        if module.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self.flush(module)
        return {"loss": values_SP[:, 0].mean(), "steps": block.steps}

    def flush(self, module: NetModule, in_step: bool = True) -> None:
        """Check and log the values of the last block; the progress bar shows them if called within a step."""
        unread, self._unread = self._unread, None
        if unread is not None:
            self._report(module, unread, in_step)

    def save(self, module: NetModule, checkpoint: dict[str, Any]) -> None:
        """Let a checkpoint contain all steps and count steps instead of blocks, as a training in batches does."""
        self.flush(module, in_step=False)
        loader = module.trainer.train_dataloader
        if isinstance(loader, BlockLoader):
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            progress["current"] = _recount(progress["current"], loader.state_dict()["batch"])

    def _copy(self, module: NetModule, block: Block, names: tuple[str, ...], values_SP: Tensor) -> BlockValues:
        loop = module.trainer.fit_loop.epoch_loop
        copied, on_gpu = None, values_SP.is_cuda
        main = torch.empty(values_SP.shape, dtype=values_SP.dtype, pin_memory=on_gpu)
        main.copy_(values_SP, non_blocking=on_gpu)
        if on_gpu:
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
        at, optimizer = loop._batches_that_stepped, module.trainer.optimizers[0]
        if module.schedule is None:
            rates = [named_rates(optimizer)]
        else:  # the learning rates are tensors on the device, which are not read here
            steps = module.schedule.rates(optimizer, module.global_step, block.steps)
            rates = [named_rates(optimizer, rates_G) for rates_G in steps]
        return BlockValues(names, main, block.first_step, at, module.current_epoch, rates, copied)

    def _count(self, module: NetModule, steps: int) -> None:
        """Advance Lightning's step counts; Lightning itself counts the block as one batch."""
        loop = module.trainer.fit_loop.epoch_loop
        loop._batches_that_stepped += steps - 1
        # both, so that the checkpoint can be resumed by a training in batches
        loop.manual_optimization.optim_step_progress.total.increment_by(steps)
        loop.automatic_optimization.optim_progress.optimizer.step.total.increment_by(steps)

    def _report(self, module: NetModule, values: BlockValues, in_step: bool = True) -> None:
        """Check the losses of a block; log the steps that a training in batches would log."""
        values.wait()
        if (bad := values.first_bad_step()) is not None:
            loss = float(values.values_SP[bad, 0])
            module.raise_not_finite(loss, values.epoch, values.first_step + bad, values.rates_of(bad)["train/lr"])
        every = module.trainer.log_every_n_steps  # type: ignore[attr-defined]
        for step, value_P in enumerate(values.values_SP):
            named = dict(zip(values.names, value_P, strict=True))
            module.loss_means.add({name: value for name, value in named.items() if name.startswith("loss")})
            logged_step = values.logged_step + step
            ends_interval = (logged_step + 1) % every == 0
            if ends_interval or values.first_step + step == 0:
                shown = _shown_values(module, values.rates_of(step), named.get("grad_norm"))
                if in_step:
                    module.log_dict(shown, logger=False, batch_size=1)
            if ends_interval:
                metrics = {name: float(value) for name, value in shown.items()} | {"epoch": values.epoch}
                for logger in module.trainer.loggers:
                    logger.log_metrics(metrics, step=logged_step)
                    logger.save()
                module.loss_means.reset()


def _shown_values(module: NetModule, rates: Mapping[str, float], norm: Tensor | None) -> dict[str, Tensor]:
    """Return the mean losses of the interval, the learning rates and the last gradient norm, by logged name."""
    shown = {f"train/{name}": mean for name, mean in module.loss_means.means().items()}
    shown |= {name: torch.tensor(rate, dtype=torch.float64) for name, rate in rates.items()}
    return shown if norm is None else {**shown, "train/grad_norm": norm}


def _recount(counts: Mapping[str, int], ready: int) -> dict[str, int]:
    """Return Lightning's counts in another unit: ``ready`` is given, the differences between the counts stay."""
    return {name: ready - (counts["ready"] - count) for name, count in counts.items()}
