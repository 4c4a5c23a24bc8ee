"""Training in blocks of steps that are replayed as CUDA graphs.

A step reads its samples from columns on the device, so that a replay needs nothing from the CPU: a counter on the
device selects the row numbers of the step, and the losses of the step go to a table that is read once per block. The
CPU enqueues a whole block before it reads the table of the block before, so that the GPU never waits for Lightning.

Legend: S steps of a block, B samples per step, P logged values of a step, G parameter groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor

from stemlab.data.batch import ImpressionBatch, SequenceBatch
from stemlab.data.blocks import StepBlock
from stemlab.lightning.step_graph import CaptureError, Step, StepGraphs
from stemlab.optim.capture import captured_values

if TYPE_CHECKING:
    from stemlab.lightning.module import NetModule

WARMUP_STEPS = 3
"""Steps of a batch size that run before it is captured; they are training steps like all others."""

Block = StepBlock[Any]


class ColumnSource(Protocol):
    """Columns from which a step takes its samples."""

    def take(self, rows_B: Tensor) -> Any:
        """Return the samples with the given row numbers."""
        ...


@dataclass(slots=True)
class StepBuffers:
    """Tensors at fixed addresses that the steps of one batch size read and write.

    Attributes:
        columns: columns of the samples.
        rows_SB: row numbers of the steps of the current block.
        step_1: number of the next step in the block.
        steps_S1: 0, 1, ..., S - 1.
        rates_SG: learning rate of each step and parameter group, if a schedule changes them.
        values_SP: float64 values of the steps: loss, parts of the loss, gradient norm; created by the first step.
        names: names of the P values.
        executed: steps executed so far.
        replay: replays the captured step.
        constants: values in the captured step that a change makes stale.
    """

    columns: ColumnSource
    rows_SB: Tensor
    step_1: Tensor
    steps_S1: Tensor
    rates_SG: Tensor | None = None
    values_SP: Tensor | None = None
    names: tuple[str, ...] = ()
    executed: int = 0
    replay: Step | None = None
    constants: tuple[Any, ...] = ()

    @classmethod
    def allocate(cls, block: Block, steps: int, copy_columns: bool) -> StepBuffers:
        """Return buffers for blocks of at most ``steps`` steps of the batch size of ``block``."""
        rows_SB, device = block.rows_SB, block.rows_SB.device
        columns: Any = block.columns
        if copy_columns:
            samples = steps * rows_SB.shape[1]
            columns = columns.map(lambda column: column.new_zeros((samples, *column.shape[1:])))
        return cls(
            columns,
            torch.zeros((steps, rows_SB.shape[1]), dtype=torch.int64, device=device),
            torch.zeros(1, dtype=torch.int64, device=device),
            torch.arange(steps, device=device)[:, None],
        )

    def load(self, block: Block, copy_columns: bool) -> None:
        """Copy the row numbers of a block, and its columns if they change from block to block."""
        self.rows_SB[: block.steps].copy_(block.rows_SB)
        self.step_1.zero_()
        if copy_columns:
            assert isinstance(self.columns, ImpressionBatch | SequenceBatch)
            given = cast(ImpressionBatch | SequenceBatch, block.columns).tensors()
            for name, column in self.columns.tensors().items():
                column[: len(given[name])].copy_(given[name])

    def load_rates(self, rates: list[list[float]]) -> None:
        """Copy the learning rates of the steps of a block."""
        if self.rates_SG is None:
            shape, device = (len(self.steps_S1), len(rates[0])), self.steps_S1.device
            self.rates_SG = torch.zeros(shape, dtype=torch.float64, device=device)
        self.rates_SG[: len(rates)].copy_(torch.tensor(rates, dtype=torch.float64))

    def set_rates(self, groups: list[dict[str, Any]]) -> None:
        """Overwrite the learning rates of parameter groups, which are tensors, by those of the next step."""
        if self.rates_SG is not None:
            rates_G = self.rates_SG.index_select(0, self.step_1).squeeze(0)
            for group, rate in zip(groups, rates_G.unbind(), strict=True):
                group["lr"].copy_(rate)

    def batch(self) -> Any:
        """Return the samples of the next step."""
        return self.columns.take(self.rows_SB.index_select(0, self.step_1).squeeze(0))

    def record(self, values: Mapping[str, Tensor]) -> None:
        """Store the values of a step and count it; no value is read on the CPU."""
        if self.values_SP is None:
            self.names = tuple(values)
            shape = (len(self.steps_S1), len(values))
            self.values_SP = torch.zeros(shape, dtype=torch.float64, device=self.step_1.device)
        values_P = torch.stack([value.detach().double() for value in values.values()])
        self.values_SP.copy_(torch.where(self.steps_S1 == self.step_1, values_P, self.values_SP))
        self.step_1.add_(1)


@dataclass(slots=True)
class BlockRunner:
    """Executes the steps of blocks: the first ones of each batch size directly, the others as replays of a graph.

    Args:
        new_graphs: returns what executes and captures steps on a device.
        steps_per_block: maximum number of steps of a block.

    Attributes:
        copy_columns: whether the columns of every block are at other addresses (residence ``host``).
        reason: why steps are not captured any more, or None.
        executed: number of executed steps.
        replayed: number of those that were replays.
    """

    new_graphs: Callable[[torch.device], StepGraphs]
    steps_per_block: int
    copy_columns: bool = False
    reason: str | None = None
    executed: int = 0
    replayed: int = 0
    _graphs: StepGraphs | None = None
    _buffers: dict[int, StepBuffers] = field(default_factory=dict)

    def run(self, module: NetModule, block: Block) -> StepBuffers:
        """Execute the steps of a block; return its buffers, which the next block of this batch size overwrites."""
        if self._graphs is None:
            self._graphs = self.new_graphs(module.device)
        buffers = self._buffers_of(block)
        buffers.load(block, self.copy_columns)
        if module.schedule is not None:
            buffers.load_rates(module.schedule.rates(module.trainer.optimizers[0], module.global_step, block.steps))
        constants = captured_values(module.trainer.optimizers[0])
        if buffers.constants != constants:
            buffers.replay, buffers.constants = None, constants

        def step() -> None:
            training_step(module, buffers)

        for _ in range(block.steps):
            # a single step, the last one of an epoch, is not worth a graph
            if buffers.replay is None and self.reason is None and buffers.executed >= WARMUP_STEPS and block.steps > 1:
                self._capture(self._graphs, module, buffers, step)
            if buffers.replay is None:
                self._graphs.run(step)
            else:
                buffers.replay()
                self.replayed += 1
            buffers.executed += 1
        self.executed += block.steps
        return buffers

    def _buffers_of(self, block: Block) -> StepBuffers:
        size = int(block.rows_SB.shape[1])
        if size not in self._buffers:
            self._buffers[size] = StepBuffers.allocate(block, self.steps_per_block, self.copy_columns)
        return self._buffers[size]

    def _capture(self, graphs: StepGraphs, module: NetModule, buffers: StepBuffers, step: Step) -> None:
        """Capture the step, or note why that is impossible and replay nothing from now on."""
        optimizer = module.trainer.optimizers[0]
        optimizer.zero_grad(set_to_none=True)  # the graph has gradients of its own
        try:
            buffers.replay = graphs.capture(step)
        except CaptureError as error:
            self.reason = str(error)
            for others in self._buffers.values():
                others.replay = None
            optimizer.zero_grad(set_to_none=True)


def training_step(module: NetModule, buffers: StepBuffers) -> None:
    """Execute one training step: forward and backward pass, penalty, clipping, optimiser, values of the step."""
    optimizer = module.trainer.optimizers[0]
    # Lightning calls training_step under autocast, but only the forward pass belongs under it; casts of weights that
    # autocast keeps are those of the step before
    with torch.autocast(module.device.type, enabled=False):
        torch.clear_autocast_cache()
        optimizer.zero_grad(set_to_none=True)
        with module.trainer.precision_plugin.forward_context():
            loss, parts = module.losses(buffers.batch())
        loss.backward()  # type: ignore[no-untyped-call]
        norm = module.clip(optimizer)
        buffers.set_rates(optimizer.param_groups)
        optimizer.step()
        if module.average is not None:
            module.average.update()
        values = {"loss": loss, **{f"loss/{name}": value for name, value in parts.items()}}
        buffers.record(values if norm is None else {**values, "grad_norm": norm})
        torch.clear_autocast_cache()
