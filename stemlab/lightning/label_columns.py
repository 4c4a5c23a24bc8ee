"""Labels and weights of the trained tasks of a batch.

Legend: B samples, T trained tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import DatasetSpec
from stemlab.errors import StemlabError
from stemlab.types import LabelKind


class LabelColumns:
    """Select the columns of the trained tasks; nothing in it waits for a GPU.

    Args:
        spec: the dataset.
        tasks: trained tasks.

    Attributes:
        regression: trained tasks with regression labels.
        conditional: trained task with a conditional label -> the column on which it depends.
        weighted: whether samples have weights.
        kinds: task -> kind of its label; binary if absent.
        headlines: metrics shown during training.
    """

    def __init__(self, spec: DatasetSpec, tasks: Sequence[str]) -> None:
        values = spec.regression_tasks
        self.regression = tuple(task for task in tasks if task in values)
        self.conditional = {task: given for task, given in spec.conditional_tasks.items() if task in tasks}
        self.weighted = spec.weight is not None
        self.kinds: dict[str, LabelKind] = {label.name: label.kind for label in spec.labels}
        binary = any(task not in values for task in tasks)
        self.headlines = ("auc",) * binary + ("rmse",) * bool(self.regression)
        self._columns = [spec.task_index(task) for task in tasks]
        self._values = [values.index(task) if task in values else None for task in tasks]

    @property
    def plain(self) -> bool:
        """Whether all trained tasks have binary labels of all samples, without weights."""
        return not (self.regression or self.conditional or self.weighted)

    def labels(self, batch: ImpressionBatch) -> Tensor:
        """Return the labels, (B, T): int8 if all are binary, else float32.

        Raises:
            StemlabError: the batch has no labels.
        """
        if batch.labels_BT is None:
            raise StemlabError("the samples have no labels: score them with stemlab.predict.")
        if not self.regression:
            return self._chosen(batch.labels_BT)
        assert batch.values_BV is not None
        columns = zip(self._columns, self._values, strict=True)
        return torch.stack(
            [batch.labels_BT[:, c].float() if v is None else batch.values_BV[:, v] for c, v in columns], dim=1
        )

    def mask(self, batch: ImpressionBatch) -> Tensor | None:
        """Return 1 where a label counts, (B, T) int8; ``None`` if all count."""
        if not self.conditional:
            return None
        assert batch.mask_BT is not None
        return self._chosen(batch.mask_BT)

    def weights(self, batch: ImpressionBatch) -> Tensor | None:
        """Return the product of mask and sample weight, (B, T) or (B, 1) float32; ``None`` if all are 1."""
        mask_BT, weight_B = self.mask(batch), batch.weight_B if self.weighted else None
        if weight_B is None:
            return None if mask_BT is None else mask_BT.float()
        return weight_B[:, None] if mask_BT is None else weight_B[:, None] * mask_BT

    def _chosen(self, column_BT: Tensor) -> Tensor:
        if self._columns == list(range(column_BT.shape[1])):
            return column_BT
        # an index list would be copied to the GPU at every step
        return torch.stack([column_BT[:, column] for column in self._columns], dim=1)
