"""The average of weights equals that of torch, is what is validated and saved, and resumes exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stemlab.callbacks.averaged_weights import AveragedWeights
from stemlab.errors import Interrupted
from stemlab.optim import OptimConfig, PlateauConfig
from tests.lightning.test_intervals import Signal, Validations, assert_equal_weights, training
from tests.lightning.toy_training import PENALISED, Training, make


class Reference(Callback):
    """Torch's own average."""

    def on_train_start(self, trainer, pl_module) -> None:
        self.model = AveragedModel(pl_module.net, multi_avg_fn=get_ema_multi_avg_fn(0.9))

    def on_train_batch_end(self, trainer, pl_module, *rest) -> None:
        self.model.update_parameters(pl_module.net)


def averaged(folder: Path, *extra: Callback, **settings: Any) -> Training:
    return training(folder, extra=(AveragedWeights(0.9), *extra), **settings)


def weights(path: Path) -> dict[str, torch.Tensor]:
    state = torch.load(path, weights_only=True)["state_dict"]
    return {name.removeprefix("net."): value for name, value in state.items()}


def test_equals_that_of_torch_and_is_saved(tmp_path: Path) -> None:
    reference = Reference()
    ours = averaged(tmp_path, reference, every=None).fit()
    saved, trained = weights(tmp_path / "last.ckpt"), dict(ours.module.net.named_parameters())
    for name, value in reference.model.module.named_parameters():
        torch.testing.assert_close(saved[name], value, atol=1e-7, rtol=1e-6, msg=name)
        assert not torch.equal(saved[name], trained[name]) or "table" in name
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)["averaged_weights"]
    assert all(torch.equal(kept[name], value) for name, value in trained.items())


def test_the_trained_weights_are_those_without_an_average(tmp_path: Path) -> None:
    settings = {"optim": OptimConfig(lr=0.05, plateau=PlateauConfig(enabled=False))}
    plain = training(tmp_path / "plain", **settings).fit()
    ours = averaged(tmp_path / "ours", **settings).fit()
    for a, b in zip(ours.module.parameters(), plain.module.parameters(), strict=True):
        assert torch.equal(a, b)
    assert ours.module.metric_values != plain.module.metric_values


def test_the_best_checkpoint_gives_the_validated_metrics(tmp_path: Path) -> None:
    ours = averaged(tmp_path).fit()
    best = ours.checkpoint.improvement.best
    again = averaged(tmp_path / "again")
    again.trainer.validate(again.module, datamodule=again.data, ckpt_path=tmp_path / "best.ckpt", verbose=False)
    assert again.module.metric_values["val/auc"] == best
    ours.trainer.validate(ours.module, datamodule=ours.data, ckpt_path=tmp_path / "best.ckpt", verbose=False)
    assert ours.module.metric_values["val/auc"] == best


@pytest.mark.parametrize("block", [0, 4])
def test_a_resumed_run_continues_both_weights(block: int, tmp_path: Path) -> None:
    def run(folder: Path, epochs: int, block: int, ckpt: Path | None = None) -> Training:
        made = Training(make("mmoe"), block, folder, epochs, **PENALISED)
        made.trainer.callbacks.insert(0, AveragedWeights(0.9))
        return made.fit(ckpt)

    whole = run(tmp_path / "whole", 3, 0)
    run(tmp_path / "first", 2, block)
    resumed = run(tmp_path / "second", 3, block, tmp_path / "first" / "last.ckpt")
    assert_equal_weights(resumed, whole)
    ours, theirs = weights(tmp_path / "second" / "last.ckpt"), weights(tmp_path / "whole" / "last.ckpt")
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_a_run_is_resumed_within_an_epoch_and_within_a_validation(tmp_path: Path) -> None:
    whole = averaged(tmp_path / "whole", Validations(10, tmp_path / "whole")).fit()
    first = averaged(tmp_path / "first", Signal(10, "on_validation_batch_end"))
    with pytest.raises((Interrupted, SystemExit, KeyboardInterrupt)):
        first.fit()
    for number, checkpoint in enumerate((tmp_path / "whole" / "copied.ckpt", tmp_path / "first" / "last.ckpt")):
        resumed = averaged(tmp_path / str(number)).fit(checkpoint)
        assert_equal_weights(resumed, whole)
        ours, theirs = weights(tmp_path / str(number) / "last.ckpt"), weights(tmp_path / "whole" / "last.ckpt")
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())
