"""Ranks for networks that score each user-item pair directly, without user and item vectors.

Legend: B users, T items of a tile, S seen items of all users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from stemlab.metrics.catalogue import MAX_TILE_SCORES, SeenItems, tile_edges
from stemlab.metrics.ranking import Ties, ranks_from_counts

ScoreFunction = Callable[[Tensor], Tensor]
"""(B, T) item ids -> (B, T) float32 scores for B users."""


def scored_tiles(score: ScoreFunction, items: int, seen: SeenItems) -> Iterator[tuple[int, Tensor]]:
    """Yield the scores of all items in tiles: id of the first item of the tile, and (B, T) scores.

    Seen items have score -inf.

    Args:
        score: function that scores given items.
        items: number of items I; ids are 1 to I.
        seen: items to mask.
    """
    rows = len(seen.offset_O) - 1
    row_S = torch.repeat_interleave(torch.arange(rows, device=seen.item_S.device), seen.offset_O.diff())
    edges = tile_edges(items, max(1, MAX_TILE_SCORES // max(1, rows)))
    for first, last in pairwise(edges):
        item_T = torch.arange(first, last, device=seen.item_S.device)
        score_BT = score(item_T.expand(rows, -1))
        here_S = (seen.item_S >= first) & (seen.item_S < last)
        score_BT[row_S[here_S], seen.item_S[here_S] - first] = -torch.inf
        yield first, score_BT


def scored_ranks(score: ScoreFunction, items: int, positive_B: Tensor, seen: SeenItems, ties: Ties) -> Tensor:
    """Return the rank of each user's positive among all items the user has not seen, in bounded memory.

    Args:
        score: function that scores given items; scores tie if they are equal in float32.
        items: number of items I.
        positive_B: int64 item ids; may or may not be among the seen items.
        seen: items to exclude.
        ties: tie rule (docs/methods/metrics.md#ties).

    Returns:
        (B,) float64 ranks from 1; NaN where a score is NaN.
    """
    own_B1 = score(positive_B.unsqueeze(1))
    ahead_B, tied_B = torch.zeros_like(positive_B), torch.zeros_like(positive_B)
    broken_B = own_B1.squeeze(1).isnan()
    for _, score_BT in scored_tiles(score, items, seen.with_positives(positive_B)):
        ahead_B += (score_BT >= own_B1).sum(1)
        tied_B += (score_BT == own_B1).sum(1)
        broken_B |= score_BT.isnan().any(1)
    return ranks_from_counts(ahead_B, tied_B, ties).masked_fill(broken_B, float("nan"))
