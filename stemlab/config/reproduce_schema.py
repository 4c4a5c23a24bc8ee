"""Typed settings of ``stemlab.reproduce`` and of its presets (``conf/reproduce``)."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from stemlab.config.section import Section

_Names = Annotated[list[str], Field(min_length=1)]
_Positive = Annotated[int, Field(gt=0)]
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def budget_seconds(text: str | int | float) -> float:
    """Return the seconds of ``90``, ``90s``, ``10m`` or ``1.5h``.

    Raises:
        ValueError: it is not a positive time.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", str(text))
    if not found or not float(found[1]):
        raise ValueError("a time, such as 10m, 90s or 1.5h")
    return float(found[1]) * _UNITS[found[2]]


def _budget(text: str | int | float) -> str | int | float:
    budget_seconds(text)
    return text


class RunGroupConfig(Section):
    """Runs of a reproduction: every experiment with every combination of the values of ``grid``."""

    experiments: _Names
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    seconds: Annotated[float, Field(gt=0)]
    epochs: _Positive


class RepeatConfig(Section):
    """The setting that is repeated: ``seed``, or ``dataset.split.seed`` for random splits."""

    key: str
    values: Annotated[list[int], Field(min_length=1)]


class RawFilesConfig(Section):
    """Files of the raw data (patterns in ``raw_dir``) and the settings of the runs that read them."""

    files: _Names
    settings: list[str] = Field(default_factory=list)


class SampleConfig(Section):
    """What takes the place of missing raw files: settings of the runs, or other runs with their own table."""

    settings: list[str] = Field(default_factory=list)
    runs: list[RunGroupConfig] | None = None
    repeat: RepeatConfig | None = None
    study: str | None = None


class ReducedConfig(Section):
    """A reduced form of a reproduction, for a small budget."""

    repeats: _Positive | None = None
    epochs: _Positive | None = None


class DifferencesConfig(Section):
    """Differences of models from a baseline, paired over the repetitions, and the recorded ones."""

    baseline: str
    metrics: _Names
    reference: str | None = None


class AnalysisStepConfig(Section):
    """An analysis: settings of ``stemlab.analyze``, patterns of run names, conditions that must not hold."""

    settings: _Names
    runs: list[str] = Field(default_factory=list)
    fail_if: list[str] = Field(default_factory=list)


class PresetConfig(Section):
    """A file of ``conf/reproduce``; ``conf/reproduce/ml1m_multitask.yaml`` documents the keys."""

    name: str
    title: str
    folder: str | None = None
    data: list[RawFilesConfig] = Field(default_factory=list)
    obtain: str = ""
    sample: SampleConfig | None = None
    runs: list[RunGroupConfig]
    repeat: RepeatConfig
    study: str | None = None
    reason: str = ""
    differences: DifferencesConfig | None = None
    analyses: list[AnalysisStepConfig] = Field(default_factory=list)
    reduced: list[ReducedConfig] = Field(default_factory=list)


class ReproduceConfig(Section):
    """Top level of ``conf/reproduce.yaml``, which documents the keys."""

    reproduce: PresetConfig | None = None
    budget: Annotated[str | int | float, AfterValidator(_budget)] | None
    reduce: bool
    seeds: Annotated[list[int], Field(min_length=1)] | _Positive | None
    jobs: _Positive
    raw_dir: str | None
    settings: list[str]
    output: str | None
    paths: dict[str, Any]
