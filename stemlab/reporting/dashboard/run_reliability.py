"""Reliability of runs with saved scores, for the page; kept in memory while ``watch=true`` writes the page again."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from stemlab.errors import StemlabError
from stemlab.reporting.collect import Run
from stemlab.reporting.dashboard.rounding import rounded
from stemlab.reporting.scores import scores_path

_NUMBERS = ("normalised_entropy", "calibration", "ece")


def run_reliability(run: Run) -> tuple[dict[str, Any], str | None]:
    """Return task -> predicted and observed rates and calibration metrics of a run, and why its scores are left out.

    Empty without saved scores, or with ranks of items.
    """
    path = scores_path(run.path)
    try:
        changed = path.stat()
    except OSError:
        return {}, None
    try:
        return _measured(path, changed.st_mtime_ns, changed.st_size), None
    except StemlabError as error:
        return {}, str(error)


@lru_cache(maxsize=4096)
def _measured(path: Path, changed_ns: int, size: int) -> dict[str, Any]:
    """Return the reliability of the tasks of a file; the other arguments make a changed file another one."""
    from stemlab.reporting.reliability import measure_reliability
    from stemlab.reporting.scores import TaskScores, load_scores

    scores = load_scores(path)
    if not isinstance(scores, TaskScores):
        return {}
    found: dict[str, dict[str, Any]] = {}
    for task in scores.tasks:
        if task not in scores.regression and scores.counts(task).any():
            one = measure_reliability(scores, task, "", 0)
            points = zip(one.predicted_N.tolist(), one.observed_N.tolist(), strict=True)
            found[task] = {"points": [[rounded(p), rounded(o)] for p, o in points if p > 0 and o > 0]}
            found[task] |= {name: rounded(getattr(one, name)) for name in _NUMBERS}
    return found
