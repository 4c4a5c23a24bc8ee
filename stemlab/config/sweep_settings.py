"""Settings of sweeps (``sweep.*`` in ``conf/train.yaml``) and their checks; docs/sweeps.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

from hydra.core.override_parser.types import IntervalSweep, Override

from stemlab.config.own_metrics import own_directions
from stemlab.config.section import Section
from stemlab.errors import StemlabError
from stemlab.metric_directions import metric_direction
from stemlab.types import NonNegativeInt, PositiveInt

_OPEN_ENDED = ("random", "tpe")


class SweepConfig(Section):
    """``sweep`` in ``conf/train.yaml``: how the jobs of a sweep are chosen and run.

    Attributes:
        jobs: jobs that run at the same time on this machine.
        resume: directory of the sweep that is continued.
        sampler: how settings are chosen; ``None``: every combination, without a study.
        trials: trials of the study, over all machines.
        startup_trials: random trials before TPE, and finished trials before the median rule.
        seed: seed of the sampler.
        pruner: rule that ends trials early.
        warmup_epochs: epochs that every trial trains.
        reduction_factor: of successive halving and Hyperband.
    """

    jobs: PositiveInt
    resume: str | None
    sampler: Literal["grid", "random", "tpe"] | None
    trials: PositiveInt | None
    startup_trials: NonNegativeInt
    seed: NonNegativeInt
    pruner: Literal["none", "median", "successive_halving", "hyperband"]
    warmup_epochs: PositiveInt
    reduction_factor: PositiveInt


class LauncherConfig(Section):
    """``launcher`` of ``conf/launcher``: how a launcher of Hydra runs the jobs of a grid.

    Attributes:
        name: name of the option.
        jobs: jobs at the same time.
        partition: partition of SLURM.
        minutes: time limit of a SLURM job.
        gpus: GPUs of a SLURM job.
        cpus: CPUs of a SLURM job.
        memory_gb: memory of a SLURM job.
    """

    name: str
    jobs: PositiveInt
    partition: str | None = None
    minutes: PositiveInt = 1440
    gpus: PositiveInt | None = None
    cpus: PositiveInt | None = None
    memory_gb: PositiveInt | None = None


def is_search(config: Mapping[str, Any]) -> bool:
    """Return whether a sweep has a study; other commands than ``train`` have no settings of sweeps."""
    return bool((config.get("sweep") or {}).get("sampler"))


def check_sweep(config: Mapping[str, Any], swept: Sequence[Override], launcher: str) -> None:
    """Refuse settings of a sweep that do not fit together.

    Args:
        config: config of the sweep without its swept settings.
        swept: settings with several values.
        launcher: class of Hydra's launcher.

    Raises:
        StemlabError: the first setting that does not fit.
    """
    settings = config["sweep"]
    sampler, pruner = settings["sampler"], settings["pruner"]
    if settings["resume"] is not None:
        raise StemlabError("sweep.resume is read from the command line only: type sweep.resume=<directory of a sweep>.")
    intervals = [override for override in swept if isinstance(override.value(), IntervalSweep)]
    if intervals and sampler not in _OPEN_ENDED:
        raise StemlabError(
            f"{intervals[0].input_line}: a grid needs single values, not an interval; set sweep.sampler=random or tpe."
        )
    if pruner != "none" and sampler is None:
        raise StemlabError(f"sweep.pruner={pruner} needs sweep.sampler=grid, random or tpe.")
    if (sampler or settings["jobs"] > 1) and not launcher.endswith("BasicLauncher"):
        cause = f"sweep.sampler={sampler}" if sampler else f"sweep.jobs={settings['jobs']}"
        raise StemlabError(
            f"{cause} starts its own processes and does not use launcher: leave one of them out (docs/sweeps.md)."
        )
    if settings["jobs"] > 1 and isinstance(config["trainer"]["devices"], list):
        raise StemlabError("sweep.jobs assigns the GPUs: set trainer.devices to a number of GPUs per job.")
    if sampler is not None:
        _check_search(config, swept)


def check_values(swept: Sequence[Override]) -> None:
    """Refuse settings without a value, reversed intervals, and tags that nothing reads.

    Raises:
        StemlabError: the first such setting.
    """
    for override in swept:
        value, word, read = override.value(), override.input_line, set[str]()
        if isinstance(value, IntervalSweep):
            read = {"log"}
            if value.start is not None and value.end is not None and value.start > value.end:
                raise StemlabError(f"{word} is an empty interval: the smaller end comes first.")
        elif not any(True for _ in override.sweep_string_iterator()):
            raise StemlabError(f"{word} has no value: no option has such a name, or a range ends before it begins.")
        if unread := sorted({*getattr(value, "tags", ())} - read):
            raise StemlabError(f"{word}: the tag {unread[0]} is not read here; tag(log,interval(...)) is the only one.")


def _check_search(config: Mapping[str, Any], swept: Sequence[Override]) -> None:
    settings, objective = config["sweep"], str(config["objective"])
    sampler, pruner = settings["sampler"], settings["pruner"]
    if find_spec("optuna") is None:
        raise StemlabError(f"sweep.sampler={sampler} needs Optuna: pip install 'stemlab[sweep]'.")
    if not swept:
        raise StemlabError(
            f"sweep.sampler={sampler} has nothing to search: add sweep/space=<option of conf/sweep/space>, or "
            "settings such as 'optim.lr=tag(log,interval(1e-4,1e-2))'."
        )
    if sampler in _OPEN_ENDED and settings["trials"] is None:
        raise StemlabError(f"sweep.sampler={sampler} needs sweep.trials, the number of trials.")
    if metric_direction(objective, own_directions(config)) is None:
        raise StemlabError(f"objective={objective!r} cannot be searched: neither larger nor smaller values are better.")
    monitor = config["callbacks"]["checkpoint"]["monitor"]
    if pruner != "none" and objective != monitor:
        raise StemlabError(
            f"sweep.pruner={pruner} compares epochs by callbacks.checkpoint.monitor={monitor}, which must be the "
            f"objective; objective is {objective}."
        )
    if pruner in ("successive_halving", "hyperband") and settings["reduction_factor"] < 2:
        raise StemlabError(f"sweep.reduction_factor must be 2 or more for sweep.pruner={pruner}.")
