"""Specification of a dataset: fields, tasks and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from stemlab.errors import StemlabError, nearest
from stemlab.types import LabelKind

Pooling = Literal["mean", "sum", "attention", "din", "din_plus", "tin"]


@dataclass(frozen=True, slots=True)
class ValueList:
    """How a field that holds a list of values per sample is stored and pooled to one vector.

    Attributes:
        max_length: L, ids that are stored per sample.
        pooling: how the vectors of the values become one (``stemlab.nn.pooling``).
        weighted: whether each value has a weight.
        times: whether each value has an age in seconds, relative to the newest value of the list.
        target: field whose vector attends to the values (``din``, ``din_plus``, ``tin``), or ``None``.
        part_of: sequence to whose values those of this field belong (the categories of its items), or ``None``. Both
            are attended with the same weights, as one vector each.
        attention_units: hidden widths of the attention MLP of ``din`` and ``din_plus``.
    """

    max_length: int
    pooling: Pooling = "mean"
    weighted: bool = False
    times: bool = False
    target: str | None = None
    part_of: str | None = None
    attention_units: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Field:
    """Input column.

    Attributes:
        name: column name, unique in the dataset.
        size: rows of its embedding table: vocabulary + padding (id 0) + out-of-vocabulary (id ``size - 1``).
        kind: ``categorical`` ids, ``numerical`` values (a numerical field has ``size`` 0), or a ``list`` of ids.
        part: group of a numerical field that a network may project together (``user``, ``item``).
        table: categorical field whose vocabulary and embedding table it shares (a history item shares those of
            ``item_id``), or ``None`` if it has its own.
        values: how a list is stored and pooled; ``None`` for the other kinds.
    """

    name: str
    size: int
    kind: Literal["categorical", "numerical", "list"] = "categorical"
    part: str = ""
    table: str | None = None
    values: ValueList | None = None

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Field:
        """Rebuild a field from the entry of a manifest."""
        values = stored.get("values")
        if values is None:
            return cls(**stored)
        listed = ValueList(**{**values, "attention_units": tuple(values["attention_units"])})
        return cls(**{**stored, "values": listed})


@dataclass(frozen=True, slots=True)
class ImpressionSizes:
    """Sizes from which a network for impressions is built.

    Attributes:
        fields: categorical field -> number of rows of its embedding table, in the order of ``ImpressionBatch.ids_BF``.
        numericals: numerical field -> its part, in the order of ``ImpressionBatch.dense_BN``.
        scenarios: scenario names in id order; empty for a single scenario (``scenario_B`` is ``None``).
        tables: field -> field whose embedding table it shares; only fields that share one.
        scenario_feature: whether the scenario is an additional categorical field.
        lists: fields that hold lists of values, in the order of ``ImpressionBatch.list_ids_BK``.
    """

    fields: Mapping[str, int]
    numericals: Mapping[str, str] = field(default_factory=dict)
    scenarios: tuple[str, ...] = ()
    tables: Mapping[str, str] = field(default_factory=dict)
    scenario_feature: bool = False
    lists: tuple[Field, ...] = ()

    @classmethod
    def of(cls, sizes: Mapping[str, int] | ImpressionSizes) -> ImpressionSizes:
        """Return ``sizes`` as ImpressionSizes; a plain mapping gives the sizes of categorical fields only."""
        return sizes if isinstance(sizes, ImpressionSizes) else cls(dict(sizes))


@dataclass(frozen=True, slots=True)
class Label:
    """Kind of a task's label.

    Attributes:
        name: the task.
        kind: ``binary`` (0 or 1) or ``regression`` (a real number).
        given: column of 0 and 1: samples without a 1 there are left out of the loss and the metrics of the task;
            ``None``: all samples count.
    """

    name: str
    kind: LabelKind = "binary"
    given: str | None = None


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """Names and sizes of a prepared dataset; read from its manifest.

    Attributes:
        name: dataset name as typed on the command line.
        fields: input columns; those of each kind are in the order of their part of ``ImpressionBatch``.
        tasks: label names in the order of ``ImpressionBatch.labels_BT``.
        group: column whose values group samples for gAUC, or ``None``.
        scenarios: scenario names in id order; empty for a single scenario.
        sample: whether the rows are synthetic (marked SAMPLE everywhere).
        labels: tasks whose labels are not binary labels of all samples, in the order of ``tasks``.
        weight: column of the sample weights, or ``None`` if all samples have the weight 1.
    """

    name: str
    fields: tuple[Field, ...]
    tasks: tuple[str, ...]
    group: str | None = None
    scenarios: tuple[str, ...] = ()
    sample: bool = False
    labels: tuple[Label, ...] = ()
    weight: str | None = None

    @property
    def regression_tasks(self) -> tuple[str, ...]:
        """Tasks with regression labels, in the order of ``ImpressionBatch.values_BV``."""
        return tuple(label.name for label in self.labels if label.kind == "regression")

    @property
    def conditional_tasks(self) -> dict[str, str]:
        """Task with a conditional label -> the column on which it depends."""
        return {label.name: label.given for label in self.labels if label.given is not None}

    @property
    def field_sizes(self) -> dict[str, int]:
        """Categorical field -> number of rows of its embedding table, in column order."""
        return {f.name: f.size for f in self.fields if f.kind == "categorical"}

    @property
    def numericals(self) -> tuple[Field, ...]:
        """Numerical fields, in the order of ``ImpressionBatch.dense_BN``."""
        return tuple(f for f in self.fields if f.kind == "numerical")

    @property
    def lists(self) -> tuple[Field, ...]:
        """Fields that hold lists of values, in the order of ``ImpressionBatch.list_ids_BK``."""
        return tuple(f for f in self.fields if f.kind == "list")

    @property
    def sizes(self) -> ImpressionSizes:
        """Sizes from which a network is built."""
        return ImpressionSizes(
            fields=self.field_sizes,
            numericals={f.name: f.part for f in self.numericals},
            scenarios=self.scenarios,
            tables={f.name: f.table for f in self.fields if f.table is not None},
            lists=self.lists,
        )

    def task_index(self, name: str) -> int:
        """Return the column index of task ``name``; raise StemlabError if there is no such task."""
        if name not in self.tasks:
            raise StemlabError(
                f"dataset {self.name!r} has no task {name!r} (it has: {', '.join(self.tasks)})."
                + nearest(name, self.tasks)
            )
        return self.tasks.index(name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the manifest and for checkpoints; without ``labels`` and ``weight`` if not used."""
        plain = asdict(self)
        for entry in plain["fields"]:
            if entry["values"] is None:
                del entry["values"]
        return {key: value for key, value in plain.items() if value or key not in ("labels", "weight")}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DatasetSpec:
        """Rebuild a spec from ``to_dict``."""
        rest = {k: v for k, v in values.items() if k != "fields"}
        rest["labels"] = tuple(Label(**label) for label in rest.get("labels", ()))
        for key in ("tasks", "scenarios"):
            rest[key] = tuple(rest[key])
        return cls(fields=tuple(Field.from_dict(f) for f in values["fields"]), **rest)


@dataclass(frozen=True, slots=True)
class SequenceSizes:
    """Sizes from which a sequential network is built.

    Attributes:
        users: number of users U; ids are 1 to U.
        items: number of items I; ids are 1 to I, 0 is padding.
        history_max: largest history length of a batch.
        categories: number of item categories C, for networks that read them; ids are 1 to C, 0 is no category.
    """

    users: int
    items: int
    history_max: int
    categories: int = 0


@dataclass(frozen=True, slots=True)
class SequenceSpec:
    """Names and sizes of a prepared sequence dataset; read from its manifest.

    Attributes:
        name: dataset name as typed on the command line.
        users: number of users U; ids are 1 to U.
        items: number of items I; ids are 1 to I, 0 is padding.
        sample: whether the rows are synthetic (marked SAMPLE everywhere).
        kind: always ``sequence``; distinguishes the two kinds of stored specs.
    """

    name: str
    users: int
    items: int
    sample: bool = False
    kind: Literal["sequence"] = "sequence"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the manifest and for checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SequenceSpec:
        """Rebuild a spec from ``to_dict``."""
        return cls(**values)


def spec_from_dict(values: dict[str, Any]) -> DatasetSpec | SequenceSpec:
    """Rebuild a spec of either kind from its ``to_dict``."""
    return SequenceSpec.from_dict(values) if values.get("kind") == "sequence" else DatasetSpec.from_dict(values)
