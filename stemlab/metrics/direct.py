"""Ranks for networks that score every pair of user and item by itself; there are no vectors to multiply.

Legend: B users, T items of a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from stemlab.metrics.catalogue import MAX_TILE_SCORES, SeenItems, tile_edges
from stemlab.metrics.ranking import Ties, ranks_from_counts

ScoreFunction = Callable[[Tensor], Tensor]
"""(B, T) item ids -> their float32 scores for B users."""


def scored_tiles(score: ScoreFunction, items: int, seen: SeenItems) -> Iterator[tuple[int, Tensor]]:
    """Yield the scores of all items tile by tile: the first item's id, and (B, T) scores of it and its successors.

    Items that a user has seen score minus infinity.

    Args:
        score: scores any items.
        items: I; ids are 1 to I.
        seen: items that are out of the race.
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
    """Return the rank of each user's positive among all items that the user has not seen, in bounded memory.

    Args:
        score: scores any items; equal means equal in float32.
        items: I.
        positive_B: int64 item ids; each may be among the user's seen ones or not.
        seen: the items left out.
        ties: where the positive stands among items of its own score.

    Returns:
        (B,) float64 ranks from 1; NaN where a score is not a number.
    """
    own_B1 = score(positive_B.unsqueeze(1))
    ahead_B, tied_B = torch.zeros_like(positive_B), torch.zeros_like(positive_B)
    broken_B = own_B1.squeeze(1).isnan()
    for _, score_BT in scored_tiles(score, items, seen.with_positives(positive_B)):
        ahead_B += (score_BT >= own_B1).sum(1)
        tied_B += (score_BT == own_B1).sum(1)
        broken_B |= score_BT.isnan().any(1)
    return ranks_from_counts(ahead_B, tied_B, ties).masked_fill(broken_B, float("nan"))
