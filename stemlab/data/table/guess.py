"""Proposes the role of each column from its name and values, with remarks on doubtful columns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from stemlab.data.table.cells import SPLIT_SPELLINGS
from stemlab.data.table.survey import ColumnSurvey, Survey, single_column_auc

_FEW, _MAX_SCENARIOS, _LONG_TEXT = 10, 30, 60
_LEAK_AUC = 0.98


def _word(*names: str) -> re.Pattern[str]:
    """Return a pattern that matches any of the words between underscores, dots, hyphens, spaces or ends of a name."""
    return re.compile(rf"(^|[_.\- ])({'|'.join(names)})($|[_.\- ])", re.IGNORECASE)


LABEL_PATTERN = _word(
    *("labels?", "target", "y", "clk", "click(ed|s)?", "likes?", "liked", "shared?", "follow(ed|s)?", "buy", "bought"),
    *("purchased?", "conver(t|ted|sion)", "cvr", "ctr", "order(ed)?", "finish(ed)?", "cart", "favou?rited?", "comment"),
    *("forward", "installed?", "subscribed?", "churn(ed)?", "long_view", "hate", "response", "outcome"),
)
LATE_PATTERN = _word(
    "(play|watch|dwell|stay|view|read)(ing)?_?(time|duration|secs?|seconds|ms)", "rating", "revenue", "gmv"
)
TIME_PATTERN = _word(
    "time", "timestamp", "ts", "date", "datetime", "day", "dt", "time_ms", "created(_at)?", "event_time"
)
GROUP_PATTERNS = (
    _word("user", "uid", "userid", "u"),
    _word("member", "customer", "visitor", "account", "session", "buyer"),
)
SCENARIO_PATTERN = _word(
    "scenario", "scene", "domain", "country", "tab", "channel", "surface", "market", "region", "platform"
)
SPLIT_PATTERN = _word("split", "fold", "subset", "partition", "set")
CATEGORY_PATTERN = _word(
    *("id", "uid", "iid", "pid", "code", "type", "cat", "category", "class", "zip", "zipcode", "postal", "brand"),
    *("gender", "sex", "city", "device", "os", "browser", "page", "hour", "weekday", "dow", "month", "occupation"),
    *("genre", "tag", "music", "author", "shop", "store", "seller", "user", "item", "video", "hash", "is", "has"),
)
AMOUNT_PATTERN = _word(
    *("age", "price", "cost", "count", "cnt", "num", "n", "amount", "duration", "length", "size", "score", "rate"),
    *("ratio", "avg", "mean", "sum", "days", "width", "height", "weight", "distance", "bid", "percent", "pct"),
)


@dataclass(slots=True)
class Proposal:
    """Proposed roles of the columns.

    Attributes:
        tasks: labels.
        fields: categorical inputs.
        numericals: numerical inputs.
        left_out: column -> reason why it has no role.
        time: time column.
        group: group column.
        split: column of train, valid, test.
        scenarios: columns that may be the scenario.
        missing: spellings of missing values, besides the empty cell.
        checks: remarks on doubtful columns, for the user.
    """

    tasks: list[ColumnSurvey] = field(default_factory=list)
    fields: list[ColumnSurvey] = field(default_factory=list)
    numericals: list[ColumnSurvey] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    time: ColumnSurvey | None = None
    group: ColumnSurvey | None = None
    split: ColumnSurvey | None = None
    scenarios: list[ColumnSurvey] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)


def propose(survey: Survey) -> Proposal:
    """Return the proposed roles of all columns."""
    proposal = Proposal()
    rest = [column for column in survey.columns if not _left_out(column, survey, proposal)]
    proposal.split = _first(c for c in rest if _is_split(c))
    proposal.time = _first(c for c in rest if _is_time(c))
    proposal.tasks = _labels([c for c in rest if c.binary and c is not proposal.split], proposal)
    for column in rest:
        if column not in (*proposal.tasks, proposal.split):
            _assign_input_role(column, survey, proposal)
    proposal.group = _first(
        c for names in GROUP_PATTERNS for c in proposal.fields if names.search(c.name) and c.distinct > 1
    )
    candidates = [c for c in proposal.fields if SCENARIO_PATTERN.search(c.name) and c.distinct <= _MAX_SCENARIOS]
    proposal.scenarios = [c for c in candidates if not c.missing]
    proposal.missing = sorted(
        {word for c in proposal.numericals for word in c.spellings} | _everywhere(proposal.fields)
    )
    _check(survey, proposal)
    return proposal


def _everywhere(columns: Iterable[ColumnSurvey]) -> set[str]:
    """Return spellings that mean a missing value in any column."""
    return {word for column in columns for word in column.spellings if word == "\\N"}


def _left_out(column: ColumnSurvey, survey: Survey, proposal: Proposal) -> bool:
    reason = ""
    if not column.name or "/" in column.name or column.name.startswith("."):
        reason = "its name is empty, contains / or begins with a dot"
    elif column.distinct < 2:
        reason = "one value only" if column.distinct else "empty"
    elif LATE_PATTERN.search(column.name):
        reason = "known only after the impression?"
    elif column.distinct == survey.rows > _FEW and column.kind in ("text", "integer") and not _is_time(column):
        reason = "a different value in each row" if not AMOUNT_PATTERN.search(column.name) else ""
    elif column.kind == "text" and column.longest > _LONG_TEXT:
        reason = f"texts of up to {column.longest} characters"
    if reason:
        proposal.left_out[column.name] = reason
    return bool(reason)


def _is_split(column: ColumnSurvey) -> bool:
    words = {word.lower() for word in column.listed or ("?",)}
    return bool(SPLIT_PATTERN.search(column.name)) and words <= set(SPLIT_SPELLINGS) and not column.missing


def _is_time(column: ColumnSurvey) -> bool:
    if column.kind == "datetime":
        return True
    named = bool(TIME_PATTERN.search(column.name)) and not LATE_PATTERN.search(column.name)
    return named and column.kind == "integer" and column.low >= 1e7 and column.distinct > 1


def _labels(binary: list[ColumnSurvey], proposal: Proposal) -> list[ColumnSurvey]:
    named = [column for column in binary if LABEL_PATTERN.search(column.name)]
    if named or not binary:
        if not binary:
            proposal.checks.append("No column holds only 0 and 1: create label columns, or name them in tasks.")
        return named
    proposal.checks.append(
        f"No column of 0 and 1 is named like a label: {binary[-1].name!r}, the last one, is a guess."
    )
    return binary[-1:]


def _assign_input_role(column: ColumnSurvey, survey: Survey, proposal: Proposal) -> None:
    if column is proposal.time:
        return
    if column.kind == "datetime" or _is_time(column):
        proposal.left_out[column.name] = "a second time column"
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
    if proposal.group is None:
        proposal.checks.append("No column is named like a user: set group for AUC per user (gAUC).")
    if proposal.time is None and proposal.split is None:
        proposal.checks.append("No time and no split were found: rows are split at random.")


def _first(columns: Iterable[ColumnSurvey]) -> ColumnSurvey | None:
    return next(iter(columns), None)
