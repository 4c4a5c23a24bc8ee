"""Weights of the task gradients from their inner products: TorchJD's methods, and GradNorm.

Legend: T tasks; G the Gramian, G_ij the inner product of the gradients of tasks i and j.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn

from stemlab.lightning.balancing.base import GradientAggregator, check_result, mean_over_ranks, ranks

_SMALLEST_WEIGHT = 1e-3
"""Lower limit of the weights of GradNorm: a step of gradient descent may not make one negative."""


class GradientWeights(Protocol):
    """Weights of the gradients of a step."""

    whole_network: bool
    """Whether the weights also apply to parameters that a single task trains."""

    def __call__(self, gramian_TT: Tensor, losses_T: Tensor) -> Tensor:
        """Return the weights (T,) from a finite Gramian (T, T) and the losses (T,), float64 on the CPU."""
        ...


class TorchJDWeights(nn.Module):
    """Weights by a method of TorchJD; it sees the Gramian only, so its cost does not depend on the network.

    Args:
        tasks: T.
        method: name in ``model.balancing``.
        options: options of the method.
        seed: seed of the order in which PCGrad projects.
    """

    whole_network = False
    state_T: Tensor
    calls_1: Tensor

    def __init__(self, tasks: int, method: str, options: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        self._method, self._seed = method, seed
        self._weighting: Any = torchjd_weighting(method, tasks, options)
        # on the CPU, where the weights are computed: a module moves its buffers
        self.register_buffer("calls_1", torch.zeros(1, dtype=torch.int64))
        if method == "nash_mtl":
            self.register_buffer("state_T", torch.ones(tasks, dtype=torch.float64))

    def __call__(self, gramian_TT: Tensor, losses_T: Tensor) -> Tensor:
        """Return the weights of the method."""
        del losses_T
        if self._method == "nash_mtl":
            return self._nash(gramian_TT)
        weight_T: Tensor
        if self._method != "pcgrad":
            weight_T = self._weighting(gramian_TT)
            return weight_T
        with torch.random.fork_rng(devices=[]):  # orders equal on all processes, and for a run that resumes
            torch.manual_seed(self._seed * 1_000_003 + int(self.calls_1))
            weight_T = self._weighting(gramian_TT)
        self.calls_1.add_(1)
        return weight_T

    def _nash(self, gramian_TT: Tensor) -> Tensor:
        """Return the weights of Nash-MTL, which starts from those of the step before."""
        if self._weighting.step == 0:
            self._weighting.prvs_alpha = self.state_T.cpu().numpy()
        with warnings.catch_warnings():  # of cvxpy, about the speed of later solutions and about weights near zero
            warnings.simplefilter("ignore")
            weight_T: Tensor = self._weighting(_root(gramian_TT))
        self.state_T.copy_(torch.as_tensor(self._weighting.prvs_alpha))
        return weight_T


def _root(gramian_TT: Tensor) -> Tensor:
    """Return a matrix whose rows have these inner products."""
    values_T, vectors_TT = torch.linalg.eigh(gramian_TT)
    root_TT: Tensor = vectors_TT * values_T.clamp(min=0).sqrt()
    return root_TT


def torchjd_weighting(method: str, tasks: int, options: Mapping[str, Any]) -> Any:
    """Return TorchJD's weighting: of Gramians (T, T); for ``nash_mtl`` of gradients (T, parameters)."""
    from torchjd import aggregation

    if method == "nash_mtl":
        return aggregation.NashMTL(n_tasks=tasks, max_norm=options["max_norm"]).weighting
    made: Any = {
        "pcgrad": aggregation.PCGradWeighting,
        "mgda": aggregation.MGDAWeighting,
        "cagrad": aggregation.CAGradWeighting,
        "imtl_g": aggregation.IMTLGWeighting,
        "aligned_mtl": aggregation.AlignedMTLWeighting,
        "upgrad": aggregation.UPGradWeighting,
    }[method]
    return made(**options)


class GradNorm(nn.Module):
    """Learned weights that give all tasks similar training rates.

    With n_t the norm of the gradient of L_t, mean m of the w_t n_t, and r_t the ratio L_t / L_t(0) divided by its mean
    over tasks, a step changes w_t by ``-learning_rate * n_t * sign(w_t n_t - m r_t^alpha)``, the gradient of
    ``sum_t |w_t n_t - m r_t^alpha|`` with constant targets; then all w_t are scaled to the sum T. The step of the
    network uses the weights before this change. Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss
    Balancing in Deep Multitask Networks", ICML 2018, algorithm 1. The norms are those of all shared parameters.

    Args:
        tasks: T.
        alpha: 0 gives equal norms; a larger one gives more weight to tasks whose loss fell less.
        learning_rate: learning rate of the weights.
    """

    whole_network = True
    weight_T: Tensor
    first_T: Tensor

    def __init__(self, tasks: int, alpha: float, learning_rate: float) -> None:
        super().__init__()
        self.alpha, self.learning_rate = alpha, learning_rate
        self.register_buffer("weight_T", torch.ones(tasks, dtype=torch.float64))
        self.register_buffer("first_T", torch.zeros(tasks, dtype=torch.float64))

    def __call__(self, gramian_TT: Tensor, losses_T: Tensor) -> Tensor:
        """Return the weights of this step and compute those of the next one."""
        weight_T = self.weight_T.cpu().clone()
        # a loss of 0 is that of a batch in which the label of the task is masked
        first_T = torch.where(self.first_T.cpu() > 0, self.first_T.cpu(), losses_T)
        self.first_T.copy_(first_T)
        ratio_T = torch.where(losses_T > 0, losses_T / first_T.clamp(min=1e-12), 1.0)
        norm_T = gramian_TT.diagonal().clamp(min=0).sqrt()
        weighted_T = weight_T * norm_T
        target_T = weighted_T.mean() * (ratio_T / ratio_T.mean()) ** self.alpha
        next_T = weight_T - self.learning_rate * norm_T * torch.sign(weighted_T - target_T)
        next_T = next_T.clamp(min=_SMALLEST_WEIGHT)
        self.weight_T.copy_(next_T * len(next_T) / next_T.sum())
        return weight_T


def gradient_weights(method: str, tasks: Sequence[str], options: Mapping[str, Any], seed: int) -> GradientWeights:
    """Return the weights of a method of ``model.balancing``."""
    if method == "gradnorm":
        return GradNorm(len(tasks), **options)
    return TorchJDWeights(len(tasks), method, options, seed)


def fill_shared(
    parts: Sequence[Tensor], shared: Sequence[Sequence[Tensor]], aggregator: GradientAggregator, losses_T: Tensor
) -> None:
    """Write the combined gradient into the shared parts, in place; NaN if a gradient is not finite.

    Args:
        parts: shared parts of the gradient of the network.
        shared: for every task its gradients of these parts.
        aggregator: the method.
        losses_T: the losses.
    """
    jacobian_TP = torch.stack([torch.cat([part.reshape(-1) for part in of_task]) for of_task in shared])
    jacobian_TP = mean_over_ranks(jacobian_TP)
    losses_T = mean_over_ranks(losses_T.detach()).double().cpu()
    if not torch.isfinite(jacobian_TP).all():
        combined_P = torch.full_like(jacobian_TP[0], float("nan"))  # reaches the weights of the network and is noticed
    elif jacobian_TP.any():
        combined_P = aggregator.aggregate(jacobian_TP, losses_T)
        check_result(aggregator, "aggregate", combined_P, jacobian_TP.shape[1:])
        combined_P = combined_P.to(jacobian_TP)
    else:
        combined_P = torch.zeros_like(jacobian_TP[0])
    if ranks() > 1:
        distributed.broadcast(combined_P, src=0)
    for part, piece_P in zip(parts, torch.split(combined_P, [part.numel() for part in parts]), strict=True):
        part.copy_(piece_P.view(part.shape))
