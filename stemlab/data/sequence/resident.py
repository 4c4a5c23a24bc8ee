"""Interaction log and samples of a split on a device; histories are gathered there.

Legend: R interactions, U users, V samples of the split, B samples of a batch, L history width, N candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stemlab.data.batch import SequenceBatch

MAX_BATCH_BYTES = 1 << 32
"""Maximum size of one batch of all samples on a device."""


def max_batch_bytes(device: torch.device) -> int:
    """Return the maximum size of one batch of all samples: at most a tenth of the free memory of a GPU."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 10 * MAX_BATCH_BYTES
    return min(MAX_BATCH_BYTES, free // 10)


@dataclass(frozen=True, slots=True)
class SequenceColumns:
    """Columns from which sequence batches are gathered without the CPU.

    Attributes:
        history_max: maximum history length.
        user_R: (R,) int32 user ids.
        item_R: (R,) int32 item ids.
        start_U: (U + 1,) int64 first interaction of each user.
        row_V: (V,) int64 interaction to predict.
        negatives_VN: (V, N - 1) int32 other candidates, or ``None``.
        time_R: (R,) int64 seconds, or ``None`` without times.
        unit_U: (U + 1,) int64 unit of each user's relative times, or ``None`` without times.
        with_rows: whether batches contain ``row_B``.
    """

    history_max: int
    user_R: Tensor
    item_R: Tensor
    start_U: Tensor
    row_V: Tensor
    negatives_VN: Tensor | None
    time_R: Tensor | None
    unit_U: Tensor | None
    with_rows: bool

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        return self.row_V.device

    def take(self, rows_B: Tensor, width: int | None = None) -> SequenceBatch:
        """Return a batch.

        Args:
            rows_B: (B,) int64 numbers of the samples.
            width: L, at least the longest history of the batch; ``None``: ``history_max``.
        """
        row_B = self.row_V.index_select(0, rows_B)
        user_B, item_B1 = self.user_R.index_select(0, row_B).long(), self.item_R.index_select(0, row_B).long()[:, None]
        length_B = (row_B - self.start_U.index_select(0, user_B)).clamp_max(self.history_max)
        position_L = torch.arange(self.history_max if width is None else width, device=row_B.device)
        row_BL = ((row_B - length_B)[:, None] + position_L).clamp_max(len(self.item_R) - 1)
        valid_BL = position_L < length_B[:, None]
        negatives = () if self.negatives_VN is None else (self.negatives_VN.index_select(0, rows_B).long(),)
        return SequenceBatch(
            user_B=user_B,
            history_BL=self.item_R[row_BL].long() * valid_BL,
            length_B=length_B,
            candidates_BN=torch.cat((item_B1, *negatives), dim=1),
            time_BL=None if self.time_R is None else self.time_R[row_BL] * valid_BL,
            unit_B=None if self.unit_U is None else self.unit_U.index_select(0, user_B),
            row_B=row_B if self.with_rows else None,
        )

    def batch_bytes(self) -> int:
        """Return the size of one batch of all samples."""
        return len(self.row_V) * sum(tensor.nbytes for tensor in self.take(self.row_V.new_zeros(1)).tensors().values())

    def all_samples(self) -> SequenceBatch:
        """Return one batch of all samples."""
        numbers = torch.split(torch.arange(len(self.row_V), device=self.device), 1 << 18)
        parts = [self.take(number_B).tensors() for number_B in numbers]
        return SequenceBatch(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})
