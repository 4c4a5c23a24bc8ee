"""Rank of the positive among candidates, and the metrics HR@k, NDCG@k, MRR (docs/methods/metrics.md#ranking-metrics).

Each sample has one positive, in column 0, with rank r (1 is best). HR@k is the share of samples with r <= k. NDCG@k is
the mean over samples of 1 / log2(r + 1) if r <= k, else 0 (the ideal gain is 1). MRR is the mean of 1 / r.

Implementations differ in how they rank candidates with the score of the positive: the released code leaves their order
to an unstable sort. Here it is an explicit tie rule; the default ranks the positive last among equal scores, so that a
model with constant scores has HR@k = 0 for k < N (docs/methods/metrics.md#ties).

Legend: B samples, M negatives, N candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
import torchmetrics
from torch import Tensor

from stemlab.array_types import AnyArray
from stemlab.errors import StemlabError
from stemlab.metrics.calibration import exact_sum
from stemlab.metrics.gather import computed_on_rank_zero, gather_rows
from stemlab.metrics.own import CutoffMetric, RankMetric, measure_ranks, ranking_names, undefined_own

Ties = Literal["pessimistic", "optimistic", "mean"]


def positive_ranks(score_BN: Tensor, ties: Ties = "pessimistic") -> Tensor:
    """Return the rank of column 0 in each row, highest score first.

    Args:
        score_BN: scores; -inf for masked items.
        ties: position of the positive among candidates with the same score: last (``pessimistic``), first
            (``optimistic``) or the mean of both.

    Returns:
        (B,) float64 ranks on the same device, 1 to N, multiples of 0.5 with ``mean``; NaN for rows with a NaN score.
    """
    positive_B1, others_BM = score_BN[:, :1], score_BN[:, 1:]
    ahead_B = (others_BM >= positive_B1).sum(1)
    tied_B = None if ties == "pessimistic" else (others_BM == positive_B1).sum(1)
    return ranks_from_counts(ahead_B, tied_B, ties).masked_fill(score_BN.amax(1).isnan(), float("nan"))


def ranks_from_counts(ahead_B: Tensor, tied_B: Tensor | None, ties: Ties) -> Tensor:
    """Return the ranks of the positives, (B,) float64.

    Args:
        ahead_B: number of other items that score at least as high as the positive.
        tied_B: number of these that score exactly as high; not needed for ``pessimistic``.
        ties: tie rule.
    """
    rank_B = 1.0 + ahead_B.double()
    if tied_B is None or ties == "pessimistic":
        return rank_B
    return rank_B - (tied_B if ties == "optimistic" else tied_B / 2)


def metric_names(topk: Sequence[int]) -> list[str]:
    """Return the names of the ranking metrics in reporting order: ``hr@5``, ``ndcg@5``, ..., ``mrr``."""
    return [*(f"{name}@{k}" for k in topk for name in ("hr", "ndcg")), "mrr"]


def ranking_metrics(rank_B: AnyArray, topk: Sequence[int]) -> dict[str, float]:
    """Return HR@k and NDCG@k for every k, and MRR; the values do not depend on the order of the samples.

    Args:
        rank_B: ranks from 1; without ranks all metrics are NaN.
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
    """HR@k, NDCG@k and MRR over the samples of all processes.

    Ranks are stored and gathered on rank 0 at the end of the epoch, so that the result does not depend on the world
    size. ``compute`` is a collective: call it on every process. It returns Python floats; log them without
    ``sync_dist``. ``undefined`` lists the reasons for NaN values.

    Args:
        topk: cut-offs of HR and NDCG.
        own: metrics of the user by name.
    """

    full_state_update = False
    rank: list[Tensor]

    def __init__(self, topk: Sequence[int], own: Mapping[str, RankMetric | CutoffMetric] | None = None) -> None:
        super().__init__(sync_on_compute=False)
        self.own = dict(own or {})
        self.topk = tuple(topk)
        self.undefined: list[str] = []
        self.add_state("rank", default=[], dist_reduce_fx=None)

    def update(self, rank_B: Tensor) -> None:
        """Add the ranks of a batch (``positive_ranks``); NaN marks samples with NaN scores."""
        self.rank.append(rank_B.detach().double())  # kept on its device: a copy to the CPU would synchronise the GPU

    def own_columns(self) -> dict[str, Tensor]:
        """Return the ranks of this process under the name ``rank``."""
        return {"rank": torch.cat(list(self.rank)) if self.rank else torch.empty(0, dtype=torch.float64)}

    def compute(self) -> dict[str, float]:
        """Return metric name -> value, equal on every process. Collective.

        Raises:
            StemlabError: on every process, if a score is NaN.
        """
        rank_B = gather_rows(self.own_columns()["rank"]).cpu().numpy()  # one copy per epoch, 8 bytes per user
        rows, broken, values = computed_on_rank_zero(lambda: self._evaluate(rank_B))
        if broken:
            raise StemlabError(
                f"the scores of {broken:,} of {rows:,} users are not finite: the training diverged (lower optim.lr), "
                "or the checkpoint is damaged."
            )
        own = {name: values[name] for name in ranking_names(self.own, self.topk)}
        self.undefined = (
            undefined_own(own, self.own) if rows else [f"{name} is undefined: there are no samples." for name in values]
        )
        return values

    def _evaluate(self, rank_B: AnyArray) -> tuple[int, int, dict[str, float]]:
        broken_B = np.isnan(rank_B)
        return (
            len(rank_B),
            int(broken_B.sum()),
            ranking_metrics(rank_B[~broken_B], self.topk) | measure_ranks(self.own, rank_B[~broken_B], self.topk),
        )
