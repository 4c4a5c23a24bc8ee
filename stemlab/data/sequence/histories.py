"""Histories of a batch, computed by one gather from the interaction log.

Source: docs/methods/datasets.md#training-instances.

Legend: B samples in the batch, R interactions, L longest history of the batch, H maximum history length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stemlab.array_types import AnyArray, BoolArray, Int64Array


class InteractionColumns(Protocol):
    """Interaction columns, grouped by user and oldest first: the log, or rows of a prediction request."""

    @property
    def item(self) -> AnyArray:
        """(R,) item ids."""

    @property
    def time(self) -> AnyArray:
        """(R,) seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class HistoryBatch:
    """Histories of a batch, right-padded.

    Attributes:
        item_BL: int64 item ids, oldest first, 0 at padding.
        length_B: int64 lengths without padding.
        time_BL: int64 seconds, 0 at padding; ``None`` if times were not requested.
    """

    item_BL: Int64Array
    length_B: Int64Array
    time_BL: Int64Array | None


def read_histories(
    log: InteractionColumns, start_B: AnyArray, stop_B: AnyArray, history_max: int, times: bool, least_width: int = 0
) -> HistoryBatch:
    """Return the last H interactions of the row ranges ``start_B`` to ``stop_B`` of the log.

    Args:
        log: the interactions.
        start_B: (B,) first row of each user.
        stop_B: (B,) row after the last one of the history; at least ``start_B``.
        history_max: H; of a longer history the most recent H interactions are kept.
        times: whether times are read too.
        least_width: L is at least this number.
    """
    length_B = np.minimum(stop_B - start_B, history_max)
    position_L = np.arange(length_B.max(initial=least_width))
    row_BL = (stop_B - length_B)[:, None] + position_L
    valid_BL = position_L < length_B[:, None]
    time_BL = _gather(log.time, row_BL, valid_BL) if times else None
    return HistoryBatch(_gather(log.item, row_BL, valid_BL), length_B, time_BL)


def _gather(column: AnyArray, row_BL: Int64Array, valid_BL: BoolArray) -> Int64Array:
    # "clip": padding positions may point past the last row; the mask sets their values to 0.
    return np.take(column, row_BL, mode="clip") * valid_BL.astype(np.int64)
