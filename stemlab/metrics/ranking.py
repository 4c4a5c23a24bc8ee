"""Ranks of the positive among candidates, and what is made of them: HR@k, NDCG@k, MRR.

One positive a row, in column 0. With its rank r (1 is best): HR@k is the share of rows with r <= k, NDCG@k the mean of
1 / log2(r + 1) over those rows (0 for the others; the ideal gain is 1), MRR the mean of 1 / r.

Items of the same score as the positive are the difference between implementations: the published code leaves their
order to an unstable sort. Here it is a rule; the default counts all of them before the positive, so that a model that
scores everything alike hits nothing (spec/timirec.md section 8).

Legend: B rows, N candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torchmetrics
from torch import Tensor

from stemlab.array_types import AnyArray
from stemlab.errors import StemlabError
from stemlab.metrics.calibration import exact_sum
from stemlab.metrics.gather import from_rank_zero, gather_rows, is_distributed

Ties = Literal["pessimistic", "optimistic", "mean"]


def positive_ranks(score_BN: Tensor, ties: Ties = "pessimistic") -> Tensor:
    """Return the rank of column 0 in each row, highest score first.

    Args:
        score_BN: scores; minus infinity is allowed (an item that is out of the race).
        ties: where the positive stands among candidates of its own score: behind them, before them, or halfway.

    Returns:
        (B,) float64 on the same device, 1 to N; halves occur with ``mean`` only. NaN where a score of the row is not
        a number: such a row has no rank.
    """
    positive_B1, others_BM = score_BN[:, :1], score_BN[:, 1:]
    ahead_B = (others_BM >= positive_B1).sum(1)
    tied_B = None if ties == "pessimistic" else (others_BM == positive_B1).sum(1)
    return ranks_from_counts(ahead_B, tied_B, ties).masked_fill(score_BN.amax(1).isnan(), float("nan"))


def ranks_from_counts(ahead_B: Tensor, tied_B: Tensor | None, ties: Ties) -> Tensor:
    """Return ranks from counts.

    Args:
        ahead_B: how many others score at least as high as the positive.
        tied_B: how many of these score exactly as high; not needed for ``pessimistic``.
        ties: the rule.
    """
    rank_B = 1.0 + ahead_B.double()
    if tied_B is None or ties == "pessimistic":
        return rank_B
    return rank_B - (tied_B if ties == "optimistic" else tied_B / 2)


def metric_names(topk: Sequence[int]) -> list[str]:
    """Return the names of the metrics in the order in which they are told."""
    return [*(f"{name}@{k}" for k in topk for name in ("hr", "ndcg")), "mrr"]


def ranking_metrics(rank_B: AnyArray, topk: Sequence[int]) -> dict[str, float]:
    """Return HR@k and NDCG@k for every k, and MRR; the order of the rows does not change the last digit.

    Args:
        rank_B: ranks from 1; all metrics are NaN when there are none.
        topk: cut-offs.
    """
    if len(rank_B) == 0:
        return dict.fromkeys(metric_names(topk), float("nan"))
    rank_B = np.asarray(rank_B, dtype=np.float64)
    gain_B = 1 / np.log2(rank_B + 1)
    values: dict[str, float] = {}
    for k in topk:
        hit_B = rank_B <= k
        values[f"hr@{k}"] = int(hit_B.sum()) / len(rank_B)
        values[f"ndcg@{k}"] = exact_sum(gain_B[hit_B]) / len(rank_B)
    return values | {"mrr": exact_sum(1 / rank_B) / len(rank_B)}


class RankingMetrics(torchmetrics.Metric):
    """HR@k, NDCG@k and MRR of all rows of all processes.

    Ranks are kept as they come and brought together on the first process when the epoch ends, so that any number of
    processes gives what one process gives. ``compute`` is a collective: call it on every process. It returns plain
    floats; log them without ``sync_dist``. ``undefined`` says why values are NaN: there were no rows.

    Args:
        topk: cut-offs of HR and NDCG.
    """

    full_state_update = False
    rank: list[Tensor]

    def __init__(self, topk: Sequence[int]) -> None:
        super().__init__(sync_on_compute=False)
        self.topk = tuple(topk)
        self.undefined: list[str] = []
        self.add_state("rank", default=[], dist_reduce_fx=None)

    def update(self, rank_B: Tensor) -> None:
        """Add the ranks of a batch (``ranks``); NaN marks rows with scores that are not numbers."""
        self.rank.append(rank_B.detach().double())  # on its device: asking for it now would make a GPU wait

    def compute(self) -> dict[str, float]:
        """Return every metric; the same on every process.

        Raises:
            StemlabError: on every process alike, when scores are not numbers.
        """
        parts = [part.cpu() for part in self.rank]
        rank_B = gather_rows(torch.cat(parts) if parts else torch.empty(0, dtype=torch.float64)).numpy()
        first = not is_distributed() or torch.distributed.get_rank() == 0
        rows, broken, values = from_rank_zero(self._evaluate(rank_B) if first else None)
        if broken:
            raise StemlabError(
                f"the scores of {broken:,} of {rows:,} users are not numbers: the training diverged (lower optim.lr), "
                "or the checkpoint is broken."
            )
        self.undefined = [] if rows else [f"{name} is undefined: there are no rows." for name in values]
        return values

    def _evaluate(self, rank_B: AnyArray) -> tuple[int, int, dict[str, float]]:
        broken_B = np.isnan(rank_B)
        return len(rank_B), int(broken_B.sum()), ranking_metrics(rank_B[~broken_B], self.topk)
