"""Scores and ranks from user and item vectors: the fast way to evaluate, against candidates or the whole catalogue.

A user has K vectors; an item's score is its largest dot product with one of them (``SequenceNet.represent`` and
``item_vectors`` promise that this is the score of evaluation). Scores against all items are one matrix product, which
is cheaper than gathering a vector for every candidate unless the catalogue is much larger than the candidate list.

Legend: B users, K vectors a user, D width, I items, N candidates, T items of a tile, S seen items of all users.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stemlab.metrics.ranking import Ties, place

TILE = 1 << 22
"""Most scores in memory at once (K of them an item and user): 16 MiB of float32."""

ROWS = 256
"""Most users of a tile of the whole catalogue."""

GATHER_COST = 24
"""How many products of the catalogue cost as much as gathering one candidate (scripts/bench/ranking_evaluation.py)."""


def best_scores(user_BKD: Tensor, item_TD: Tensor) -> Tensor:
    """Return the score of every item for every user, (B, T): the largest of the K dot products."""
    rows, interests, width = user_BKD.shape
    dot_BKT = (user_BKD.reshape(rows * interests, width) @ item_TD.t()).view(rows, interests, len(item_TD))
    return dot_BKT.squeeze(1) if interests == 1 else dot_BKT.amax(1)


def candidate_scores(user_BKD: Tensor, item_ID: Tensor, candidates_BN: Tensor) -> Tensor:
    """Return the scores of given candidates, (B, N), in bounded memory.

    Args:
        user_BKD: vectors of the users.
        item_ID: (I+1, D) vectors of all items; row 0 is padding.
        candidates_BN: int64 item ids.
    """
    interests, items, candidates = user_BKD.shape[1], len(item_ID), candidates_BN.shape[1]
    whole = interests * items <= GATHER_COST * candidates
    step = max(1, TILE // (interests * items if whole else candidates * item_ID.shape[1]))
    score = _by_product if whole else _by_gathering
    parts = [
        score(users_bKD, item_ID, candidates_bN)
        for users_bKD, candidates_bN in zip(torch.split(user_BKD, step), torch.split(candidates_BN, step), strict=True)
    ]
    return torch.cat(parts)


def _by_product(user_BKD: Tensor, item_ID: Tensor, candidates_BN: Tensor) -> Tensor:
    return best_scores(user_BKD, item_ID).gather(1, candidates_BN)


def _by_gathering(user_BKD: Tensor, item_ID: Tensor, candidates_BN: Tensor) -> Tensor:
    return torch.bmm(user_BKD, item_ID[candidates_BN].transpose(1, 2)).amax(1)


@dataclass(frozen=True, slots=True)
class Tile:
    """Scores of neighbouring items.

    Attributes:
        first: id of the first item.
        score_BT: scores of items ``first``, ``first + 1``, ...; minus infinity where the user has seen the item.
        positive_B: the score of each user's positive, out of the same product; ``None`` where none was given.
    """

    first: int
    score_BT: Tensor
    positive_B: Tensor | None


@dataclass(frozen=True, slots=True)
class Seen:
    """The items that users have seen, user after user.

    Attributes:
        item_S: int64 item ids.
        offset_O: int64, (B+1,): user b has ``item_S[offset_O[b]:offset_O[b + 1]]``.
    """

    item_S: Tensor
    offset_O: Tensor

    def of(self, start: int, stop: int) -> Seen:
        """Return those of users ``start`` to ``stop - 1``."""
        offset_O = self.offset_O[start : stop + 1]
        return Seen(self.item_S[int(offset_O[0]) : int(offset_O[-1])], offset_O - offset_O[0])


def catalogue_tiles(user_BKD: Tensor, item_ID: Tensor, seen: Seen, positive_B: Tensor | None = None) -> Iterator[Tile]:
    """Yield the scores of all items, tile by tile; keep ``B`` within ``ROWS`` and the memory is bounded.

    Args:
        user_BKD: vectors of the users.
        item_ID: (I+1, D) vectors of all items; row 0 is padding and has no score.
        seen: items that are out of the race, on the same device.
        positive_B: int64 item of each user whose score is wanted beside each tile. It comes out of the same matrix
            product as the tile, so that equal vectors have equal scores to the last bit.
    """
    rows, interests = user_BKD.shape[:2]
    item_S, order_S = seen.item_S.sort()
    row_S = torch.repeat_interleave(torch.arange(rows, device=item_S.device), seen.offset_O.diff())[order_S]
    edges = tile_edges(len(item_ID) - 1, max(1, TILE // (rows * interests)))
    cuts = torch.searchsorted(item_S, torch.tensor(edges, device=item_S.device)).tolist()
    for first, last, begin, end in zip(edges, edges[1:], cuts, cuts[1:], strict=False):
        beside_bD = item_ID[:0] if positive_B is None else item_ID[positive_B]
        score_BT = best_scores(user_BKD, torch.cat([beside_bD, item_ID[first:last]]))
        own_B = None if positive_B is None else score_BT[:, :rows].diagonal().clone()
        score_BT = score_BT[:, len(beside_bD) :]
        score_BT[row_S[begin:end], item_S[begin:end] - first] = -torch.inf
        yield Tile(first, score_BT, own_B)


def tile_edges(items: int, width: int) -> list[int]:
    """Return the first ids of the tiles of items 1 to ``items``, and ``items + 1``; tiles are about equally wide."""
    count = -(-items // width)
    return [1 + items * tile // count for tile in range(count + 1)]


def catalogue_ranks(user_BKD: Tensor, item_ID: Tensor, positive_B: Tensor, seen: Seen, ties: Ties) -> Tensor:
    """Return the rank of each user's positive among all items that the user has not seen, in bounded memory.

    The published ``test_all``: the positive against all items, those of the user's train, dev and test rows apart
    (spec/timirec.md section 6.5).

    Args:
        user_BKD: vectors of the users.
        item_ID: (I+1, D) vectors of all items; row 0 is padding.
        positive_B: int64 item ids.
        seen: the items left out; that the positive is among them does no harm.
        ties: where the positive stands among items of its own score.

    Returns:
        (B,) float64 ranks from 1; NaN where a score is not a number.
    """
    parts = []
    for start in range(0, len(user_BKD), ROWS):
        rows = slice(start, min(start + ROWS, len(user_BKD)))
        parts.append(_ranks(user_BKD[rows], item_ID, positive_B[rows], seen.of(rows.start, rows.stop), ties))
    return torch.cat(parts)


def _ranks(user_BKD: Tensor, item_ID: Tensor, positive_B: Tensor, seen: Seen, ties: Ties) -> Tensor:
    ahead_B = torch.zeros_like(positive_B)
    tied_B = torch.zeros_like(positive_B)
    broken_B = torch.zeros_like(positive_B, dtype=torch.bool)
    for tile in catalogue_tiles(user_BKD, item_ID, seen, positive_B):
        assert tile.positive_B is not None
        own_B1 = tile.positive_B[:, None]
        ahead_B += (tile.score_BT >= own_B1).sum(1)
        if ties != "pessimistic":
            tied_B += (tile.score_BT == own_B1).sum(1)
        broken_B |= tile.score_BT.amax(1).isnan() | tile.positive_B.isnan()
    return place(ahead_B, tied_B, ties).masked_fill(broken_B, float("nan"))
