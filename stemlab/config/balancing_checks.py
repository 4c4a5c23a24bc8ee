"""Settings of ``model.balancing`` that belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import Field, WrapValidator

from stemlab.balancing_methods import DEFAULTS, PACKAGES, REDUCTIONS, BalancingMethod, BalancingSettings
from stemlab.config.cross_checks import effective_tasks, is_sequential
from stemlab.config.instantiate import TARGET
from stemlab.config.job_process import process_count
from stemlab.config.own_balancing import check_own_balancing, gradient_method
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


def _or_own(value: Any, validate: Callable[[Any], Any]) -> Any:
    """Return a class of the user with its settings, which are checked later, or validate the name of a method."""
    return value if isinstance(value, Mapping) and TARGET in value else validate(value)


class BalancedModel(Section):
    """Settings of ``conf/model`` for several tasks.

    Attributes:
        balancing: how the task losses become a training step; ``None`` is ``loss_reduction``; a mapping is a class
            (``_target_``) and settings of the user.
        balancing_options: options of that method.
    """

    balancing: Annotated[BalancingMethod | None, WrapValidator(_or_own)] = None
    balancing_options: BalancingOptions | None = None


def check_balancing(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse options that the method does not read, and settings that it cannot follow.

    Raises:
        StemlabError: the first such setting.
    """
    if is_sequential(config):
        return
    model = config["model"]
    check_own_balancing(config, origin)
    method = BalancingSettings.from_config(model).method
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
    if gradient_method(model):
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
