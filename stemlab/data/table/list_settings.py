"""Settings of fields that hold lists of values: multi-valued fields and behaviour sequences (docs/inputs.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass as plain_dataclass
from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from stemlab.data.spec import Field, ValueList
from stemlab.errors import StemlabError, nearest
from stemlab.types import PositiveInt, Widths

ATTENDED = ("din", "din_plus", "tin")
"""Poolings in which a target attends to the values."""
_DIN_UNITS = (80, 40)


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class MultivaluedField:
    """A set of categories per row, such as the genres of a film.

    Attributes:
        max_length: values that are kept per row, the first ones.
        separator: separator of the values in a cell of text; a column of lists needs none.
        pooling: ``mean`` or ``sum`` of the vectors, or ``attention`` with a learned query.
        weights: column with one weight per value, at least 0.
        table: field whose vocabulary and embedding table it shares.
    """

    max_length: PositiveInt
    separator: str = "|"
    pooling: Literal["mean", "sum", "attention"] = "mean"
    weights: str | None = None
    table: str | None = None


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class SequenceField:
    """Items that the user interacted with before the impression, oldest first.

    Attributes:
        items: column of the items.
        target: field of the item that is shown; the items share its vocabulary and embedding table.
        max_length: values that are kept per row, the last (most recent) ones.
        separator: separator of the values in a cell of text; a column of lists needs none.
        pooling: ``mean`` or ``sum``, or the attention of the target (``din``, ``din_plus``, ``tin``).
        categories: column with the category of each item; they become one more field.
        target_category: field of the category of the item that is shown, whose vocabulary and table categories share.
        times: column with the time of each item, integers or timestamps; read by ``tin``.
        time_unit: unit of integer times.
        attention_units: hidden widths of the attention MLP of ``din`` and ``din_plus``; ``null``: 80, 40.
    """

    items: str
    target: str
    max_length: PositiveInt
    separator: str = "|"
    pooling: Literal["mean", "sum", "din", "din_plus", "tin"] = "mean"
    categories: str | None = None
    target_category: str | None = None
    times: str | None = None
    time_unit: Literal["s", "ms"] = "s"
    attention_units: Widths | None = None


@plain_dataclass(frozen=True, kw_only=True)
class ListRole:
    """Columns of a table that hold one list per row.

    Attributes:
        name: the field.
        values: column of the values.
        key: config key of the field, for messages.
        separator: separator within a cell of text.
        max_length: values that are kept per row.
        newest: whether the last values are kept, instead of the first.
        table: field whose vocabulary it shares, or ``None``.
        weights: column of weights, or ``None``.
        times: column of times, or ``None``.
        time_unit: unit of integer times.
        categories: column of categories, or ``None``.
        category_table: field whose vocabulary the categories share, or ``None``.
    """

    name: str
    values: str
    key: str
    separator: str
    max_length: int
    newest: bool
    table: str | None
    weights: str | None = None
    times: str | None = None
    time_unit: str = "s"
    categories: str | None = None
    category_table: str | None = None

    @property
    def category_field(self) -> str:
        """Name of the field of the categories."""
        return f"{self.name}_categories"

    def owners(self) -> dict[str, str]:
        """Return field -> field whose vocabulary it has (itself, if it has its own)."""
        found = {self.name: self.table or self.name}
        if self.categories is not None:
            found[self.category_field] = self.category_table or self.category_field
        return found

    def columns(self) -> Iterator[tuple[str, str]]:
        """Yield (config key, column) of every column."""
        named = {"weights": self.weights, "times": self.times, "categories": self.categories}
        yield self.key, self.values
        yield from ((f"{self.key}.{setting}", column) for setting, column in named.items() if column is not None)


def list_roles(
    multivalued: Mapping[str, MultivaluedField], sequences: Mapping[str, SequenceField]
) -> tuple[ListRole, ...]:
    """Return the columns of all lists, in the order of the fields."""
    sets = [
        ListRole(
            name=name,
            values=name,
            key=f"dataset.multivalued.{name}",
            separator=of.separator,
            max_length=of.max_length,
            newest=False,
            table=of.table,
            weights=of.weights,
        )
        for name, of in multivalued.items()
    ]
    histories = [
        ListRole(
            name=name,
            values=of.items,
            key=f"dataset.sequences.{name}",
            separator=of.separator,
            max_length=of.max_length,
            newest=True,
            table=of.target,
            times=of.times,
            time_unit=of.time_unit,
            categories=of.categories,
            category_table=of.target_category,
        )
        for name, of in sequences.items()
    ]
    return (*sets, *histories)


def list_fields(
    multivalued: Mapping[str, MultivaluedField], sequences: Mapping[str, SequenceField]
) -> tuple[Field, ...]:
    """Return the fields of all lists; their sizes are 0. The categories of a sequence follow it as a field."""
    found: list[Field] = []
    for name, of in multivalued.items():
        values = ValueList(of.max_length, of.pooling, weighted=of.weights is not None)
        found.append(Field(name, 0, "list", table=of.table, values=values))
    for role, sequence in zip(list_roles({}, sequences), sequences.values(), strict=True):
        attended = sequence.pooling in ATTENDED
        units = tuple(sequence.attention_units or _DIN_UNITS) if sequence.pooling in ("din", "din_plus") else ()
        values = ValueList(
            sequence.max_length,
            sequence.pooling,
            times=sequence.times is not None,
            target=sequence.target if attended else None,
            attention_units=units,
        )
        found.append(Field(role.name, 0, "list", table=sequence.target, values=values))
        if sequence.categories is not None:
            part = ValueList(
                sequence.max_length,
                sequence.pooling,
                target=sequence.target_category if attended else None,
                part_of=role.name,
            )
            found.append(Field(role.category_field, 0, "list", table=sequence.target_category, values=part))
    return tuple(found)


def check_lists(
    multivalued: Mapping[str, MultivaluedField],
    sequences: Mapping[str, SequenceField],
    fields: tuple[str, ...],
    shared: Mapping[str, str],
) -> None:
    """Check the settings of lists against each other and against the other fields.

    Raises:
        StemlabError: the first setting that fails a check.
    """
    for name, of in multivalued.items():
        _check_table(f"dataset.multivalued.{name}.table", of.table, fields, shared)
        _check_separator(f"dataset.multivalued.{name}", of.separator)
    for name, sequence in sequences.items():
        key = f"dataset.sequences.{name}"
        _check_separator(key, sequence.separator)
        _check_table(f"{key}.target", sequence.target, fields, shared)
        _check_table(f"{key}.target_category", sequence.target_category, fields, shared)
        if (sequence.categories is None) != (sequence.target_category is None):
            raise StemlabError(
                f"{key} needs both categories (a column) and target_category (the field of the category of "
                f"{sequence.target!r}, whose vocabulary they share), or neither."
            )
        if sequence.times is not None and sequence.pooling != "tin":
            raise StemlabError(f"{key}.times is read by pooling=tin only, but pooling={sequence.pooling}: remove it.")
        if sequence.attention_units is not None and sequence.pooling not in ("din", "din_plus"):
            raise StemlabError(
                f"{key}.attention_units is read by pooling=din and din_plus only, but pooling={sequence.pooling}: "
                "remove it."
            )


def _check_separator(key: str, separator: str) -> None:
    if not separator:
        raise StemlabError(f"{key}.separator is empty: give the character between two values, such as '|'.")


def _check_table(key: str, owner: str | None, fields: tuple[str, ...], shared: Mapping[str, str]) -> None:
    if owner is None:
        return
    if owner not in fields:
        raise StemlabError(f"{key} is {owner!r}, which is none of dataset.fields.{nearest(owner, fields)}")
    if owner in shared:
        raise StemlabError(f"{key} is {owner!r}, which shares the vocabulary of {shared[owner]!r}: name that field.")
