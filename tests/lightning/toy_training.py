"""Trainings of small networks in batches or in blocks, with everything they log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.loggers.logger import Logger
from torch import nn

from stemlab.callbacks.checkpoint import BestCheckpoint
from stemlab.data.blocks import BlockLoader, StepBlock
from stemlab.lightning.block_training import BlockTraining
from stemlab.lightning.captured import BlockRunner
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.settings import ModuleSettings
from stemlab.lightning.step_graph import StepGraphs
from stemlab.models.multitask.mmoe import MMoE
from stemlab.models.multitask.stem import STEM
from stemlab.optim import OptimConfig, Penalty, PlateauConfig
from tests.lightning.emulated_graphs import EmulatedGraphs
from tests.lightning.toy_data import SPEC, Toy

SMALL: dict[str, Any] = {"embedding_dim": 4, "tower_hidden_units": [4], "gate_hidden_units": [4]}
EPOCH_STEPS = 7  # 96 samples in batches of 14: six steps and a last one of 12 samples


def mmoe() -> nn.Module:
    return MMoE(SPEC.field_sizes, SPEC.tasks, num_experts=2, batch_norm=True, expert_hidden_units=[6], **SMALL)


def stem() -> nn.Module:
    layers = {"num_layers": 1, "num_shared_experts": 1, "num_specific_experts": 1}
    return STEM(SPEC.field_sizes, SPEC.tasks, expert_hidden_units=[6], **layers, **SMALL)


NETS = {"mmoe": mmoe, "stem": stem}
PENALISED = {
    "embedding_penalty": Penalty(l1=1e-4, l2=1e-2),
    "net_penalty": Penalty(l2=1e-3),
    "optim": OptimConfig(lr=0.05, clip_norm=0.1, plateau=PlateauConfig(factor=0.5)),
}
ROWS_ONLY = PENALISED | {"penalty_mode": "batch", "optim": OptimConfig(lr=0.05, clip_norm=None)}


def by_rows(rule: str) -> dict[str, Any]:
    """Return settings whose tables are trained by rows, with penalty, clipping and a learning rate of their own."""
    optim = OptimConfig(lr=0.05, clip_norm=0.1, tables=rule, tables_lr=0.1, plateau=PlateauConfig(factor=0.5))  # type: ignore[arg-type]
    return PENALISED | {"penalty_mode": "batch", "optim": optim}


class MemoryLogger(Logger):
    """Keep all logged metrics."""

    name, version = "memory", 0

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.lines.append((step, dict(metrics)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


class Losses(Callback):
    """Keep the mean loss and the number of steps of every batch or block."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, int]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seen.append((float(outputs["loss"]), outputs.get("steps", 1)))


class BlockToy(Toy):
    """The toy data in blocks of steps."""

    def __init__(self, steps: int, residence: str = "device", limit: int | None = None) -> None:
        super().__init__(batch_size=14)
        self.steps, self.residence, self.limit = steps, residence, limit

    def train_dataloader(self) -> Any:
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        return BlockLoader(self.train_loader(), self.steps, device, self.residence, self.limit)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch if isinstance(batch, StepBlock) else super().transfer_batch_to_device(batch, device, 0)


class Training:
    """A training of the toy data; ``block``: steps per block, 0 for batches; ``options``: of the trainer."""

    def __init__(
        self,
        net: nn.Module,
        block: int,
        folder: Path,
        epochs: int = 3,
        residence: str = "device",
        limit: int | None = None,
        graphs: Callable[[torch.device], StepGraphs] | None = None,
        accelerator: str = "cpu",
        batch_size: int = 14,
        options: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.data: Toy = BlockToy(block, residence, limit) if block else Toy(batch_size=batch_size)
        self.log, self.emulated = MemoryLogger(), EmulatedGraphs()
        optim = settings.pop("optim", OptimConfig(lr=0.05))
        self.module = MultiTaskModule(net, SPEC, SPEC.tasks, ModuleSettings(optim=optim, **settings))
        self.runner = BlockRunner(graphs or (lambda device: self.emulated), block)
        if block:
            self.module.train_in_blocks(BlockTraining(self.runner))
        self.losses = Losses()
        self.checkpoint = BestCheckpoint(folder, "val/auc", "max", 1e-6, save_last=True)
        self.trainer = Trainer(
            accelerator=accelerator,
            devices=1,
            deterministic=accelerator == "gpu",
            max_epochs=epochs,
            logger=self.log,
            log_every_n_steps=5,
            callbacks=[self.losses, self.checkpoint],
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=folder,
            **(options or {}),
        )

    def fit(self, ckpt_path: Path | None = None) -> Training:
        self.trainer.fit(self.module, datamodule=self.data, ckpt_path=ckpt_path, weights_only=True)
        return self


def make(name: str) -> nn.Module:
    seed_everything(0, verbose=False)
    return NETS[name]()


class Rates(Callback):
    """Append the learning rate of every block."""

    def __init__(self, rates: list[float]) -> None:
        self.rates = rates

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


class Spoil:
    """Make the loss of one step NaN: the ``call``-th, from 1."""

    def __init__(self, training: Training, call: int) -> None:
        self.training, self.left = training, call
        self.plain = training.module.losses
        training.module.losses = self.losses  # type: ignore[method-assign]

    def losses(self, batch: Any) -> Any:
        self.left -= 1
        loss, parts = self.plain(batch)
        return (loss * float("nan") if self.left == 0 else loss), parts

    def fit(self) -> None:
        self.training.fit()
