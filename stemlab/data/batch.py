"""Batches: named tensors with stated shapes.

Legend of impressions: B rows in the batch, F categorical fields, N numerical fields, T tasks.
Legend of sequences: B instances in the batch, L width of the histories, N candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(slots=True)
class ImpressionBatch:
    """A slice of impressions.

    Attributes:
        ids_BF: int32 or int64 ids, one column a categorical field; 0 is padding, the last id out-of-vocabulary.
        labels_BT: int8 labels in {0, 1}, one column a task; ``None`` when scoring unlabelled rows.
        dense_BN: float32 numerical fields, or ``None`` where the dataset has none.
        scenario_B: int32 scenario ids, or ``None`` for a single scenario.
        group_B: int64 true (unencoded) group keys for grouped metrics, or ``None``.
    """

    ids_BF: Tensor
    labels_BT: Tensor | None = None
    dense_BN: Tensor | None = None
    scenario_B: Tensor | None = None
    group_B: Tensor | None = None

    def __len__(self) -> int:
        return int(self.ids_BF.shape[0])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ImpressionBatch:
        """Return the batch with every tensor on ``device``."""
        present = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {k: v.to(device, non_blocking=non_blocking) for k, v in present.items() if v is not None}
        return replace(self, **moved)


@dataclass(slots=True)
class SequenceBatch:
    """Instances of a sequence dataset: a user, what they did before, and the items to score.

    Attributes:
        user_B: int64 user ids, 1 to U.
        history_BL: int64 item ids, oldest first, right-padded with 0; L is the longest history of the batch.
        length_B: int64 true lengths of the histories, at least 1.
        candidates_BN: int64 item ids; column 0 is the positive. N is 1 (the positive alone) in evaluation against the
            full catalogue.
        time_BL: int64 seconds of the history's interactions, 0 at padding; ``None`` where the dataset gives no times.
        unit_B: int64 seconds, the user's smallest positive gap between interactions (the unit of TiSASRec's relative
            times); ``None`` without times.
        row_B: int64 row of the target in the interaction log, ``None`` in training.
    """

    user_B: Tensor
    history_BL: Tensor
    length_B: Tensor
    candidates_BN: Tensor
    time_BL: Tensor | None = None
    unit_B: Tensor | None = None
    row_B: Tensor | None = None

    def __len__(self) -> int:
        return int(self.user_B.shape[0])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SequenceBatch:
        """Return the batch with every tensor on ``device``."""
        present = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {k: v.to(device, non_blocking=non_blocking) for k, v in present.items() if v is not None}
        return replace(self, **moved)
