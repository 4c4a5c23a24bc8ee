"""Weights of the task losses that need no gradient per task.

Legend: T tasks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stemlab.errors import StemlabError
from stemlab.lightning.balancing.base import Balancing, check_result, mean_over_ranks
from stemlab.models.api import MultiTaskOutput

_SMALLEST = 1e-12
"""Lower limit of a loss of which the logarithm or the ratio is taken."""


class LossWeighting(Balancing):
    """A function of the losses of the tasks."""

    def loss(self, losses_T: Tensor, output: MultiTaskOutput, net: nn.Module) -> Tensor:
        """Return the loss of a step and count its weights.

        Raises:
            StemlabError: the method returns something else.
        """
        del output, net
        returned = self.weigh(losses_T)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise StemlabError(
                f"{type(self).__name__}.weigh returned {type(returned).__name__}; model.balancing needs the loss and "
                "its derivatives, a tuple of two tensors (docs/own/balancing.md)."
            )
        loss, weight_T = returned
        check_result(self, "weigh", loss, ())
        check_result(self, "weigh", weight_T, losses_T.shape)
        if losses_T.requires_grad and not loss.requires_grad:
            raise StemlabError(f"{type(self).__name__}.weigh returned a loss without a gradient: it was detached.")
        self.count(weight_T)
        return loss

    @abstractmethod
    def weigh(self, losses_T: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and, for each task, its derivative by the loss of the task, (T,)."""


class FixedWeights(LossWeighting):
    """``sum_t w_t L_t`` with given weights.

    Args:
        tasks: task names.
        weights: w_t in the order of the tasks.
    """

    weight_T: Tensor

    def __init__(self, tasks: Sequence[str], weights: Sequence[float]) -> None:
        super().__init__(tasks)
        # the config is the source of the weights, not a checkpoint
        self.register_buffer("weight_T", torch.tensor(list(weights), dtype=torch.float32), persistent=False)

    def weigh(self, losses_T: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted sum and the weights."""
        return (self.weight_T * losses_T).sum(), self.weight_T


class Uncertainty(LossWeighting):
    """``sum_t exp(-s_t) L_t + s_t / 2`` with learned s_t, the logarithm of a variance; s_t starts at 0.

    Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics", CVPR 2018,
    equation 10 for classification.

    Args:
        tasks: task names.
        learning_rate: learning rate of s_t; None is that of the network.
    """

    def __init__(self, tasks: Sequence[str], learning_rate: float | None) -> None:
        super().__init__(tasks)
        self.learning_rate = learning_rate
        self.log_variance_T = nn.Parameter(torch.zeros(len(tasks)))

    def weigh(self, losses_T: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of the paper and exp(-s)."""
        weight_T = torch.exp(-self.log_variance_T)
        return (weight_T * losses_T + self.log_variance_T / 2).sum(), weight_T

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the group of the logarithms."""
        rate = {} if self.learning_rate is None else {"lr": self.learning_rate}
        return [{"name": "balancing", "params": [self.log_variance_T], **rate}]


class DynamicWeightAverage(LossWeighting):
    """``sum_t w_t L_t`` with ``w = T softmax(r / temperature)``, where r_t is the ratio of the mean losses of task t.

    The ratio is that of the last epoch and the one before it. Until there are two, all weights are 1. Liu et al.,
    "End-to-End Multi-Task Learning with Attention", CVPR 2019, equation 7.

    Args:
        tasks: task names.
        temperature: a larger one gives more equal weights.
    """

    weight_T: Tensor
    loss_sum_T: Tensor
    summed_1: Tensor
    means_2T: Tensor
    epoch_1: Tensor

    def __init__(self, tasks: Sequence[str], temperature: float) -> None:
        super().__init__(tasks)
        self.temperature = temperature
        self.register_buffer("weight_T", torch.ones(len(tasks)))
        self.register_buffer("loss_sum_T", torch.zeros(len(tasks), dtype=torch.float64))
        self.register_buffer("summed_1", torch.zeros(1, dtype=torch.float64))
        # mean losses of the last epoch but one and of the last one; NaN: not yet known
        self.register_buffer("means_2T", torch.full((2, len(tasks)), float("nan"), dtype=torch.float64))
        self.register_buffer("epoch_1", torch.full((1,), -1, dtype=torch.int64))

    def weigh(self, losses_T: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted sum and the weights; add the losses to the mean of the epoch."""
        self.loss_sum_T.add_(mean_over_ranks(losses_T.detach()).double())
        self.summed_1.add_(1)
        return (self.weight_T * losses_T).sum(), self.weight_T

    def start_epoch(self, epoch: int) -> None:
        """Compute the weights of a new epoch; a run that resumes within an epoch keeps those of its checkpoint."""
        if int(self.epoch_1) == epoch:
            return
        self.epoch_1.fill_(epoch)
        if not float(self.summed_1):
            return
        means_2T = torch.stack([self.means_2T[1], self.loss_sum_T / self.summed_1])
        self.means_2T.copy_(means_2T)
        self.loss_sum_T.zero_()
        self.summed_1.zero_()
        if bool(torch.isfinite(means_2T).all()):
            ratio_T = means_2T[1] / means_2T[0].clamp(min=_SMALLEST)
            self.weight_T.copy_(len(self.tasks) * torch.softmax(ratio_T / self.temperature, dim=0))


class GeometricLoss(LossWeighting):
    """``(prod_t L_t)^(1/T)``, which does not depend on the scales of the losses.

    Chennupati et al., "MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy for Multi-Task
    Learning", CVPR workshops 2019, equation 3.
    """

    def weigh(self, losses_T: Tensor) -> tuple[Tensor, Tensor]:
        """Return the geometric mean and its derivatives."""
        # the losses of all processes, so that they train as one does; their weighted sum is the geometric mean
        positive_T = mean_over_ranks(losses_T.detach()).clamp(min=_SMALLEST)
        weight_T = positive_T.log().mean().exp() / (len(self.tasks) * positive_T)
        return (weight_T * losses_T).sum(), weight_T
