"""A datamodule with random samples in memory, for tests of the module."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stemlab.data.batch import ImpressionBatch
from stemlab.data.datamodule import ImpressionDataModule, Split
from stemlab.data.spec import DatasetSpec, Field

SPEC = DatasetSpec("toy", (Field("user", 7), Field("item", 11)), ("finish", "like"), group="user", sample=True)


class Rows:
    """``n`` samples with labels that depend on the user."""

    dense = None
    scenario = None

    def __init__(self, n: int, seed: int, positive: float = 0.5) -> None:
        rng = np.random.default_rng(seed)
        self.ids = np.stack([rng.integers(1, size, n) for size in SPEC.field_sizes.values()], axis=1).astype(np.int32)
        score = rng.random((n, 2)) + 0.1 * (self.ids[:, :1] % 2)
        self.labels = (
            (score > np.quantile(score, 1 - positive, axis=0)).astype(np.int8)
            if positive
            else np.zeros((n, 2), np.int8)
        )
        self.group = self.ids[:, 0].astype(np.int64) * 1000

    def __len__(self) -> int:
        return len(self.ids)


class Toy(ImpressionDataModule):
    """Datamodule of the samples."""

    def __init__(self, batch_size: int = 16, valid_positive: float = 0.5) -> None:
        super().__init__(name="toy", batch_size=batch_size, eval_batch_size=32, seed=0)
        self.rows = {"train": Rows(96, 0), "valid": Rows(51, 1, valid_positive), "test": Rows(51, 2)}

    def prepare(self) -> Path:
        return Path()

    def build(self) -> Path:
        return Path()

    def encode(self, table: pa.Table) -> ImpressionBatch:
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        pass

    def store(self, split: Split) -> Any:
        return self.rows[split]
