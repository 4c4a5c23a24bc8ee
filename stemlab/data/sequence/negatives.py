"""Training negatives: uniform over the items that a user has not interacted with, drawn for a whole epoch at once.

The published loader draws from all items and draws again while it hits one of the user's. The result is uniform over
the other items, so here the r-th of those is taken directly, r uniform: one draw, one search, no loop, whether a user
has one item left or all.

Legend: V training instances, N negatives an instance, P distinct (user, item) pairs.
"""

from __future__ import annotations

import numpy as np

from stemlab.array_types import AnyArray, Int32Array, Int64Array
from stemlab.errors import StemlabError

BLOCK = 1 << 16
"""Instances that share a random stream; part of what determines the negatives."""
_STREAM = 0x6E6567  # "neg": keeps the streams apart from others that are seeded with (seed, epoch)


class NegativeSampler:
    """Draws negatives by instance number: neither batch size nor worker nor rank changes them.

    Args:
        user_V: (V,) users of the training instances.
        pairs: users and items of the interactions that may not be drawn.
        items: I; negatives are 1 to I.
        count: N.
        seed: with epoch and block of instances it fixes the draw.

    Raises:
        StemlabError: a user of an instance has interacted with every item.
    """

    def __init__(
        self,
        user_V: AnyArray,
        pairs: tuple[AnyArray, AnyArray],
        *,
        items: int,
        count: int,
        seed: int,
    ) -> None:
        self.user_V, self.items, self.count, self.seed = user_V, items, count, seed
        self._stride = items + 1
        pair_P = np.unique(pairs[0].astype(np.int64) * self._stride + pairs[1])
        taken_user, taken_item = np.divmod(pair_P, self._stride)
        users = int(max(user_V.max(initial=0), taken_user.max(initial=0)))
        self._first = np.searchsorted(taken_user, np.arange(users + 2))
        self._free = items - np.diff(self._first)
        self._refuse_full(user_V)
        # Of each taken item: how many free ones are smaller. The r-th free item (from 0) comes behind those with <= r.
        before = taken_item - 1 - (np.arange(len(pair_P)) - self._first[taken_user])
        self._keys = taken_user * self._stride + before

    def _refuse_full(self, user_V: AnyArray) -> None:
        full = np.flatnonzero(self._free[user_V] == 0)
        if len(full):
            raise StemlabError(
                f"user id {user_V[full[0]]} has interacted with all {self.items} items, so no training negative can be "
                "drawn for them: leave such users out of the raw files, or set dataset.train_negatives=train if it is "
                "all."
            )

    def draw(self, epoch: int) -> Int32Array:
        """Return the (V, N) negatives of an epoch."""
        drawn = np.empty((len(self.user_V), self.count), dtype=np.int32)
        for block, first in enumerate(range(0, len(drawn), BLOCK)):
            rows = slice(first, min(first + BLOCK, len(drawn)))
            stream = np.random.Generator(np.random.Philox(np.random.SeedSequence([_STREAM, self.seed, epoch, block])))
            drawn[rows] = self._draw(self.user_V[rows].astype(np.int64), stream)
        return drawn

    def _draw(self, user_B: Int64Array, stream: np.random.Generator) -> Int64Array:
        rank_BN = stream.integers(0, self._free[user_B][:, None], (len(user_B), self.count))
        place_BN = np.searchsorted(self._keys, (user_B * self._stride)[:, None] + rank_BN, side="right")
        smaller_BN: Int64Array = place_BN - self._first[user_B][:, None]
        return rank_BN + 1 + smaller_BN
