"""Captured training steps on a GPU; skipped without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from torch import nn

from stemlab.errors import StemlabError
from stemlab.lightning.captured import WARMUP_STEPS
from stemlab.lightning.step_graph import CudaGraphs
from tests.lightning.toy_training import EPOCH_STEPS, PENALISED, ROWS_ONLY, Spoil, Training, by_rows, make

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
REPLAYED = 3 * (EPOCH_STEPS - 1) - WARMUP_STEPS


def train(net: nn.Module, block: int, folder: Path, **settings: Any) -> Training:
    """Train for three epochs on the GPU, in captured blocks or in batches (``block`` 0)."""
    return Training(net, block, folder, graphs=CudaGraphs, accelerator="gpu", **settings).fit()


def assert_close(ours: nn.Module, expected: nn.Module, tolerance: float = 1e-6) -> None:
    for (name, a), b in zip(ours.state_dict().items(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("residence", ["device", "host"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mmoe", {}),
        ("stem", PENALISED),
        ("stem", ROWS_ONLY),
        ("stem", by_rows("sparse_adam")),
        ("stem", by_rows("rowwise_adagrad")),
    ],
    ids=["mmoe", "penalised", "rows", "sparse_adam", "rowwise_adagrad"],
)
def test_captured_steps_equal_eager_steps(name: str, settings: dict[str, Any], residence: str, tmp_path: Path) -> None:
    eager = train(make(name), 0, tmp_path / "eager", **settings)
    ours = train(make(name), 4, tmp_path / "captured", residence=residence, **settings)
    assert ours.runner.reason is None
    assert ours.runner.replayed == REPLAYED
    assert_close(ours.module.net, eager.module.net)
    assert ours.trainer.global_step == eager.trainer.global_step
    for (a_step, a), (b_step, b) in zip(ours.log.lines, eager.log.lines, strict=True):
        assert a_step == b_step
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)


def test_device_form_of_penalties_and_clipping_equals_the_cpu(tmp_path: Path) -> None:
    for name, given in (("dense", PENALISED), ("rows", ROWS_ONLY)):
        # Adam divides by the root of the second moment: with a small eps, rounding decides about tiny gradients
        settings = {**given, "optim": replace(given["optim"], eps=0.1)}
        cpu = Training(make("stem"), 0, tmp_path / f"cpu {name}", epochs=1, **settings).fit()
        gpu = train(make("stem"), 4, tmp_path / f"gpu {name}", epochs=1, **settings)
        assert_close(gpu.module.net.cpu(), cpu.module.net, tolerance=1e-4)


def test_replays_draw_new_dropout_masks(tmp_path: Path) -> None:
    net = make("stem")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
    training = train(Dropped(net), 6, tmp_path, epochs=2)
    assert training.runner.reason is None
    losses = [float(line["train/loss"]) for _, line in training.log.lines if "train/loss" in line]
    assert len(set(losses)) == len(losses)
    resumed = train(Dropped(make("stem")), 6, tmp_path / "again", epochs=2)
    again = train(Dropped(make("stem")), 6, tmp_path / "and again", epochs=2)
    assert_close(resumed.module.net, again.module.net, tolerance=0)


class Dropped(nn.Module):
    """A network with dropout on its logits."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.tasks, self.dropout = net, net.tasks, nn.Dropout(0.3)

    def forward(self, batch: Any) -> Any:
        output = self.net(batch)
        output.logit_BT = self.dropout(output.logit_BT)
        return output


class Reading(Dropped):
    """A network that reads a value of the GPU, which no graph can capture."""

    def forward(self, batch: Any) -> Any:
        output = super().forward(batch)
        return output if float(output.logit_BT.sum()) > -1e30 else None


def test_a_network_that_reads_the_gpu_is_trained_eagerly(tmp_path: Path) -> None:
    ours = train(Reading(make("stem")), 4, tmp_path / "captured")
    assert ours.runner.reason
    assert ours.runner.replayed == 0
    eager = train(Reading(make("stem")), 0, tmp_path / "eager")
    assert ours.trainer.global_step == eager.trainer.global_step
    # later runs in the process are not affected
    assert train(make("stem"), 4, tmp_path / "later").runner.replayed == REPLAYED


class NoSynchronisation(Callback):
    """Raise an error if a block of replays waits for the GPU."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        torch.cuda.set_sync_debug_mode("error" if trainer.current_epoch and not last else "default")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        torch.cuda.set_sync_debug_mode("default")


def test_blocks_do_not_wait_for_the_gpu(tmp_path: Path) -> None:
    training = Training(make("stem"), 2, tmp_path, graphs=CudaGraphs, accelerator="gpu", **PENALISED)
    training.trainer.callbacks = [NoSynchronisation()]
    training.fit()
    assert training.runner.replayed == REPLAYED


def test_a_checkpoint_of_captured_steps_is_resumed_on_the_cpu_and_back(tmp_path: Path) -> None:
    train(make("stem"), 4, tmp_path / "gpu", epochs=1, **PENALISED)
    cpu = Training(make("stem"), 0, tmp_path / "cpu", epochs=2, **PENALISED).fit(tmp_path / "gpu" / "last.ckpt")
    assert cpu.trainer.global_step == 2 * EPOCH_STEPS
    back = Training(make("stem"), 4, tmp_path / "back", graphs=CudaGraphs, accelerator="gpu", **PENALISED)
    back.fit(tmp_path / "cpu" / "last.ckpt")
    assert back.trainer.global_step == 3 * EPOCH_STEPS
    assert back.runner.reason is None
    assert back.runner.replayed == EPOCH_STEPS - 1 - WARMUP_STEPS


def test_a_loss_that_is_not_finite_is_reported(tmp_path: Path) -> None:
    training = Training(make("mmoe"), 4, tmp_path, graphs=CudaGraphs, accelerator="gpu")
    with pytest.raises(StemlabError, match=r"nan.*step 2 "):
        Spoil(training, call=2).fit()
