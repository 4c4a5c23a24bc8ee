"""Learnt interactions: which pairs of fields, and which fields, MMFI weighs in each scenario for each task.

MMFI (TKDD 2024) learns an attention over pairs of fields for every scenario and task; its means over rows say what was
learnt (spec/mmfi.md sections 4 and 5). The paper's own figures of them are not public.

Legend: S scenarios, T tasks, P pairs, F fields, C = S * T cells.
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


class Interactions(Analysis):
    """Importance of pairs and fields by scenario and task.

    Args:
        name: as typed on the command line.
        split: the rows that are read.
        rows: how many of them at the most, in whole batches spread evenly; ``None``: all.
        measure: what is drawn and told: the spread over rows of what a pair adds to the tower's input, its mean weight,
            or the share of rows in which that is not zero.
        top: pairs told of every scenario and task.
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
            StemlabError: a run's network does not weigh pairs of fields.
        """
        for run in runs:
            _check(run)
        return view.findings([self.of(run) for run in runs], self.measure, self.top)

    def of(self, run: AnalysedRun) -> RunInteractions:
        """Return a run's importances."""
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
            f"{run.place}: model {run.config['model']['name']} learns no weights of pairs of fields; "
            "analysis=interactions reads runs of model=mmfi."
        )


def _spread(batches: int, rows: int, most: int | None) -> frozenset[int]:
    """Return the numbers of the batches that are read: about ``most`` rows of ``rows``, at least one batch."""
    if most is None or most >= rows:
        return frozenset(range(batches))
    count = max(1, batches * most // rows)
    return frozenset(number * batches // count for number in range(count))
