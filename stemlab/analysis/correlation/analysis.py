"""Feature correlation: which behaviours inform the label, by category and position, and does the model learn this?

The ground truth is the mutual information of behaviour and label in the data. It is compared with the influence of a
behaviour of that category and position in the network (arXiv 2308.08487, arXiv 2403.00793;
docs/methods/recscope.md#correlation).

A network with target attention of the paper's form has the method

    target_attention() -> tuple[kind, category_CD, position_PD | None]

where kind is ``tin``, ``din`` or ``din_plus``, ``category_CD`` has one row per category of the dataset's
``item_categories``, and ``position_PD`` encodes positions 0 (target), 1 (newest behaviour), .... All other networks are
probed (``probe.py``), also those that return ``None``, and every network if the categories come from a file.

Legend: T target categories, C behaviour categories, P positions, B samples, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from stemlab.analysis.base import Analysis, Findings, check_same_dataset
from stemlab.analysis.correlation import findings as view
from stemlab.analysis.correlation.categories import CategoryMembership, item_categories, most_frequent
from stemlab.analysis.correlation.findings import GroundTruth, LearnedCorrelation
from stemlab.analysis.correlation.ground_truth import RELEASED_SMOOTH, CorrelationCounts
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
_BATCH, _PROBE_BATCH = 1 << 13, 512
_METHOD = "target_attention"


class Correlation(Analysis):
    """Category-wise target-aware correlation in the data and in networks.

    Args:
        name: name of the analysis on the command line.
        categories: file with the categories of the items; ``None``: categories of the dataset.
        targets: categories of the target item, one matrix per category; empty: the most frequent ones.
        top_targets: number of most frequent target categories.
        behaviours: categories of behaviours, one row per category; empty: the most frequent ones.
        top_behaviours: number of most frequent behaviour categories.
        positions: number of positions (columns); 1 is the newest behaviour.
        splits: ``train``, or ``all`` (includes validation and test samples, as in the released code).
        reaching: whether position p uses only histories with at least p behaviours; otherwise shorter histories count
            as samples without the category (as in the released code).
        smooth: whether zero counts are replaced by 0.00001 (as in the released code).
        formula: formula for networks with target attention: ``paper``, or ``script`` of the released code.
        probe_rows: maximum number of test histories that are probed per target category.
        seed: seed of the draw of these histories.
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
        """Return the ground truth and the correlation learned by every run.

        Raises:
            StemlabError: a run is not sequential or reads no history, or a category does not exist.
        """
        check_same_dataset(runs)
        data = _sequences(runs[0])
        if self.positions > data.history_max:
            raise StemlabError(
                f"analysis.positions={self.positions} exceeds the maximum history length: "
                f"dataset.history_max={data.history_max}."
            )
        known = item_categories(data, self.categories)
        truth = self.truth(data, known)
        with ProgressBars() as steps:
            learned = [found for run in runs for found in self.learned(run, known, truth, steps)]
        return view.findings(truth, learned)

    def truth(self, data: SequenceDataModule, known: CategoryMembership) -> GroundTruth:
        """Return the ground-truth correlation of the data."""
        items = data.log.item[data.log.split == _TRAIN]
        targets = self._columns(known, self.targets, "analysis.targets", items, self.top_targets)
        rows = self._columns(known, self.behaviours, "analysis.behaviours", items, self.top_behaviours)
        counts = CorrelationCounts(known.member_IC[:, targets], known.member_IC[:, rows], self.positions)
        with ProgressBars() as steps:
            for batch, advance in self._samples(data, steps):
                _count(counts, batch)
                advance(len(batch))
        smooth = RELEASED_SMOOTH if self.smooth else 0.0
        matrices_TCP = counts.correlation(smooth=smooth, reaching=self.reaching)
        names = known.names
        return GroundTruth(
            targets=tuple(names[column] for column in targets),
            behaviours=tuple(names[column] for column in rows),
            bits_TCP=matrices_TCP,
            samples_T=counts.total_TY.sum(axis=1),
        )

    def learned(
        self, run: AnalysedRun, known: CategoryMembership, truth: GroundTruth, steps: ProgressBars
    ) -> Iterator[LearnedCorrelation]:
        """Yield the correlation learned by the network of a run, for each target category."""
        rows = [known.names.index(name) for name in truth.behaviours]
        attention = None if self.categories else getattr(run.net, _METHOD, lambda: None)()
        for target in truth.targets:
            column = known.names.index(target)
            if attention is None:
                yield LearnedCorrelation(run.label, target, "probe", self._probe(run, known, column, rows, steps))
                continue
            kind, category_CD, position_PD = attention
            category_CD = category_CD.detach().numpy()
            encodings_PD = None if position_PD is None else position_PD.detach().numpy()[: self.positions + 1]
            found = target_attention(kind, category_CD[rows], category_CD[column], encodings_PD)
            matrix_CP = np.broadcast_to(found.correlation(self.formula), (len(rows), self.positions))
            yield LearnedCorrelation(run.label, target, f"{kind}, {self.formula}", matrix_CP)

    def _probe(
        self, run: AnalysedRun, known: CategoryMembership, target: int, rows: Sequence[int], steps: ProgressBars
    ) -> Any:
        data = _sequences(run)
        if not getattr(run.net, "reads_history", True):
            raise StemlabError(
                f"{run.path}: {type(run.net).__name__} reads no history of items; correlation needs one."
            )
        loader = data.eval_loader("test")
        target_B = data.log.item[loader.instances.row]
        chosen = np.flatnonzero(known.member_IC[target_B, target])
        chosen = np.sort(np.random.default_rng(self.seed).permutation(chosen)[: self.probe_rows])
        probe = Probe(run.net, known.member_IC[:, rows], self.positions)
        advance = steps.rows(f"probing {run.label}", len(chosen))
        for start in range(0, len(chosen), _PROBE_BATCH):
            probe.add(loader.take(chosen[start : start + _PROBE_BATCH]), advance)
        return probe.correlation()

    def _columns(self, known: CategoryMembership, names: Sequence[str], key: str, items: Any, top: int) -> list[int]:
        if names:
            return [known.column(name, key) for name in names]
        return most_frequent(known.member_IC, items, top)

    def _samples(self, data: SequenceDataModule, steps: ProgressBars) -> Iterator[tuple[SequenceBatch, Any]]:
        """Yield batches whose first two candidates are a positive and a negative item."""
        loaders = [data.train_loader()]
        if self.splits == "all":
            loaders += [data.eval_loader("valid"), data.eval_loader("test")]
        for loader in loaders:
            yield from _batches(loader, steps)


def _batches(loader: SequenceLoader, steps: ProgressBars) -> Iterator[tuple[SequenceBatch, Any]]:
    rows = len(loader.instances)
    advance = steps.rows("samples", rows)
    for start in range(0, rows, _BATCH):
        batch = loader.take(slice(start, min(start + _BATCH, rows)))
        if batch.candidates_BN.shape[1] < 2:
            raise StemlabError(
                "analysis.splits=all needs negatives of the test samples: set dataset.evaluation.candidates=stored."
            )
        yield batch, advance


def _count(counts: CorrelationCounts, batch: SequenceBatch) -> None:
    history_BL, length_B = batch.history_BL.numpy(), batch.length_B.numpy()
    for column, label in ((0, 1), (1, 0)):
        target_B = batch.candidates_BN[:, column].numpy()
        counts.add(history_BL, length_B, target_B, np.full(len(target_B), label))


def _sequences(run: AnalysedRun) -> SequenceDataModule:
    if not isinstance(run.datamodule, SequenceDataModule):
        raise StemlabError(f"{run.path} was trained on impressions; correlation needs histories of items.")
    return run.datamodule
