"""Runs of a reproduction: experiments, settings, repetitions, directories and estimated times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from stemlab.config.compose import CommandLine, KeyOrigins, separate_hydra
from stemlab.config.limits import LIMITED
from stemlab.config.reproduce_schema import PresetConfig, RepeatConfig, RunGroupConfig
from stemlab.config.resolve import config_hash
from stemlab.config.sweep import compose_jobs
from stemlab.config.validate import validate
from stemlab.errors import StemlabError
from stemlab.reporting.record import RECORD, file_name, read_record
from stemlab.reproduction.data_choice import ChosenData

_START_SECONDS = 5.0
"""Time of a run before its first and after its last epoch, on two CPU cores."""


@dataclass
class ReproductionRun:
    """One run of a reproduction.

    Attributes:
        name: name of its directory.
        words: settings of ``stemlab.train``.
        directory: run directory.
        seconds: estimated time.
        config: plain config; empty until it is composed.
    """

    name: str
    words: list[str]
    directory: Path
    seconds: float
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the directory holds a finished run."""
        return self.record.get("status") == "finished"

    @property
    def record(self) -> dict[str, Any]:
        """The record; empty if the run has not started."""
        return read_record(self.directory) if (self.directory / RECORD).is_file() else {}


@dataclass(frozen=True)
class ReproductionForm:
    """A whole or reduced reproduction.

    Attributes:
        repeats: values of the repeated setting.
        epochs: largest number of epochs; None: that of the experiments.
        reduced: what is left out, for the screen; empty for the whole reproduction.
    """

    repeats: tuple[int, ...]
    epochs: int | None
    reduced: str

    @property
    def folder(self) -> str:
        """Folder of the runs: runs with all epochs belong to every number of repetitions."""
        return f"limited_to_{self.epochs}_epochs" if self.epochs else "runs"


def forms(preset: PresetConfig, repeat: RepeatConfig, seeds: list[int] | int | None) -> list[ReproductionForm]:
    """Return the whole reproduction, then its reduced forms.

    Args:
        preset: the preset.
        repeat: its repeated setting, or that of the sample.
        seeds: number of repetitions, or their values; None: those of the preset.

    Raises:
        StemlabError: there are not as many repetitions.
    """
    values, count = list(repeat.values), len(repeat.values)
    if isinstance(seeds, int) and seeds > count:
        raise StemlabError(f"seeds={seeds}: {preset.name} has {count} ({repeat.key}); name them: seeds=[1,2,3].")
    values = values[:seeds] if isinstance(seeds, int) else seeds or values
    found = []
    for reduced in (None, *preset.reduced):
        kept = values[: reduced.repeats] if reduced else values
        epochs = reduced.epochs if reduced else None
        parts = [f"{len(kept)} of {count} values of {repeat.key}"] if len(kept) < count else []
        parts += [f"at most {epochs} epoch{'s' * (epochs > 1)}"] if epochs else []
        found.append(ReproductionForm(tuple(kept), epochs, ", ".join(parts)))
    return found


def plan_runs(
    groups: Sequence[RunGroupConfig],
    repeat: RepeatConfig,
    form: ReproductionForm,
    data: ChosenData,
    settings: Sequence[str],
    output: Path,
) -> list[ReproductionRun]:
    """Return the runs of a form; the first repetition of all of them comes first."""
    folder = output / f"{'sample_' if data.sample else ''}{form.folder}"
    runs = []
    for value, (group, experiment, choice) in product(form.repeats, list(_choices(groups))):
        words = [f"experiment={experiment}", *data.settings, *choice, f"{repeat.key}={value}", *settings]
        share = 1.0
        if form.epochs is not None:
            words += [f"trainer.max_epochs={form.epochs}", f"tags=[{LIMITED}]"]
            share = min(1.0, form.epochs / group.epochs)
        if not any(word.startswith("logger=") for word in settings):
            words.append("logger=csv")
        varied = [word.split("=", 1) for word in [*choice, f"{repeat.key}={value}"]]
        short = [f"{key.partition('.')[2] or key}_{text}" for key, text in varied]
        name = "-".join([experiment.replace("/", "_"), *short])
        seconds = _START_SECONDS + max(0.0, group.seconds - _START_SECONDS) * share
        runs.append(ReproductionRun(file_name(name), words, folder / file_name(name), seconds))
    return runs


def _choices(groups: Sequence[RunGroupConfig]) -> Iterator[tuple[RunGroupConfig, str, list[str]]]:
    for group in groups:
        for experiment in group.experiments:
            for values in product(*group.grid.values()):
                yield group, experiment, [f"{key}={value}" for key, value in zip(group.grid, values, strict=True)]


def compose_runs(runs: Sequence[ReproductionRun]) -> None:
    """Compose and validate the config of every run; nothing is read or written but the records.

    Raises:
        StemlabError: a setting is invalid, or a finished run in the directory has other settings.
    """
    with separate_hydra("train"):
        jobs = compose_jobs(CommandLine("train"), [run.words for run in runs])
        for run, (words, config) in zip(runs, jobs, strict=True):
            validate("train", config, KeyOrigins("train", words))
            run.config = config
    for run in runs:
        if run.finished and run.record.get("config_hash") != config_hash(run.config):
            raise StemlabError(
                f"{run.directory} holds a finished run with other settings: choose another folder with "
                "output=<folder>, or delete the run."
            )


def remaining_seconds(runs: Sequence[ReproductionRun]) -> float:
    """Return the estimated time of the runs that are not finished, corrected by the measured time of those that are."""
    done = [run for run in runs if run.finished]
    stated = sum(run.seconds for run in done)
    measured = sum(float((run.record.get("time") or {}).get("wall_s") or run.seconds) for run in done)
    rate = measured / stated if stated else 1.0
    return rate * sum(run.seconds for run in runs if not run.finished)


def choose_form(
    planned: Sequence[tuple[ReproductionForm, list[ReproductionRun]]], budget: float | None, jobs: int
) -> tuple[ReproductionForm, list[ReproductionRun]]:
    """Return the first form whose missing runs fit into the budget, else the last one."""
    for form, runs in planned:
        if budget is None or remaining_seconds(runs) / jobs <= budget:
            return form, runs
    return planned[-1]
