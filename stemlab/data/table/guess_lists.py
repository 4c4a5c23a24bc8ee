"""Proposes the roles of columns that hold lists: sets of categories, behaviour sequences, and what belongs to them.

Legend: B first rows of the table, N values of these rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stemlab.array_types import Int64Array
from stemlab.data.table.cells import as_strings
from stemlab.data.table.lists import flatten_lists
from stemlab.data.table.multivalued import list_separator
from stemlab.data.table.name_patterns import HISTORY_PATTERN, ITEM_PATTERN, LIST_WEIGHT_PATTERN, TIME_PATTERN
from stemlab.data.table.survey import MISSING_SPELLINGS, Survey

_LEAST_OVERLAP = 0.5  # share of the distinct values of a sequence that its target has too
_LARGEST_SET, _LARGEST_SEQUENCE = 20, 50  # drafted max_length
_SMALLEST_TIME = 1e8
_INTEGERS, _NUMBERS = r"^[+-]?[0-9]{1,18}$", r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


@dataclass(frozen=True, eq=False)
class ListColumn:
    """A column of lists.

    Attributes:
        name: name of the column.
        separator: separator of the values in a cell of text; ``None`` for lists of a Parquet file.
        lengths_B: number of values in each of the first rows.
        values_N: their values, an Arrow array.
    """

    name: str
    separator: str | None
    lengths_B: Int64Array
    values_N: Any

    @property
    def longest(self) -> int:
        """Length of the longest list."""
        return int(self.lengths_B.max(initial=0))

    @cached_property
    def distinct(self) -> set[str]:
        """Distinct values as strings."""
        return _distinct(self.values_N)

    @cached_property
    def kind(self) -> str:
        """``time``, ``integer``, ``number`` or ``text``."""
        texts = pa.array(sorted(self.distinct), pa.string())
        if pa.types.is_temporal(self.values_N.type) or pa.types.is_floating(self.values_N.type):
            return "time" if pa.types.is_temporal(self.values_N.type) else "number"
        if not len(texts) or not pc.all(pc.match_substring_regex(texts, _NUMBERS)).as_py():
            return "text"
        if not pc.all(pc.match_substring_regex(texts, _INTEGERS)).as_py():
            return "number"
        large = min(abs(int(text)) for text in self.distinct) >= _SMALLEST_TIME
        return "time" if large and (TIME_PATTERN.search(self.name) or "time" in self.name) else "integer"

    def matches(self, other: ListColumn) -> bool:
        """Return whether both columns have lists of the same lengths, separated alike."""
        return self.separator == other.separator and np.array_equal(self.lengths_B, other.lengths_B)


@dataclass(slots=True)
class DraftedSet:
    """A multi-valued field: its column and the column of its weights."""

    column: ListColumn
    weights: ListColumn | None = None

    @property
    def max_length(self) -> int:
        """Values that are kept per row."""
        return max(1, min(self.column.longest, _LARGEST_SET))


@dataclass(slots=True)
class DraftedSequence:
    """A behaviour sequence: columns of its items, categories and times, and the fields that are shown."""

    items: ListColumn
    target: str
    categories: ListColumn | None = None
    target_category: str | None = None
    times: ListColumn | None = None

    @property
    def max_length(self) -> int:
        """Values that are kept per row."""
        return max(1, min(self.items.longest, _LARGEST_SEQUENCE))


@dataclass(slots=True)
class ListProposal:
    """Proposed roles of the columns of lists.

    Attributes:
        sets: multi-valued fields.
        sequences: behaviour sequences.
        left_out: column -> reason why it has no role.
        roles: column -> its role, in words.
    """

    sets: list[DraftedSet] = field(default_factory=list)
    sequences: list[DraftedSequence] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)

    def columns(self) -> Iterator[ListColumn]:
        """Yield the columns that have a role."""
        for found in self.sets:
            yield from (column for column in (found.column, found.weights) if column is not None)
        for sequence in self.sequences:
            parts = (sequence.items, sequence.categories, sequence.times)
            yield from (column for column in parts if column is not None)


def read_list_columns(survey: Survey, texts: Sequence[str]) -> list[ListColumn]:
    """Return the columns of lists: the given ones of text, and those of the file."""
    found = []
    for name in (*texts, *survey.lists):
        column = survey.first[name]
        separator = list_separator(column) if name in texts else None
        found.append(ListColumn(name, separator, *flatten_lists(column, separator or "|", ("", *MISSING_SPELLINGS))))
    return found


def propose_lists(columns: Sequence[ListColumn], fields: Sequence[str], survey: Survey) -> ListProposal:
    """Return the roles of the columns of lists.

    Args:
        columns: the columns.
        fields: names of the proposed categorical fields.
        survey: first rows of the table.
    """
    proposal = ListProposal()
    shown = {name: _distinct(survey.first[name]) for name in fields}
    values = [column for column in columns if column.kind in ("text", "integer") and column.longest]
    target_of = {c.name: _target(c, shown) for c in values if HISTORY_PATTERN.search(c.name)}
    histories = [column for column in values if target_of.get(column.name)]
    histories.sort(key=lambda c: (not ITEM_PATTERN.search(c.name), -len(c.distinct)))  # items first
    for column in histories:
        _add_history(column, str(target_of[column.name]), proposal)
    for column in values:
        if column not in histories:
            proposal.sets.append(DraftedSet(column))
            proposal.roles[column.name] = "multi-valued field"
    for column in columns:
        if column not in values:
            _add_companion(column, proposal)
    return proposal


def _add_history(column: ListColumn, target: str, proposal: ListProposal) -> None:
    """Add a sequence, or the categories of one with lists of the same lengths."""
    for sequence in proposal.sequences:
        if sequence.items.matches(column) and sequence.target != target and sequence.categories is None:
            sequence.categories, sequence.target_category = column, target
            proposal.roles[column.name] = f"categories of the sequence {sequence.items.name}"
            return
    proposal.sequences.append(DraftedSequence(column, target))
    proposal.roles[column.name] = f"sequence, of the values of {target}"


def _add_companion(column: ListColumn, proposal: ListProposal) -> None:
    """Add the times of a sequence or the weights of a set."""
    sequences = [s for s in proposal.sequences if s.times is None and s.items.matches(column)]
    if column.kind == "time" and sequences:
        sequences[0].times = column
        proposal.roles[column.name] = f"times of the sequence {sequences[0].items.name}, read by pooling tin"
        return
    sets = [s for s in proposal.sets if s.weights is None and s.column.matches(column)]
    sets.sort(key=lambda s: not _related(s.column.name, column.name))
    if column.kind == "number" and sets and LIST_WEIGHT_PATTERN.search(column.name):
        sets[0].weights = column
        proposal.roles[column.name] = f"weights of {sets[0].column.name}"
        return
    what = {"time": "times of no sequence", "number": "lists of numbers"}.get(column.kind, "empty lists")
    proposal.left_out[column.name] = what


def _target(column: ListColumn, shown: Mapping[str, set[str]]) -> str | None:
    """Return the field that has most of the column's values, preferably one with a related name; or ``None``."""
    shares = {name: len(column.distinct & values) / max(1, len(column.distinct)) for name, values in shown.items()}
    fitting = [name for name, share in shares.items() if share >= _LEAST_OVERLAP]
    fitting.sort(key=lambda name: (-_related(column.name, name), -shares[name], not ITEM_PATTERN.search(name)))
    return fitting[0] if fitting else None


def _related(one: str, other: str) -> int:
    """Return whether two names have the beginning of a word in common, such as hist_items and item_id."""
    first, second = ({word[:4] for word in name.lower().replace(".", "_").split("_")} for name in (one, other))
    return int(bool((first & second) - {"hist", "id", ""}))


def _distinct(column: Any) -> set[str]:
    return {text for text in as_strings(column.unique()).to_pylist() if text}
