"""Check of analyses that compare positive with negative samples."""

from __future__ import annotations

from collections.abc import Sequence

from stemlab.analysis.runs import AnalysedRun
from stemlab.errors import StemlabError


def require_binary_tasks(analysis: str, runs: Sequence[AnalysedRun]) -> None:
    """Raise StemlabError if a run has tasks whose labels are not binary labels of all samples.

    Args:
        analysis: name of the analysis.
        runs: its runs.
    """
    for run in runs:
        spec = run.impressions
        for label in spec.labels:
            if label.name in run.tasks:
                kind = (
                    "a regression label" if label.kind == "regression" else f"a label of samples with {label.given} = 1"
                )
                raise StemlabError(
                    f"analysis={analysis} compares positive with negative samples, but task {label.name!r} of "
                    f"{run.label} has {kind}: name runs without it."
                )
