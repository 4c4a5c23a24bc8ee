"""Regression labels, conditional labels and weights in a module: losses, predictions, metrics, two ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import DatasetSpec, Field, Label
from stemlab.inference.export.networks import ImpressionScores
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.settings import ModuleSettings
from stemlab.metrics import MultiTaskMetrics
from stemlab.models.multitask.mmoe import MMoE
from stemlab.nn.global_batch import BatchShare
from stemlab.optim import OptimConfig
from tests.ranks import run_ranks

TASKS = ("click", "buy", "seconds")
LABELS = (Label("buy", given="click"), Label("seconds", "regression"))
FIELDS = (Field("user", 7), Field("item", 11))
SPEC = DatasetSpec("made", FIELDS, TASKS, scenarios=("a", "b"), labels=LABELS, weight="w")


def samples(n: int = 24, seed: int = 0) -> ImpressionBatch:
    """Draw a batch with all columns."""
    rng = np.random.default_rng(seed)
    click = rng.integers(0, 2, n)
    labels = np.stack([click, click * rng.integers(0, 2, n), 0 * click], axis=1).astype(np.int8)
    return ImpressionBatch(
        torch.from_numpy(rng.integers(1, 7, (n, 2)).astype(np.int32)),
        torch.from_numpy(labels),
        scenario_B=torch.from_numpy(rng.integers(0, 2, n).astype(np.int32)),
        values_BV=torch.from_numpy(rng.gamma(2.0, 5.0, (n, 1)).astype(np.float32)),
        mask_BT=torch.from_numpy(np.stack([0 * click + 1, click, 0 * click + 1], axis=1).astype(np.int8)),
        weight_B=torch.from_numpy(rng.random(n).astype(np.float32)),
    )


def module(tasks: tuple[str, ...] = TASKS, **settings: Any) -> MultiTaskModule:
    torch.manual_seed(0)
    widths = {"embedding_dim": 4, "tower_hidden_units": [4], "gate_hidden_units": [4], "expert_hidden_units": [6]}
    net = MMoE(SPEC.sizes, tasks, num_experts=2, **widths)
    return MultiTaskModule(net, SPEC, tasks, ModuleSettings(optim=OptimConfig(lr=0.05), **settings))


def test_losses_are_weighted_means_over_the_counted_samples() -> None:
    made, batch = module(losses={"seconds": "huber"}, positive_weights={"buy": 3.0}), samples()
    loss, parts = made.losses(batch)
    logit, weight = made.net(batch).logit_BT.detach(), batch.weight_B
    click, buy = (batch.labels_BT[:, task].float() for task in range(2))
    clicked = click == 1
    crossed = functional.binary_cross_entropy_with_logits(logit[:, 0], click, weight, reduction="sum") / weight.sum()
    bought = functional.binary_cross_entropy_with_logits(
        logit[clicked, 1], buy[clicked], weight[clicked], reduction="sum", pos_weight=torch.tensor(3.0)
    )
    huber = functional.huber_loss(logit[:, 2], batch.values_BV[:, 0], reduction="none")
    expected = [crossed, bought / weight[clicked].sum(), (weight * huber).sum() / weight.sum()]
    torch.testing.assert_close(torch.stack(list(parts.values())), torch.stack(expected))
    torch.testing.assert_close(loss.detach(), sum(expected))


def test_a_single_task_reads_its_own_columns() -> None:
    made, batch = module(("seconds",), losses={"seconds": "lognormal"}), samples()
    assert made.headlines == ("rmse",)
    assert made.labels(batch).tolist() == batch.values_BV.tolist()
    torch.testing.assert_close(made(batch), made.net(batch).logit_BT.expm1())
    assert module(("click",)).labels(batch).dtype == torch.int8
    assert module(("buy",)).label_columns.weights(batch).tolist() == [
        [w * m] for w, m in zip(batch.weight_B.tolist(), batch.mask_BT[:, 1].tolist(), strict=True)
    ]


def test_exported_networks_predict_in_the_unit_of_the_label() -> None:
    made, batch = module(losses={"seconds": "lognormal"}).eval(), samples()
    exported = ImpressionScores(made.net, made.task_losses)
    assert exported.outputs == ("prediction",)
    assert torch.equal(exported(batch.ids_BF, scenario=batch.scenario_B), made(batch))


def test_metrics_measure_each_task_on_its_samples() -> None:
    made, batch = module(), samples(200)
    metrics = MultiTaskMetrics(TASKS, SPEC.scenarios, regression=["seconds"])
    made.update_metrics(metrics, batch)
    values = metrics.compute()
    prob, weight = made(batch).detach().numpy(), batch.weight_B.double().numpy()
    click, buy = batch.labels_BT[:, 0].numpy(), batch.labels_BT[:, 1].numpy()
    clicked, first = click == 1, batch.scenario_B.numpy() == 0
    for name, task, labels, rows in (
        ("auc/click", 0, click, np.ones(200, bool)),
        ("auc/buy", 1, buy, clicked),
        ("auc/buy/a", 1, buy, clicked & first),
    ):
        expected = roc_auc_score(labels[rows], prob[rows, task], sample_weight=weight[rows])
        assert values[name] == pytest.approx(expected, abs=1e-9), name
    errors = prob[:, 2] - batch.values_BV[:, 0].numpy()
    assert values["rmse/seconds"] == pytest.approx(np.sqrt(np.average(errors**2, weights=weight)), rel=1e-6)
    assert values["auc"] == (values["auc/click"] + values["auc/buy"]) / 2
    assert values["rmse"] == values["rmse/seconds"]
    assert not {"auc/seconds", "rmse/click"} & set(values)
    assert {"xauc/seconds/b", "mae/seconds/a"} <= set(values)


def test_undefined_metrics_of_a_task_without_samples() -> None:
    batch = samples()
    batch.mask_BT[:, 1] = 0
    metrics = MultiTaskMetrics(TASKS, regression=["seconds"])
    module().update_metrics(metrics, batch)
    assert np.isnan(metrics.compute()["auc/buy"])
    assert any("auc/buy" in reason and "no samples" in reason for reason in metrics.undefined)


def _rank_results(rank: int, halves: list[ImpressionBatch]) -> tuple[list[float], list[list[float]], dict[str, float]]:
    """Return losses, averaged gradients and metrics of a rank with its half of the samples."""
    made, batch = module(), halves[rank]
    made.batch_share = BatchShare(rank, 2)
    return _results(made, batch, ranks=2)


def _results(made: MultiTaskModule, batch: ImpressionBatch, ranks: int) -> Any:
    loss, _ = made.losses(batch)
    loss.backward()
    gradients = [weight.grad for weight in made.net.parameters() if weight.grad is not None]
    total = loss.detach().clone()
    if ranks > 1:
        for tensor in (total, *gradients):
            torch.distributed.all_reduce(tensor)
    metrics = MultiTaskMetrics(TASKS, SPEC.scenarios, regression=["seconds"])
    made.update_metrics(metrics, batch)
    flat = nn.utils.parameters_to_vector([gradient / ranks for gradient in gradients])
    return float(total) / ranks, flat.tolist(), metrics.compute()


@pytest.mark.ddp
def test_two_ranks_are_one() -> None:
    batch = samples(40)
    batch.mask_BT[:20, 1] = 0  # rank 0 has no sample of one task
    rows = torch.arange(40)
    whole = _results(module(), batch, ranks=1)
    for loss, gradient, values in run_ranks(_rank_results, [batch.take(rows[:20]), batch.take(rows[20:])]):
        assert loss == pytest.approx(whole[0], rel=1e-6)
        np.testing.assert_allclose(gradient, whole[1], rtol=1e-4, atol=1e-7)
        assert {name: value for name, value in values.items() if value == value} == {
            name: value for name, value in whole[2].items() if value == value
        }
