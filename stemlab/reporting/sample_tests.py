"""Significance over the test samples of saved scores: DeLong's test for AUC, a bootstrap over users for means of users.

The metric of a row is its mean over seeds, so the parts of which it is a mean (structural components of the AUC, or the
values of the users) are averaged over the common seeds first, and the average is tested: all seeds have the same test
samples, so their sampling errors are dependent, and one test per seed would count the samples several times.

Legend: B samples, P positives, Q negatives, G groups (users).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import median

import numpy as np

from stemlab.array_types import AnyArray, Float64Array
from stemlab.errors import StemlabError
from stemlab.metric_directions import metric_direction
from stemlab.metrics.auc import group_auc
from stemlab.metrics.calibration import CLIP
from stemlab.reporting.scores import RankScores, TaskScores, load_scores
from stemlab.reporting.significance import Cell, SeedValues, Significance, best_row
from stemlab.reporting.statistics import (
    AucComponents,
    TestedDifference,
    auc_components,
    bootstrap_over_groups,
    delong_of_components,
    detectable_difference,
    holm,
)
from stemlab.types import MISSING_GROUP

TESTED = ("auc", "gauc", "logloss", "hr", "ndcg", "mrr")
"""Metrics with a test over samples."""
_MOST_DRAWS = 400_000_000  # of a bootstrap: resamples times users
ScoreFiles = Mapping[int, Path]
"""Seed -> record of the run that measured a column."""


@dataclass(frozen=True)
class UserMean:
    """A metric that is a weighted mean over users.

    Attributes:
        value_G: values of the users; NaN where undefined.
        weight_G: weights, above 0.
    """

    value_G: Float64Array
    weight_G: Float64Array

    @property
    def mean(self) -> float:
        """The metric; NaN without users."""
        defined_G = ~np.isnan(self.value_G)
        if not defined_G.any():
            return math.nan
        return float(np.average(self.value_G[defined_G], weights=self.weight_G[defined_G]))


Parts = AucComponents | UserMean


@dataclass
class _Loader:
    """Scores of runs; all of one prepared dataset must have the same samples."""

    load: Callable[[Path], TaskScores | RankScores] = field(default_factory=lambda: lru_cache(maxsize=64)(load_scores))
    first: dict[tuple[str, str], tuple[str, AnyArray | None, Path]] = field(default_factory=dict)

    def parts(self, column: str, path: Path, recorded: float) -> Parts:
        """Return the parts of a column of the run with a record, after the check of its samples and of its value.

        Raises:
            StemlabError: there are no scores, their samples differ from those of other runs, or their metric is not
                the recorded one.
        """
        scores = self.load(path)
        metric, *rest = column.split("/", 2)
        task = rest[0] if rest else ""
        labels = scores.labels(task) if isinstance(scores, TaskScores) and task in scores.tasks else None
        if task and labels is None:
            raise StemlabError(f"significance=samples: the saved scores of {path} have no task {task!r}.")
        fingerprint, other, first = self.first.setdefault(
            (scores.dataset_fingerprint, task), (scores.fingerprint, labels, path)
        )
        if fingerprint != scores.fingerprint or not _equal(labels, other):
            raise StemlabError(
                f"significance=samples: {path} and {first} were measured on different test samples; report them apart, "
                "or use significance=seeds."
            )
        found = metric_parts(scores, metric, *rest)
        value = found.auc if isinstance(found, AucComponents) else found.mean
        if not math.isclose(value, recorded, abs_tol=1e-6):
            raise StemlabError(
                f"significance=samples: the saved scores of {path} give {column} {value:.6f}, its record has "
                f"{recorded:.6f}; evaluate its best checkpoint again with save_scores=true."
            )
        return found


def _equal(one: AnyArray | None, other: AnyArray | None) -> bool:
    return one is other if one is None or other is None else bool(np.array_equal(one, other))


def metric_parts(scores: TaskScores | RankScores, metric: str, task: str = "", scenario: str | None = None) -> Parts:
    """Return the parts of which a metric is a mean.

    Args:
        scores: saved scores of a run.
        metric: one of ``TESTED``, with its cut-off (``ndcg@5``).
        task: the task; empty for the metrics of sequential models.
        scenario: only the samples of this scenario; ``None``: all.

    Raises:
        StemlabError: the metric has no test over samples, or AUC and gAUC have sample weights.
    """
    name, _, cutoff = metric.partition("@")
    if isinstance(scores, RankScores):
        return _per_user(_gain(scores.rank_B, name, int(cutoff or 0)), np.ones(len(scores)), scores.user_B)
    chosen_B = scores.counts(task, scenario)
    labels_B, prob_B = scores.labels(task)[chosen_B], scores.prob(task)[chosen_B]
    if name == "logloss":
        weight_B = np.ones(len(labels_B)) if scores.weight_B is None else scores.weight_B[chosen_B].astype(np.float64)
        p_B = np.clip(prob_B.astype(np.float64), CLIP, 1 - CLIP)
        loss_B = -np.log(np.where(labels_B > 0, p_B, 1 - p_B))
        group_B = np.arange(len(labels_B)) if scores.group_B is None else scores.group_B[chosen_B]
        return _per_user(loss_B, weight_B, group_B)
    if scores.weight_B is not None:
        raise StemlabError(f"significance=samples: {metric} with sample weights has no test; use significance=seeds.")
    if name == "auc":
        return auc_components(labels_B, prob_B)
    if scores.group_B is None:
        raise StemlabError("significance=samples: gauc needs groups in the saved scores; set dataset.group.")
    found = group_auc(labels_B, prob_B, scores.group_B[chosen_B])
    return UserMean(found.auc_G, found.rows_G.astype(np.float64))


def _gain(rank_B: Float64Array, name: str, cutoff: int) -> Float64Array:
    """Return the contribution of each rank to HR@k, NDCG@k or MRR."""
    if name == "mrr":
        return 1 / rank_B
    gain_B = np.ones(len(rank_B)) if name == "hr" else 1 / np.log2(rank_B + 1)
    return np.where(rank_B <= cutoff, gain_B, 0.0)


def _per_user(value_B: Float64Array, weight_B: Float64Array, group_B: AnyArray) -> UserMean:
    """Return the mean of each user; samples without a user (``MISSING_GROUP``) are users of their own."""
    own_B = MISSING_GROUP + len(group_B) - 1 - np.arange(len(group_B))  # keys of users may be negative, not so far
    key_B = np.where(group_B == MISSING_GROUP, own_B, group_B)
    user_B = np.unique(key_B, return_inverse=True)[1]
    weight_G: Float64Array = np.bincount(user_B, weight_B).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return UserMean(np.bincount(user_B, value_B * weight_B) / weight_G, weight_G)


def average(parts: Sequence[Parts]) -> Parts:
    """Return the parts averaged over seeds."""
    first = parts[0]
    if isinstance(first, AucComponents):
        every = [one for one in parts if isinstance(one, AucComponents)]
        above_P, below_Q = (np.mean([getattr(one, name) for one in every], axis=0) for name in ("above_P", "below_Q"))
        return AucComponents(float(above_P.mean()) if len(above_P) else math.nan, above_P, below_Q)
    users = [one for one in parts if isinstance(one, UserMean)]
    return UserMean(np.mean([one.value_G for one in users], axis=0), first.weight_G)


def compare_parts(first: Parts, second: Parts, resamples: int) -> TestedDifference:
    """Return the difference of two averaged metrics with its test.

    Args:
        first: parts of the first model.
        second: parts of the second model, over the same samples.
        resamples: of the bootstrap; fewer if there are very many users.
    """
    if isinstance(first, AucComponents) and isinstance(second, AucComponents):
        return delong_of_components(first, second)
    assert isinstance(first, UserMean)
    assert isinstance(second, UserMean)
    resamples = max(1000, min(resamples, _MOST_DRAWS // max(1, len(first.value_G))))
    return bootstrap_over_groups(first.value_G, second.value_G, first.weight_G, resamples)


def over_samples(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, SeedValues]],
    data: Sequence[str],
    files: Sequence[Mapping[str, ScoreFiles]],
    level: float = 0.05,
) -> Significance:
    """Compare rows by tests over the test samples, adjusted by Holm's method over all tests of the table.

    A row is compared with the best row on the same data, on their common seeds; one seed is enough.

    Args:
        columns: columns of the table (``auc/like``); those whose metric is not in ``TESTED`` are not tested.
        rows: per row: column -> seed -> value.
        data: per row: the prepared dataset; only rows with equal data are compared.
        files: per row: column -> seed -> record of the run.
        level: significance level.

    Raises:
        StemlabError: scores are missing, or are not those of the same samples.
    """
    loader, pairs = _Loader(), list(_pairs(columns, rows, data))
    resamples = max(2000, math.ceil(20 * len(pairs) / level))  # the smallest adjusted p-value is a tenth of the level
    tests: dict[tuple[int, str], TestedDifference] = {}
    for column, best, others in _by_column(pairs):
        kept: dict[tuple[int, tuple[int, ...]], Parts] = {}
        for row in others:
            seeds = tuple(sorted(rows[row][column].keys() & rows[best][column].keys()))
            for one in (row, best):
                if (one, seeds) not in kept:
                    found = [loader.parts(column, files[one][column][seed], rows[one][column][seed]) for seed in seeds]
                    kept[one, seeds] = average(found)
            tests[row, column] = compare_parts(kept[row, seeds], kept[best, seeds], resamples)
            del kept[row, seeds]
    tests = {key: test for key, test in tests.items() if not math.isnan(test.p)}
    adjusted = holm([test.p for test in tests.values()])
    cells = {key: Cell(test, p) for (key, test), p in zip(tests.items(), adjusted, strict=True)}
    best_cells = frozenset((best, column) for column, best, row in pairs if (row, column) in cells)
    return Significance(_method(pairs), level, best_cells, cells, _detectable(tests, level))


def _pairs(
    columns: Sequence[str], rows: Sequence[Mapping[str, SeedValues]], data: Sequence[str]
) -> Iterable[tuple[str, int, int]]:
    """Yield column, its best row on some data, and another row with a common seed."""
    for column in columns:
        if column.partition("/")[0].partition("@")[0] not in TESTED or metric_direction(f"test/{column}") is None:
            continue
        for name in dict.fromkeys(data):
            values = {row: one[column] for row, one in enumerate(rows) if data[row] == name and one[column]}
            if len(values) > 1:
                best = best_row(column, values)
                yield from ((column, best, row) for row in values if row != best and values[row].keys() & values[best])


def _by_column(pairs: Sequence[tuple[str, int, int]]) -> list[tuple[str, int, list[int]]]:
    """Return column, best row, and the rows compared with it."""
    grouped: dict[tuple[str, int], list[int]] = {}
    for column, best, row in pairs:
        grouped.setdefault((column, best), []).append(row)
    return [(column, best, others) for (column, best), others in grouped.items()]


def _method(pairs: Sequence[tuple[str, int, int]]) -> str:
    auc = any(column.startswith("auc") for column, _, _ in pairs)
    users = any(not column.startswith("auc") for column, _, _ in pairs)
    names = ["DeLong's test"] * auc + ["bootstrap over users"] * users
    return f"{' and '.join(names)} of the means over seeds, on the same test samples"


def _detectable(tests: Mapping[tuple[int, str], TestedDifference], level: float) -> dict[str, float]:
    """Return column -> smallest difference that a test finds with a power of 0.8, median over its rows."""
    errors: dict[str, list[float]] = {}
    for (_, column), test in tests.items():
        errors.setdefault(column, []).append(detectable_difference(test.standard_error, math.inf, level))
    return {column: median(found) for column, found in errors.items()}
