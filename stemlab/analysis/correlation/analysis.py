"""Feature correlation: which behaviours inform the label, by category and position, and does a model learn it?

Ground truth is a mutual information counted in the data, compared with what the run's network makes of a behaviour of
that category at that position (arXiv 2308.08487, arXiv 2403.00793; spec/recscope.md section 3).

A network with target attention of the published form says so by a method

    target_attention() -> tuple[kind, category_CD, position_PD | None]

with kind ``tin``, ``din`` or ``din_plus``, a row of its category table a category of the dataset's ``item_categories``,
and encodings of positions 0 (the target), 1 (the newest behaviour), ...; every other one is probed, as are those that
return ``None``, and all where the categories are not the dataset's own.

Legend: T target categories, C behaviour categories, P positions, B rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from stemlab.analysis.base import Analysis, Findings, one_dataset
from stemlab.analysis.correlation import findings as view
from stemlab.analysis.correlation.categories import ItemCategories, item_categories, most_frequent
from stemlab.analysis.correlation.findings import Learnt, Truth
from stemlab.analysis.correlation.ground_truth import PUBLISHED_SMOOTH, CorrelationCounts
from stemlab.analysis.correlation.learned import Formula, target_attention
from stemlab.analysis.correlation.probe import Probe
from stemlab.analysis.runs import AnalysedRun
from stemlab.data.batch import SequenceBatch
from stemlab.data.io.progress import ProgressBars
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.data.sequence.loader import SequenceLoader
from stemlab.errors import StemlabError
from stemlab.types import NonNegativeInt, PositiveInt

_TRAIN = 0
_BATCH = 1 << 13
_PROBED = 512
METHOD = "target_attention"


class Correlation(Analysis):
    """Category-wise target-aware correlation in the data and in networks.

    Args:
        name: as typed on the command line.
        categories: file that tells the items' categories; ``None``: the dataset's own.
        targets: categories of the target item, a matrix each; empty: the most frequent ones.
        top_targets: how many of these.
        behaviours: categories of behaviours, the rows; empty: the most frequent ones.
        top_behaviours: how many of these.
        positions: columns; 1 is the newest behaviour.
        splits: ``train``, or ``all`` (published: test rows count, too).
        reaching: whether position p counts only histories that reach it; else shorter ones count as without the
            category (published).
        smooth: whether counts of zero become 0.00001 (published).
        formula: of networks with target attention: ``paper`` or the released ``script``.
        probe_rows: most test histories of a target category that a probe reads.
        seed: of the draw of these.
    """

    def __init__(
        self,
        *,
        name: str,
        categories: str | None,
        targets: list[str],
        top_targets: PositiveInt,
        behaviours: list[str],
        top_behaviours: PositiveInt,
        positions: PositiveInt,
        splits: Literal["train", "all"],
        reaching: bool,
        smooth: bool,
        formula: Formula,
        probe_rows: PositiveInt,
        seed: NonNegativeInt,
    ) -> None:
        super().__init__(name=name)
        self.categories, self.targets, self.top_targets = categories, targets, top_targets
        self.behaviours, self.top_behaviours, self.positions = behaviours, top_behaviours, positions
        self.splits, self.reaching, self.smooth, self.formula = splits, reaching, smooth, formula
        self.probe_rows, self.seed = probe_rows, seed

    def find(self, runs: Sequence[AnalysedRun]) -> Findings:
        """Return the ground truth and what every run has learnt of it.

        Raises:
            StemlabError: the runs learnt no sequences or read no history, or a category does not exist.
        """
        one_dataset(runs)
        data = _sequences(runs[0])
        if self.positions > data.history_max:
            raise StemlabError(
                f"analysis.positions={self.positions} is more than the histories hold: "
                f"dataset.history_max={data.history_max}."
            )
        known = item_categories(data, self.categories)
        truth = self.truth(data, known)
        with ProgressBars() as steps:
            learnt = [found for run in runs for found in self.learnt(run, known, truth, steps)]
        return view.findings(truth, learnt)

    def truth(self, data: SequenceDataModule, known: ItemCategories) -> Truth:
        """Return the correlation in the data."""
        items = data.log.item[data.log.split == _TRAIN]
        targets = self._places(known, self.targets, "analysis.targets", items, self.top_targets)
        rows = self._places(known, self.behaviours, "analysis.behaviours", items, self.top_behaviours)
        counts = CorrelationCounts(known.member_IC[:, targets], known.member_IC[:, rows], self.positions)
        with ProgressBars() as steps:
            for batch, advance in self._samples(data, steps):
                _count(counts, batch)
                advance(len(batch))
        smooth = PUBLISHED_SMOOTH if self.smooth else 0.0
        matrices_TCP = counts.correlation(smooth=smooth, reaching=self.reaching)
        names = known.names
        return Truth(
            targets=tuple(names[place] for place in targets),
            behaviours=tuple(names[place] for place in rows),
            bits_TCP=matrices_TCP,
            samples_T=counts.total_TY.sum(axis=1),
        )

    def learnt(self, run: AnalysedRun, known: ItemCategories, truth: Truth, steps: ProgressBars) -> Iterator[Learnt]:
        """Yield the correlation that a run's network has learnt, for each target category."""
        rows = [known.names.index(name) for name in truth.behaviours]
        attention = None if self.categories else getattr(run.net, METHOD, lambda: None)()
        for target in truth.targets:
            place = known.names.index(target)
            if attention is None:
                yield Learnt(run.label, target, "probe", self._probed(run, known, place, rows, steps))
                continue
            kind, category_CD, position_PD = attention
            category_CD = category_CD.detach().numpy()
            encodings_PD = None if position_PD is None else position_PD.detach().numpy()[: self.positions + 1]
            found = target_attention(kind, category_CD[rows], category_CD[place], encodings_PD)
            matrix_CP = np.broadcast_to(found.correlation(self.formula), (len(rows), self.positions))
            yield Learnt(run.label, target, f"{kind}, {self.formula}", matrix_CP)

    def _probed(
        self, run: AnalysedRun, known: ItemCategories, target: int, rows: Sequence[int], steps: ProgressBars
    ) -> Any:
        data = _sequences(run)
        if not getattr(run.net, "reads_history", True):
            raise StemlabError(f"{run.place} is a {type(run.net).__name__}, which reads no history.")
        loader = data.test_dataloader()
        target_B = data.log.item[loader.instances.row]
        chosen = np.flatnonzero(known.member_IC[target_B, target])
        chosen = np.sort(np.random.default_rng(self.seed).permutation(chosen)[: self.probe_rows])
        probe = Probe(run.net, known.member_IC[:, rows], self.positions)
        advance = steps.rows(f"{run.label} without a behaviour", len(chosen))
        for start in range(0, len(chosen), _PROBED):
            probe.add(loader.take(chosen[start : start + _PROBED]), advance)
        return probe.correlation()

    def _places(self, known: ItemCategories, names: Sequence[str], key: str, items: Any, top: int) -> list[int]:
        if names:
            return [known.place(name, key) for name in names]
        return most_frequent(known.member_IC, items, top)

    def _samples(self, data: SequenceDataModule, steps: ProgressBars) -> Iterator[tuple[SequenceBatch, Any]]:
        """Yield batches whose first two candidates are a positive and a negative."""
        loaders = [data.train_dataloader()]
        if self.splits == "all":
            loaders += [data.val_dataloader(), data.test_dataloader()]
        for loader in loaders:
            yield from _batches(loader, steps)


def _batches(loader: SequenceLoader, steps: ProgressBars) -> Iterator[tuple[SequenceBatch, Any]]:
    rows = len(loader.instances)
    advance = steps.rows("samples", rows)
    for start in range(0, rows, _BATCH):
        batch = loader.take(slice(start, min(start + _BATCH, rows)))
        if batch.candidates_BN.shape[1] < 2:
            raise StemlabError(
                "analysis.splits=all needs negatives of test rows: dataset.evaluation.candidates=stored."
            )
        yield batch, advance


def _count(counts: CorrelationCounts, batch: SequenceBatch) -> None:
    history_BL, length_B = batch.history_BL.numpy(), batch.length_B.numpy()
    for column, label in ((0, 1), (1, 0)):
        target_B = batch.candidates_BN[:, column].numpy()
        counts.add(history_BL, length_B, target_B, np.full(len(target_B), label))


def _sequences(run: AnalysedRun) -> SequenceDataModule:
    if not isinstance(run.datamodule, SequenceDataModule):
        raise StemlabError(f"{run.place} learnt labels of impressions; correlation needs histories of items.")
    return run.datamodule
