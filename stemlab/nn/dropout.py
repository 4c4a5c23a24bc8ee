"""Dropout whose mask depends on the position of a sample in the global batch, not on its process.

Every process draws the mask of the global batch from the same random numbers and uses its own rows of it.

Legend: R samples of this process, G samples of all processes.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from stemlab.nn.global_batch import BatchShare, row_range


class GlobalDropout(nn.Dropout):
    """``torch.nn.Dropout`` for several processes; the first dimension of the input runs over samples.

    Every process must pass equally many rows: only then do their random numbers stay the same.
    """

    batch_share: BatchShare | None = None

    def forward(self, input_RX: Tensor) -> Tensor:
        """Return the input with its share of the global mask applied, in training."""
        share = self.batch_share
        if share is None or not self.training or self.p == 0:
            return super().forward(input_RX)
        first, total = self._rows(input_RX, share)
        ones_GX = input_RX.new_ones(total, *input_RX.shape[1:])
        scale_GX = functional.dropout(ones_GX, self.p, training=True)
        return input_RX * scale_GX[first : first + len(input_RX)]

    def _rows(self, input_RX: Tensor, share: BatchShare) -> tuple[int, int]:
        """Return the first global row of this process and the number of global rows."""
        return share.rank * len(input_RX), share.processes * len(input_RX)


class SubsetDropout(GlobalDropout):
    """Dropout of a subset of the samples, of which processes may have different numbers, including zero.

    With several processes, each forward pass exchanges the numbers of rows.
    """

    def _rows(self, input_RX: Tensor, share: BatchShare) -> tuple[int, int]:
        return row_range(len(input_RX), share, input_RX.device)
