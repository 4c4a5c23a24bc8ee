"""Which column of a user's table is what, and whether that can be: no task is an input, every name is a column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stemlab.errors import StemlabError, nearest

MOST_SCENARIOS = 100
_SHOWN = 30


@dataclass(frozen=True, kw_only=True)
class ColumnRoles:
    """The roles of a table's columns.

    Attributes:
        fields: categorical inputs.
        numericals: numerical inputs.
        tasks: labels.
        scenario: the surface on which a row was shown.
        scenarios: the values of that column, in the order of their ids.
        group: what rows are grouped by for gAUC.
        time: what rows are ordered by.
        split: train, valid or test.
        shared: field -> field whose vocabulary it shares.
        missing: cells of a text file that stand for a missing value.
    """

    fields: tuple[str, ...]
    numericals: tuple[str, ...]
    tasks: tuple[str, ...]
    scenario: str | None
    scenarios: tuple[str, ...]
    group: str | None
    time: str | None
    split: str | None
    shared: Mapping[str, str]
    missing: tuple[str, ...]

    @property
    def needed(self) -> list[str]:
        """Columns that are read, each once."""
        return list(dict.fromkeys(name for _, name in self.named()))

    @property
    def tokens(self) -> list[str]:
        """Columns that are read as categories."""
        grouped = [] if self.group is None else [self.group]
        return list(dict.fromkeys([*self.fields, *grouped]))

    def named(self) -> Iterator[tuple[str, str]]:
        """Yield (setting, column) of everything that is named."""
        for setting in ("fields", "numericals", "tasks"):
            yield from ((f"dataset.{setting}", name) for name in getattr(self, setting))
        for setting in ("scenario", "group", "time", "split"):
            name = getattr(self, setting)
            if name is not None:
                yield f"dataset.{'split_column' if setting == 'split' else setting}", name

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for the fingerprint."""
        return asdict(self)


def check_roles(roles: ColumnRoles) -> None:
    """Refuse a task that is also an input (a leak), inputs of two kinds, and names that cannot be files.

    Raises:
        StemlabError: one sentence about the first such column.
    """
    inputs = dict.fromkeys(roles.fields, "dataset.fields") | dict.fromkeys(roles.numericals, "dataset.numericals")
    for name in roles.tasks:
        role = inputs.get(name) or ("dataset.scenario" if name == roles.scenario else None)
        if role:
            raise StemlabError(
                f"{name!r} is in dataset.tasks and in {role}: a label that is also an input leaks; keep one of them."
            )
    for name in roles.numericals:
        if name in roles.fields:
            raise StemlabError(f"{name!r} is in dataset.fields and in dataset.numericals: keep one of them.")
    if roles.split in inputs:
        raise StemlabError(f"{roles.split!r} is dataset.split_column and in {inputs[roles.split]}: keep one.")
    for setting, name in roles.named():
        if not name or "/" in name or name.startswith("."):
            raise StemlabError(
                f"{setting} has {name!r}: rename the column, it must not be empty, have / or begin by a dot."
            )
    for setting, names in (("fields", roles.fields), ("numericals", roles.numericals), ("tasks", roles.tasks)):
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise StemlabError(f"dataset.{setting} names {repeated[0]!r} twice: name every column once.")
    _check_shared(roles)
    _check_scenarios(roles)


def _check_shared(roles: ColumnRoles) -> None:
    for name, owner in roles.shared.items():
        for one in (name, owner):
            if one not in roles.fields:
                raise StemlabError(
                    f"dataset.shared has {one!r}, which is none of dataset.fields.{nearest(one, roles.fields)}"
                )
        if owner in roles.shared:
            raise StemlabError(
                f"dataset.shared: {name} shares with {owner}, which shares itself; name {roles.shared[owner]!r}."
            )


def _check_scenarios(roles: ColumnRoles) -> None:
    if len(roles.scenarios) > MOST_SCENARIOS:
        raise StemlabError(
            f"dataset.scenarios has {len(roles.scenarios):,} names, more than {MOST_SCENARIOS}: scenarios are a few "
            f"surfaces, and each has parts of the network of its own; put {roles.scenario!r} into dataset.fields."
        )
    repeated = [name for name in roles.scenarios if roles.scenarios.count(name) > 1]
    if repeated:
        raise StemlabError(f"dataset.scenarios names {repeated[0]!r} twice.")
    if roles.scenarios and roles.scenario is None:
        raise StemlabError("dataset.scenarios is set and dataset.scenario is not: name the column that holds them.")


def check_names(roles: ColumnRoles, known: Sequence[str], path: Path) -> None:
    """Refuse a name that is no column of the file.

    Raises:
        StemlabError: the setting, the name, the columns that there are, and the nearest one.
    """
    for setting, name in roles.named():
        if name not in known:
            more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
            raise StemlabError(
                f"{setting} has {name!r}, which is no column of {path} (it has: {', '.join(known[:_SHOWN])}{more})."
                + nearest(name, tuple(known))
            )
