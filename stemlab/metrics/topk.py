"""Exact top-N items of every user in bounded memory.

Scores of all items are computed in tiles by matrix products (:class:`stemlab.metrics.catalogue.Catalogue`), and
N + ``SPARE`` items are kept. The rounding of a matrix product depends on its shape, so the kept items are scored again
in float64, pair by pair, and sorted. The result does not depend on tile size, batch size or device, unless more than
``SPARE`` items are within rounding error of the N-th score.

Legend: B users, b users of a tile, K vectors per user, D embedding width, I items, T items of a tile, W items kept per
user, N items per list.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stemlab.metrics import catalogue
from stemlab.metrics.catalogue import Catalogue, SeenItems
from stemlab.metrics.direct import ScoreFunction, scored_tiles

SPARE = 32
"""Items kept in addition to N."""

_LOW = 0xFFFFFFFF


def top_items(items: Catalogue, user_BKD: Tensor, seen: SeenItems, count: int) -> tuple[Tensor, Tensor]:
    """Return the top items of each user, best first; among equal scores the lower id comes first.

    Args:
        items: vectors of all items.
        user_BKD: float32 vectors of the users; the score of an item is the maximum dot product over the K vectors.
        seen: items to exclude (:func:`no_seen_items` for none).
        count: N.

    Returns:
        Item ids (B, N) int64 and scores (B, N) float32; id 0 and score -inf fill the list of a user with fewer items.
    """
    parts = []
    for start in range(0, len(user_BKD), catalogue.MAX_TILE_USERS):
        stop = min(start + catalogue.MAX_TILE_USERS, len(user_BKD))
        parts.append(_top_of_users(items, user_BKD[start:stop], seen.of_users(start, stop), count))
    if not parts:
        return seen.item_S.new_zeros(0, count), user_BKD.new_zeros(0, count)
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def top_scored(score: ScoreFunction, items: int, seen: SeenItems, count: int) -> tuple[Tensor, Tensor]:
    """Return the top items of each user, best first, for a network that scores user-item pairs directly.

    Scores are compared in float32; among equal scores the lower id comes first.

    Args:
        score: function that scores given items.
        items: I.
        seen: items to exclude.
        count: N.

    Returns:
        Item ids (B, N) int64 and scores (B, N) float32, filled as in :func:`top_items`.
    """
    best_BW = seen.item_S.new_empty(len(seen.offset_O) - 1, 0)
    for first, score_BT in scored_tiles(score, items, seen):
        both_BX = torch.cat([best_BW, _keys(score_BT, first)], dim=1)
        best_BW = both_BX.topk(min(count, both_BX.shape[1]), dim=1).values
    left_BW = best_BW >> 32 > _MASKED
    item_BW = (_LOW - (best_BW & _LOW)).masked_fill(~left_BW, 0)
    score_BW = _floats_of((best_BW >> 32).int()).masked_fill(~left_BW, -torch.inf)
    return _padded(item_BW, score_BW, count)


def no_seen_items(users: int, device: torch.device) -> SeenItems:
    """Return the seen items of users who have seen nothing."""
    empty = torch.zeros(users + 1, dtype=torch.int64, device=device)
    return SeenItems(empty[:0], empty)


def _top_of_users(items: Catalogue, user_bKD: Tensor, seen: SeenItems, count: int) -> tuple[Tensor, Tensor]:
    best_bW = seen.item_S.new_empty(len(user_bKD), 0)
    for first, score_bT in items.tiles(user_bKD, seen):
        both_bX = torch.cat([best_bW, _keys(score_bT, first)], dim=1)
        best_bW = both_bX.topk(min(count + SPARE, both_bX.shape[1]), dim=1).values
    item_bW = _LOW - (best_bW & _LOW)
    left_bW = best_bW >> 32 > _MASKED
    score_bW = _scores(items, user_bKD, item_bW).masked_fill(~left_bW, -torch.inf)
    item_bW, score_bW = _sorted_by_score(item_bW.masked_fill(~left_bW, 0), score_bW)
    return _padded(item_bW, score_bW, count)


def _padded(item_bW: Tensor, score_bW: Tensor, count: int) -> tuple[Tensor, Tensor]:
    missing = max(0, count - item_bW.shape[1])
    pad = torch.nn.functional.pad
    return pad(item_bW[:, :count], (0, missing)), pad(score_bW[:, :count], (0, missing), value=-torch.inf)


def _keys(score_bT: Tensor, first: int) -> Tensor:
    """Return one int64 key per item that sorts by score, then by descending id."""
    rank_bT = _sortable_ints(score_bT)
    item_T = torch.arange(first, first + score_bT.shape[1], device=score_bT.device)
    return (rank_bT.long() << 32) | (_LOW - item_T)


def _sortable_ints(score: Tensor) -> Tensor:
    """Return int32 values that sort like the float32 scores: their bits, inverted for negative scores."""
    bits = (score + 0.0).view(torch.int32)  # adding 0 turns -0.0 into 0.0
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _floats_of(rank: Tensor) -> Tensor:
    """Return the float32 scores of the values of ``_sortable_ints``."""
    return (rank ^ ((rank >> 31) & 0x7FFFFFFF)).view(torch.float32)


_MASKED = int(_sortable_ints(torch.tensor(-torch.inf)))


def _scores(items: Catalogue, user_bKD: Tensor, item_bW: Tensor) -> Tensor:
    """Return the scores of given items, computed in float64 and rounded to float32."""
    step = max(1, catalogue.MAX_TILE_SCORES // (2 * item_bW.shape[1] * user_bKD[0].numel() + 1))
    pieces = zip(torch.split(user_bKD.double(), step), torch.split(item_bW, step), strict=True)
    found = [
        (user_pKD[:, None] * items.item_ID[item_pW].double()[:, :, None]).sum(3).amax(2) for user_pKD, item_pW in pieces
    ]
    return torch.cat(found).float()


def _sorted_by_score(item_bW: Tensor, score_bW: Tensor) -> tuple[Tensor, Tensor]:
    item_bW, order_bW = item_bW.sort(dim=1)
    score_bW, by_score_bW = score_bW.gather(1, order_bW).sort(dim=1, descending=True, stable=True)
    return item_bW.gather(1, by_score_bW), score_bW
