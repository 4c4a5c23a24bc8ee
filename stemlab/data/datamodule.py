"""Base datamodule of impression datasets: prepares once, opens memory-mapped splits, creates loaders."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa

from stemlab.array_types import BoolArray
from stemlab.data.batch import ImpressionBatch
from stemlab.data.batch_order import BatchOrder, SequentialOrder, ShuffledOrder, current_rank
from stemlab.data.blocks import BlockLoader
from stemlab.data.cell_rules import CellRules
from stemlab.data.loader import BatchLoader, OrderedLoader
from stemlab.data.placement import Placement, column_bytes, root_device
from stemlab.data.prepare.encode_table import TableEncoder
from stemlab.data.prepare.split import SPLITS
from stemlab.data.prepared import PreparedDataModule
from stemlab.data.reading import Reading, ReadingChoice
from stemlab.data.resident import Residence
from stemlab.data.spec import DatasetSpec
from stemlab.data.store import ColumnStore
from stemlab.data.window_loader import WindowLoader
from stemlab.data.window_order import WINDOW_ROWS, WindowedOrder
from stemlab.errors import StemlabError
from stemlab.types import NonNegativeInt, PositiveInt

Split = Literal["train", "valid", "test"]


class ImpressionDataModule(PreparedDataModule[ImpressionBatch]):
    """LightningDataModule of impressions from a prepared directory.

    A subclass implements ``build`` (prepares the directory) and ``encode`` (raw rows to a batch).

    Args:
        name: dataset name as typed on the command line.
        batch_size: training samples per step on each process.
        eval_batch_size: largest number of samples of an evaluation batch.
        seed: seed of the shuffling, combined with the epoch number; not part of the prepared dataset.
        residence: where the columns are during a run on a GPU: in its memory (``device``), in main memory (``host``),
            or in GPU memory if they need at most ``DEVICE_SHARE`` of what is free (``auto``).
        reading: how columns in main memory are read: memory-mapped (``memory``), in blocks (``blocks``), or in blocks
            if they need more than ``MEMORY_SHARE`` of the memory (``auto``). ``blocks`` keeps them out of GPU memory.
        window_rows: rows from which ``reading=blocks`` draws batches; two such windows are in memory.

    Attributes:
        reading: how columns in main memory are read.
        placement: where the columns are, and whether training steps come in blocks.
    """

    raw_columns: tuple[str, ...] = ()
    """Column names of a raw file without a header; empty if the dataset has no such file."""
    separator: str | None = None
    """Separator of raw text files, or ``None`` if it follows from the file extension."""
    cells: CellRules | None = None
    """How ``encode`` reads cells, or ``None`` if no rules describe it."""

    def __init__(
        self,
        *,
        name: str,
        batch_size: PositiveInt = 4096,
        eval_batch_size: PositiveInt = 16384,
        seed: NonNegativeInt = 2023,
        residence: Residence = "auto",
        reading: Reading = "auto",
        window_rows: PositiveInt = WINDOW_ROWS,
    ) -> None:
        super().__init__(name)
        for key, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if value < 1:
                raise StemlabError(f"dataset.{key} is {value}: give a positive number.")
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.test_split: Split = "test"  # split of the test loop; evaluation may choose another one
        self.placement: Placement[ImpressionBatch] = Placement(_residence(residence, reading))
        self.reading = ReadingChoice(reading, window_rows)
        self._stores: dict[str, ColumnStore] = {}

    @abstractmethod
    def encode(self, table: pa.Table) -> ImpressionBatch:
        """Return raw rows as one batch; tokens not seen in training get the out-of-vocabulary id."""

    def cell_rules(self) -> CellRules | None:
        """Return how ``encode`` reads cells, for encoders outside of stemlab."""
        return self.cells

    def bad_lists(self, table: Any) -> Iterator[tuple[tuple[str, ...], BoolArray]]:
        """Yield the columns of each list field of raw rows with the mask of rows that ``encode`` cannot read."""
        del table
        yield from ()

    def bad_sources(self, table: Any) -> Iterator[tuple[str, BoolArray, str]]:
        """Yield column, mask and problem of cells of raw rows from which ``encode`` cannot compute an input."""
        del table
        yield from ()

    @cached_property
    def table_encoder(self) -> TableEncoder:
        """Encoder of raw tables with the vocabularies, scalers and scenarios of the prepared dataset."""
        return TableEncoder(self.prepare(), self.spec)

    @property
    def spec(self) -> DatasetSpec:
        """Fields, tasks and sizes (after ``prepare()``)."""
        return DatasetSpec.from_dict(self.manifest["spec"])

    def setup(self, stage: str | None = None) -> None:
        """Open the splits; Lightning calls this hook on every process and for every stage."""
        del stage
        if not self._stores:
            directory = self.prepare()
            self._stores = {split: ColumnStore(directory / f"{split}.arrow") for split in SPLITS}

    def store(self, split: Split) -> ColumnStore:
        """Return the columns of a split.

        Raises:
            StemlabError: the split has no samples.
        """
        self.setup()
        store = self._stores[split]
        if len(store) == 0:
            raise StemlabError(
                f"the {split} split of dataset {self.name!r} has no samples ({self.directory}): "
                "give more raw rows or other dataset.split sizes."
            )
        return store

    def train_loader(self) -> BatchLoader:
        """Return the loader of this rank's shuffled training batches from main memory."""
        store = self.store("train")
        return self._loader(store, ShuffledOrder(len(store), self.batch_size, self.seed, *current_rank()))

    def eval_loader(self, split: Split) -> BatchLoader:
        """Return the loader of this rank's evaluation batches from main memory."""
        store = self.store(split)
        return self._loader(store, SequentialOrder(len(store), self.eval_batch_size, *current_rank()))

    def _loader(self, store: ColumnStore, order: BatchOrder) -> BatchLoader:
        return BatchLoader(store, order, pin_memory=root_device(self).type == "cuda")

    def train_dataloader(self) -> OrderedLoader[ImpressionBatch] | BlockLoader[ImpressionBatch]:
        """Return the loader of this rank's shuffled training batches, or of blocks of them."""
        loader = self._window_train_loader() if self._reads_blocks() else self.train_loader()
        return self.placement.training(loader, root_device(self), self.prepare)

    def val_dataloader(self) -> OrderedLoader[ImpressionBatch]:
        """Return the loader of this rank's validation batches."""
        return self._eval_dataloader("valid")

    def test_dataloader(self) -> OrderedLoader[ImpressionBatch]:
        """Return the loader of this rank's test batches."""
        return self._eval_dataloader(self.test_split)

    def _eval_dataloader(self, split: Split) -> OrderedLoader[ImpressionBatch]:
        loader = self.eval_loader(split)
        if self._reads_blocks():
            loader = WindowLoader(self.store(split), loader.order, loader.pin_memory)
        return self.placement.evaluation(loader, root_device(self), self.prepare)

    def _window_train_loader(self) -> WindowLoader:
        store, (rank, size) = self.store("train"), current_rank()
        order = WindowedOrder(len(store), self.batch_size, self.seed, rank, size, self.reading.window_rows)
        return WindowLoader(store, order, pin_memory=root_device(self).type == "cuda")

    def _reads_blocks(self) -> bool:
        """Return whether the columns are read in blocks; those in GPU memory are not."""
        on_gpu = self.placement.on_gpu(root_device(self), self.prepare)
        return self.reading.choose(lambda: 0 if on_gpu else column_bytes(self.prepare())) == "blocks"


def _residence(residence: Residence, reading: Reading) -> Residence:
    return "host" if reading == "blocks" and residence == "auto" else residence
