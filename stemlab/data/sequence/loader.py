"""Loader of sequence batches; order, distribution over ranks and resuming as in stemlab.data.loader.

Legend: B samples in the batch, L longest history of the batch, V instances of the split, N candidates.
"""

from __future__ import annotations

import numpy as np

from stemlab.array_types import AnyArray, Int32Array, Int64Array
from stemlab.data.batch import SequenceBatch
from stemlab.data.loader import BatchOrder, OrderedLoader, RowSelection
from stemlab.data.sequence.histories import read_histories
from stemlab.data.sequence.log import Instances, InteractionLog
from stemlab.data.sequence.negatives import NegativeSampler


class SequenceLoader(OrderedLoader[SequenceBatch]):
    """Batches of one split.

    Args:
        log: all interactions.
        instances: rows of the log to predict.
        order: order of the instances and their division into batches.
        negatives: the other candidates: a sampler that draws new ones every epoch (training), stored items
            (V, N - 1), or ``None`` (evaluation against the full catalogue).
        history_max: H, maximum history length.
        times: whether batches contain the times of the history.
        pin_memory: whether batches are in page-locked memory, so that copies to a GPU overlap with computation.
    """

    def __init__(
        self,
        log: InteractionLog,
        instances: Instances,
        order: BatchOrder,
        negatives: NegativeSampler | Int32Array | None,
        *,
        history_max: int,
        times: bool,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(order, pin_memory)
        self.log, self.instances, self.negatives = log, instances, negatives
        self.history_max, self.times = history_max, times
        self._drawn: tuple[int, Int32Array] | None = None

    def take(self, rows: RowSelection) -> SequenceBatch:
        """Return a batch of the given instances in new, writable tensors."""
        row_B = np.array(self.instances.row[rows])
        user_B = self.log.user[row_B].astype(np.int64)
        history = read_histories(self.log, self.log.start[user_B], row_B, self.history_max, self.times)
        training = isinstance(self.negatives, NegativeSampler)
        return SequenceBatch(
            user_B=self._tensor(user_B),
            history_BL=self._tensor(history.item_BL),
            length_B=self._tensor(history.length_B),
            candidates_BN=self._tensor(self._candidates(row_B, rows)),
            time_BL=None if history.time_BL is None else self._tensor(history.time_BL),
            unit_B=self._tensor(self.log.unit[user_B]) if self.times else None,
            row_B=None if training else self._tensor(row_B),
        )

    def _candidates(self, row_B: Int64Array, rows: RowSelection) -> Int64Array:
        negatives = self._epoch_negatives()
        candidates_BN = np.empty((len(row_B), 1 + (0 if negatives is None else negatives.shape[1])), dtype=np.int64)
        candidates_BN[:, 0] = self.log.item[row_B]
        if negatives is not None:
            candidates_BN[:, 1:] = negatives[rows]
        return candidates_BN

    def _epoch_negatives(self) -> AnyArray | None:
        """Return the (V, N - 1) negatives of the current epoch; they are drawn for its first batch."""
        if not isinstance(self.negatives, NegativeSampler):
            return self.negatives
        if self._drawn is None or self._drawn[0] != self.order.epoch:
            self._drawn = (self.order.epoch, self.negatives.draw(self.order.epoch))
        return self._drawn[1]
