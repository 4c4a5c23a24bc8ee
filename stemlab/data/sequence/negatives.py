"""Training negatives: uniform over the items that a user has not interacted with, drawn for a whole epoch.

The released loader draws from all items and redraws while the item is one of the user's. The result is uniform over
the allowed items, so this sampler draws a rank r uniformly and takes the r-th allowed item: one draw and one binary
search, without rejection. Source: docs/methods/datasets.md#training-negatives.

Legend: V training instances, N negatives per instance, P distinct (user, item) pairs.
"""

from __future__ import annotations

import numpy as np

from stemlab.array_types import AnyArray, Int32Array, Int64Array
from stemlab.errors import StemlabError

INSTANCES_PER_STREAM = 1 << 16
"""Instances that share a random stream; changing it changes the negatives."""
_STREAM = 0x6E6567  # "neg": separates these streams from others seeded with (seed, epoch)


class NegativeSampler:
    """Draws negatives by instance index, independent of batch size, worker and rank.

    Args:
        user_V: (V,) users of the training instances.
        pairs: users and items of the interactions that are never drawn.
        items: I; negatives are 1 to I.
        count: N.
        seed: determines the draw, with epoch and block of instances.

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
        # Number of free items below each taken item; the r-th free item (from 0) is above the items where it is <= r.
        free_below = taken_item - 1 - (np.arange(len(pair_P)) - self._first[taken_user])
        self._keys = taken_user * self._stride + free_below

    def _refuse_full(self, user_V: AnyArray) -> None:
        full = np.flatnonzero(self._free[user_V] == 0)
        if len(full):
            raise StemlabError(
                f"user id {user_V[full[0]]} has interacted with all {self.items} items, so no training negative can be "
                "drawn: remove such users from the raw files, or set dataset.train_negatives=train if it is set to all."
            )

    def draw(self, epoch: int) -> Int32Array:
        """Return the (V, N) negatives of an epoch."""
        drawn = np.empty((len(self.user_V), self.count), dtype=np.int32)
        for block, first in enumerate(range(0, len(drawn), INSTANCES_PER_STREAM)):
            rows = slice(first, min(first + INSTANCES_PER_STREAM, len(drawn)))
            stream = np.random.Generator(np.random.Philox(np.random.SeedSequence([_STREAM, self.seed, epoch, block])))
            drawn[rows] = self._draw(self.user_V[rows].astype(np.int64), stream)
        return drawn

    def _draw(self, user_B: Int64Array, stream: np.random.Generator) -> Int64Array:
        rank_BN = stream.integers(0, self._free[user_B][:, None], (len(user_B), self.count))
        position_BN = np.searchsorted(self._keys, (user_B * self._stride)[:, None] + rank_BN, side="right")
        taken_below_BN: Int64Array = position_BN - self._first[user_B][:, None]
        return rank_BN + 1 + taken_below_BN
