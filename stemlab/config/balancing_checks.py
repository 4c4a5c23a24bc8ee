"""Settings of ``model.balancing`` that belong together."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import Field

from stemlab.balancing_methods import DEFAULTS, GRADIENT_METHODS, PACKAGES, REDUCTIONS, BalancingMethod
from stemlab.config.cross_checks import effective_tasks, is_sequential
from stemlab.config.job_process import process_count
from stemlab.config.section import Section
from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError, nearest
from stemlab.types import LearningRate, NonNegativeFloat, PositiveFloat

_METHOD, _OPTIONS = "model.balancing", "model.balancing_options"
TaskWeight = Annotated[float, Field(ge=0, le=1e4)]


class BalancingOptions(Section):
    """``model.balancing_options``; ``None`` is the default of the method.

    Attributes:
        weights: weights of the tasks, in their order or by name.
        learning_rate: learning rate of the weights.
        temperature: temperature of dynamic weight average.
        alpha: exponent of the training rates in GradNorm.
        c: radius of CAGrad, in [0, 1).
        scale_mode: which singular value Aligned-MTL scales to.
        max_norm: maximum norm of the update of Nash-MTL.
    """

    weights: list[TaskWeight] | dict[str, TaskWeight] | None = None
    learning_rate: LearningRate | None = None
    temperature: PositiveFloat | None = None
    alpha: NonNegativeFloat | None = None
    c: Annotated[float, Field(ge=0, lt=1)] | None = None
    scale_mode: Literal["min", "median", "rmse"] | None = None
    max_norm: NonNegativeFloat | None = None


class BalancedModel(Section):
    """Settings of ``conf/model`` for several tasks.

    Attributes:
        balancing: how the task losses become a training step; ``None`` is ``loss_reduction``.
        balancing_options: options of that method.
    """

    balancing: BalancingMethod | None = None
    balancing_options: BalancingOptions | None = None


def check_balancing(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse options that the method does not read, and settings that it cannot follow.

    Raises:
        StemlabError: the first such setting.
    """
    if is_sequential(config):
        return
    model = config["model"]
    method = model.get("balancing") or model["loss_reduction"]
    _check_options(method, model.get("balancing_options") or {}, origin)
    if method in REDUCTIONS:
        return
    where, tasks = f"{_METHOD}={method} ({origin(_METHOD)})", effective_tasks(config)
    if len(tasks) < 2:
        raise StemlabError(f"{where} balances several tasks, but only {tasks[0]} is trained: set {_METHOD}=sum.")
    if method == "weights":
        _check_weights((model.get("balancing_options") or {}).get("weights"), tasks, where, origin)
    missing = [package for package in PACKAGES.get(method, ()) if find_spec(package) is None]
    if missing:
        raise StemlabError(f"{where} needs {', '.join(missing)}: pip install 'stemlab[balancing]'.")
    if method in GRADIENT_METHODS:
        _check_gradients(config, where, origin)


def _check_options(method: str, options: Mapping[str, Any], origin: Origin) -> None:
    for name, value in options.items():
        if value is not None and name not in DEFAULTS.get(method, {}):
            readers = [reader for reader, read in DEFAULTS.items() if name in read]
            key = f"{_OPTIONS}.{name}"
            raise StemlabError(
                f"{key}={value} ({origin(key)}) is read by {_METHOD}={' or '.join(readers)}, but it is {method} "
                f"({origin(_METHOD)}): leave it out, or change one of them."
            )


def _check_weights(weights: Any, tasks: list[str], where: str, origin: Origin) -> None:
    key = f"{_OPTIONS}.weights"
    if weights is None:
        example = f"'{{{', '.join(f'{task}: 1' for task in tasks)}}}'"
        raise StemlabError(f"{where} needs a weight for each task: set '{key}={example[1:-1]}'.")
    if isinstance(weights, Mapping):
        if unknown := [name for name in weights if name not in tasks]:
            raise StemlabError(
                f"{key} ({origin(key)}) has {unknown[0]!r}; the tasks trained are {', '.join(tasks)}."
                f"{nearest(unknown[0], tasks)}"
            )
        if missing := [task for task in tasks if task not in weights]:
            raise StemlabError(f"{key} ({origin(key)}) has no weight for {', '.join(missing)}.")
    elif len(weights) != len(tasks):
        raise StemlabError(
            f"{key}={weights} ({origin(key)}) must have one number per task: {len(tasks)}, for {', '.join(tasks)}."
        )
    values = weights.values() if isinstance(weights, Mapping) else weights
    if not any(values):
        raise StemlabError(f"{key} ({origin(key)}) are all 0, so nothing would be trained.")


def _check_gradients(config: Mapping[str, Any], where: str, origin: Origin) -> None:
    """Refuse what a method with one gradient per task cannot be combined with."""
    trainer = config.get("trainer")
    if not isinstance(trainer, Mapping):
        return
    if trainer["compile"]:
        key = "trainer.compile"
        raise StemlabError(
            f"{where} runs one backward pass per task, which compiled networks do not support: set {key}=false "
            f"({origin(key)})."
        )
    rule = config.get("optim", {}).get("tables", "dense_adam")
    if rule != "dense_adam" and process_count(trainer) > 1:
        key = "optim.tables"
        raise StemlabError(
            f"{where} with {key}={rule} ({origin(key)}) runs on one process only: set {key}=dense_adam, or train on "
            "one process."
        )
