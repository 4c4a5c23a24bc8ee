"""What a dataset is: its fields, tasks and sizes, as every other package sees them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from stemlab.errors import StemlabError, nearest


@dataclass(frozen=True, slots=True)
class Field:
    """One input column.

    Attributes:
        name: column name, unique in the dataset.
        size: rows of its embedding table: vocabulary + padding (id 0) + out-of-vocabulary (id ``size - 1``).
        kind: ``categorical`` ids or ``numerical`` values (a numerical field has ``size`` 0).
    """

    name: str
    size: int
    kind: Literal["categorical", "numerical"] = "categorical"


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """Names and sizes of a prepared dataset; read from its manifest.

    Attributes:
        name: dataset name as typed on the command line.
        fields: input columns in the order of ``ImpressionBatch.ids_BF``.
        tasks: label names in the order of ``ImpressionBatch.labels_BT``.
        group: field whose values group rows for gAUC, or ``None``.
        scenarios: scenario names in id order; empty for a single scenario.
        sample: whether the rows are synthetic (marked SAMPLE everywhere).
    """

    name: str
    fields: tuple[Field, ...]
    tasks: tuple[str, ...]
    group: str | None = None
    scenarios: tuple[str, ...] = ()
    sample: bool = False

    @property
    def field_sizes(self) -> dict[str, int]:
        """Categorical field name -> embedding rows, in column order."""
        return {f.name: f.size for f in self.fields if f.kind == "categorical"}

    def task_index(self, name: str) -> int:
        """Return the column of task ``name``; raise StemlabError with the nearest name if there is none."""
        if name not in self.tasks:
            raise StemlabError(
                f"dataset {self.name!r} has no task {name!r} (it has: {', '.join(self.tasks)})."
                + nearest(name, self.tasks)
            )
        return self.tasks.index(name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the manifest and for checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DatasetSpec:
        """Rebuild a spec from ``to_dict``."""
        rest = {k: v for k, v in values.items() if k != "fields"}
        for key in ("tasks", "scenarios"):
            rest[key] = tuple(rest.get(key, ()))
        return cls(fields=tuple(Field(**f) for f in values["fields"]), **rest)


@dataclass(frozen=True, slots=True)
class SequenceSizes:
    """What sequential nets are built from.

    Attributes:
        users: U; ids are 1 to U.
        items: I; ids are 1 to I, 0 is padding.
        history_max: H, the longest history of a batch.
    """

    users: int
    items: int
    history_max: int


@dataclass(frozen=True, slots=True)
class SequenceSpec:
    """Names and sizes of a prepared sequence dataset; read from its manifest.

    Attributes:
        name: dataset name as typed on the command line.
        users: U; ids are 1 to U.
        items: I; ids are 1 to I, 0 is padding.
        sample: whether the rows are synthetic (marked SAMPLE everywhere).
        kind: always ``sequence``; tells the two kinds of spec apart where they are stored.
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
    """Rebuild a spec from its ``to_dict``: a :class:`DatasetSpec` is the one without ``kind``."""
    return SequenceSpec.from_dict(values) if values.get("kind") == "sequence" else DatasetSpec.from_dict(values)
