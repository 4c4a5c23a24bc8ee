"""The sequential module with networks that score user-item pairs directly: metrics and training."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning import seed_everything
from torch import nn

from stemlab.metrics import ranking_metrics
from stemlab.models.sequential.tin import TIN
from tests.lightning.test_multitask import trainer
from tests.lightning.test_sequential import SIZES, TOPK, data, module, reference_ranks


def tin() -> TIN:
    seed_everything(0, verbose=False)
    net = TIN(SIZES, embedding_dim=8, category_dim=0, hidden_units=[8])
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)
    return net


@pytest.mark.parametrize("candidates", ["stored", "full"])
def test_metrics_of_a_network_that_scores_pairs_are_those_of_its_scores(candidates: str, tmp_path: Path) -> None:
    toy, made = data(tmp_path, candidates), module(tin(), candidates)
    trainer(tmp_path).test(made, datamodule=toy, verbose=False)
    rank_U = reference_ranks(made, toy, candidates == "full", "pessimistic")
    expected = {f"test/{name}": value for name, value in ranking_metrics(rank_U, TOPK).items()}
    assert made.metric_values == expected
    assert 0 < expected["test/hr@3"] < expected["test/hr@10"] < 1
    batch = next(iter(data(tmp_path).test_dataloader()))
    torch.testing.assert_close(made(batch), made.net(batch, "eval").score_BN)


def test_training_reduces_the_loss_of_a_network_that_scores_pairs(tmp_path: Path) -> None:
    toy, made = data(tmp_path), module(tin())
    losses = []
    for epochs in (1, 4):
        trainer(tmp_path, epochs=epochs).fit(made, datamodule=toy)
        batch = next(iter(toy.train_dataloader()))
        losses.append(float(made.net.losses(made.net(batch, "train"))["click"].detach()))
    assert losses[1] < losses[0] < 5
