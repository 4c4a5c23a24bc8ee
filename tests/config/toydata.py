"""A dataset class with settings of several types, to test validation without data."""

from dataclasses import dataclass
from typing import Literal

from stemlab.types import Fraction, PositiveInt


@dataclass
class Split:
    rule: Literal["random", "time"]
    test_size: Fraction
    valid_size: Fraction


class ToyLoaders:
    """Methods that a datamodule must have; no test calls them."""

    prepare = train_dataloader = val_dataloader = test_dataloader = None


class ToyDataModule(ToyLoaders):
    def __init__(self, *, name: str, tasks: list[str], fields: list[str], min_count: PositiveInt, split: Split) -> None:
        self.name, self.tasks, self.fields, self.min_count, self.split = name, tasks, fields, min_count, split


class NamedDataModule(ToyLoaders):
    def __init__(self, *, name: str) -> None:
        self.name = name
