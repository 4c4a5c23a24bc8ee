"""Demonstration: the analyses find effects planted in small synthetic datasets (docs/methods/recscope.md#demo).

Each of the three synthetic datasets has a control without the planted effect, so that a false positive is noticed.

Legend: C categories, P positions, T tasks, K width of tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stemlab.analysis.base import Analysis, Findings, Sections
from stemlab.analysis.collapse.spectra import (
    BlockwiseMatrix,
    information_abundance,
    normalised_spectrum,
    singular_values,
)
from stemlab.analysis.correlation.agreement import decay, pearson
from stemlab.analysis.correlation.ground_truth import CorrelationCounts, scaled
from stemlab.analysis.correlation.learned import target_attention
from stemlab.analysis.demo import findings as view
from stemlab.analysis.demo import synthetic
from stemlab.analysis.entanglement.conflict import TableDistances, retention, table_distances
from stemlab.analysis.runs import AnalysedRun
from stemlab.data.io.progress import ProgressBars
from stemlab.types import NonNegativeInt, PositiveFloat, PositiveInt

WIDTH, CATEGORIES, POSITIONS = 16, 5, 8
LIMITS = (40.0, 60.0)


class Demo(Analysis):
    """Collapse, correlation and conflict on synthetic data.

    Args:
        name: name of the analysis on the command line.
        rank: rank of the user-item affinity matrix in the dataset with collapse.
        rate: decay rate of the effect of a behaviour with its position.
        rows: number of samples in the dataset with correlation.
        seed: seed of the datasets and the models.
    """

    needs_runs = False

    def __init__(
        self, *, name: str, rank: PositiveInt, rate: PositiveFloat, rows: PositiveInt, seed: NonNegativeInt
    ) -> None:
        super().__init__(name=name)
        self.rank, self.rate, self.rows, self.seed = rank, rate, rows, seed

    @property
    def section_names(self) -> tuple[str, ...]:
        """Names of the three effects."""
        return "collapse", "correlation", "conflict"

    def sections(self, runs: Sequence[AnalysedRun]) -> Sections:
        """Return one section per effect; ``runs`` is ignored."""
        makers = dict(zip(self.section_names, (self.collapse, self.correlation, self.conflict), strict=True))
        found: dict[str, Findings] = {}
        with ProgressBars() as steps:
            advance = steps.rows("synthetic datasets", len(makers))
            for name, make in makers.items():
                found[name] = make()
                advance(1)
        missed = [name for name, findings in found.items() if not findings.numbers["found"]]
        failed = f"the demo did not find what it planted: {', '.join(missed)}." if missed else ""
        return Sections(found, sample=True, failed=failed)

    def find(self, runs: Sequence[AnalysedRun]) -> Findings:
        """Return the first section."""
        return next(iter(self.sections(runs).found.values()))

    def collapse(self) -> Findings:
        """Train embedding tables on affinities of low and of full rank, and compare their Information Abundance."""
        results: dict[str, dict[str, Any]] = {}
        for name, rank in (("planted", self.rank), ("control", WIDTH)):
            before, after = (
                singular_values(BlockwiseMatrix(table)) for table in synthetic.collapsed_table(rank, WIDTH, self.seed)
            )
            results[name] = {
                "rank": rank,
                "abundance_before": information_abundance(before),
                "abundance": information_abundance(after),
                "spectrum": normalised_spectrum(after, WIDTH).tolist(),
            }
        planted, control = results["planted"]["abundance"], results["control"]["abundance"]
        found = planted < 0.5 * control and planted < 0.5 * results["planted"]["abundance_before"]
        return view.collapse({"found": bool(found), "width": WIDTH, **results})

    def correlation(self) -> Findings:
        """Measure the correlation in the data and in a trained model: target category and decay must agree."""
        results, scaled_CP = {}, {}
        for name, rate in (("planted", self.rate), ("control", 0.0)):
            data = synthetic.histories(CATEGORIES, POSITIONS, rate, self.rows, self.seed)
            truth_CP = counted_correlation(data)
            category_CD, position_PD = synthetic.temporal_attention(data, CATEGORIES, WIDTH, self.seed)
            attention = target_attention("tin", category_CD[1:], category_CD[1], position_PD)
            learned_CP = attention.correlation("paper")
            results[name] = {
                "rate": rate,
                "decay_data": decay(truth_CP[0])[1],
                "decay_model": decay(learned_CP[0])[1],
                "agreement": pearson(truth_CP, learned_CP),
                "category": int(truth_CP.sum(axis=1).argmax()) + 1,
                "category_model": int(learned_CP.sum(axis=1).argmax()) + 1,
            }
            scaled_CP[name] = (scaled(truth_CP), scaled(learned_CP))
        planted, control = results["planted"], results["control"]
        found = (
            planted["category"] == planted["category_model"] == 1
            and planted["agreement"] > 0.8
            and min(planted["decay_data"], planted["decay_model"]) > 0.2
            and max(control["decay_data"], control["decay_model"]) < 0.1
        )
        return view.correlation({"found": bool(found), **results}, scaled_CP["planted"])

    def conflict(self) -> Findings:
        """Train single-task tables, a second seed and joint tables; compare the pairs in conflict."""
        results: dict[str, dict[str, float]] = {}
        shown: list[tuple[TableDistances, Any]] = []
        for name, planted in (("planted", True), ("control", False)):
            data = synthetic.two_task_labels(planted, self.seed)
            tables = [data.label_TUI[:1], data.label_TUI[1:], data.label_TUI[1:], data.label_TUI]
            first, second, again, joint = (
                _view(label, synthetic.distances(labels, self.seed + offset))
                for offset, (label, labels) in enumerate(zip(view.MODELS, tables, strict=True))
            )
            conflict_P = first.near() & second.far()
            true_P = _close(data.closeness_TUI[0]) & _far(data.closeness_TUI[1])
            results[name] = {
                "share": float(conflict_P.mean()),
                "seed_noise": float((second.near() & again.far()).mean()),
                "truly_disputed": float(true_P[conflict_P].mean()) if conflict_P.any() else float("nan"),
                "kept_by_separate_tables": retention(conflict_P, first, again).score,
                "kept_by_one_table": retention(conflict_P, joint, joint).score,
            }
            if planted:
                shown = [(one, conflict_P) for one in (first, second, again, joint)]
        planted_, control = results["planted"], results["control"]
        found = (
            planted_["share"] > 5 * max(control["share"], planted_["seed_noise"])
            and planted_["truly_disputed"] > 0.6
            and planted_["kept_by_separate_tables"] > 0.7 > 0.5 >= planted_["kept_by_one_table"]
        )
        return view.conflict({"found": bool(found), **results}, shown)


def counted_correlation(data: synthetic.LabelledHistories) -> Any:
    """Return the (C, P) mutual information of behaviours and label for targets of category 1."""
    member = np.eye(CATEGORIES + 1)[:, 1:]
    counts = CorrelationCounts(member[:, :1], member, POSITIONS)
    length_R = np.full(len(data.target_R), POSITIONS)
    counts.add(data.category_RP[:, ::-1], length_R, data.target_R, data.label_R)
    return counts.correlation()[0]


def _view(label: str, distance_UI: Any) -> TableDistances:
    return table_distances(label, label, "", distance_UI.ravel(), LIMITS, 39)


def _close(closeness_UI: Any) -> Any:
    return closeness_UI.ravel() > np.percentile(closeness_UI, 100 - LIMITS[0])


def _far(closeness_UI: Any) -> Any:
    return closeness_UI.ravel() <= np.percentile(closeness_UI, 100 - LIMITS[1])
