"""Typed settings of ``stemlab.dashboard``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stemlab.config.section import Section

PanelKind = Literal[
    "points",
    "heat",
    "curves",
    "scatter",
    "parallel",
    "importance",
    "reliability",
    "buckets",
    "spectra",
    "lineage",
]
_Name = Annotated[str, Field(min_length=1)]
_ONE_METRIC = ("parallel", "importance")
_VALUES: dict[str, tuple[str, ...]] = {"scatter": ("x", "y"), "buckets": ("analysis",)}  # others: metric
_WITHOUT_VALUES = ("reliability", "spectra", "lineage")


class PanelConfig(Section):
    """A panel; ``conf/dashboard/default.yaml`` documents the kinds."""

    kind: PanelKind
    title: _Name
    metric: _Name | None = None
    x: _Name | None = None
    y: _Name | None = None
    analysis: Literal["comparable", "transfer"] | None = None

    @model_validator(mode="after")
    def _check_values(self) -> PanelConfig:
        """Check that the panel has the values that its kind shows, and no others."""
        needed = () if self.kind in _WITHOUT_VALUES else _VALUES.get(self.kind, ("metric",))
        for name in ("metric", "x", "y", "analysis"):
            if (getattr(self, name) is None) == (name in needed):
                exactly = f"exactly {' and '.join(needed)}" if needed else "neither metric, x, y nor analysis"
                raise ValueError(f"panel {self.title!r}: kind={self.kind} has {exactly}")
        if self.kind in _ONE_METRIC and "*" in str(self.metric):
            raise ValueError(f"panel {self.title!r}: kind={self.kind} needs one metric, not the pattern {self.metric}")
        return self


class SectionConfig(Section):
    """Panels below one heading."""

    name: _Name
    panels: Annotated[list[PanelConfig], Field(min_length=1)]


class PanelsConfig(Section):
    """``dashboard``: the sections, in order."""

    sections: Annotated[list[SectionConfig], Field(min_length=1)]


class DashboardConfig(Section):
    """Top level of ``conf/dashboard.yaml``, which documents the keys."""

    runs: list[str]
    only: dict[str, Any]
    metrics: Annotated[list[str], Field(min_length=1)] | None
    split: Literal["test", "val"]
    level: Annotated[float, Field(gt=0, lt=1)]
    title: _Name
    output: _Name
    watch: bool
    interval: Annotated[float, Field(gt=0)]
    entity: str | None
    project: str | None
    dashboard: PanelsConfig
    paths: dict[str, Any]
