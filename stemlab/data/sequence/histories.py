"""HistoryBatch made on the fly: one gather from the log for a whole batch.

Legend: B rows, L width of the batch (its longest history), H longest history allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stemlab.array_types import AnyArray, BoolArray, Int64Array


class InteractionColumns(Protocol):
    """Columns of interactions, user after user, each user's oldest first: the log, or rows given for a prediction."""

    @property
    def item(self) -> AnyArray:
        """(R,) item ids."""

    @property
    def time(self) -> AnyArray:
        """(R,) seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class HistoryBatch:
    """What users did before something.

    Attributes:
        item_BL: int64 item ids, oldest first, right-padded with 0.
        length_B: int64 true lengths.
        time_BL: int64 seconds, 0 at padding; ``None`` if not asked for.
    """

    item_BL: Int64Array
    length_B: Int64Array
    time_BL: Int64Array | None


def read_histories(
    log: InteractionColumns, start_B: AnyArray, stop_B: AnyArray, history_max: int, times: bool
) -> HistoryBatch:
    """Return the most recent interactions of parts of the log.

    Args:
        log: the interactions.
        start_B: (B,) first row of each user.
        stop_B: (B,) row after the last one that belongs to the history; not before ``start_B``.
        history_max: H; of a longer history the most recent H remain.
        times: whether the times are read too.
    """
    length_B = np.minimum(stop_B - start_B, history_max)
    place_L = np.arange(length_B.max(initial=0))
    row_BL = (stop_B - length_B)[:, None] + place_L
    valid_BL = place_L < length_B[:, None]
    time_BL = _gather(log.time, row_BL, valid_BL) if times else None
    return HistoryBatch(_gather(log.item, row_BL, valid_BL), length_B, time_BL)


def _gather(column: AnyArray, row_BL: Int64Array, valid_BL: BoolArray) -> Int64Array:
    # "clip": padding may point behind the last row; what is read there is multiplied away.
    return np.take(column, row_BL, mode="clip") * valid_BL.astype(np.int64)
