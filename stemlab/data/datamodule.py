"""The LightningDataModules' common part: prepare once, open memory-mapped splits, make loaders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import torch
from pytorch_lightning import LightningDataModule

from stemlab.data.batch import ImpressionBatch
from stemlab.data.loader import BatchLoader, SequentialOrder, ShuffledOrder, current_rank
from stemlab.data.prepare.split import SPLITS
from stemlab.data.prepared import PreparedDirectory
from stemlab.data.spec import DatasetSpec
from stemlab.data.store import ColumnStore
from stemlab.errors import StemlabError
from stemlab.types import NonNegativeInt, PositiveInt

Split = Literal["train", "valid", "test"]


class ImpressionDataModule(LightningDataModule, ABC):
    """Impressions from a prepared directory.

    A subclass says how the directory is made (``build``) and how raw rows become batches (``encode``). It keeps only
    plain values and saves nothing into checkpoints: the resolved config in a checkpoint rebuilds the datamodule.

    Args:
        name: dataset name as typed on the command line.
        batch_size: training rows a step on each process.
        eval_batch_size: most rows of an evaluation batch.
        seed: seed of the shuffling (with the epoch number); not part of the prepared dataset.
    """

    raw_columns: tuple[str, ...] = ()
    """Names of the columns of a raw file without a header; empty where raw rows are no such file."""
    separator: str | None = None
    """Between the cells of raw text files, where it is not the one that the file's ending tells."""

    def __init__(
        self,
        *,
        name: str,
        batch_size: PositiveInt = 4096,
        eval_batch_size: PositiveInt = 16384,
        seed: NonNegativeInt = 2023,
    ) -> None:
        super().__init__()
        for key, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if value < 1:
                raise StemlabError(f"dataset.{key} is {value}: give a positive number of rows.")
        self.name, self.batch_size, self.eval_batch_size, self.seed = name, batch_size, eval_batch_size, seed
        self.test_split: Split = "test"  # what the test loop reads; evaluation may point it at another split
        self._prepared = PreparedDirectory(name, self.build)
        self._stores: dict[str, ColumnStore] = {}

    @abstractmethod
    def build(self) -> Path:
        """Return the prepared directory: an existing one with the right fingerprint, or one made now.

        Called once a process; must be atomic and free of state, because processes may call it at the same time.
        """

    @abstractmethod
    def encode(self, table: pa.Table) -> ImpressionBatch:
        """Return raw rows as one batch; ids unseen in training become out-of-vocabulary."""

    def prepare(self) -> Path:
        """Make or find the prepared dataset, read its manifest and return its directory."""
        return self._prepared.prepare()

    def adopt(self, directory: Path) -> None:
        """Use a directory that was prepared before, without looking for raw files."""
        self._prepared.adopt(directory)

    @property
    def directory(self) -> Path:
        """The prepared directory; StemlabError before ``prepare()``."""
        return self._prepared.directory

    @property
    def manifest(self) -> dict[str, Any]:
        """Everything the prepared dataset says about itself (after ``prepare()``)."""
        return self._prepared.manifest

    @property
    def spec(self) -> DatasetSpec:
        """Fields, tasks and sizes (after ``prepare()``)."""
        return DatasetSpec.from_dict(self.manifest["spec"])

    def prepare_data(self) -> None:
        """Lightning's hook, on one process a machine."""
        self.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Open the splits; Lightning calls it on every process and again for every stage."""
        del stage
        if not self._stores:
            directory = self.prepare()
            self._stores = {split: ColumnStore(directory / f"{split}.arrow") for split in SPLITS}

    def store(self, split: Split) -> ColumnStore:
        """Return a split's columns.

        Raises:
            StemlabError: when the split has no rows.
        """
        self.setup()
        store = self._stores[split]
        if len(store) == 0:
            raise StemlabError(
                f"the {split} split of dataset {self.name!r} has no rows ({self.directory}): "
                "give more raw rows or other dataset.split sizes."
            )
        return store

    def train_dataloader(self) -> BatchLoader:
        """Return the shuffled training batches of this process."""
        store = self.store("train")
        order = ShuffledOrder(len(store), self.batch_size, self.seed, *current_rank())
        return BatchLoader(store, order, pin_memory=self._on_gpu())

    def val_dataloader(self) -> BatchLoader:
        """Return the validation batches dealt to this process."""
        return self._eval_loader("valid")

    def test_dataloader(self) -> BatchLoader:
        """Return the test batches dealt to this process."""
        return self._eval_loader(self.test_split)

    def _eval_loader(self, split: Split) -> BatchLoader:
        store = self.store(split)
        order = SequentialOrder(len(store), self.eval_batch_size, *current_rank())
        return BatchLoader(store, order, pin_memory=self._on_gpu())

    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def transfer_batch_to_device(
        self, batch: ImpressionBatch, device: torch.device, dataloader_idx: int
    ) -> ImpressionBatch:
        """Copy without waiting: batches are page-locked when the device is a GPU."""
        del dataloader_idx
        return batch.to(device, non_blocking=device.type == "cuda")
