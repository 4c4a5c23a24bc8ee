"""What every analysis is and what it finds.

An analysis is a class with keyword-only settings: one file ``stemlab/analysis/<name>.py``, one file
``conf/analysis/<name>.yaml`` that names it. It computes and draws; ``stemlab.analysis.output`` writes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from stemlab.analysis.runs import AnalysedRun
from stemlab.array_types import AnyArray
from stemlab.errors import StemlabError


@dataclass(frozen=True)
class Matrix:
    """A table of numbers with names, written as CSV.

    Attributes:
        rows: R row names.
        columns: C column names.
        values: (R, C) numbers; nan where undefined.
        corner: what the rows are (``field``).
    """

    rows: Sequence[str]
    columns: Sequence[str]
    values: AnyArray
    corner: str = ""


@dataclass(frozen=True)
class Drawing:
    """A figure and what one sees in it."""

    figure: Figure
    caption: str


@dataclass(frozen=True)
class Findings:
    """What an analysis found.

    Attributes:
        title: heading of its part of the page.
        verdict: one sentence with the numbers that decide.
        reading: how to read the figures, a paragraph each.
        numbers: for ``results.json``; plain values.
        matrices: file name without ending -> table.
        drawings: file name without ending -> figure.
        notes: what was left out and why, a sentence each.
    """

    title: str
    verdict: str
    reading: Sequence[str]
    numbers: Mapping[str, Any]
    matrices: Mapping[str, Matrix] = field(default_factory=dict)
    drawings: Mapping[str, Drawing] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Sections:
    """What a command found.

    Attributes:
        found: the findings of each analysis.
        refused: why others refused.
        sample: whether synthetic rows were analysed without a run that says so.
        failed: after everything is written, the command leaves with this sentence.
    """

    found: Mapping[str, Findings]
    refused: Mapping[str, str] = field(default_factory=dict)
    sample: bool = False
    failed: str = ""


class Analysis(ABC):
    """An analysis of runs.

    Args:
        name: as typed on the command line.
    """

    needs_runs: bool = True
    """Whether there is nothing to do without ``run`` or ``runs``."""

    def __init__(self, *, name: str) -> None:
        self.name = name

    @property
    def section_names(self) -> tuple[str, ...]:
        """Names of the sections that it may find."""
        return (self.name,)

    @abstractmethod
    def find(self, runs: Sequence[AnalysedRun]) -> Findings:
        """Analyse the runs, in the order in which they were named.

        Raises:
            StemlabError: they are not of a kind that can be analysed so.
        """

    def sections(self, runs: Sequence[AnalysedRun]) -> Sections:
        """Return the findings under the analysis' name."""
        return Sections({self.name: self.find(runs)})


def one_dataset(runs: Sequence[AnalysedRun]) -> None:
    """Refuse runs of several prepared datasets, whose ids mean different things."""
    first = runs[0]
    for other in runs[1:]:
        if other.fingerprint != first.fingerprint:
            raise StemlabError(
                f"{first.place} and {other.place} were trained on different prepared datasets "
                f"({first.fingerprint[:12]} and {other.fingerprint[:12]}): their ids cannot be compared."
            )
