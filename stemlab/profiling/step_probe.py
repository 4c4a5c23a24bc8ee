"""Measures the parts of training steps in an ordinary training of Lightning, without changes to the training code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.profilers import PassThroughProfiler
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity, profile, record_function

from stemlab.data.blocks import StepBlock
from stemlab.lightning.block_training import BlockValues
from stemlab.lightning.captured import BlockRunner
from stemlab.lightning.module import NetModule
from stemlab.lightning.step_graph import Step, StepGraphs
from stemlab.profiling.step_clock import (
    BACKWARD,
    CLIPPING,
    COPY,
    FORWARD,
    LOADER,
    OPTIMISER,
    REPLAY,
    REST,
    WAIT,
    StepClock,
    StepTimes,
)

WARM_UP, TIMED, TRACED = "warm-up", "timed", "traced"
STEP = "training step"
"""Annotation of a batch of the loop in the trace."""
_READS = ".train_dataloader_next"


class StepProbe(Callback):
    """Times the steps of a training, then traces some with ``torch.profiler``, then stops the training.

    Each phase lasts at least as many steps as given; with blocks of steps it ends with a block. Between two epochs
    nothing is measured.

    Args:
        warm_up: steps before the measurement.
        timed: steps whose parts are timed.
        traced: steps recorded by ``torch.profiler``, which makes them slower.

    Attributes:
        clock: the times.
        trace: the trace of the last phase.
        first_batch: first batch of the training, on its device.
        memory_before: bytes allocated on the GPU before the timed steps; None on the CPU.
        memory_peak: largest number of bytes allocated on the GPU during the timed steps; None on the CPU.
    """

    def __init__(self, warm_up: int, timed: int, traced: int) -> None:
        self.clock = StepClock()
        self.trace: profile | None = None
        self.first_batch: Any = None
        self.memory_before: int | None = None
        self.memory_peak: int | None = None
        self._left = {WARM_UP: warm_up, TIMED: timed, TRACED: traced}
        self._phase: str | None = None
        self._step: record_function | None = None
        self._on_gpu = False

    def steps(self, phase: str) -> list[StepTimes]:
        """Return the measured batches of a phase."""
        return [batch for batch in self.clock.batches if batch.phase == phase]

    @property
    def finished(self) -> bool:
        """Whether all phases have all their steps."""
        return not any(left > 0 for left in self._left.values())

    # ------------------------------------------------------------------------------------------- boundaries of steps

    def begin_batch(self) -> None:
        """End the last batch and begin the next one: called before the loader is read."""
        phase = next((name for name, left in self._left.items() if left > 0), TRACED)
        if phase != self._phase:
            self._synchronise()
            self._end_batch()
            self._enter(phase)
        else:
            self._end_batch()
        self.clock.begin(phase)
        if self.trace is not None:
            self._step = record_function(STEP)
            self._step.__enter__()  # type: ignore[no-untyped-call]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the steps; stop the training when all phases have all their steps."""
        steps = batch.steps if isinstance(batch, StepBlock) else 1
        assert self._phase is not None, "the loop does not report that it reads the loader"
        self.clock.count(steps)
        self._left[self._phase] -= steps
        trainer.should_stop = trainer.should_stop or self.finished

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the last batch of the epoch."""
        self._synchronise()
        self._end_batch()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the trace."""
        self._end_batch()
        if self.trace is not None:
            self.trace.stop()

    def _end_batch(self) -> None:
        if self._step is not None:
            self._step.__exit__(None, None, None)
            self._step = None
        self.clock.end()

    def _enter(self, phase: str) -> None:
        if self._phase == TIMED and self._on_gpu:
            self.memory_peak = torch.cuda.max_memory_allocated()
        self._phase = phase
        if phase == TIMED and self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
            self.memory_before = torch.cuda.memory_allocated()
        if phase == TRACED:
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_gpu else [])]
            self.trace = profile(activities=activities, profile_memory=not self._on_gpu)
            self.trace.start()
            self.clock.annotate = record_function

    def _synchronise(self) -> None:
        if self._on_gpu:
            with self.clock.part(WAIT):
                torch.cuda.synchronize()

    # ------------------------------------------------------------------------------------------------ parts of steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Time the calls of a step: loss, clipping, optimiser, replays of captured steps."""
        module, clock = cast(NetModule, pl_module), self.clock
        self._on_gpu = module.device.type == "cuda"
        losses = clock.timed(FORWARD, module.losses)

        def first_kept(batch: Any) -> Any:
            self.first_batch = batch if self.first_batch is None else self.first_batch
            return losses(batch)

        module.losses = first_kept  # type: ignore[method-assign]
        module.clip = clock.timed(CLIPPING, module.clip)  # type: ignore[method-assign]
        for optimizer in trainer.optimizers:
            _time_optimizer(optimizer, clock)
        if module.blocks is not None:
            _time_replays(module.blocks.runner, clock)

    @contextmanager
    def measuring(self, trainer: Trainer) -> Iterator[None]:
        """Time loader, copies, backward passes and waits of a trainer inside the block."""
        clock, backward, wait = self.clock, torch.Tensor.backward, BlockValues.wait
        trainer.profiler = _LoopTimer(self)  # type: ignore[attr-defined]
        trainer.strategy.batch_to_device = clock.timed(COPY, trainer.strategy.batch_to_device)  # type: ignore[method-assign]
        torch.Tensor.backward = clock.timed(BACKWARD, backward)  # type: ignore[method-assign]
        BlockValues.wait = clock.timed(WAIT, wait)  # type: ignore[method-assign]
        try:
            yield
        finally:
            torch.Tensor.backward, BlockValues.wait = backward, wait  # type: ignore[method-assign]


class _LoopTimer(PassThroughProfiler):
    """Receives when the loop reads the loader; as a profiler that does nothing, it leaves the loop as it is."""

    def __init__(self, probe: StepProbe) -> None:
        super().__init__()
        self._probe = probe

    def start(self, action_name: str) -> None:
        """Begin the next batch before the loader is read."""
        if action_name.endswith(_READS):
            self._probe.begin_batch()
            self._probe.clock.enter(LOADER)

    def stop(self, action_name: str) -> None:
        """Close the part of the loader."""
        if action_name.endswith(_READS):
            self._probe.clock.leave()


def _time_optimizer(optimizer: Optimizer, clock: StepClock) -> None:
    """Time the step of an optimiser without its closure, in which Lightning runs forward and backward pass."""
    step = clock.timed(OPTIMISER, cast(Callable[..., Any], optimizer.step))

    def step_with_closure(closure: Callable[[], Any] | None = None) -> Any:
        return step() if closure is None else step(closure=clock.timed(REST, closure))

    optimizer.step = step_with_closure  # type: ignore[method-assign]
    optimizer.zero_grad = clock.timed(OPTIMISER, optimizer.zero_grad)  # type: ignore[method-assign]
    if hasattr(optimizer, "add_penalty_gradients"):
        optimizer.add_penalty_gradients = clock.timed(CLIPPING, optimizer.add_penalty_gradients)


def _time_replays(runner: BlockRunner, clock: StepClock) -> None:
    new_graphs = runner.new_graphs
    runner.new_graphs = lambda device: _TimedGraphs(new_graphs(device), clock)


class _TimedGraphs:
    """Graphs whose replays are a part of the step."""

    def __init__(self, graphs: StepGraphs, clock: StepClock) -> None:
        self._graphs, self._clock = graphs, clock

    def run(self, step: Step) -> None:
        self._graphs.run(step)

    def capture(self, step: Step) -> Step:
        return self._clock.timed(REPLAY, self._graphs.capture(step))
