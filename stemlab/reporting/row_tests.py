"""Tests of the differences between the rows of a report table, over seeds or over the test samples of saved scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stemlab.errors import StemlabError
from stemlab.reporting.sample_tests import over_samples
from stemlab.reporting.significance import Significance, over_seeds
from stemlab.types import Mode

if TYPE_CHECKING:
    from stemlab.reporting.table import ReportRow


def row_tests(
    rows: Sequence[ReportRow],
    columns: Sequence[str],
    split: str,
    level: float,
    over: str,
    own: Mapping[str, Mode | None],
) -> Significance:
    """Return the tests of the differences between the rows of a table.

    Args:
        rows: rows of the table.
        columns: columns of the table (``auc/like``).
        split: split of the metrics.
        level: significance level.
        over: ``seeds`` or ``samples``.
        own: directions of metrics of the user.

    Raises:
        StemlabError: tests over samples of another split than the test split, or without saved scores of the samples.
    """
    values = [{name: stat.values for name, stat in row.stats.items()} for row in rows]
    data = [str(row.runs[0].record["dataset_fingerprint"]) for row in rows]
    if over == "seeds":
        return over_seeds(columns, values, data, level, own)
    if split != "test":
        raise StemlabError("significance=samples compares saved test scores: use split=test.")
    files: list[dict[str, dict[int, Path]]] = []
    for row in rows:
        having = {name: [run for run in row.runs if run.metric(f"test/{name}") is not None] for name in columns}
        files.append({name: {int(run.record["seed"]): run.path for run in runs} for name, runs in having.items()})
    return over_samples(columns, values, data, files, level)
