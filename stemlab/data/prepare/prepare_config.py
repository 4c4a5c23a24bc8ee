"""What is made of a dataset's raw columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any

from stemlab.data.prepare.negative_downsampling import DownsamplingRule
from stemlab.data.prepare.scaling import Scaling
from stemlab.data.prepare.split import SplitRule
from stemlab.errors import StemlabError, nearest


@dataclass(frozen=True, kw_only=True)
class NumericalColumn:
    """A column of numbers.

    Attributes:
        name: the column.
        part: group of numbers that a network may project together (``user``, ``item``).
        scaling: ``none``, ``standard`` (training mean 0, standard deviation 1) or ``minmax`` (training range [0, 1];
            later values may lie outside).
    """

    name: str
    part: str = ""
    scaling: Scaling = "none"


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """What is made of the raw columns.

    Attributes:
        name: dataset name.
        fields: categorical input columns in order.
        tasks: label columns in order.
        group: column whose values group rows for gAUC (it need not be a field), or ``None``.
        min_count: training rows that a token needs to get an id.
        split: how rows are shared out.
        time: column that a split along time or by dates goes by.
        numericals: numerical input columns in order.
        scenario: column of the scenarios' ids 0 to S-1, or ``None``.
        scenarios: names of the scenarios in id order.
        shared: field -> field whose vocabulary (and embedding table) it uses; that vocabulary is fitted on the training
            rows of all its columns together, and so are its counts.
        padding: field -> raw integer that stands for nothing there (an empty place of a history): it becomes id 0.
        split_column: column that the split ``given`` goes by.
        sampling: which rows are kept; ``None``: all.
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

    @property
    def columns(self) -> list[str]:
        """Raw integer columns that are needed, each once."""
        optional = [self.group, self.scenario, self._split_by(), self.sampling.label if self.sampling else None]
        return list(dict.fromkeys([*self.fields, *self.tasks, *(name for name in optional if name is not None)]))

    def _split_by(self) -> str | None:
        return {"time": self.time, "dates": self.time, "given": self.split_column}.get(self.split.rule)

    @property
    def tables(self) -> dict[str, list[str]]:
        """Field with a vocabulary of its own -> the columns of that vocabulary, itself first."""
        owners: dict[str, list[str]] = {name: [name] for name in self.fields if name not in self.shared}
        for name, owner in self.shared.items():
            owners[owner].append(name)
        return owners

    def settings(self) -> dict[str, Any]:
        """Return what determines the prepared dataset, as plain values.

        Settings that have a default came later than the others: they are left out while they have it, so that datasets
        prepared before are found again.
        """
        plain = {**asdict(self), "split": self.split.settings()}
        return {f.name: plain[f.name] for f in fields(self) if getattr(self, f.name) != _default(f)}

    def check(self) -> None:
        """Raise StemlabError or ValueError unless the parts fit together."""
        inputs = [*self.fields, *(number.name for number in self.numericals)]
        for name in inputs:
            if inputs.count(name) > 1:
                raise StemlabError(f"column {name!r} is named twice among fields and numericals: keep one of them.")
        for name, owner in self.shared.items():
            if name not in self.fields or owner not in self.fields or owner in self.shared:
                raise StemlabError(
                    f"{name!r} cannot share the vocabulary of {owner!r}: both must be fields, and {owner!r} must have "
                    f"a vocabulary of its own (fields: {', '.join(self.fields)})." + nearest(owner, self.fields)
                )
        if (self.scenario is None) != (not self.scenarios):
            raise ValueError("a recipe with scenarios needs their column, and the other way round")


def _default(one: Field[Any]) -> Any:
    return one.default_factory() if one.default_factory is not MISSING else one.default
