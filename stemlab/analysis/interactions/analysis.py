"""Learned field interactions of MMFI: weights of pairs of fields, and of fields, per scenario and task.

MMFI (TKDD 2024) learns attention over pairs of fields for every scenario and task
(docs/methods/mmfi.md#attention, docs/methods/mmfi.md#first-order-branch). The analysis reports its means over samples.
The figures of the paper are not public.

Legend: S scenarios, T tasks, P pairs, F fields, C = S * T combinations of scenario and task.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Literal, cast

from stemlab.analysis.base import Analysis, Findings
from stemlab.analysis.interactions import findings as view
from stemlab.analysis.interactions.findings import Measure, RunInteractions
from stemlab.analysis.runs import AnalysedRun
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.io.progress import ProgressBars
from stemlab.errors import StemlabError
from stemlab.types import PositiveInt


class FieldInteractions(Analysis):
    """Importance of pairs of fields and of fields, by scenario and task.

    Args:
        name: name of the analysis on the command line.
        split: split of the samples.
        rows: maximum number of samples, as whole batches spread evenly over the split; ``None``: all.
        measure: measure of figures and verdict: ``strength`` (root mean square deviation over samples of the pair's
            contribution to the tower input), ``attention`` (mean weight) or ``open`` (share of samples with a non-zero
            weight).
        top: number of pairs listed per scenario and task.
    """

    def __init__(
        self,
        *,
        name: str,
        split: Literal["valid", "test"],
        rows: PositiveInt | None,
        measure: Measure,
        top: PositiveInt,
    ) -> None:
        super().__init__(name=name)
        self.split, self.rows, self.measure, self.top = split, rows, measure, top

    def find(self, runs: Sequence[AnalysedRun]) -> Findings:
        """Return the importances of every run.

        Raises:
            StemlabError: a run is not a run of MMFI.
        """
        for run in runs:
            _check(run)
        return view.findings([self.of(run) for run in runs], self.measure, self.top)

    def of(self, run: AnalysedRun) -> RunInteractions:
        """Return the importances of a run."""
        import torch

        from stemlab.models.multiscenario.mmfi import MMFI

        net, data = cast(MMFI, run.net), cast(ImpressionDataModule, run.datamodule)
        data.setup()
        loader = data.val_dataloader() if self.split == "valid" else data.test_dataloader()
        kept = _spread(len(loader), len(data.store(self.split)), self.rows)
        found = []
        with ProgressBars() as steps, torch.no_grad():
            advance = steps.rows(f"attention of {run.label}", len(data.store(self.split)))
            for number, batch in enumerate(loader):
                if number in kept:
                    found.append(net.importance(batch))
                advance(len(batch))
        return RunInteractions(run.label, reduce(lambda one, other: one.joined(other), found))


def _check(run: AnalysedRun) -> None:
    target = str(run.config["model"]["net"]["_target_"])
    if not target.endswith(".MMFI"):
        raise StemlabError(
            f"{run.path}: model {run.config['model']['name']} has no weights of pairs of fields; "
            "analysis=interactions needs runs of model=mmfi."
        )


def _spread(batches: int, rows: int, limit: int | None) -> frozenset[int]:
    """Return the indices of the batches to read: about ``limit`` of ``rows`` samples, at least one batch."""
    if limit is None or limit >= rows:
        return frozenset(range(batches))
    count = max(1, batches * limit // rows)
    return frozenset(number * batches // count for number in range(count))
