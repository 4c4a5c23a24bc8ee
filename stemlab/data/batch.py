"""Batches: dataclasses of named tensors.

Legend of impressions: B samples in the batch, F categorical fields, N numerical fields, T tasks, V regression tasks,
K columns of all lists of ids, W columns of all lists of weights.
Legend of sequences: B samples in the batch, L history length, N candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor


class TensorBatch:
    """Dataclass of tensors whose first dimension is the samples."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(next(iter(self.tensors().values())))

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return next(iter(self.tensors().values())).device

    def tensors(self) -> dict[str, Tensor]:
        """Return field name -> tensor, in the order of the fields; without the fields that are ``None``."""
        present: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {name: tensor for name, tensor in present.items() if tensor is not None}

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return the batch with ``function`` applied to every tensor."""
        changed: Any = {name: function(tensor) for name, tensor in self.tensors().items()}
        return replace(self, **changed)  # type: ignore[type-var]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """Return the batch with every tensor on ``device``."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def take(self, rows_B: Tensor) -> Self:
        """Return the samples with the given row numbers, (B,) int64 on the device of the batch."""
        return self.map(lambda tensor: tensor.index_select(0, rows_B))


@dataclass(slots=True)
class ImpressionBatch(TensorBatch):
    """Batch of impressions.

    Attributes:
        ids_BF: int32 or int64 ids, one column per categorical field; 0 is padding, the last id out-of-vocabulary.
        labels_BT: int8 labels in {0, 1}, one column per task (0 for regression tasks); ``None`` when scoring
            unlabelled samples.
        dense_BN: float32 numerical fields, or ``None`` if the dataset has none.
        scenario_B: int32 scenario ids, or ``None`` for a single scenario.
        group_B: int64 raw (unencoded) group keys for grouped metrics, or ``None``.
        values_BV: float32 labels of the regression tasks, or ``None`` without such tasks.
        mask_BT: int8, 1 where the label of a task counts, or ``None`` if all labels count.
        weight_B: float32 sample weights, or ``None`` if all samples have the weight 1.
        list_ids_BK: int32 ids of the fields that hold lists, one block of columns per list, right-padded with 0; after
            the ids of a list with times follow the ages of its values (``stemlab.data.list_layout``). ``None`` if the
            dataset has no such field.
        list_weights_BW: float32 weights of the values of weighted lists, 0 at padding; ``None`` if there are none.
    """

    ids_BF: Tensor
    labels_BT: Tensor | None = None
    dense_BN: Tensor | None = None
    scenario_B: Tensor | None = None
    group_B: Tensor | None = None
    values_BV: Tensor | None = None
    mask_BT: Tensor | None = None
    weight_B: Tensor | None = None
    list_ids_BK: Tensor | None = None
    list_weights_BW: Tensor | None = None

    def __len__(self) -> int:
        return int(self.ids_BF.shape[0])


@dataclass(slots=True)
class SequenceBatch(TensorBatch):
    """Batch of a sequence dataset: users, their histories, and the candidate items to score.

    Attributes:
        user_B: int64 user ids, 1 to U.
        history_BL: int64 item ids, oldest first, right-padded with 0 to the longest history of the batch.
        length_B: int64 lengths of the histories without padding, at least 1.
        candidates_BN: int64 item ids; column 0 is the positive. N is 1 (only the positive) in evaluation against the
            full catalogue.
        time_BL: int64 times of the history's interactions in seconds, 0 at padding; ``None`` without times.
        unit_B: int64 smallest positive gap between two interactions of the user in seconds (the unit of TiSASRec's
            relative times); ``None`` without times.
        row_B: int64 row number of the target in the interaction log; ``None`` in training.
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
