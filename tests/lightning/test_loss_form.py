"""The options ``loss_form`` and ``loss_reduction``."""

from pathlib import Path

import pytest
import torch

from stemlab.config.compose import compose
from stemlab.lightning.settings import ModuleSettings
from stemlab.optim import OptimConfig
from tests.lightning.test_multitask import Watch, module, trainer
from tests.lightning.toy_data import SPEC, Toy


@pytest.mark.parametrize(("form", "loss_per_sample"), [("logits", 400.0), ("probability", 100.0)])
def test_the_form_of_the_loss_is_an_option(form: str, loss_per_sample: float, tmp_path: Path) -> None:
    """A wrong logit of 400 has a loss of 400; the form of the released code clamps the logarithm at -100."""
    toy, watch, made = Toy(), Watch(), module(tasks=("like",), loss_form=form)
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.zero_()
        list(made.net.parameters())[-1].fill_(400.0)  # the last tower's bias
    toy.setup()
    labels_B = next(iter(toy.train_dataloader())).labels_BT[:, SPEC.task_index("like")].float()
    trainer(tmp_path, watch, limit_train_batches=1).fit(made, datamodule=toy)
    assert 0 < labels_B.mean() < 1
    assert watch.losses[0] == pytest.approx(loss_per_sample * float(1 - labels_B.mean()), rel=1e-5)


def test_the_losses_of_the_tasks_are_added_or_averaged(tmp_path: Path) -> None:
    losses = {}
    for reduction in ("sum", "mean"):
        watch = Watch()
        made = module(loss_reduction=reduction)
        trainer(tmp_path, watch, limit_train_batches=1).fit(made, datamodule=Toy())
        losses[reduction] = watch.losses[0]
    assert losses["sum"] == pytest.approx(2 * losses["mean"], rel=1e-6)
    assert losses["mean"] == pytest.approx(0.69, abs=0.1)  # about ln 2, once


def test_the_reduction_is_read_from_the_config() -> None:
    config = compose("train", ["model=mmoe"])
    optim = OptimConfig()
    assert ModuleSettings.from_config(config, optim).loss_reduction == "sum"
    assert ModuleSettings.from_config(compose("train", ["model.loss_reduction=mean"]), optim).loss_reduction == "mean"
