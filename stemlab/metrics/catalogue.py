"""Ranks from user and item vectors, among given candidates or all items.

A user has K vectors; the score of an item is the maximum of its K dot products with them (``SequenceNet.represent`` and
``item_vectors`` guarantee that this is the evaluation score). Scores of all items are one matrix product, which is
cheaper than gathering a vector per candidate unless there are many more items than candidates.

The rounding of a matrix product depends on its shape, even for equal vectors. Items whose score is within rounding
error of the positive's are therefore scored again in float64, pair by pair: equal vectors tie exactly, and ranks do not
depend on tile size, batch size or device (docs/methods/metrics.md#rounding-errors).

Legend: B users, b users of a chunk, K vectors per user, D embedding width, I items, N candidates, M negatives, T items
of a tile, S seen items of all users, O offsets, P pairs of a user and an item, p pairs of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from stemlab.metrics.ranking import Ties, ranks_from_counts

MAX_TILE_SCORES = 1 << 21
"""Maximum number of scores in memory (K per user and item): 8 MiB in float32."""

CACHED_SCORES = 1 << 19
"""Scores of a tile on the CPU that is only read once: 2 MiB in float32 stay in the cache of one or two cores."""

MAX_TILE_USERS = 256
"""Maximum number of users of a tile."""

GPU_TILES = 32
"""Tiles on a GPU are larger by this factor: 256 MiB of scores, for 8,192 users."""

GATHER_COST = 24
"""Cost of the score of one gathered candidate, relative to one score of the matrix product
(scripts/bench/ranking_evaluation.py)."""

_ROUNDOFF = 2.0**-24
"""Relative error of a float32 operation."""


@dataclass(frozen=True, slots=True)
class SeenItems:
    """Items seen by users, concatenated over users; items may repeat.

    Attributes:
        item_S: (S,) int64 item ids.
        offset_O: (B+1,) int64: user b has seen ``item_S[offset_O[b]:offset_O[b + 1]]``.
    """

    item_S: Tensor
    offset_O: Tensor

    def of_users(self, start: int, stop: int) -> SeenItems:
        """Return the seen items of users ``start`` to ``stop - 1``."""
        offset_O = self.offset_O[start : stop + 1]
        return SeenItems(self.item_S[int(offset_O[0]) : int(offset_O[-1])], offset_O - offset_O[0])

    def without(self, item_B: Tensor) -> SeenItems:
        """Return the seen items without one item ``item_B`` per user."""
        row_S = torch.repeat_interleave(torch.arange(len(item_B), device=item_B.device), self.offset_O.diff())
        kept_S = self.item_S != item_B[row_S]
        count_B = torch.zeros_like(item_B).index_add_(0, row_S, kept_S.long())
        return SeenItems(self.item_S[kept_S], torch.cat((count_B.new_zeros(1), count_B.cumsum(0))))

    def with_positives(self, item_B: Tensor) -> SeenItems:
        """Return the seen items with one item ``item_B`` added per user."""
        last_B = self.offset_O[1:] + torch.arange(len(item_B), device=item_B.device)
        offset_O = self.offset_O + torch.arange(len(self.offset_O), device=item_B.device)
        item_S = item_B.new_empty(len(self.item_S) + len(item_B))
        old_S = torch.ones_like(item_S, dtype=torch.bool).index_fill_(0, last_B, False)
        item_S[old_S], item_S[last_B] = self.item_S, item_B
        return SeenItems(item_S, offset_O)


class SeenTable:
    """Items seen by every user, on a device.

    Args:
        item_R: (R,) items of all interactions, grouped by user.
        start_U: (U + 1,) int64 first interaction of each user.
        stop_U: (U + 1,) int64 interaction after the last one of each user.
    """

    def __init__(self, item_R: Tensor, start_U: Tensor, stop_U: Tensor) -> None:
        self.item_R, self.start_U, self.stop_U = item_R, start_U, stop_U

    def of_users(self, user_B: Tensor) -> SeenItems:
        """Return the items of users, (B,) int64 ids on the same device. Waits for a GPU once."""
        start_B = self.start_U.index_select(0, user_B)
        count_B = self.stop_U.index_select(0, user_B) - start_B
        offset_O = torch.cat((count_B.new_zeros(1), count_B.cumsum(0)))
        total = int(offset_O[-1])
        shift_S = torch.repeat_interleave(start_B - offset_O[:-1], count_B, output_size=total)
        row_S = shift_S + torch.arange(total, device=user_B.device)
        return SeenItems(self.item_R.index_select(0, row_S).long(), offset_O)


class Catalogue:
    """Vectors of all items.

    Args:
        item_ID: (I+1, D) float32; row 0 is padding and is never ranked.
    """

    def __init__(self, item_ID: Tensor) -> None:
        self.item_ID = item_ID
        self.max_norm = item_ID.norm(dim=1).amax()

    def scores(self, user_BKD: Tensor, candidates_BN: Tensor) -> Tensor:
        """Return the scores of given candidates, (B, N) float32, in bounded memory.

        Args:
            user_BKD: float32 vectors of the users.
            candidates_BN: int64 item ids.
        """
        interests, items, candidates = user_BKD.shape[1], len(self.item_ID), candidates_BN.shape[1]
        whole = interests * items <= GATHER_COST * candidates
        step = max(
            1, cached_scores(user_BKD.device) // (interests * items if whole else candidates * self.item_ID.shape[1])
        )
        score, item_ID = (_by_product, self.by_column) if whole else (_by_gather, self.item_ID)
        score_BN = user_BKD.new_empty(candidates_BN.shape)
        for pieces in zip(*(torch.split(of, step) for of in (user_BKD, candidates_BN, score_BN)), strict=True):
            score(item_ID, *pieces)
        return score_BN

    @cached_property
    def by_column(self) -> Tensor:
        """Item vectors stored column by column, which a CPU multiplies faster; only made for small catalogues."""
        return self.item_ID.t().contiguous().t()

    def candidate_ranks(self, user_BKD: Tensor, candidates_BN: Tensor, ties: Ties) -> Tensor:
        """Return the rank of each user's positive among given candidates.

        Args:
            user_BKD: vectors of the users.
            candidates_BN: int64 item ids; the positive is in column 0.
            ties: tie rule (docs/methods/metrics.md#ties).

        Returns:
            (B,) float64 ranks from 1; NaN where vectors are not finite.
        """
        others_BM = candidates_BN[:, 1:]
        counter = _RankCounter(self, user_BKD, candidates_BN[:, 0])
        counter.count(self.scores(user_BKD, candidates_BN)[:, 1:], others_BM)
        return counter.ranks(ties)

    def ranks(self, user_BKD: Tensor, positive_B: Tensor, seen: SeenItems, ties: Ties) -> Tensor:
        """Return the rank of each user's positive among all items the user has not seen, in bounded memory.

        ``test_all`` of the released code: all items except those of the user in train, dev and test
        (docs/methods/metrics.md#full-catalogue).

        Args:
            user_BKD: vectors of the users.
            positive_B: int64 item ids; may or may not be among the seen items.
            seen: items to exclude.
            ties: tie rule (docs/methods/metrics.md#ties).

        Returns:
            (B,) float64 ranks from 1; NaN where vectors are not finite.
        """
        parts, users = [], tile_users(user_BKD.device)
        for start in range(0, len(user_BKD), users):
            rows = slice(start, min(start + users, len(user_BKD)))
            counter = _RankCounter(self, user_BKD[rows], positive_B[rows])
            excluded = seen.of_users(rows.start, rows.stop).with_positives(positive_B[rows])
            for first, score_BT in self.tiles(user_BKD[rows], excluded, cached_scores(user_BKD.device)):
                item_T = torch.arange(first, first + score_BT.shape[1], device=score_BT.device)
                counter.count(score_BT, item_T.expand_as(score_BT))
            parts.append(counter.ranks(ties))
        return torch.cat(parts)

    def tiles(self, user_BKD: Tensor, seen: SeenItems, most: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """Yield the scores of all items in tiles: id of the first item of the tile, and (B, T) scores.

        Seen items have score -inf. Memory is bounded if B is at most ``MAX_TILE_USERS``.

        Args:
            user_BKD: vectors of the users.
            seen: items to mask.
            most: maximum number of scores of a tile, K per user and item; ``None``: ``tile_scores``.
        """
        rows, interests = user_BKD.shape[:2]
        item_S, order_S = seen.item_S.sort()
        row_S = torch.repeat_interleave(torch.arange(rows, device=item_S.device), seen.offset_O.diff())[order_S]
        most = tile_scores(user_BKD.device) if most is None else most
        edges = tile_edges(len(self.item_ID) - 1, max(1, most // (rows * interests)))
        cuts = torch.searchsorted(item_S, torch.tensor(edges, device=item_S.device)).tolist()
        for first, last, begin, end in zip(edges, edges[1:], cuts, cuts[1:], strict=False):
            score_BT = _product(user_BKD, self.item_ID[first:last])
            score_BT[row_S[begin:end], item_S[begin:end] - first] = -torch.inf
            yield first, score_BT


def tile_scores(device: torch.device) -> int:
    """Return the maximum number of scores of a tile; ranks do not depend on it."""
    return MAX_TILE_SCORES * (GPU_TILES if device.type == "cuda" else 1)


def cached_scores(device: torch.device) -> int:
    """Return the number of scores of a tile that is only read once; ranks do not depend on it."""
    return tile_scores(device) if device.type == "cuda" else min(tile_scores(device), CACHED_SCORES)


def tile_users(device: torch.device) -> int:
    """Return the maximum number of users of a tile."""
    return MAX_TILE_USERS * (GPU_TILES if device.type == "cuda" else 1)


def tile_edges(items: int, width: int) -> list[int]:
    """Return the first ids of the tiles of items 1 to ``items``, then ``items + 1``; tiles have nearly equal widths."""
    count = -(-items // width)
    return [1 + items * tile // count for tile in range(count + 1)]


def _product(user_BKD: Tensor, item_TD: Tensor) -> Tensor:
    """Return the scores of all items of a tile for all users, (B, T)."""
    rows, interests, width = user_BKD.shape
    dot_BKT = (user_BKD.reshape(rows * interests, width) @ item_TD.t()).view(rows, interests, len(item_TD))
    return dot_BKT.squeeze(1) if interests == 1 else dot_BKT.amax(1)


def _by_product(item_ID: Tensor, user_BKD: Tensor, candidates_BN: Tensor, score_BN: Tensor) -> None:
    torch.gather(_product(user_BKD, item_ID), 1, candidates_BN, out=score_BN)


def _by_gather(item_ID: Tensor, user_BKD: Tensor, candidates_BN: Tensor, score_BN: Tensor) -> None:
    torch.amax(torch.bmm(user_BKD, item_ID[candidates_BN].transpose(1, 2)), 1, out=score_BN)


class _RankCounter:
    """Count, per user, the items that score above or equal to the positive, despite rounding errors."""

    def __init__(self, catalogue: Catalogue, user_BKD: Tensor, positive_B: Tensor) -> None:
        self.item_ID, self.user_BKD, self.positive_B = catalogue.item_ID, user_BKD, positive_B
        width = user_BKD.shape[2]
        own_B = (user_BKD * self.item_ID[positive_B][:, None]).sum(2).amax(1)
        # the error of a dot product of width D is at most D * 2^-24 * |u||v| (Higham, Accuracy and Stability, 3.1); two
        # scores are compared: twice that; + 4 covers the rounding of this bound
        error_B = 2 * (width + 4) * _ROUNDOFF * user_BKD.norm(dim=2).amax(1) * catalogue.max_norm
        self.broken_B = ~(error_B.isfinite() & own_B.isfinite())
        self.low_B1, self.high_B1 = (own_B - error_B)[:, None], (own_B + error_B)[:, None]
        self.ahead_B, self.tied_B = torch.zeros_like(positive_B), torch.zeros_like(positive_B)

    def count(self, score_BT: Tensor, item_BT: Tensor) -> None:
        """Count the items of a tile that score above or equal to the positive; ``item_BT`` are their ids."""
        flag_BT = torch.empty_like(score_BT)  # float32: comparisons and sums of bool take three times as long on a CPU
        above_B = torch.gt(score_BT, self.high_B1, out=flag_BT).sum(1).long()
        reached_B = torch.ge(score_BT, self.low_B1, out=flag_BT).sum(1).long()
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
        step = max(1, tile_scores(row_P.device) // self.user_BKD[0].numel() // 4)  # float64, two vectors per pair
        return zip(torch.split(row_P, step), torch.split(item_P, step), strict=True)

    def _margin(self, row_P: Tensor, item_P: Tensor) -> Tensor:
        """Return score of the item - score of the user's positive in float64; exactly 0 for equal vectors."""
        pair_P2 = torch.stack([item_P, self.positive_B[row_P]], 1)
        item_P21D, user_P1KD = self.item_ID[pair_P2].double()[:, :, None], self.user_BKD[row_P].double()[:, None]
        score_P2 = (user_P1KD * item_P21D).sum(3).amax(2)
        return score_P2[:, 0] - score_P2[:, 1]

    def ranks(self, ties: Ties) -> Tensor:
        """Return the ranks, after all tiles are counted."""
        return ranks_from_counts(self.ahead_B, self.tied_B, ties).masked_fill(self.broken_B, float("nan"))
