"""Methods that combine the losses or gradients of several tasks in a training step (docs/balancing.md)."""

from stemlab.lightning.balancing.base import Balancing, GradientAggregator, GradientWeighting
from stemlab.lightning.balancing.build import build_balancing
from stemlab.lightning.balancing.weighting import LossWeighting

__all__ = ["Balancing", "GradientAggregator", "GradientWeighting", "LossWeighting", "build_balancing"]
