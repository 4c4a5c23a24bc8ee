"""Roles of the columns of the user's table, and their consistency checks."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stemlab.data.prepare.split import SplitRule
from stemlab.data.table import cells
from stemlab.data.table.file import TableFile
from stemlab.data.table.label_checks import check_labels
from stemlab.data.table.label_rule import LabelRule
from stemlab.data.table.list_settings import ListRole
from stemlab.errors import StemlabError, nearest

MAX_SCENARIOS = 100
_SHOWN = 30


@dataclass(frozen=True, kw_only=True)
class ColumnRoles:
    """Roles of the columns of a table.

    Attributes:
        fields: categorical inputs.
        numericals: numerical inputs.
        tasks: labels.
        scenario: column of the scenario (the surface of the impression), or ``None``.
        scenarios: values of the scenario column, in id order.
        group: column that groups samples for gAUC, or ``None``.
        time: column that orders rows by time, or ``None``.
        split: column that holds train, valid or test, or ``None``.
        shared: field -> field whose vocabulary it shares.
        missing: cells of a text file that mean a missing value.
        labels: task -> kind of its label; tasks without an entry have binary labels of all rows.
        weight: column of sample weights, or ``None``.
        lists: columns that hold lists of values.
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
    labels: Mapping[str, LabelRule] = field(default_factory=dict)
    weight: str | None = None
    lists: tuple[ListRole, ...] = ()

    @property
    def needed(self) -> list[str]:
        """Columns that are read, without repetition."""
        return list(dict.fromkeys(name for _, name in self.named()))

    @property
    def tokens(self) -> list[str]:
        """Columns that are read as categories (fields and group)."""
        grouped = [] if self.group is None else [self.group]
        return list(dict.fromkeys([*self.fields, *grouped]))

    @property
    def owners(self) -> dict[str, str]:
        """Column of categories, and field of a list -> column whose token codes it has (itself, if its own)."""
        found = {name: self.shared.get(name, name) for name in self.tokens}
        for role in self.lists:
            found |= role.owners()
        return found

    def named(self) -> Iterator[tuple[str, str]]:
        """Yield (config key, column) of every named column."""
        for setting in ("fields", "numericals", "tasks"):
            yield from ((f"dataset.{setting}", name) for name in getattr(self, setting))
        conditions = {name: rule.given for name, rule in self.labels.items() if rule.given is not None}
        yield from ((f"dataset.labels.{name}.given", given) for name, given in conditions.items())
        for setting in ("scenario", "group", "time", "split", "weight"):
            name = getattr(self, setting)
            if name is not None:
                yield f"dataset.{'split_column' if setting == 'split' else setting}", name
        for role in self.lists:
            yield from role.columns()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for the fingerprint; without ``labels``, ``weight`` and ``lists`` if not used."""
        return {key: value for key, value in asdict(self).items() if value or key not in ("labels", "weight", "lists")}


def check_roles(roles: ColumnRoles) -> None:
    """Check that no task is also an input (a leak), that no column has two roles, and that names can be file names.

    Raises:
        StemlabError: the first column that fails a check.
    """
    inputs = {name: key for listed in roles.lists for key, name in listed.columns()}
    for listed in roles.lists:
        for name in listed.owners():
            if name in (*roles.fields, *roles.numericals):
                raise StemlabError(f"{listed.key} has the name of another field: rename it, or remove {name!r} there.")
    inputs |= dict.fromkeys(roles.fields, "dataset.fields") | dict.fromkeys(roles.numericals, "dataset.numericals")
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
                f"{setting} has {name!r}: rename the column; a name must not be empty, contain / or begin with a dot."
            )
    for setting, names in (("fields", roles.fields), ("numericals", roles.numericals), ("tasks", roles.tasks)):
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise StemlabError(f"dataset.{setting} names {repeated[0]!r} twice: name every column once.")
    check_labels(roles.tasks, roles.labels)
    _check_shared(roles)
    _check_scenarios(roles)


def check_bucket_roles(roles: ColumnRoles, columns: Collection[str]) -> None:
    """Check that quantile buckets are fields with a vocabulary of their own.

    Raises:
        StemlabError: a column of quantile buckets has another role.
    """
    used = [*roles.named(), *(("dataset.shared", name) for pair in roles.shared.items() for name in pair)]
    used += [(role.key, owner) for role in roles.lists for owner in role.owners().values()]
    for setting, name in used:
        if name in columns and setting != "dataset.fields":
            raise StemlabError(
                f"{setting} has {name!r}, a column of quantile buckets (dataset.derived), which may be in "
                "dataset.fields only."
            )


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
    if len(roles.scenarios) > MAX_SCENARIOS:
        raise StemlabError(
            f"dataset.scenarios has {len(roles.scenarios):,} names, more than {MAX_SCENARIOS}: each "
            f"scenario has its own network modules; put {roles.scenario!r} into dataset.fields."
        )
    repeated = [name for name in roles.scenarios if roles.scenarios.count(name) > 1]
    if repeated:
        raise StemlabError(f"dataset.scenarios names {repeated[0]!r} twice.")
    if roles.scenarios and roles.scenario is None:
        raise StemlabError("dataset.scenarios is set and dataset.scenario is not: name the column that holds them.")


def check_listed_scenarios(roles: ColumnRoles, table: TableFile) -> None:
    """Raise StemlabError if the scenario column is set and its values are not listed; the message lists them."""
    if roles.scenario is None or roles.scenarios:
        return
    found: set[str] = set()
    for piece in table.chunks([roles.scenario], lambda size: None):
        column = cells.without_missing(piece.columns[roles.scenario], roles.missing)
        found |= {word for word in cells.tokens_of(column.unique()).to_pylist() if word is not None}
        if len(found) > MAX_SCENARIOS:
            raise StemlabError(
                f"dataset.scenario={roles.scenario} of {table.path} has more than {MAX_SCENARIOS} values: it is not a "
                "scenario; put the column into dataset.fields."
            )
    names = (name if re.fullmatch(r"[\w. -]+", name) else f"'{name}'" for name in sorted(found))
    values = f"[{', '.join(names)}]"
    raise StemlabError(f"dataset.scenario={roles.scenario} needs dataset.scenarios in id order: {values}.")


def columns_of_split(split: SplitRule, time: str | None, split_column: str | None) -> dict[str, Any]:
    """Return the columns that the split rule reads."""
    ordered, given = split.rule in ("time", "dates"), split.rule == "given"
    return {"time": time if ordered else None, "split": split_column if given else None}


def check_names(roles: ColumnRoles, known: Sequence[str], path: Path) -> None:
    """Check that every named column is in the file.

    Raises:
        StemlabError: a name is not a column; the message lists the columns and the nearest name.
    """
    for setting, name in roles.named():
        if name not in known:
            more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
            raise StemlabError(
                f"{setting} has {name!r}, which is not a column of {path} (it has: {', '.join(known[:_SHOWN])}{more})."
                + nearest(name, tuple(known))
            )
