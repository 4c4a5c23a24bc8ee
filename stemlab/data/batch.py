"""Batches: named tensors with stated shapes.

Legend: B rows in the batch, F categorical fields, N numerical fields, T tasks.
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
