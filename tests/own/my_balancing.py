"""Balancing methods of a user, complete and incomplete ones."""

import torch

from stemlab.lightning.balancing import GradientAggregator, GradientWeighting, LossWeighting


class Doubled(LossWeighting):
    """Counts its steps; all weights are 2."""

    def __init__(self, tasks, *, weight: float = 2.0):
        super().__init__(tasks)
        self.weight = weight
        self.register_buffer("calls_1", torch.zeros(1))

    def weigh(self, losses_T):
        self.calls_1.add_(1)
        return self.weight * losses_T.sum(), torch.full_like(losses_T, self.weight)


class ByLength(GradientWeighting):
    def weigh(self, gramian_TT, losses_T):
        return gramian_TT.diagonal().sqrt() + losses_T


class Same(GradientAggregator):
    """The combination of ``ByLength``, computed from the gradients themselves."""

    def aggregate(self, jacobian_TP, losses_T):
        return (jacobian_TP.double().norm(dim=1) + losses_T) @ jacobian_TP.double()


class WithoutWeigh(LossWeighting):
    def __init__(self, tasks, fields, *, rate: float):
        super().__init__(tasks)
