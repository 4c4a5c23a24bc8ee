"""Typed settings of ``stemlab.dashboard``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stemlab.config.section import Section

PanelKind = Literal["points", "curves", "scatter", "parallel", "importance"]
_Name = Annotated[str, Field(min_length=1)]
_ONE_METRIC = ("parallel", "importance")


class PanelConfig(Section):
    """A panel; ``conf/dashboard/default.yaml`` documents the kinds."""

    kind: PanelKind
    title: _Name
    metric: _Name | None = None
    x: _Name | None = None
    y: _Name | None = None

    @model_validator(mode="after")
    def _check_values(self) -> PanelConfig:
        """Check that the panel has the values that its kind shows, and no others."""
        needed = ("x", "y") if self.kind == "scatter" else ("metric",)
        for name in ("metric", "x", "y"):
            if (getattr(self, name) is None) == (name in needed):
                raise ValueError(f"panel {self.title!r}: kind={self.kind} has exactly {' and '.join(needed)}")
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
