"""Several analyses on one page; those that do not apply to the runs are left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from stemlab.analysis.base import Analysis, Findings, Sections
from stemlab.analysis.runs import AnalysedRun
from stemlab.config.instantiate import instantiate
from stemlab.errors import StemlabError


class Report(Analysis):
    """All analyses that apply to the runs.

    Args:
        name: name of the analysis on the command line.
        parts: config of each analysis, in the order of the page.
    """

    def __init__(self, *, name: str, parts: dict[str, Any]) -> None:
        super().__init__(name=name)
        self.parts: list[Analysis] = [
            cast(Analysis, instantiate(node, key=f"analysis.parts.{key}")) for key, node in parts.items()
        ]

    @property
    def section_names(self) -> tuple[str, ...]:
        """Names of the sections of all parts."""
        return tuple(name for part in self.parts for name in part.section_names)

    def find(self, runs: Sequence[AnalysedRun]) -> Findings:
        """Return the findings of the first analysis that applies."""
        return next(iter(self.sections(runs).found.values()))

    def sections(self, runs: Sequence[AnalysedRun]) -> Sections:
        """Return the findings of each analysis that applies, and the reasons of the others.

        Raises:
            StemlabError: no analysis applies to the runs.
        """
        found: dict[str, Findings] = {}
        refused: dict[str, str] = {}
        for part in self.parts:
            try:
                found.update(part.sections(runs).found)
            except StemlabError as error:
                refused[part.name] = str(error)
        if not found:
            reasons = " ".join(f"{name}: {reason}" for name, reason in refused.items())
            raise StemlabError(f"no analysis applies to these runs. {reasons}")
        return Sections(found, refused)
