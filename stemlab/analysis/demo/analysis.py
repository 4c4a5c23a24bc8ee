"""A demonstration: what is planted in small synthetic worlds is found again by the suite's own measures.

Each of the three worlds has a twin without what is planted in the first one, so that a measure that always says yes
would be noticed.

Legend: C categories, P positions, T tasks, K width of tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stemlab.analysis.base import Analysis, Findings, Sections
from stemlab.analysis.collapse.spectra import Rows, information_abundance, normalised_spectrum, singular_values
from stemlab.analysis.correlation.agreement import decay, pearson
from stemlab.analysis.correlation.ground_truth import CorrelationCounts, scaled
from stemlab.analysis.correlation.learned import target_attention
from stemlab.analysis.demo import findings as view
from stemlab.analysis.demo import worlds
from stemlab.analysis.entanglement.conflict import Column, column, retention
from stemlab.analysis.runs import AnalysedRun
from stemlab.data.io.progress import ProgressBars
from stemlab.types import NonNegativeInt, PositiveFloat, PositiveInt

WIDTH, CATEGORIES, POSITIONS = 16, 5, 8
LIMITS = (40.0, 60.0)


class Demo(Analysis):
    """Collapse, correlation and conflict: planted, learnt, found.

    Args:
        name: as typed on the command line.
        rank: planted rank of the affinity of users and items.
        rate: planted decay of a behaviour's effect with its position.
        rows: samples of the correlation.
        seed: of the worlds and of the models.
    """

    needs_runs = False

    def __init__(
        self, *, name: str, rank: PositiveInt, rate: PositiveFloat, rows: PositiveInt, seed: NonNegativeInt
    ) -> None:
        super().__init__(name=name)
        self.rank, self.rate, self.rows, self.seed = rank, rate, rows, seed

    @property
    def section_names(self) -> tuple[str, ...]:
        """The three worlds."""
        return "collapse", "correlation", "conflict"

    def sections(self, runs: Sequence[AnalysedRun]) -> Sections:
        """Return a section for each of the three; the runs are not looked at."""
        makers = dict(zip(self.section_names, (self.collapse, self.correlation, self.conflict), strict=True))
        found: dict[str, Findings] = {}
        with ProgressBars() as steps:
            advance = steps.rows("planted worlds", len(makers))
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
        """Train tables on affinities of a low and of full rank; their abundance tells which is which."""
        told: dict[str, dict[str, Any]] = {}
        for name, rank in (("planted", self.rank), ("control", WIDTH)):
            before, after = (singular_values(Rows(table)) for table in worlds.collapsed_table(rank, WIDTH, self.seed))
            told[name] = {
                "rank": rank,
                "abundance_before": information_abundance(before),
                "abundance": information_abundance(after),
                "spectrum": normalised_spectrum(after, WIDTH).tolist(),
            }
        planted, control = told["planted"]["abundance"], told["control"]["abundance"]
        found = planted < 0.5 * control and planted < 0.5 * told["planted"]["abundance_before"]
        return view.collapse({"found": bool(found), "width": WIDTH, **told})

    def correlation(self) -> Findings:
        """Count and learn what behaviours say; both must show the target's category, and its decay."""
        told, pictures = {}, {}
        for name, rate in (("planted", self.rate), ("control", 0.0)):
            world = worlds.histories(CATEGORIES, POSITIONS, rate, self.rows, self.seed)
            truth_CP = counted(world)
            category_CD, position_PD = worlds.temporal_attention(world, CATEGORIES, WIDTH, self.seed)
            attention = target_attention("tin", category_CD[1:], category_CD[1], position_PD)
            learnt_CP = attention.correlation("paper")
            told[name] = {
                "rate": rate,
                "decay_data": decay(truth_CP[0])[1],
                "decay_model": decay(learnt_CP[0])[1],
                "agreement": pearson(truth_CP, learnt_CP),
                "category": int(truth_CP.sum(axis=1).argmax()) + 1,
                "category_model": int(learnt_CP.sum(axis=1).argmax()) + 1,
            }
            pictures[name] = (scaled(truth_CP), scaled(learnt_CP))
        planted, control = told["planted"], told["control"]
        found = (
            planted["category"] == planted["category_model"] == 1
            and planted["agreement"] > 0.8
            and min(planted["decay_data"], planted["decay_model"]) > 0.2
            and max(control["decay_data"], control["decay_model"]) < 0.1
        )
        return view.correlation({"found": bool(found), **told}, pictures["planted"])

    def conflict(self) -> Findings:
        """Train each task alone, one again from another seed, and both in one table; look for pairs they dispute."""
        told: dict[str, dict[str, float]] = {}
        shown: list[tuple[Column, Any]] = []
        for name, planted in (("planted", True), ("control", False)):
            world = worlds.tastes(planted, self.seed)
            tables = [world.label_TUI[:1], world.label_TUI[1:], world.label_TUI[1:], world.label_TUI]
            first, second, again, joint = (
                _column(label, worlds.distances(labels, self.seed + place))
                for place, (label, labels) in enumerate(zip(view.MODELS, tables, strict=True))
            )
            disputed_P = first.near() & second.far()
            true_P = _close(world.closeness_TUI[0]) & _far(world.closeness_TUI[1])
            told[name] = {
                "share": float(disputed_P.mean()),
                "seed_noise": float((second.near() & again.far()).mean()),
                "truly_disputed": float(true_P[disputed_P].mean()) if disputed_P.any() else float("nan"),
                "kept_by_separate_tables": retention(disputed_P, first, again).score,
                "kept_by_one_table": retention(disputed_P, joint, joint).score,
            }
            if planted:
                shown = [(one, disputed_P) for one in (first, second, again, joint)]
        planted_, control = told["planted"], told["control"]
        found = (
            planted_["share"] > 5 * max(control["share"], planted_["seed_noise"])
            and planted_["truly_disputed"] > 0.6
            and planted_["kept_by_separate_tables"] > 0.7 > 0.5 >= planted_["kept_by_one_table"]
        )
        return view.conflict({"found": bool(found), **told}, shown)


def counted(world: worlds.Histories) -> Any:
    """Return (C, P) mutual information of behaviours and label for targets of category 1."""
    member = np.eye(CATEGORIES + 1)[:, 1:]
    counts = CorrelationCounts(member[:, :1], member, POSITIONS)
    length_R = np.full(len(world.target_R), POSITIONS)
    counts.add(world.category_RP[:, ::-1], length_R, world.target_R, world.label_R)
    return counts.correlation()[0]


def _column(label: str, distance_UI: Any) -> Column:
    return column(label, label, "", distance_UI.ravel(), LIMITS, 39)


def _close(closeness_UI: Any) -> Any:
    return closeness_UI.ravel() > np.percentile(closeness_UI, 100 - LIMITS[0])


def _far(closeness_UI: Any) -> Any:
    return closeness_UI.ravel() <= np.percentile(closeness_UI, 100 - LIMITS[1])
