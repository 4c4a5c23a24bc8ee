"""Methods of ``model.balancing``, and the options that each of them reads (docs/balancing.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

BalancingMethod = Literal[
    "sum",
    "mean",
    "weights",
    "uncertainty",
    "dwa",
    "gls",
    "gradnorm",
    "pcgrad",
    "mgda",
    "cagrad",
    "imtl_g",
    "aligned_mtl",
    "nash_mtl",
    "upgrad",
]

REDUCTIONS = ("sum", "mean")
GRADIENT_METHODS: tuple[str, ...] = get_args(BalancingMethod)[6:]
"""Methods that compute one gradient per task."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "weights": {"weights": None},
    "uncertainty": {"learning_rate": None},
    "dwa": {"temperature": 2.0},
    "gradnorm": {"alpha": 1.5, "learning_rate": 0.025},
    "cagrad": {"c": 0.5},
    "aligned_mtl": {"scale_mode": "min"},
    "nash_mtl": {"max_norm": 1.0},
}
"""Method -> its options and their defaults; a method that is missing here has none."""

PACKAGES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("pcgrad", "mgda", "imtl_g", "aligned_mtl"), ("torchjd",)),
    "cagrad": ("torchjd", "cvxpy", "clarabel"),
    "nash_mtl": ("torchjd", "cvxpy", "ecos"),
    "upgrad": ("torchjd", "qpsolvers", "quadprog"),
}
"""Method -> the packages of the extra ``balancing`` that it imports."""


@dataclass(frozen=True, slots=True)
class BalancingSettings:
    """A method and its options.

    Attributes:
        method: name of the method, or of a class of the user; ``sum`` and ``mean`` have no state and no options.
        options: all options of the method; weights as one number per task.
        target: full name of the class of the user, or None.
    """

    method: str
    options: Mapping[str, Any]
    target: str | None = None

    @property
    def reduction(self) -> Literal["sum", "mean"] | None:
        """The method if it is the plain sum or mean, else None."""
        if self.target is not None:
            return None
        return "sum" if self.method == "sum" else "mean" if self.method == "mean" else None

    @classmethod
    def from_config(cls, model: Mapping[str, Any], tasks: Sequence[str] | None = None) -> BalancingSettings:
        """Return the settings in the group ``model`` of a config; a config of an older version has none.

        Args:
            model: the group; ``loss_reduction`` is the default of ``balancing``.
            tasks: names of the trained tasks, for weights given by name.
        """
        method = model.get("balancing") or model["loss_reduction"]
        if isinstance(method, Mapping):
            target = str(method["_target_"])
            settings = {name: value for name, value in method.items() if name != "_target_"}
            return cls(target.rpartition(".")[2], settings, target)
        given = model.get("balancing_options") or {}
        defaults = DEFAULTS.get(method, {})
        options = {name: given[name] if given.get(name) is not None else value for name, value in defaults.items()}
        if isinstance(options.get("weights"), Mapping) and tasks is not None:
            options["weights"] = [options["weights"][task] for task in tasks]
        return cls(method, options)
