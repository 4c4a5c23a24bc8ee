"""Coverage, novelty, diversity and popularity of recommended items (docs/methods/metrics.md#beyond-accuracy).

Legend: B users, N recommended items per user (best first), C cut-offs, I items, D embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torchmetrics
from torch import Tensor, distributed

from stemlab.array_types import AnyArray, Int64Array
from stemlab.metrics.calibration import exact_sum
from stemlab.metrics.gather import computed_on_rank_zero, gather_rows, is_distributed, transport_device


class BeyondAccuracyMetrics(torchmetrics.Metric):
    """Properties of the lists of recommended items of the users of all processes.

    The states are the numbers of recommendations of every item, which add, and the diversity of every list, which are
    gathered. The result does not depend on batches or world size. ``compute`` is a collective: call it on every
    process. ``undefined`` lists the reasons for NaN values.

    Args:
        topk: cut-offs.
        interactions_I: (I+1,) training interactions of every item; item 0 is padding.
        category_I: (I+1,) category of every item, 0 for none; ``None``: diversity is measured by item vectors.
    """

    full_state_update = False
    count: Tensor
    diversity: list[Tensor]

    def __init__(self, topk: Sequence[int], interactions_I: Int64Array, category_I: Int64Array | None = None) -> None:
        super().__init__(sync_on_compute=False)
        self.topk, self.undefined = tuple(topk), list[str]()
        self._interactions_I = np.asarray(interactions_I, dtype=np.int64)
        self._category_I = None if category_I is None else torch.from_numpy(np.asarray(category_I, dtype=np.int64))
        self._by_vectors = False
        zeros = torch.zeros(len(self.topk), len(self._interactions_I), dtype=torch.int64)
        self.add_state("count", default=zeros, dist_reduce_fx="sum")
        self.add_state("diversity", default=[], dist_reduce_fx=None)

    @property
    def most(self) -> int:
        """N, the largest cut-off."""
        return max(self.topk)

    def update(self, item_BN: Tensor, item_ID: Tensor | None = None) -> None:
        """Add the lists of a batch.

        Args:
            item_BN: item ids, best first, at least ``most`` per user; 0 fills the list of a user with fewer items.
            item_ID: (I+1, D) item vectors; read if items have no categories.
        """
        for cutoff, k in enumerate(self.topk):
            self.count[cutoff] += torch.bincount(item_BN[:, :k].flatten(), minlength=self.count.shape[1]).cpu()
        if self._category_I is not None:
            category_BN = self._category_I.to(item_BN.device)[item_BN]
            pieces = [category_diversity(category_BN[:, :k]) for k in self.topk]
        elif item_ID is not None:
            self._by_vectors = True
            pieces = [vector_diversity(item_BN[:, :k], item_ID) for k in self.topk]
        else:
            return
        self.diversity.append(torch.stack(pieces, dim=1).cpu())

    def compute(self) -> dict[str, float]:
        """Return metric name -> value, equal on every process. Collective."""
        count_CI = self.count
        if is_distributed():
            count_CI = count_CI.to(transport_device(), copy=True)
            distributed.all_reduce(count_CI)
        own_BC = torch.cat(list(self.diversity)) if self.diversity else torch.empty(0, len(self.topk)).double()
        diversity_BC = gather_rows(own_BC)
        values = computed_on_rank_zero(lambda: self._evaluate(count_CI.cpu().numpy(), diversity_BC.numpy()))
        missing = [name for name, value in values.items() if math.isnan(value)]
        self.undefined = [f"{name} is undefined: there are no recommended items to measure." for name in missing]
        return values

    def _evaluate(self, count_CI: Int64Array, diversity_BC: AnyArray) -> dict[str, float]:
        values: dict[str, float] = {}
        name = "diversity" if self._category_I is not None else "diversity_cosine" if self._by_vectors else None
        for cutoff, k in enumerate(self.topk):
            found = frequency_metrics(count_CI[cutoff, 1:], self._interactions_I[1:])
            if name is not None:
                defined_B = diversity_BC[:, cutoff][~np.isnan(diversity_BC[:, cutoff])]
                found[name] = exact_sum(defined_B) / len(defined_B) if len(defined_B) else float("nan")
            values |= {f"{metric}@{k}": value for metric, value in found.items()}
        return values


def frequency_metrics(count_I: Int64Array, interactions_I: Int64Array) -> dict[str, float]:
    """Return coverage, novelty, popularity and Gini coefficient of recommendations.

    Args:
        count_I: number of recommendations of every item.
        interactions_I: training interactions of every item; items without any count as one interaction for novelty.
    """
    total, items = int(count_I.sum()), len(count_I)
    if not total:
        return dict.fromkeys(("coverage", "novelty", "popularity", "gini"), float("nan"))
    shown_I = count_I > 0
    share_I = np.maximum(interactions_I[shown_I], 1) / max(1, int(interactions_I.sum()))
    order_I = np.arange(1, items + 1, dtype=np.int64)
    unequal = _dot(2 * order_I - items - 1, np.sort(count_I))
    return {
        "coverage": int(shown_I.sum()) / items,
        "novelty": math.fsum(count_I[shown_I] * -np.log2(share_I)) / total,
        "popularity": _dot(count_I, interactions_I) / total,
        "gini": unequal / (items * total),
    }


def _dot(a_I: Int64Array, b_I: Int64Array) -> int:
    """Return the exact dot product; products of large counts do not fit into 64 bits."""
    return sum(int(a) * int(b) for a, b in zip(a_I, b_I, strict=True) if b)


def category_diversity(category_BN: Tensor) -> Tensor:
    """Return the share of pairs of items of different categories, (B,) float64.

    Pairs with an item without category (0) are left out; NaN for a list without other pairs.
    """
    known_BN = category_BN > 0
    both_BNN = (known_BN[:, :, None] & known_BN[:, None]).triu(diagonal=1)
    other_BNN = both_BNN & (category_BN[:, :, None] != category_BN[:, None])
    return other_BNN.sum((1, 2)).double() / both_BNN.sum((1, 2)).double()


def vector_diversity(item_BN: Tensor, item_ID: Tensor) -> Tensor:
    """Return the mean of 1 - cosine over the pairs of items of each list, (B,) float64; NaN for less than two items.

    Args:
        item_BN: item ids; 0 for none.
        item_ID: item vectors.
    """
    vector_BND = torch.nn.functional.normalize(item_ID[item_BN].double(), dim=2)
    vector_BND = vector_BND * (item_BN > 0)[:, :, None]
    count_B = (item_BN > 0).sum(1).double()
    square_B = vector_BND.sum(1).square().sum(1) - vector_BND.square().sum((1, 2))
    return (1 - square_B / (count_B * (count_B - 1))).clamp(min=0.0).where(count_B > 1, torch.nan)
