"""Typed settings of ``stemlab.report``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from stemlab.config.section import Section

_Cost = Literal["samples/s", "dense", "embedding", "parameters", "memory", "fit", "best"]  # stemlab.reporting.costs
_Names = Annotated[list[str], Field(min_length=1)]


class FigureConfig(Section):
    """``figure`` of ``conf/report.yaml``: differences from a baseline over the setting ``x``; null: no figure."""

    x: str | None
    metric: Annotated[str, Field(pattern=r"^\w+(@\d+)?(/.+)?$")]
    baseline: str


class CriticalConfig(Section):
    """``critical`` of ``conf/report.yaml``: critical-difference diagram; without metrics: none."""

    metrics: _Names | None
    method: Literal["nemenyi", "wilcoxon"]


class ParetoConfig(Section):
    """``pareto`` of ``conf/report.yaml``: quality against costs; without a metric: no figure."""

    metric: str | None
    costs: Annotated[list[_Cost], Field(min_length=1)]


class ReportConfig(Section):
    """Top level of ``conf/report.yaml``, which documents the keys."""

    runs: list[str]
    only: dict[str, Any]
    by: _Names
    metrics: _Names | None
    tables: Literal["separate", "one"]
    scenarios: Literal["pooled", "each"]
    split: Literal["test", "val"]
    significance: Literal["seeds", "samples"] | None
    costs: list[_Cost]
    level: Annotated[float, Field(gt=0, lt=1)]
    order: list[str]
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    caption: str
    reference: str | None
    output: str | None
    escape_csv: bool
    copies: str | None
    update: str | None
    check: bool
    figure: FigureConfig
    critical: CriticalConfig
    reliability: bool
    pareto: ParetoConfig
    paths: dict[str, Any]
