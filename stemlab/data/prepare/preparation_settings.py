"""How the raw columns of a dataset are prepared: inputs, labels, split, vocabularies, downsampling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from stemlab.data.list_layout import values_of
from stemlab.data.prepare.negative_downsampling import DownsamplingRule
from stemlab.data.prepare.scaling import Scaling
from stemlab.data.prepare.split import SplitRule
from stemlab.data.spec import Field, Label
from stemlab.data.target_columns import mask_of
from stemlab.errors import StemlabError, nearest


@dataclass(frozen=True, kw_only=True)
class NumericalColumn:
    """A float input column.

    Attributes:
        name: the column.
        part: group of numerical fields that a network may project together (``user``, ``item``).
        scaling: ``none``, ``standard`` (training mean 0, standard deviation 1) or ``minmax`` (training range [0, 1];
            values of other splits may lie outside).
    """

    name: str
    part: str = ""
    scaling: Scaling = "none"


LIST_PADDING = 0
"""Raw integer at the positions behind the last value of a list."""


def ages_of(name: str) -> str:
    """Return the name of the column with the ages of a list's values."""
    return f"{name} as ages"


def weights_of(name: str) -> str:
    """Return the name of the column with the weights of a list's values."""
    return f"{name} as weights"


@dataclass(frozen=True, kw_only=True)
class PreparationSettings:
    """Settings that turn raw columns into a prepared dataset.

    Attributes:
        name: dataset name.
        fields: categorical input columns in order.
        tasks: label columns in order.
        group: column whose values group samples for gAUC (it need not be a field), or ``None``.
        min_count: least number of training rows of a token that gets an id of its own.
        split: rule that assigns rows to splits.
        time: column that the rules ``time`` and ``dates`` read.
        numericals: numerical input columns in order.
        scenario: column of scenario ids 0 to S-1, or ``None``.
        scenarios: names of the scenarios in id order.
        shared: field -> field whose vocabulary (and embedding table) it uses; that vocabulary is fitted on the training
            rows of all its columns together.
        padding: field -> raw integer that encodes padding (an empty position of a history); it becomes id 0.
        split_column: column that the rule ``given`` reads.
        sampling: negative downsampling; ``None`` keeps all rows.
        labels: tasks whose labels are not binary labels of all rows, in the order of ``tasks``. A regression label is a
            float column; the mask of a conditional label is an integer column (``target_columns.mask_of``).
        weight: float column of sample weights, or ``None``.
        lists: fields that hold lists of values, in order; their sizes are not read. The reader yields the values of a
            list as (R, L) int64, right-padded with ``LIST_PADDING``, and ages and weights under ``ages_of`` (int64
            seconds) and ``weights_of`` (float32), right-padded with 0.
        quantiles: field -> number of its quantile buckets; the reader yields ``quantile_buckets.ordered_keys``.
    """

    name: str
    fields: tuple[str, ...]
    tasks: tuple[str, ...]
    group: str | None
    min_count: int
    split: SplitRule
    time: str
    numericals: tuple[NumericalColumn, ...] = ()
    scenario: str | None = None
    scenarios: tuple[str, ...] = ()
    shared: Mapping[str, str] = field(default_factory=dict)
    padding: Mapping[str, int] = field(default_factory=dict)
    split_column: str = "split"
    sampling: DownsamplingRule | None = None
    labels: tuple[Label, ...] = ()
    weight: str | None = None
    lists: tuple[Field, ...] = ()
    quantiles: Mapping[str, int] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """Names of the raw integer columns that are read, without repetition."""
        optional = [self.group, self.scenario, self._split_by(), self.sampling.label if self.sampling else None]
        masks = [mask_of(label.name) for label in self.labels if label.given is not None]
        lists = [column.name for column in self.lists]
        ages = [ages_of(column.name) for column in self.lists if values_of(column).times]
        names = [*self.fields, *self.binary_tasks, *masks, *(name for name in optional if name is not None)]
        return list(dict.fromkeys([*names, *lists, *ages]))

    @property
    def widths(self) -> dict[str, int]:
        """Raw column with several values per row -> number of values."""
        lengths = {column.name: values_of(column).max_length for column in self.lists}
        return {named(name): L for name, L in lengths.items() for named in (str, ages_of, weights_of)}

    def padding_of(self, name: str) -> int | None:
        """Return the raw integer that encodes padding in a column, if there is one."""
        return LIST_PADDING if name in self.widths else self.padding.get(name)

    @property
    def float_columns(self) -> list[str]:
        """Names of the raw float columns that are read."""
        weights = [] if self.weight is None else [self.weight]
        of_lists = [weights_of(column.name) for column in self.lists if values_of(column).weighted]
        return [*(column.name for column in self.numericals), *self.regression_tasks, *weights, *of_lists]

    @property
    def regression_tasks(self) -> list[str]:
        """Tasks with regression labels."""
        return [label.name for label in self.labels if label.kind == "regression"]

    @property
    def binary_tasks(self) -> list[str]:
        """Tasks with binary labels."""
        return [name for name in self.tasks if name not in self.regression_tasks]

    def _split_by(self) -> str | None:
        return {"time": self.time, "dates": self.time, "given": self.split_column}.get(self.split.rule)

    @property
    def vocabulary_columns(self) -> dict[str, list[str]]:
        """Field with its own vocabulary -> all columns encoded with that vocabulary, the field first."""
        owners: dict[str, list[str]] = {name: [name] for name in self.fields if name not in self.shared}
        for name, owner in self.shared.items():
            owners[owner].append(name)
        for column in self.lists:
            owners.setdefault(column.table or column.name, []).append(column.name)
        return owners

    def settings(self) -> dict[str, Any]:
        """Return all settings as plain values, for the fingerprint; without those of later versions if not used."""
        optional = ("labels", "weight", "lists", "quantiles")
        return {key: value for key, value in asdict(self).items() if value or key not in optional}

    def check(self) -> None:
        """Check that the settings are consistent.

        Raises:
            StemlabError: a column is named twice, or a field shares the vocabulary of a column that has none.
            ValueError: only one of ``scenario`` and ``scenarios`` is given.
        """
        inputs = [*self.fields, *(column.name for column in self.numericals), *(column.name for column in self.lists)]
        for name in (self.name, *inputs):
            if not name or name.startswith(".") or any(letter in name for letter in "/\\\0"):
                raise StemlabError(f"{name!r} cannot be the name of a dataset or field: files are named after it.")
        for name in inputs:
            if inputs.count(name) > 1:
                raise StemlabError(f"column {name!r} is named twice among fields and numericals: keep one of them.")
        for name, owner in self.shared.items():
            if name not in self.fields or owner not in self.fields or owner in self.shared:
                raise StemlabError(
                    f"{name!r} cannot share the vocabulary of {owner!r}: both must be fields, and {owner!r} must have "
                    f"a vocabulary of its own (fields: {', '.join(self.fields)})." + nearest(owner, self.fields)
                )
        for column in self.lists:
            if column.table is not None and (column.table not in self.fields or column.table in self.shared):
                raise StemlabError(
                    f"{column.name!r} cannot share the vocabulary of {column.table!r}: that must be a field with a "
                    f"vocabulary of its own ({', '.join(self.fields)})." + nearest(column.table, self.fields)
                )
        if (self.scenario is None) != (not self.scenarios):
            raise ValueError("give both the scenario column and the names of the scenarios, or neither")
