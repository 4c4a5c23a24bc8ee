"""Ranks from user and item vectors: the fast way to evaluate, against candidates or the whole catalogue.

A user has K vectors; an item's score is its largest dot product with one of them (``SequenceNet.represent`` and
``item_vectors`` promise that this is the score of evaluation). Scores against all items are one matrix product, which
is cheaper than gathering a vector for every candidate unless the catalogue is much larger than the candidate list.

A matrix product rounds differently from place to place, even between equal vectors. Items that come nearer to the
positive than its rounding errors are therefore scored again, in float64 and by a rule that knows no place: ties are
ties, and ranks depend neither on tiles and batch sizes nor on the device.

Legend: B users, K vectors a user, D width, I items, N candidates, T items of a tile, S seen items of all users,
P pairs of a user and an item.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stemlab.metrics.ranking import Ties, ranks_from_counts

MAX_TILE_SCORES = 1 << 21
"""Most scores in memory at once (K of them an item and user): 8 MiB of float32."""

MAX_TILE_USERS = 256
"""Most users of a tile of the whole catalogue."""

GATHER_COST = 24
"""How many products of the catalogue cost as much as gathering one candidate (scripts/bench/ranking_evaluation.py)."""

_ROUNDOFF = 2.0**-24
"""Relative error of a float32 operation."""


@dataclass(frozen=True, slots=True)
class SeenItems:
    """The items that users have seen, user after user; an item may be there twice.

    Attributes:
        item_S: int64 item ids.
        offset_O: int64, (B+1,): user b has ``item_S[offset_O[b]:offset_O[b + 1]]``.
    """

    item_S: Tensor
    offset_O: Tensor

    def of_users(self, start: int, stop: int) -> SeenItems:
        """Return those of users ``start`` to ``stop - 1``."""
        offset_O = self.offset_O[start : stop + 1]
        return SeenItems(self.item_S[int(offset_O[0]) : int(offset_O[-1])], offset_O - offset_O[0])

    def with_positives(self, item_B: Tensor) -> SeenItems:
        """Return them with one item more for each user."""
        last_B = self.offset_O[1:] + torch.arange(len(item_B), device=item_B.device)
        offset_O = self.offset_O + torch.arange(len(self.offset_O), device=item_B.device)
        item_S = item_B.new_empty(len(self.item_S) + len(item_B))
        old_S = torch.ones_like(item_S, dtype=torch.bool).index_fill_(0, last_B, False)
        item_S[old_S], item_S[last_B] = self.item_S, item_B
        return SeenItems(item_S, offset_O)


class Catalogue:
    """The vectors of all items.

    Args:
        item_ID: (I+1, D) float32; row 0 is padding and takes no part.
    """

    def __init__(self, item_ID: Tensor) -> None:
        self.item_ID = item_ID
        self.longest = item_ID.norm(dim=1).amax()

    def scores(self, user_BKD: Tensor, candidates_BN: Tensor) -> Tensor:
        """Return the scores of given candidates, (B, N), in bounded memory.

        Args:
            user_BKD: vectors of the users.
            candidates_BN: int64 item ids.
        """
        interests, items, candidates = user_BKD.shape[1], len(self.item_ID), candidates_BN.shape[1]
        whole = interests * items <= GATHER_COST * candidates
        step = max(1, MAX_TILE_SCORES // (interests * items if whole else candidates * self.item_ID.shape[1]))
        score = _by_product if whole else _by_gather
        pieces = zip(torch.split(user_BKD, step), torch.split(candidates_BN, step), strict=True)
        return torch.cat([score(user_bKD, self.item_ID, candidates_bN) for user_bKD, candidates_bN in pieces])

    def candidate_ranks(self, user_BKD: Tensor, candidates_BN: Tensor, ties: Ties) -> Tensor:
        """Return the rank of column 0 among given candidates.

        Args:
            user_BKD: vectors of the users.
            candidates_BN: int64 item ids; the positive comes first.
            ties: where the positive stands among items of its own score.

        Returns:
            (B,) float64 ranks from 1; NaN where the vectors are not numbers.
        """
        others_BM = candidates_BN[:, 1:]
        counter = _RankCounter(self, user_BKD, candidates_BN[:, 0])
        counter.count(self.scores(user_BKD, candidates_BN)[:, 1:], others_BM)
        return counter.ranks(ties)

    def ranks(self, user_BKD: Tensor, positive_B: Tensor, seen: SeenItems, ties: Ties) -> Tensor:
        """Return the rank of each user's positive among all items that the user has not seen, in bounded memory.

        The published ``test_all``: the positive against all items, those of the user's train, dev and test rows apart
        (spec/timirec.md section 6.5).

        Args:
            user_BKD: vectors of the users.
            positive_B: int64 item ids; each may be among the user's seen ones or not.
            seen: the items left out.
            ties: where the positive stands among items of its own score.

        Returns:
            (B,) float64 ranks from 1; NaN where the vectors are not numbers.
        """
        parts = []
        for start in range(0, len(user_BKD), MAX_TILE_USERS):
            rows = slice(start, min(start + MAX_TILE_USERS, len(user_BKD)))
            counter = _RankCounter(self, user_BKD[rows], positive_B[rows])
            left_out = seen.of_users(rows.start, rows.stop).with_positives(positive_B[rows])
            for first, score_BT in self.tiles(user_BKD[rows], left_out):
                item_T = torch.arange(first, first + score_BT.shape[1], device=score_BT.device)
                counter.count(score_BT, item_T.expand_as(score_BT))
            parts.append(counter.ranks(ties))
        return torch.cat(parts)

    def tiles(self, user_BKD: Tensor, seen: SeenItems) -> Iterator[tuple[int, Tensor]]:
        """Yield the scores of all items tile by tile: the first item's id, and (B, T) scores of it and its successors.

        Items that a user has seen score minus infinity. With B at most ``MAX_TILE_USERS`` the memory is bounded.

        Args:
            user_BKD: vectors of the users.
            seen: items that are out of the race.
        """
        rows, interests = user_BKD.shape[:2]
        item_S, order_S = seen.item_S.sort()
        row_S = torch.repeat_interleave(torch.arange(rows, device=item_S.device), seen.offset_O.diff())[order_S]
        edges = tile_edges(len(self.item_ID) - 1, max(1, MAX_TILE_SCORES // (rows * interests)))
        cuts = torch.searchsorted(item_S, torch.tensor(edges, device=item_S.device)).tolist()
        for first, last, begin, end in zip(edges, edges[1:], cuts, cuts[1:], strict=False):
            score_BT = _product(user_BKD, self.item_ID[first:last])
            score_BT[row_S[begin:end], item_S[begin:end] - first] = -torch.inf
            yield first, score_BT


def tile_edges(items: int, width: int) -> list[int]:
    """Return the first ids of the tiles of items 1 to ``items``, and ``items + 1``; tiles are about equally wide."""
    count = -(-items // width)
    return [1 + items * tile // count for tile in range(count + 1)]


def _product(user_BKD: Tensor, item_TD: Tensor) -> Tensor:
    """Return the score of every item for every user, (B, T)."""
    rows, interests, width = user_BKD.shape
    dot_BKT = (user_BKD.reshape(rows * interests, width) @ item_TD.t()).view(rows, interests, len(item_TD))
    return dot_BKT.squeeze(1) if interests == 1 else dot_BKT.amax(1)


def _by_product(user_BKD: Tensor, item_ID: Tensor, candidates_BN: Tensor) -> Tensor:
    return _product(user_BKD, item_ID).gather(1, candidates_BN)


def _by_gather(user_BKD: Tensor, item_ID: Tensor, candidates_BN: Tensor) -> Tensor:
    return torch.bmm(user_BKD, item_ID[candidates_BN].transpose(1, 2)).amax(1)


class _RankCounter:
    """Each user's positive against other items, whose scores have rounding errors."""

    def __init__(self, catalogue: Catalogue, user_BKD: Tensor, positive_B: Tensor) -> None:
        self.item_ID, self.user_BKD, self.positive_B = catalogue.item_ID, user_BKD, positive_B
        width = user_BKD.shape[2]
        own_B = (user_BKD * self.item_ID[positive_B][:, None]).sum(2).amax(1)
        # A sum of D products is off by D roundoffs of |u||v| at most (Higham, Accuracy and Stability, 3.1); two of them
        # meet, and a few more roundoffs are for this bound's own.
        error_B = 2 * (width + 4) * _ROUNDOFF * user_BKD.norm(dim=2).amax(1) * catalogue.longest
        self.broken_B = ~(error_B.isfinite() & own_B.isfinite())
        self.low_B1, self.high_B1 = (own_B - error_B)[:, None], (own_B + error_B)[:, None]
        self.ahead_B, self.tied_B = torch.zeros_like(positive_B), torch.zeros_like(positive_B)

    def count(self, score_BT: Tensor, item_BT: Tensor) -> None:
        """Count the items that score higher than the positive, or as high; ``item_BT`` are their ids."""
        above_B = (score_BT > self.high_B1).sum(1)
        reached_B = (score_BT >= self.low_B1).sum(1)
        self.ahead_B += above_B
        row_b = (reached_B > above_B).nonzero().squeeze(1)
        score_bT = score_BT[row_b]
        near_P2 = ((score_bT >= self.low_B1[row_b]) & (score_bT <= self.high_B1[row_b])).nonzero()
        row_P = row_b[near_P2[:, 0]]
        for row_p, item_p in self._pieces(row_P, item_BT[row_P, near_P2[:, 1]]):
            margin_p = self._margin(row_p, item_p)
            self.ahead_B.index_add_(0, row_p, (margin_p >= 0).long())
            self.tied_B.index_add_(0, row_p, (margin_p == 0).long())

    def _pieces(self, row_P: Tensor, item_P: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        step = max(1, MAX_TILE_SCORES // self.user_BKD[0].numel() // 4)  # float64, and twice
        return zip(torch.split(row_P, step), torch.split(item_P, step), strict=True)

    def _margin(self, row_P: Tensor, item_P: Tensor) -> Tensor:
        """Return by how much an item scores higher than the user's positive; exactly 0 for equal vectors."""
        pair_P2 = torch.stack([item_P, self.positive_B[row_P]], 1)
        item_P21D, user_P1KD = self.item_ID[pair_P2].double()[:, :, None], self.user_BKD[row_P].double()[:, None]
        score_P2 = (user_P1KD * item_P21D).sum(3).amax(2)
        return score_P2[:, 0] - score_P2[:, 1]

    def ranks(self, ties: Ties) -> Tensor:
        """Return the ranks after all meetings."""
        return ranks_from_counts(self.ahead_B, self.tied_B, ties).masked_fill(self.broken_B, float("nan"))
