"""Base class of analyses, and the dataclasses of their results.

An analysis is a class with keyword-only settings in ``stemlab/analysis/<name>/analysis.py``;
``conf/analysis/<name>.yaml`` names the class and its settings. The class computes numbers and figures;
``stemlab.analysis.output`` writes them.
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
    """A named matrix, written as a CSV file.

    Attributes:
        rows: R row names.
        columns: C column names.
        values: (R, C) numbers; NaN where undefined.
        corner: header of the column of row names (``field``).
    """

    rows: Sequence[str]
    columns: Sequence[str]
    values: AnyArray
    corner: str = ""


@dataclass(frozen=True)
class CaptionedFigure:
    """A figure with its caption."""

    figure: Figure
    caption: str


@dataclass(frozen=True)
class Findings:
    """Results of one analysis.

    Attributes:
        title: heading of its section on the page.
        verdict: one or a few sentences with the main numbers.
        reading: paragraphs that explain how to read the figures.
        numbers: plain values for ``results.json``.
        matrices: file name without suffix -> matrix.
        figures: file name without suffix -> figure.
        notes: one sentence per part that was left out, with the reason.
    """

    title: str
    verdict: str
    reading: Sequence[str]
    numbers: Mapping[str, Any]
    matrices: Mapping[str, Matrix] = field(default_factory=dict)
    figures: Mapping[str, CaptionedFigure] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Sections:
    """Results of one command.

    Attributes:
        found: section name -> findings.
        refused: analysis name -> reason why it does not apply to the runs.
        sample: whether synthetic samples were analysed although no run is marked SAMPLE.
        failed: error message with which the command exits after it has written the results; empty: none.
    """

    found: Mapping[str, Findings]
    refused: Mapping[str, str] = field(default_factory=dict)
    sample: bool = False
    failed: str = ""


class Analysis(ABC):
    """An analysis of runs.

    Args:
        name: name of the analysis on the command line.
    """

    needs_runs: bool = True
    """Whether the analysis requires ``run`` or ``runs``."""

    def __init__(self, *, name: str) -> None:
        self.name = name

    @property
    def section_names(self) -> tuple[str, ...]:
        """Names of the sections that the analysis can produce."""
        return (self.name,)

    @abstractmethod
    def find(self, runs: Sequence[AnalysedRun]) -> Findings:
        """Analyse the runs, in the order of the command line.

        Raises:
            StemlabError: the analysis does not apply to these runs.
        """

    def sections(self, runs: Sequence[AnalysedRun]) -> Sections:
        """Return the findings as one section with the name of the analysis.

        Raises:
            StemlabError: the analysis does not apply to these runs, or ``find`` returned something else.
        """
        found = self.find(runs)
        if not isinstance(found, Findings):
            raise StemlabError(
                f"{type(self).__name__}.find returned {type(found).__name__}, not Findings of stemlab.analysis.base."
            )
        return Sections({self.name: found})


def check_same_dataset(runs: Sequence[AnalysedRun]) -> None:
    """Check that all runs were trained on the same prepared dataset.

    Raises:
        StemlabError: two runs have different prepared datasets; their ids differ in meaning.
    """
    first = runs[0]
    for other in runs[1:]:
        if other.fingerprint != first.fingerprint:
            raise StemlabError(
                f"{first.path} and {other.path} were trained on different prepared datasets "
                f"({first.fingerprint[:12]} and {other.fingerprint[:12]}): their ids cannot be compared."
            )
