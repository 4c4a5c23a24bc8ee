"""Loader of sequence batches; order, distribution over ranks and resuming as in stemlab.data.loader.

Legend: B samples in the batch, L longest history of the batch, V instances of the split, N candidates.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stemlab.array_types import AnyArray, Int32Array, Int64Array
from stemlab.data.batch import SequenceBatch
from stemlab.data.batch_order import BatchOrder
from stemlab.data.draw_ahead import DrawAhead
from stemlab.data.loader import OrderedLoader
from stemlab.data.resident import Columns, RowSelection, Uploads, rows_on
from stemlab.data.sequence.histories import read_histories
from stemlab.data.sequence.log import Instances, InteractionLog
from stemlab.data.sequence.negatives import NegativeSampler
from stemlab.data.sequence.resident import SequenceColumns, max_batch_bytes


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
        self._drawn = DrawAhead(negatives.draw) if isinstance(negatives, NegativeSampler) else None
        self._fixed_width = False
        self._refreshed: int | None = None

    def take(self, rows: RowSelection) -> SequenceBatch:
        """Return a batch of the given instances in new, writable tensors."""
        row_B = np.array(self.instances.row[rows])
        user_B = self.log.user[row_B].astype(np.int64)
        width = self.history_max if self._fixed_width else self._longest_of_step()
        history = read_histories(self.log, self.log.start[user_B], row_B, self.history_max, self.times, width)
        return SequenceBatch(
            user_B=self._tensor(user_B),
            history_BL=self._tensor(history.item_BL),
            length_B=self._tensor(history.length_B),
            candidates_BN=self._tensor(self._candidates(row_B, rows)),
            time_BL=None if history.time_BL is None else self._tensor(history.time_BL),
            unit_B=self._tensor(self.log.unit[user_B]) if self.times else None,
            row_B=None if self._is_training else self._tensor(row_B),
        )

    @property
    def _is_training(self) -> bool:
        return isinstance(self.negatives, NegativeSampler)

    def fix_shapes(self) -> None:
        """Pad all histories to ``history_max`` instead of the longest history of the batch."""
        self._fixed_width = True

    def resident(self, uploads: Uploads) -> SequenceColumns | SequenceBatch:
        """Return the samples of the split on a device; ``refresh`` fills in training negatives.

        Captured steps gather from one batch of all samples if it is small, because that takes fewer operations; else
        histories are gathered from the log.
        """
        columns = self._resident_log(uploads)
        whole = self._fixed_width and columns.batch_bytes() <= max_batch_bytes(uploads.device)
        return columns.all_samples() if whole else columns

    def _resident_log(self, uploads: Uploads) -> SequenceColumns:
        log, times = self.log, self.times
        negatives_VN: Tensor | None
        if isinstance(self.negatives, NegativeSampler):
            shape = len(self.instances), self.negatives.count
            negatives_VN = torch.zeros(shape, dtype=torch.int32, device=uploads.device)
        else:
            negatives_VN = uploads.optional(self.negatives)
        return SequenceColumns(
            history_max=self.history_max,
            user_R=uploads(log.user),
            item_R=uploads(log.item),
            start_U=uploads(log.start),
            row_V=uploads(self.instances.row),
            negatives_VN=negatives_VN,
            time_R=uploads(log.time) if times else None,
            unit_U=uploads(log.unit) if times else None,
            with_rows=not self._is_training,
        )

    def take_resident(self, columns: Columns[SequenceBatch], rows: RowSelection) -> SequenceBatch:
        """Return a batch of the given rows of ``columns``, equal to that of ``take``."""
        assert isinstance(columns, SequenceColumns)
        longest = max(self._longest_history(rows), self._longest_of_step())
        width = self.history_max if self._fixed_width else longest
        return columns.take(rows_on(columns.device, rows), width)

    def draw_ahead(self) -> None:
        """Draw the permutation and the negatives of the next epoch in a thread."""
        super().draw_ahead()
        if self._drawn is not None:
            self._drawn.start(self.order.epoch + 1)

    def refresh(self, columns: Columns[SequenceBatch]) -> None:
        """Copy the negatives of the current epoch into the columns of ``resident``."""
        if self._is_training and self._refreshed != self.order.epoch:
            negatives, self._refreshed = self._epoch_negatives(), self.order.epoch
            assert negatives is not None
            drawn_VN = torch.from_numpy(negatives)
            if isinstance(columns, SequenceColumns):
                assert columns.negatives_VN is not None
                columns.negatives_VN.copy_(drawn_VN)
            else:
                assert isinstance(columns, SequenceBatch)
                columns.candidates_BN[:, 1:] = drawn_VN.to(columns.device)

    def _longest_of_step(self) -> int:
        """Return the longest history among the batches of all ranks, so that padding does not depend on the rank."""
        rows = getattr(self.order, "step_rows", None)
        return 0 if rows is None else self._longest_history(rows)

    def _longest_history(self, rows: RowSelection) -> int:
        """Return the length of the longest history of instances, at most ``history_max``."""
        row_B = self.instances.row[rows]
        return int(np.minimum(row_B - self.log.start[self.log.user[row_B]], self.history_max).max(initial=0))

    def _candidates(self, row_B: Int64Array, rows: RowSelection) -> Int64Array:
        negatives = self._epoch_negatives()
        candidates_BN = np.empty((len(row_B), 1 + (0 if negatives is None else negatives.shape[1])), dtype=np.int64)
        candidates_BN[:, 0] = self.log.item[row_B]
        if negatives is not None:
            candidates_BN[:, 1:] = negatives[rows]
        return candidates_BN

    def _epoch_negatives(self) -> AnyArray | None:
        """Return the (V, N - 1) negatives of the current epoch; they are drawn for its first batch."""
        if self._drawn is not None:
            return self._drawn.of(self.order.epoch)
        return None if isinstance(self.negatives, NegativeSampler) else self.negatives
