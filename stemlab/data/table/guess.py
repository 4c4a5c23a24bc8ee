"""Proposes the role of each column from its name and values, with remarks on doubtful columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from stemlab.data.table.cells import LABEL_SPELLINGS, SPLIT_SPELLINGS
from stemlab.data.table.column_facts import time_range
from stemlab.data.table.guess_lists import ListProposal, propose_lists, read_list_columns
from stemlab.data.table.multivalued import list_form, list_separator
from stemlab.data.table.name_patterns import (
    ACTION_PATTERN,
    AMOUNT_PATTERN,
    ATTRIBUTE_DATE_PATTERN,
    CATEGORY_PATTERN,
    EVENT_PATTERN,
    GROUP_PATTERNS,
    LABEL_PATTERN,
    LATE_PATTERN,
    MAIN_SCENARIO_PATTERN,
    PLAIN_LABEL_PATTERN,
    SCENARIO_PATTERN,
    SESSION_PATTERN,
    SPLIT_PATTERN,
    TIME_PATTERN,
    WEIGHT_PATTERN,
)
from stemlab.data.table.survey import ColumnSurvey, Survey, single_column_auc

_FEW, _MAX_SCENARIOS, _LONG_TEXT = 10, 30, 60
_LEAK_AUC = 0.98
_MAX_DRAFTED_SCENARIOS = 10
LATE_REASON = "known only after the impression?"
WEIGHT_REASON = "a weight or probability of the row, not an input"


@dataclass(slots=True)
class Proposal:
    """Proposed roles of the columns.

    Attributes:
        tasks: labels.
        actions: columns of 0 and 1 that may be labels; never inputs.
        fields: categorical inputs.
        numericals: numerical inputs.
        left_out: column -> reason why it has no role.
        time: time column.
        late_numbers: columns of numbers that are known only after the impression; possible labels of regression.
        weights: columns of weights of rows.
        group: group column.
        split: column of train, valid, test.
        scenario: the scenario column, which is no field.
        scenarios: fields that may be the scenario instead.
        missing: spellings of missing values, besides the empty cell.
        lists: columns of lists.
        checks: remarks on doubtful columns, for the user.
    """

    tasks: list[ColumnSurvey] = field(default_factory=list)
    actions: list[ColumnSurvey] = field(default_factory=list)
    fields: list[ColumnSurvey] = field(default_factory=list)
    numericals: list[ColumnSurvey] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    time: ColumnSurvey | None = None
    late_numbers: list[ColumnSurvey] = field(default_factory=list)
    weights: list[ColumnSurvey] = field(default_factory=list)
    group: ColumnSurvey | None = None
    split: ColumnSurvey | None = None
    scenario: ColumnSurvey | None = None
    scenarios: list[ColumnSurvey] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    lists: ListProposal = field(default_factory=ListProposal)
    checks: list[str] = field(default_factory=list)


def propose(survey: Survey) -> Proposal:
    """Return the proposed roles of all columns."""
    proposal = Proposal()
    for name, kind in survey.unreadable.items():
        proposal.left_out[name] = f"cells of type {kind}"
        proposal.checks.append(
            f"{name!r} has cells of type {kind}, which are not read: write one value per row into a column of its own."
        )
    texts = [column.name for column in survey.columns if _is_list(column, survey)]
    rest = [c for c in survey.columns if c.name not in texts and not _left_out(c, survey, proposal)]
    proposal.split = _first(c for c in rest if _is_split(c))
    proposal.time = _time_of_impressions(rest)
    _set_labels([c for c in rest if c.binary and c is not proposal.split], proposal)
    sessions = [c for c in rest if SESSION_PATTERN.search(c.name)]
    for column in rest:
        if column not in (*proposal.tasks, *proposal.actions, proposal.split):
            _assign_input_role(column, survey, proposal)
    possible = [*proposal.fields, *sessions]
    proposal.group = _first(c for names in GROUP_PATTERNS for c in possible if names.search(c.name) and c.distinct > 1)
    _set_scenario(survey, proposal)
    proposal.missing = sorted(
        {word for c in proposal.numericals for word in c.spellings} | _everywhere(proposal.fields)
    )
    proposal.lists = propose_lists(read_list_columns(survey, texts), [c.name for c in proposal.fields], survey)
    proposal.left_out |= proposal.lists.left_out
    _check(survey, proposal)
    return proposal


def _is_list(column: ColumnSurvey, survey: Survey) -> bool:
    """Return whether the cells of a column are lists in text that can be read."""
    if column.kind != "text" or PLAIN_LABEL_PATTERN.fullmatch(column.name) or LATE_PATTERN.search(column.name):
        return False
    return "/" not in column.name and list_separator(survey.first[column.name]) is not None


def _set_scenario(survey: Survey, proposal: Proposal) -> None:
    """Take the scenario column out of the fields, if all of its values were seen; other candidates stay fields."""
    candidates = [c for c in proposal.fields if SCENARIO_PATTERN.search(c.name) and c.distinct <= _MAX_SCENARIOS]
    candidates = [c for c in candidates if not c.missing and not c.spellings and c is not proposal.group]
    candidates.sort(key=lambda c: not MAIN_SCENARIO_PATTERN.search(c.name))  # stable
    if candidates and survey.whole and candidates[0].distinct <= _MAX_DRAFTED_SCENARIOS and len(proposal.fields) > 1:
        proposal.scenario = candidates.pop(0)
        proposal.fields.remove(proposal.scenario)
    proposal.scenarios = candidates


def _everywhere(columns: Iterable[ColumnSurvey]) -> set[str]:
    """Return spellings that mean a missing value in any column."""
    return {word for column in columns for word in column.spellings if word == "\\N"}


def _left_out(column: ColumnSurvey, survey: Survey, proposal: Proposal) -> bool:
    reason = _reason(column, survey)
    if reason == LATE_REASON and column.kind in ("number", "integer"):
        proposal.late_numbers.append(column)
    if reason == WEIGHT_REASON and column.kind in ("number", "integer"):
        proposal.weights.append(column)
    if reason:
        proposal.left_out[column.name] = reason
    elif column.kind == "text" and (form := list_form(survey.first[column.name])):
        proposal.left_out[column.name] = f"several values in a cell, {form}"
        proposal.checks.append(
            f"{column.name!r} holds several values in a cell ({form}), which would be one category together: write "
            "each value into a column of its own, or add the column to fields as it is."
        )
    return column.name in proposal.left_out


def _reason(column: ColumnSurvey, survey: Survey) -> str:
    """Return why a column has no role, or an empty text."""
    name = column.name
    if not name or "/" in name or name.startswith("."):
        return "its name is empty, contains / or begins with a dot"
    if column.distinct < 2:
        return "one value only" if column.distinct else "empty"
    if LATE_PATTERN.search(name):
        return LATE_REASON
    if PLAIN_LABEL_PATTERN.fullmatch(name) and not column.binary and _holds_labels(column):
        return "a label without a value in some rows: see given of the key labels"
    if PLAIN_LABEL_PATTERN.fullmatch(name) and not column.binary:
        return "named like a label, but not 0 and 1 in every row"
    if WEIGHT_PATTERN.search(name):
        return WEIGHT_REASON
    if EVENT_PATTERN.search(name) and not is_time_column(column):
        return "identifies a single request or impression"
    if column.distinct == survey.rows > _FEW and column.kind in ("text", "integer") and not is_time_column(column):
        return "a different value in each row" if not AMOUNT_PATTERN.search(name) else ""
    if column.kind == "text" and column.longest > _LONG_TEXT and not list_form(survey.first[name]):
        return f"texts of up to {column.longest} characters"
    return ""


def _holds_labels(column: ColumnSurvey) -> bool:
    """Return whether all cells that are not missing are 0 or 1."""
    return {LABEL_SPELLINGS.get(text.lower()) for text in column.listed or ("?",)} == {0, 1}


def _is_split(column: ColumnSurvey) -> bool:
    words = {word.lower() for word in column.listed or ("?",)}
    return bool(SPLIT_PATTERN.search(column.name)) and words <= set(SPLIT_SPELLINGS) and not column.missing


def is_time_column(column: ColumnSurvey) -> bool:
    """Return whether a column holds times: dates, or large integers with the name of a time."""
    if column.kind == "datetime":
        return True
    named = bool(TIME_PATTERN.search(column.name)) and not LATE_PATTERN.search(column.name)
    return named and column.kind == "integer" and column.low >= 1e7 and column.distinct > 1


def _time_of_impressions(columns: Iterable[ColumnSurvey]) -> ColumnSurvey | None:
    """Return the time column with the most values, those named like one first, without dates of users and items."""
    times = [c for c in columns if is_time_column(c) and not ATTRIBUTE_DATE_PATTERN.search(c.name)]
    return max(times, key=lambda c: (bool(TIME_PATTERN.search(c.name)), c.distinct), default=None)


def _set_labels(binary: list[ColumnSurvey], proposal: Proposal) -> None:
    """Choose the tasks among the columns of 0 and 1; other actions of users are no inputs either."""
    named = [column for column in binary if LABEL_PATTERN.search(column.name)]
    actions = [column for column in binary if ACTION_PATTERN.search(column.name) and column not in named]
    if named or actions:
        proposal.tasks, proposal.actions = named or actions, actions if named else []
    elif binary:
        proposal.tasks = binary[-1:]
        proposal.checks.append(
            f"No column of 0 and 1 is named like a label: {binary[-1].name!r}, the last one, is a guess."
        )
    else:
        proposal.checks.append("No column holds only 0 and 1: create label columns, or name them in tasks.")
    if proposal.actions:
        names = ", ".join(column.name for column in proposal.actions)
        proposal.checks.append(f"Actions of users that may be labels, no inputs: {names}; add them to tasks if so.")


def _assign_input_role(column: ColumnSurvey, survey: Survey, proposal: Proposal) -> None:
    if column is proposal.time:
        return
    if is_time_column(column):
        other = "a second time column" if proposal.time else "a date of the user or item"
        proposal.left_out[column.name] = f"{other}, {time_range(column)}"
    elif SESSION_PATTERN.search(column.name):
        proposal.left_out[column.name] = "identifies a session; can be the group"
    elif _is_amount(column):
        proposal.numericals.append(column)
    else:
        proposal.fields.append(column)


def _is_amount(column: ColumnSurvey) -> bool:
    if column.kind == "number":
        return True
    if column.kind != "integer" or CATEGORY_PATTERN.search(column.name):
        return False
    if AMOUNT_PATTERN.search(column.name):
        return column.distinct > _FEW
    return column.listed is None and (column.low < 0 or column.distinct < (column.high - column.low + 1) / 2)


def _check(survey: Survey, proposal: Proposal) -> None:
    if not survey.whole:
        proposal.checks.append(f"Only the first {survey.rows:,} rows were read: counts and shares refer to them.")
    if proposal.left_out:
        proposal.checks.append(f"Left out, add what should be read: {', '.join(proposal.left_out)}.")
    for column in (*proposal.fields, *proposal.numericals):
        for task in proposal.tasks:
            auc = single_column_auc(survey, column, task.name)
            if auc >= _LEAK_AUC:
                proposal.checks.append(
                    f"{column.name!r} alone predicts {task.name!r} (AUC {auc:.3f}): "
                    "it leaks unless it is known before the impression."
                )
        if column.binary:
            proposal.checks.append(f"{column.name!r} holds 0 and 1 and is proposed as a field: is it a label?")
        if column.name.lower() in ("weight", "w"):
            proposal.checks.append(f"{column.name!r} is proposed as an input: is it the weight of the row?")
    if proposal.lists.sequences:
        names = ", ".join(sequence.items.name for sequence in proposal.lists.sequences)
        proposal.checks.append(f"Does a history end before the impression, without its own item ({names})?")
    if proposal.group is None:
        proposal.checks.append("No column is named like a user: set group for AUC per user (gAUC).")
    if proposal.time is None and proposal.split is None:
        proposal.checks.append("No time and no split were found: rows are split at random.")


def _first(columns: Iterable[ColumnSurvey]) -> ColumnSurvey | None:
    return next(iter(columns), None)
