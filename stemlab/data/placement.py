"""Loaders for the device of a trainer: batches from main memory or from GPU memory, or blocks of training steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic

import torch
from pytorch_lightning import LightningDataModule

from stemlab.data.blocks import BlockLoader
from stemlab.data.loader import Batch, OrderedLoader
from stemlab.data.resident import Columns, FixedResidence, Residence, RowSelection, Uploads, choose_residence


def root_device(datamodule: LightningDataModule) -> torch.device:
    """Return the device of the trainer of a datamodule; the CPU without a trainer."""
    trainer = datamodule.trainer
    return torch.device("cpu") if trainer is None else trainer.strategy.root_device


class ResidentLoader(OrderedLoader[Batch]):
    """Loader of the batches of another loader, gathered from columns on a device.

    Args:
        loader: gives the order and the columns.
        uploads: copies of the columns.
    """

    def __init__(self, loader: OrderedLoader[Batch], uploads: Uploads) -> None:
        super().__init__(loader.order)
        self.loader, self._uploads = loader, uploads
        self._columns: Columns[Batch] | None = None

    def take(self, rows: RowSelection) -> Batch:
        """Return a batch of the given rows, on the device."""
        if self._columns is None:
            self._columns = self.loader.resident(self._uploads)
        self.loader.refresh(self._columns)
        return self.loader.take_resident(self._columns, rows)

    def resident(self, uploads: Uploads) -> Columns[Batch]:
        """Return the columns of the split on a device."""
        return self.loader.resident(uploads)


class Placement(Generic[Batch]):
    """Where the columns of a datamodule are, and whether training steps come in blocks.

    Args:
        wanted: the setting ``dataset.residence``.

    Attributes:
        residence: where the columns of the last loader are; ``None`` before, and for batches on the CPU.
    """

    def __init__(self, wanted: Residence) -> None:
        self.wanted = wanted
        self.residence: FixedResidence | None = None
        self._steps_per_block = 0
        self._limit: int | None = None
        self._uploads: Uploads | None = None

    def use_blocks(self, steps_per_block: int, limit: int | None = None) -> None:
        """Give blocks of training steps from now on (:class:`BlockLoader`).

        Args:
            steps_per_block: maximum number of steps of a block; 0: batches again.
            limit: maximum number of steps per epoch; ``None``: all.
        """
        self._steps_per_block, self._limit = steps_per_block, limit

    def training(
        self, loader: OrderedLoader[Batch], device: torch.device, directory: Callable[[], Path]
    ) -> OrderedLoader[Batch] | BlockLoader[Batch]:
        """Return the loader of training batches or blocks for a device.

        Args:
            loader: loader from main memory.
            device: device of the trainer.
            directory: returns the prepared directory; its size decides whether the columns fit.
        """
        if not self._steps_per_block:
            return self.evaluation(loader, device, directory)
        residence = self._choose(device, directory)
        return BlockLoader(loader, self._steps_per_block, device, residence, self._limit, self.uploads_to(device))

    def evaluation(
        self, loader: OrderedLoader[Batch], device: torch.device, directory: Callable[[], Path]
    ) -> OrderedLoader[Batch]:
        """Return the loader of batches for a device; arguments as for ``training``."""
        if device.type == "cpu" or self._choose(device, directory) == "host":
            return loader
        return ResidentLoader(loader, self.uploads_to(device))

    def on_gpu(self, device: torch.device, directory: Callable[[], Path]) -> bool:
        """Return whether the columns of a training on a device are in GPU memory; arguments as for ``training``."""
        return device.type == "cuda" and self._choose(device, directory) == "device"

    def _choose(self, device: torch.device, directory: Callable[[], Path]) -> FixedResidence:
        if self.residence is None:
            self.residence = choose_residence(self.wanted, lambda: column_bytes(directory()), device)
        return self.residence

    def uploads_to(self, device: torch.device) -> Uploads:
        """Return the copies of columns on a device."""
        if self._uploads is None or self._uploads.device != device:
            self._uploads = Uploads(device)
        return self._uploads


def column_bytes(directory: Path) -> int:
    """Return the size of the columns of all splits, which are stored as in memory."""
    return sum(file.stat().st_size for file in directory.glob("*.arrow"))
