"""Lines of a drafted description for fields that hold lists (docs/inputs.md)."""

from __future__ import annotations

from collections.abc import Callable

from stemlab.data.table.guess_lists import DraftedSequence, DraftedSet, ListColumn, ListProposal

Plain = Callable[[str], str]
"""Returns a text as YAML."""


def list_lines(lists: ListProposal, plain: Plain) -> list[str]:
    """Return the keys ``multivalued`` and ``sequences`` as YAML with comments; nothing without lists."""
    lines = []
    if lists.sets:
        lines.append("multivalued: # several categories per row, pooled: mean | sum | attention")
        lines += [_set_line(found, plain) for found in lists.sets]
    if lists.sequences:
        lines.append("sequences: # items before the impression, oldest first; nothing later may be in them")
        lines += [line for found in lists.sequences for line in _sequence_lines(found, plain)]
    return lines


def _set_line(found: DraftedSet, plain: Plain) -> str:
    settings = [f"max_length: {found.max_length}", *_separator(found.column, plain)]
    if found.weights is not None:
        settings.append(f"weights: {plain(found.weights.name)}")
    return f"  {plain(found.column.name)}: {{{', '.join(settings)}}} # {list_facts(found.column)}"


def _sequence_lines(found: DraftedSequence, plain: Plain) -> list[str]:
    lines = [
        f"{plain(found.items.name)}: # {list_facts(found.items)}",
        f"  items: {plain(found.items.name)}",
        f"  target: {plain(found.target)} # the item that is shown; its vocabulary",
        f"  max_length: {found.max_length} # the most recent ones",
        *(f"  {line}" for line in _separator(found.items, plain)),
    ]
    if found.categories is not None:
        lines.append(f"  categories: {plain(found.categories.name)} # {list_facts(found.categories)}")
        lines.append(f"  target_category: {plain(str(found.target_category))}")
    if found.times is not None:
        lines.append(f"  # times: {plain(found.times.name)} # read by pooling: tin")
    return [f"  {line}" for line in (*lines, "  pooling: mean # mean | sum | din | din_plus | tin")]


def _separator(column: ListColumn, plain: Plain) -> list[str]:
    return [] if column.separator in (None, "|") else [f"separator: {plain(str(column.separator))}"]


def list_facts(column: ListColumn) -> str:
    """Return the longest list, the number of distinct values, and how they are separated."""
    separated = "" if column.separator is None else f", separated by {column.separator!r}"
    return f"up to {column.longest} values per row, {len(column.distinct):,} different ones{separated}"
