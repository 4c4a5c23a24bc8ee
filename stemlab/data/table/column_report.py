"""One line per column of a table: what the survey saw and what the draft decides."""

from __future__ import annotations

from collections.abc import Iterator

from stemlab.data.table import column_facts
from stemlab.data.table.draft_lists import list_facts
from stemlab.data.table.guess import Proposal, is_time_column
from stemlab.data.table.survey import ColumnSurvey, Survey

ColumnLine = tuple[str, str, str]
"""Column, what its cells are, what the draft decides."""


def column_lines(survey: Survey, proposal: Proposal) -> list[ColumnLine]:
    """Return a line per column, in file order."""
    lists, left_out = proposal.lists.roles, proposal.left_out
    found = {
        column.name: (column_facts.cells(column, survey, is_time_column(column)), _decision(column, proposal))
        for column in survey.columns
        if column.name not in lists
    }
    found |= {name: (kind, f"left out: {left_out[name]}") for name, kind in survey.unreadable.items()}
    found |= {column.name: (f"lists: {list_facts(column)}", lists[column.name]) for column in proposal.lists.columns()}
    found |= {name: ("lists", f"left out: {left_out[name]}") for name in survey.lists if name not in found}
    return [(name, *found[name]) for name in survey.names]


def _decision(column: ColumnSurvey, proposal: Proposal) -> str:
    return ", ".join(_roles(column, proposal)) or f"left out: {proposal.left_out.get(column.name, 'no role')}"


def _roles(column: ColumnSurvey, proposal: Proposal) -> Iterator[str]:
    if column in proposal.tasks:
        yield "task"
    if column in proposal.actions:
        yield "no input: an action of the user, perhaps a task"
    if column in proposal.fields:
        yield "field"
    if column in proposal.numericals:
        yield "numerical"
    if column is proposal.scenario:
        yield "scenario, so no field"
    if column in proposal.scenarios:
        yield "perhaps the scenario instead"
    if column is proposal.time:
        yield "time of the split"
    if column is proposal.split:
        yield "split column"
    if column is proposal.group:
        yield "group of gAUC"
    if column in proposal.late_numbers:
        yield "no input: known only after the impression, perhaps a regression label"
    if column in proposal.weights:
        yield "no input: perhaps the weight of the row"
