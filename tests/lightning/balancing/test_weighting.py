"""Weights of the task losses: equations, logged values, and the state in checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stemlab.balancing_methods import DEFAULTS, BalancingSettings
from stemlab.lightning.balancing import Balancing, build_balancing
from stemlab.models.api import MultiTaskOutput
from tests.lightning.toy_training import Training, make

TASKS = ("finish", "like")


def settings(method: str, **options: Any) -> BalancingSettings:
    return BalancingSettings(method, DEFAULTS.get(method, {}) | options)  # type: ignore[arg-type]


def build(method: str, tasks: tuple[str, ...] = TASKS, **options: Any) -> Balancing:
    made = build_balancing(settings(method, **options), tasks, seed=0)
    assert made is not None
    return made


def loss_of(balancing: Balancing, losses_T: Tensor) -> Tensor:
    return balancing.loss(losses_T, MultiTaskOutput(losses_T), torch.nn.Identity())


def test_sum_and_mean_are_the_reductions() -> None:
    assert build_balancing(None, TASKS, 0) is build_balancing(settings("mean"), TASKS, 0) is None


def test_fixed_weights() -> None:
    losses_T = torch.tensor([0.5, 2.0], requires_grad=True)
    loss = loss_of(build("weights", weights=[3, 0.25]), losses_T)
    loss.backward()
    assert (loss.item(), losses_T.grad.tolist()) == (2.0, [3.0, 0.25])


def test_weights_by_name_follow_the_order_of_the_tasks() -> None:
    model = {"loss_reduction": "sum", "balancing": "weights", "balancing_options": {"weights": {"b": 2, "a": 1}}}
    assert BalancingSettings.from_config(model, ["a", "b"]).options == {"weights": [1, 2]}


def test_a_config_of_an_older_version_has_its_reduction() -> None:
    assert BalancingSettings.from_config({"loss_reduction": "mean"}).method == "mean"


def test_uncertainty() -> None:
    balancing = build("uncertainty")
    assert loss_of(balancing, torch.tensor([0.5, 2.0])).item() == 2.5  # the sum, at the beginning
    log_variance_T = dict(balancing.named_parameters())["log_variance_T"]
    with torch.no_grad():
        log_variance_T.copy_(torch.tensor([0.3, -1.1]))
    losses_T = torch.tensor([0.5, 2.0], requires_grad=True)
    loss = loss_of(balancing, losses_T)
    sigma_T = (log_variance_T / 2).exp()
    torch.testing.assert_close(loss, (losses_T / sigma_T**2 + sigma_T.log()).sum())
    loss.backward()
    torch.testing.assert_close(log_variance_T.grad, (0.5 - losses_T / sigma_T**2).detach())


def test_geometric_loss() -> None:
    losses_T = torch.tensor([0.5, 2.0, 4.0], dtype=torch.float64, requires_grad=True)
    balancing = build("gls", ("a", "b", "c"))
    loss = loss_of(balancing, losses_T)
    loss.backward()
    torch.testing.assert_close(loss, losses_T.prod() ** (1 / 3))
    weights = balancing.end_epoch()
    assert [weights[f"weight/{task}"] for task in "abc"] == pytest.approx(losses_T.grad.tolist())


def test_geometric_loss_of_zero_is_finite() -> None:
    losses_T = torch.tensor([0.0, 2.0], requires_grad=True)
    loss_of(build("gls"), losses_T).backward()
    assert torch.isfinite(losses_T.grad).all()


def test_dynamic_weight_average_equals_the_equation() -> None:
    torch.manual_seed(0)
    balancing, temperature = build("dwa", temperature=1.5), 1.5
    history: list[Tensor] = []
    for epoch in range(4):
        balancing.start_epoch(epoch)
        weight_T = torch.ones(2)
        if epoch >= 2:
            weight_T = 2 * torch.softmax(history[-1] / history[-2] / temperature, dim=0)
        steps = torch.rand(3, 2)
        for losses_T in steps:
            torch.testing.assert_close(loss_of(balancing, losses_T), (weight_T * losses_T).sum())
        balancing.start_epoch(epoch)  # a run that resumes within the epoch keeps its weights
        history.append(steps.mean(dim=0))


METHODS: dict[str, dict[str, Any]] = {"weights": {"weights": [1, 3]}, "uncertainty": {"learning_rate": 0.1}, "dwa": {}}


@pytest.mark.parametrize(("method", "block"), [("weights", 3), ("uncertainty", 3), ("gls", 3), ("dwa", 0), ("dwa", 3)])
def test_a_resumed_training_equals_an_uninterrupted_one(method: str, block: int, tmp_path: Path) -> None:
    """Also in blocks of steps, as on a GPU: the state changes in place."""
    chosen = settings(method, **METHODS.get(method, {}))
    whole = Training(make("mmoe"), block, tmp_path / "whole", epochs=4, balancing=chosen).fit()
    first = Training(make("mmoe"), block, tmp_path / "first", epochs=2, balancing=chosen).fit()
    second = Training(make("mmoe"), block, tmp_path / "second", epochs=4, balancing=chosen)
    second.fit(first.checkpoint.last_path)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, second.module.state_dict()[name]), name
    logged = [line["train/weight/like"] for _, line in whole.log.lines if "train/weight/like" in line]
    assert len(logged) == 4
    assert len(set(logged)) == {"weights": 1, "dwa": 3}.get(method, 4)
    if method == "uncertainty":
        group = whole.trainer.optimizers[0].param_groups[-1]
        assert (group["name"], group["l1"], group["l2"]) == ("balancing", 0.0, 0.0)
        assert group["lr"] == pytest.approx(2 * whole.module.learning_rate())  # 0.1 and 0.05 at the beginning
