"""Base class of the methods that balance tasks.

Legend: T tasks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, distributed, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.errors import StemlabError
from stemlab.models.api import MultiTaskOutput


class Balancing(nn.Module, ABC):
    """Turn the losses of the tasks into the loss of a step.

    The state of a method is in buffers and parameters, so that checkpoints contain it.

    Args:
        tasks: task names.

    Attributes:
        uncapturable: why steps cannot be captured as CUDA graphs, or None.
    """

    uncapturable: str | None = None
    weight_sum_T: Tensor
    steps_1: Tensor

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.register_buffer("weight_sum_T", torch.zeros(len(tasks), dtype=torch.float64))
        self.register_buffer("steps_1", torch.zeros(1, dtype=torch.float64))

    def watch(self, net: nn.Module, batch: ImpressionBatch) -> AbstractContextManager[object]:
        """Return a context for the forward pass of a training step on a batch."""
        del net, batch
        return nullcontext()

    @abstractmethod
    def loss(self, losses_T: Tensor, output: MultiTaskOutput, net: nn.Module) -> Tensor:
        """Return the loss of a step, a scalar whose backward pass gives the balanced gradients.

        Args:
            losses_T: the losses of the tasks, with their graph; functions of the logits.
            output: the output of the network. Its penalty is not part of the result.
            net: the network.
        """

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups that the optimiser trains besides the network, without a penalty."""
        return []

    def start_epoch(self, epoch: int) -> None:
        """Prepare an epoch; called again when a run resumes within it."""
        del epoch

    def end_epoch(self) -> dict[str, Tensor]:
        """Return the mean weights of the epoch, ``weight/<task>`` -> value, and start new means."""
        means_T = (self.weight_sum_T / self.steps_1).float()
        found = {f"weight/{task}": mean for task, mean in zip(self.tasks, means_T.unbind(), strict=True)}
        self.weight_sum_T.zero_()
        self.steps_1.zero_()
        return found

    def count(self, weight_T: Tensor) -> None:
        """Add the weights of a step to the means of the epoch."""
        self.weight_sum_T.add_(weight_T.detach().to(self.weight_sum_T))
        self.steps_1.add_(1)


class GradientWeighting(nn.Module, ABC):
    """Weights of the gradients of the tasks from their inner products: base class for methods of the user.

    State is kept in buffers and parameters, so that checkpoints contain it.

    Args:
        tasks: task names.

    Attributes:
        whole_network: whether the weights also apply to parameters that a single task trains.
    """

    gradient_per_task: ClassVar[bool] = True
    whole_network: ClassVar[bool] = False

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)

    def forward(self, gramian_TT: Tensor, losses_T: Tensor) -> Tensor:
        """Return the weights of a step.

        Raises:
            StemlabError: the method returns something else.
        """
        weight_T = self.weigh(gramian_TT, losses_T)
        check_result(self, "weigh", weight_T, (len(self.tasks),))
        if not torch.isfinite(weight_T).all():
            raise StemlabError(
                f"{type(self).__name__}.weigh returned weights that are not finite: {weight_T.tolist()}."
            )
        return weight_T.double()

    @abstractmethod
    def weigh(self, gramian_TT: Tensor, losses_T: Tensor) -> Tensor:
        """Return the weights (T,).

        Args:
            gramian_TT: inner products of the gradients of the shared parameters, finite, float64 on the CPU.
            losses_T: the losses, float64 on the CPU.
        """


class GradientAggregator(nn.Module, ABC):
    """A combination of the gradients of the tasks, as an aggregator of TorchJD: base class for methods of the user.

    State is kept in buffers and parameters, so that checkpoints contain it.

    Args:
        tasks: task names.
    """

    gradient_per_task: ClassVar[bool] = True
    whole_network: ClassVar[bool] = False

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)

    @abstractmethod
    def aggregate(self, jacobian_TP: Tensor, losses_T: Tensor) -> Tensor:
        """Return the gradient of the shared parameters, (P,).

        Args:
            jacobian_TP: finite gradients of the P shared parameters, one row per task; means over all processes.
            losses_T: the losses, float64 on the CPU.
        """


def check_result(method: nn.Module, name: str, found: Any, shape: tuple[int, ...]) -> None:
    """Check that a method of the user returned a tensor of the right shape.

    Raises:
        StemlabError: it did not.
    """
    if not isinstance(found, Tensor) or found.shape != shape:
        what = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise StemlabError(
            f"{type(method).__name__}.{name} returned {what}; model.balancing needs a tensor of shape {tuple(shape)} "
            "(docs/own/balancing.md)."
        )


def ranks() -> int:
    """Return the world size."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def mean_over_ranks(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes, which get equal values. Collective."""
    world = ranks()
    if world == 1:
        return value
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total / world
