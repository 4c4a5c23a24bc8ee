"""Lightning calls no hook of a step that does nothing, and all others."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from stemlab.lightning.idle_hooks import skip_idle_hooks


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.steps = nn.Linear(1, 1), 0

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return self.layer(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_after_backward(self) -> None:
        self.steps += 1


class Counter(pl.Callback):
    batches = 0

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.batches += 1


class Later(Counter):
    """Inherits a hook that does something."""


def test_idle_hooks_are_skipped_and_others_are_called(tmp_path: Any) -> None:
    module, callbacks = Module(), [Counter(), Later(), pl.Callback()]
    skip_idle_hooks(module, callbacks)
    assert [callback.on_train_batch_end is None for callback in callbacks] == [False, False, True]
    assert all(callback.on_before_backward is None for callback in callbacks)
    assert (module.on_train_batch_start, module.on_train_batch_end) == (None, None)
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        max_epochs=1,
        callbacks=callbacks,
        accelerator="cpu",
        default_root_dir=tmp_path,
        **off,
    )
    trainer.fit(module, DataLoader(torch.ones(6, 1), batch_size=2))
    assert module.steps == 3
    assert [callback.batches for callback in callbacks[:2]] == [3, 3]
