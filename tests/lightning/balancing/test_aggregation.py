"""Weights of the task gradients: TorchJD's aggregators on stored Jacobians, and GradNorm's algorithm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from stemlab.balancing_methods import DEFAULTS
from stemlab.lightning.balancing.aggregation import GradNorm, TorchJDWeights, gradient_weights

torchjd = pytest.importorskip("torchjd.aggregation")
AGGREGATORS: dict[str, Callable[[int], Any]] = {
    "pcgrad": lambda tasks: torchjd.PCGrad(),
    "mgda": lambda tasks: torchjd.MGDA(),
    "cagrad": lambda tasks: torchjd.CAGrad(c=0.5),
    "imtl_g": lambda tasks: torchjd.IMTLG(),
    "aligned_mtl": lambda tasks: torchjd.AlignedMTL(),
    "nash_mtl": lambda tasks: torchjd.NashMTL(n_tasks=tasks),
    "upgrad": lambda tasks: torchjd.UPGrad(),
}


def jacobians(tasks: int, count: int = 4) -> list[Tensor]:
    """Return gradients of different lengths that conflict in part."""
    generator = torch.Generator().manual_seed(tasks)
    scale_T1 = 10.0 ** -torch.arange(tasks)[:, None]
    return [scale_T1 * torch.randn(tasks, 30, generator=generator, dtype=torch.float64) for _ in range(count)]


def weights(method: str, tasks: int) -> Any:
    return gradient_weights(method, [f"t{t}" for t in range(tasks)], DEFAULTS.get(method, {}), seed=0)


@pytest.mark.parametrize("tasks", [2, 3])
@pytest.mark.parametrize("method", AGGREGATORS)
def test_the_combination_is_that_of_torchjd(method: str, tasks: int) -> None:
    aggregator, own = AGGREGATORS[method](tasks), weights(method, tasks)
    for call, jacobian_TP in enumerate(jacobians(tasks)):
        torch.manual_seed(call)  # of PCGrad's order, which own weights draw from a seed of their own
        expected_P = aggregator(jacobian_TP)
        before = torch.get_rng_state()
        weight_T = own(jacobian_TP @ jacobian_TP.T, torch.ones(tasks, dtype=torch.float64))
        assert torch.equal(torch.get_rng_state(), before)
        difference = (weight_T @ jacobian_TP - expected_P).abs().max() / jacobian_TP.abs().max()
        assert difference < 1e-6, call


def test_nash_mtl_continues_with_the_weights_of_its_checkpoint() -> None:
    first, second, losses_T = weights("nash_mtl", 3), weights("nash_mtl", 3), torch.ones(3)
    grams = [jacobian_TP @ jacobian_TP.T for jacobian_TP in jacobians(3)]
    for gramian_TT in grams[:2]:
        first(gramian_TT, losses_T)
    second.load_state_dict(first.state_dict())
    for gramian_TT in grams[2:]:
        torch.testing.assert_close(first(gramian_TT, losses_T), second(gramian_TT, losses_T), rtol=1e-9, atol=1e-12)


def test_the_order_of_pcgrad_continues_with_its_checkpoint() -> None:
    first, second, losses_T = weights("pcgrad", 3), weights("pcgrad", 3), torch.ones(3)
    gramian_TT = torch.tensor([[1.0, -0.9, -0.8], [-0.9, 1.0, 0.5], [-0.8, 0.5, 1.0]])
    found = [first(gramian_TT, losses_T) for _ in range(8)]
    assert len({tuple(weight_T.tolist()) for weight_T in found}) > 1
    assert isinstance(second, TorchJDWeights)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(gramian_TT, losses_T), second(gramian_TT, losses_T))


def test_gradnorm_is_gradient_descent_on_its_loss() -> None:
    torch.manual_seed(0)
    alpha, rate, own = 1.5, 0.01, GradNorm(3, alpha=1.5, learning_rate=0.01)
    weight_T, first_T = torch.ones(3, dtype=torch.float64), None
    for jacobian_TP in jacobians(3):
        losses_T = torch.rand(3, dtype=torch.float64) + 0.5
        first_T = losses_T if first_T is None else first_T
        torch.testing.assert_close(own(jacobian_TP @ jacobian_TP.T, losses_T), weight_T)
        learned_T = weight_T.clone().requires_grad_()
        norm_T = (learned_T[:, None] * jacobian_TP).norm(dim=1)
        ratio_T = losses_T / first_T
        target_T = (norm_T.mean() * (ratio_T / ratio_T.mean()) ** alpha).detach()
        (gradient_T,) = torch.autograd.grad((norm_T - target_T).abs().sum(), learned_T)
        weight_T = weight_T - rate * gradient_T
        weight_T = 3 * weight_T / weight_T.sum()
