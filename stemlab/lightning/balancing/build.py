"""Build the method that a config names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stemlab.balancing_methods import GRADIENT_METHODS, BalancingSettings
from stemlab.config.instantiate import TARGET, instantiate
from stemlab.lightning.balancing.aggregation import gradient_weights
from stemlab.lightning.balancing.base import Balancing
from stemlab.lightning.balancing.gradients import GradientMethod
from stemlab.lightning.balancing.weighting import DynamicWeightAverage, FixedWeights, GeometricLoss, Uncertainty

_LOSS_METHODS: dict[str, Callable[..., Balancing]] = {
    "weights": FixedWeights,
    "uncertainty": Uncertainty,
    "dwa": DynamicWeightAverage,
    "gls": GeometricLoss,
}


def build_balancing(settings: BalancingSettings | None, tasks: Sequence[str], seed: int) -> Balancing | None:
    """Return the method of some settings; None for the plain sum and mean.

    Args:
        settings: the method and its options; None is the plain sum or mean.
        tasks: trained tasks.
        seed: seed of the random order in which PCGrad projects.
    """
    if settings is None or settings.reduction:
        return None
    if settings.target is not None:
        node = {TARGET: settings.target, **settings.options}
        made = instantiate(node, tuple(tasks), key="model.balancing")
        return made if isinstance(made, Balancing) else GradientMethod(tasks, made, settings.method)
    if settings.method in GRADIENT_METHODS:
        weights = gradient_weights(settings.method, tasks, settings.options, seed)
        return GradientMethod(tasks, weights, settings.method)
    return _LOSS_METHODS[settings.method](tasks, **settings.options)
