"""Choice of the loss of each task; imports no torch, for the config checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from stemlab.errors import StemlabError, nearest
from stemlab.types import LabelKind

LossName = Literal["bce", "focal", "mse", "huber", "lognormal"]
DEFAULT_LOSS: dict[LabelKind, LossName] = {"binary": "bce", "regression": "mse"}
LOSSES_OF_KIND: dict[LabelKind, tuple[LossName, ...]] = {
    "binary": ("bce", "focal"),
    "regression": ("mse", "huber", "lognormal"),
}
_PARAMETERS: dict[str, dict[str, tuple[float, float]]] = {
    "focal": {"gamma": (0, 100), "alpha": (0, 1)},
    "huber": {"delta": (1e-6, 1e6)},
}
"""Loss -> parameter -> smallest and largest value."""
MAX_POSITIVE_WEIGHT = 1e6


@dataclass(frozen=True, slots=True)
class TaskLoss:
    """Loss of one task; the equations are in ``stemlab.nn.loss``.

    Attributes:
        name: the loss.
        gamma: exponent of the focal loss.
        alpha: weight of the positives in the focal loss, 1 - alpha is that of the negatives; ``None``: both are 1.
        delta: error at which the Huber loss becomes linear, in the unit of the label.
        positive_weight: factor of the cross-entropy of positive samples.
    """

    name: LossName = "bce"
    gamma: float = 2.0
    alpha: float | None = 0.25
    delta: float = 1.0
    positive_weight: float = 1.0

    @property
    def regression(self) -> bool:
        """Whether the labels are real numbers."""
        return self.name in LOSSES_OF_KIND["regression"]


def parse_loss(setting: Any) -> TaskLoss:
    """Return the loss of ``huber`` or ``{name: huber, delta: 2}``.

    Raises:
        StemlabError: an unknown loss or parameter, or a value outside its range.
    """
    values = dict(setting) if isinstance(setting, Mapping) else {"name": setting}
    name, known = values.pop("name", None), list(get_args(LossName))
    if name not in known:
        raise StemlabError(f"{name!r} is no loss: choose {', '.join(known)}.{nearest(str(name), known)}")
    limits = _PARAMETERS.get(name, {})
    for key, value in values.items():
        if key not in limits:
            these = f"its parameters are {', '.join(limits)}" if limits else "it has none"
            raise StemlabError(f"{key!r} is no parameter of the loss {name}: {these}.{nearest(str(key), list(limits))}")
        if key == "alpha" and value is None:
            continue
        low, high = limits[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise StemlabError(f"{key}={value!r} of the loss {name} must be a number from {low:g} to {high:g}.")
    return TaskLoss(name, **values)


def chosen_losses(
    tasks: Sequence[str],
    kinds: Mapping[str, LabelKind],
    losses: Mapping[str, Any],
    positive_weights: Mapping[str, float],
) -> list[TaskLoss]:
    """Return the loss of every task: the chosen one, or the default of the kind of its label.

    Args:
        tasks: trained tasks.
        kinds: task -> kind of its label; binary if absent.
        losses: task -> setting of its loss (``parse_loss``).
        positive_weights: task -> factor of the cross-entropy of positive samples.

    Raises:
        StemlabError: a loss or weight does not fit the kind of the label.
    """
    return [_loss(task, kinds.get(task, "binary"), losses.get(task), positive_weights.get(task)) for task in tasks]


def _loss(task: str, kind: LabelKind, setting: Any, positive_weight: float | None) -> TaskLoss:
    loss = parse_loss(DEFAULT_LOSS[kind] if setting is None else setting)
    if loss.name not in LOSSES_OF_KIND[kind]:
        fitting = " or ".join(LOSSES_OF_KIND[kind])
        raise StemlabError(f"the loss {loss.name} of task {task!r} is not for {kind} labels: choose {fitting}.")
    if positive_weight is None:
        return loss
    if loss.name != "bce":
        instead = "alpha weights its positives" if loss.name == "focal" else "a regression task has no positives"
        raise StemlabError(f"the positive weight of {task!r} is for bce, but the loss is {loss.name}: {instead}.")
    is_number = isinstance(positive_weight, int | float) and not isinstance(positive_weight, bool)
    if not is_number or not 0 < positive_weight <= MAX_POSITIVE_WEIGHT:
        raise StemlabError(
            f"the positive weight of {task!r} is {positive_weight!r}: give a number above 0, at most "
            f"{MAX_POSITIVE_WEIGHT:g}."
        )
    return TaskLoss("bce", positive_weight=float(positive_weight))
