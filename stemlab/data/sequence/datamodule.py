"""Base datamodule of sequence datasets: prepares once, opens the memory-mapped log, creates loaders."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from stemlab.array_types import AnyArray, Int32Array, Int64Array
from stemlab.data.batch import SequenceBatch
from stemlab.data.batch_order import SequentialOrder, ShuffledOrder, current_rank
from stemlab.data.blocks import BlockLoader
from stemlab.data.datamodule import Split
from stemlab.data.loader import OrderedLoader
from stemlab.data.placement import Placement, root_device
from stemlab.data.prepared import PreparedDataModule
from stemlab.data.resident import Residence
from stemlab.data.sequence.categories import ItemCategories
from stemlab.data.sequence.histories import read_histories
from stemlab.data.sequence.loader import SequenceLoader
from stemlab.data.sequence.log import Instances, InteractionLog
from stemlab.data.sequence.negatives import NegativeSampler
from stemlab.data.sequence.protocol import RankingProtocol
from stemlab.data.sequence.writer import read_item_categories, read_original_ids
from stemlab.data.spec import SequenceSizes, SequenceSpec
from stemlab.errors import StemlabError
from stemlab.types import NonNegativeInt, PositiveInt

_DEFAULT_PROTOCOL = RankingProtocol()
_TRAIN = 0


class SequenceDataModule(PreparedDataModule[SequenceBatch]):
    """Interaction sequences from a prepared directory.

    A subclass implements ``build`` (prepares the directory).
    Protocol: docs/methods/datasets.md#sequences.

    Args:
        name: dataset name as typed on the command line.
        batch_size: training instances per step and process.
        eval_batch_size: maximum number of instances per evaluation batch.
        seed: seed of the shuffling and of the training negatives (with the epoch number); not part of the prepared
            dataset.
        history_max: H, maximum history length; of a longer history the most recent H items are kept.
        num_negatives: negatives per training instance.
        train_negatives: items that are never drawn as training negatives of a user: the user's items in ``train`` (as
            in the released code, which may draw the valid and test items) or in ``all`` splits.
        times: whether batches contain times (``time_BL``, ``unit_B``).
        evaluation: protocol of the ranking evaluation.
        residence: where the columns are during a run on a GPU: in its memory (``device``), in main memory (``host``),
            or in GPU memory if they need at most ``DEVICE_SHARE`` of what is free (``auto``).

    Attributes:
        placement: where the columns are, and whether training steps come in blocks.
        test_split: split that the test loop reads.
        first_interactions: whether each user's first interaction, whose history is empty, is also a training instance;
            for models that read no history (BPRMF and LightGCN in the released code). Set it before making the loaders.
        with_categories: whether ``sizes`` contains the number of categories; for models that read categories.
    """

    def __init__(
        self,
        *,
        name: str,
        batch_size: PositiveInt = 256,
        eval_batch_size: PositiveInt = 256,
        seed: NonNegativeInt = 0,
        history_max: PositiveInt = 20,
        num_negatives: PositiveInt = 1,
        train_negatives: Literal["train", "all"] = "train",
        times: bool = True,
        evaluation: RankingProtocol = _DEFAULT_PROTOCOL,
        residence: Residence = "auto",
    ) -> None:
        super().__init__(name)
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.history_max, self.num_negatives, self.train_negatives = history_max, num_negatives, train_negatives
        self.times, self.evaluation = times, evaluation
        for key in ("batch_size", "eval_batch_size", "history_max", "num_negatives"):
            if getattr(self, key) < 1:
                raise StemlabError(f"dataset.{key} is {getattr(self, key)}: give a positive number.")
        self.test_split: Split = "test"  # stemlab.evaluate may set another split
        self.first_interactions = False
        self.with_categories = False
        self._opened: dict[tuple[Split, bool], Instances] = {}
        self.placement: Placement[SequenceBatch] = Placement(residence)

    @property
    def spec(self) -> SequenceSpec:
        """Dataset name, numbers of users and items (after ``prepare()``)."""
        return SequenceSpec.from_dict(self.manifest["spec"])

    @property
    def sizes(self) -> SequenceSizes:
        """Sizes that the constructors of networks take (after ``prepare()``)."""
        categories = self.item_categories if self.with_categories else None
        return SequenceSizes(self.spec.users, self.spec.items, self.history_max, categories.count if categories else 0)

    @cached_property
    def log(self) -> InteractionLog:
        """All interactions."""
        return InteractionLog(self.prepare())

    @cached_property
    def user_tokens(self) -> list[str]:
        """Original ids of users 1, 2, ..."""
        return read_original_ids(self.prepare(), "user")

    @cached_property
    def item_tokens(self) -> list[str]:
        """Original ids of items 1, 2, ..."""
        return read_original_ids(self.prepare(), "item")

    @cached_property
    def item_categories(self) -> ItemCategories | None:
        """Category of every item (after ``prepare()``), or ``None`` if the source has no categories.

        Read from the prepared directory or from a small raw file, depending on the source.
        """
        return self.read_categories()

    def read_categories(self) -> ItemCategories | None:
        """Return the categories of the prepared directory, if any; a subclass may read them from another file."""
        names = read_item_categories(self.prepare())
        if names is None:
            return None
        known = {token: name for token, name in zip(self.item_tokens, names, strict=True) if name is not None}
        return ItemCategories.of(known, self.item_tokens)

    def rows(self, split: Split) -> int:
        """Return the number of instances of a split."""
        if split == "train" and self.first_interactions:
            return len(self.training_pairs()[0])
        return int(self.manifest["rows"][split])

    def training_pairs(self) -> tuple[Int32Array, Int32Array]:
        """Return user and item ids of all training interactions, each user's first one included."""
        return self.log.pairs(_TRAIN)

    def seen_items(self, user_B: AnyArray) -> tuple[Int32Array, Int64Array]:
        """Return all items of the given users in any split (see :meth:`InteractionLog.items_of`)."""
        return self.log.items_of(user_B)

    def seen_columns(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return all items, and the first and the last + 1 position of each user in them, on a device."""
        upload = self.placement.uploads_to(device)
        return upload(self.log.item), upload(self.log.start), upload(self.log.stop)

    def whole_histories(self, user_B: AnyArray) -> SequenceBatch:
        """Return a batch for predicting the next item of users; histories are their last H interactions of any split.

        Args:
            user_B: (B,) ids of users with at least one interaction.

        Returns:
            A batch whose only candidate is padding (item 0), because there is no positive.
        """
        user_B = np.asarray(user_B, dtype=np.int64)
        start_B, stop_B = self.log.start[user_B], self.log.stop[user_B]
        history = read_histories(self.log, start_B, stop_B, self.history_max, self.times)
        return SequenceBatch(
            user_B=torch.from_numpy(user_B.copy()),
            history_BL=torch.from_numpy(history.item_BL),
            length_B=torch.from_numpy(history.length_B),
            candidates_BN=torch.zeros(len(user_B), 1, dtype=torch.int64),
            time_BL=None if history.time_BL is None else torch.from_numpy(history.time_BL),
            unit_B=torch.from_numpy(self.log.unit[user_B]) if self.times else None,
        )

    def setup(self, stage: str | None = None) -> None:
        """Open the log; Lightning calls this hook on every process and for every stage."""
        del stage
        _ = self.log

    def train_dataloader(self) -> OrderedLoader[SequenceBatch] | BlockLoader[SequenceBatch]:
        """Return the loader of this rank's shuffled training batches, or of blocks of them."""
        return self.placement.training(self.train_loader(), root_device(self), self.prepare)

    def val_dataloader(self) -> OrderedLoader[SequenceBatch]:
        """Return the loader of this rank's validation batches."""
        return self.placement.evaluation(self.eval_loader("valid"), root_device(self), self.prepare)

    def test_dataloader(self) -> OrderedLoader[SequenceBatch]:
        """Return the loader of this rank's test batches."""
        return self.placement.evaluation(self.eval_loader(self.test_split), root_device(self), self.prepare)

    def train_loader(self) -> SequenceLoader:
        """Return the loader of this rank's shuffled training batches from main memory."""
        instances = self._instances("train")
        order = ShuffledOrder(len(instances), self.batch_size, self.seed, *current_rank())
        sampler = NegativeSampler(
            self.log.user[instances.row],
            self.log.pairs(_TRAIN if self.train_negatives == "train" else None),
            items=self.spec.items,
            count=self.num_negatives,
            seed=self.seed,
        )
        return self._loader(instances, order, sampler)

    def eval_loader(self, split: Split) -> SequenceLoader:
        """Return the loader of this rank's evaluation batches from main memory.

        Raises:
            StemlabError: candidates are stored negatives and the prepared dataset has none.
        """
        instances = self._instances(split)
        order = SequentialOrder(len(instances), self.eval_batch_size, *current_rank())
        if self.evaluation.candidates == "full":
            return self._loader(instances, order, None)
        if instances.negatives is None:
            raise StemlabError(
                f"dataset {self.name!r} has no stored negatives for its {split} rows ({self.directory}): "
                "set dataset.evaluation.candidates=full, or a positive dataset.eval_negatives."
            )
        return self._loader(instances, order, instances.negatives)

    def _loader(
        self, instances: Instances, order: ShuffledOrder | SequentialOrder, negatives: NegativeSampler | Any
    ) -> SequenceLoader:
        gpu = root_device(self).type == "cuda"
        return SequenceLoader(
            self.log, instances, order, negatives, history_max=self.history_max, times=self.times, pin_memory=gpu
        )

    def _instances(self, split: Split) -> Instances:
        first = self.first_interactions and split == "train"
        if (split, first) not in self._opened:
            self._opened[split, first] = Instances(self.prepare(), split, first)
        instances = self._opened[split, first]
        if len(instances) == 0:
            raise StemlabError(
                f"the {split} split of dataset {self.name!r} has no instances ({self.directory}): "
                "users with a single interaction have none; add raw interactions."
            )
        return instances
