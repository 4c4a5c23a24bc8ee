"""Losses of binary and regression tasks against their equations, and weighted means."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from stemlab.errors import StemlabError
from stemlab.nn.loss import TaskLosses, sample_losses, task_losses, weighted_means
from stemlab.nn.task_loss import TaskLoss, chosen_losses, parse_loss

OUTPUT = torch.tensor([-4.0, -0.3, 0.0, 0.7, 2.5, 6.0], dtype=torch.float64)
BINARY = torch.tensor([0, 1, 1, 0, 1, 0], dtype=torch.int8)
VALUES = torch.tensor([0.0, 0.2, 3.0, 1.0, 2.4, 40.0])


def focal(z: float, y: int, gamma: float, alpha: float | None) -> float:
    q = 1 / (1 + math.exp(-z if y else z))
    factor = 1.0 if alpha is None else alpha if y else 1 - alpha
    return -factor * (1 - q) ** gamma * math.log(q)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.5, None), (0.0, 0.7), (5.0, 1.0)])
def test_focal_loss_is_its_equation(gamma: float, alpha: float | None) -> None:
    loss = parse_loss({"name": "focal", "gamma": gamma, "alpha": alpha})
    expected = [focal(z, y, gamma, alpha) for z, y in zip(OUTPUT.tolist(), BINARY.tolist(), strict=True)]
    np.testing.assert_allclose(sample_losses(OUTPUT, BINARY, loss), expected, rtol=1e-12)


def test_focal_loss_without_gamma_and_alpha_is_cross_entropy() -> None:
    plain = sample_losses(OUTPUT, BINARY, TaskLoss("focal", gamma=0.0, alpha=None))
    torch.testing.assert_close(plain, sample_losses(OUTPUT, BINARY, TaskLoss()), rtol=1e-12, atol=0)


@pytest.mark.parametrize("form", ["logits", "probability"])
def test_positive_weight_is_that_of_torch(form) -> None:
    expected = functional.binary_cross_entropy_with_logits(
        OUTPUT, BINARY.double(), reduction="none", pos_weight=torch.tensor(10.0)
    )
    torch.testing.assert_close(sample_losses(OUTPUT, BINARY, TaskLoss(positive_weight=10.0), form), expected)


def test_regression_losses() -> None:
    error = OUTPUT - VALUES
    torch.testing.assert_close(sample_losses(OUTPUT, VALUES, TaskLoss("mse")), error**2)
    huber = torch.where(error.abs() < 1.5, error**2 / 2, 1.5 * (error.abs() - 0.75))
    torch.testing.assert_close(sample_losses(OUTPUT, VALUES, TaskLoss("huber", delta=1.5)), huber)
    lognormal = (OUTPUT - torch.log(1 + VALUES.double())) ** 2
    torch.testing.assert_close(sample_losses(OUTPUT, VALUES, TaskLoss("lognormal")), lognormal)


@pytest.mark.parametrize("name", ["bce", "focal", "mse", "huber", "lognormal"])
def test_gradients_are_finite_for_large_outputs(name) -> None:
    output = torch.tensor([-200.0, 200.0, 0.0], requires_grad=True)
    loss = TaskLoss(name, gamma=0.5)
    sample_losses(output, torch.tensor([1.0, 0.0, 1.0]), loss).sum().backward()
    assert output.grad.isfinite().all()


def test_predictions_are_in_the_unit_of_the_label() -> None:
    losses = TaskLosses([TaskLoss(), TaskLoss("mse"), TaskLoss("lognormal")])
    found = losses.predictions(torch.tensor([[0.0, 3.5, math.log(8)]]))
    assert found.tolist() == [[0.5, 3.5, pytest.approx(7.0, rel=1e-6)]]


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.booleans())
@settings(max_examples=25, deadline=None)
def test_weighted_mean(seed: int, samples: int, common: bool) -> None:
    rng = np.random.default_rng(seed)
    loss, weight = rng.random((samples, 3)), rng.random((samples, 1 if common else 3))
    weight *= rng.integers(0, 2, (samples, 1))
    found = weighted_means(torch.tensor(loss), torch.tensor(weight))
    weight = np.broadcast_to(weight, loss.shape)
    expected = [np.average(loss[:, t], weights=weight[:, t]) if weight[:, t].sum() else 0.0 for t in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_batch_without_counted_samples_has_no_loss_and_no_gradient() -> None:
    output = torch.randn(4, 2, requires_grad=True)
    weight = torch.tensor([[1.0, 0.0]] * 4)
    losses = TaskLosses([TaskLoss(), TaskLoss("huber")])(output, torch.ones(4, 2), weight)
    losses.sum().backward()
    assert losses[1] == 0
    assert output.grad[:, 1].tolist() == [0.0] * 4
    assert (output.grad[:, 0] != 0).all()


def test_binary_tasks_without_settings_keep_their_loss_bit_for_bit() -> None:
    torch.manual_seed(0)
    logit, labels = torch.randn(64, 3), torch.randint(0, 2, (64, 3), dtype=torch.int8)
    plain, expected = TaskLosses([TaskLoss()] * 3), task_losses(logit, labels)
    assert torch.equal(plain(logit, labels), expected)
    torch.testing.assert_close(plain(logit, labels, torch.ones(64, 1)), expected)


@pytest.mark.parametrize(
    ("kinds", "losses", "weights", "expected"),
    [
        ({}, {"click": "hubber"}, {}, "'hubber'.*Did you mean 'huber'"),
        ({}, {"click": "mse"}, {}, "mse of task 'click' is not for binary.*bce or focal"),
        ({"click": "regression"}, {"click": "bce"}, {}, "bce.*not for regression.*huber"),
        ({"click": "regression"}, {}, {"click": 2.0}, "positive weight of 'click'.*no positives"),
        ({}, {"click": "focal"}, {"click": 2.0}, "positive weight.*alpha"),
        ({}, {}, {"click": 0.0}, "positive weight of 'click' is 0.0"),
        ({}, {"click": {"name": "focal", "delta": 1}}, {}, "'delta' is no parameter of the loss focal.*gamma, alpha"),
        ({}, {"click": {"name": "focal", "alpha": 2}}, {}, "alpha=2.*from 0 to 1"),
        ({}, {"click": {"name": "bce", "gamma": 2}}, {}, "'gamma'.*it has none"),
    ],
)
def test_wrong_losses(kinds, losses, weights, expected) -> None:
    with pytest.raises(StemlabError, match=expected):
        chosen_losses(["click"], kinds, losses, weights)


def test_defaults_follow_the_kind_of_the_label() -> None:
    chosen = chosen_losses(["a", "b", "c"], {"b": "regression"}, {"c": "focal"}, {"a": 3})
    assert [loss.name for loss in chosen] == ["bce", "mse", "focal"]
    assert chosen[0].positive_weight == 3
