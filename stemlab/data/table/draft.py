"""Drafts a config for a table without a description; a comment gives the reason of each guess."""

from __future__ import annotations

import json
import re
from pathlib import Path

from stemlab.data.io.output_file import write_text_file
from stemlab.data.table.column_facts import about, time_range
from stemlab.data.table.column_report import ColumnLine, column_lines
from stemlab.data.table.draft_lists import list_lines
from stemlab.data.table.file import TableFile, TextTable
from stemlab.data.table.guess import Proposal, propose
from stemlab.data.table.name_patterns import GROUP_PATTERNS
from stemlab.data.table.survey import ColumnSurvey, Survey, survey_table
from stemlab.errors import StemlabError

_ENDS = (".gz", ".zip", ".csv", ".tsv", ".txt", ".parquet", ".pq")
_TAB = "\t"
_SMALL = 100_000  # rows; smaller tables get min_count 2
_RESERVED = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")


def draft_path(path: Path) -> Path:
    """Return the path of a table's draft, in the current directory: ``raw/rows.csv.gz`` -> ``rows.stemlab.yaml``."""
    name = path.name
    while name.lower().endswith(_ENDS):
        name = name.rpartition(".")[0]
    return Path(f"{name}.stemlab.yaml")


def write_draft(table: TableFile) -> tuple[Path, list[ColumnLine], list[str]]:
    """Inspect a table and write a draft config into the current directory; folders of raw files stay as they are.

    Returns:
        Path of the config; a line per column; messages: a summary and what to check.

    Raises:
        StemlabError: the config exists already or cannot be written, or the table cannot be read or has no header.
    """
    path = draft_path(table.path)
    if path.exists():
        raise StemlabError(
            f"{path} exists already: use it with dataset.config={path}, or delete it for a new draft of {table.path}."
        )
    _check_header(table)
    survey = survey_table(table)
    proposal = propose(survey)
    write_text_file(path, _text(table, path, survey, proposal))
    return path, column_lines(survey, proposal), [_found(survey, proposal), *_malformed(survey), *proposal.checks]


def _check_header(table: TableFile) -> None:
    numbers = [name for name in table.names if re.fullmatch(r"[+-]?[0-9.]+", name)]
    if isinstance(table, TextTable) and table.has_header and numbers:
        raise StemlabError(
            f"{table.path}, line 1 holds {numbers[0]!r} where column names are expected: add a header, or "
            "give the names with dataset.columns=[click,user,...]."
        )


def _found(survey: Survey, proposal: Proposal) -> str:
    counts = (
        f"tasks {len(proposal.tasks)}",
        f"fields {len(proposal.fields)}",
        f"numericals {len(proposal.numericals)}",
        *([f"lists {len(proposal.lists.roles)}"] if proposal.lists.roles else []),
        f"left out {len(proposal.left_out) + len(proposal.actions)}",
    )
    return f"rows {survey.rows:,}, columns {len(survey.names)}: {', '.join(counts)}."


def _malformed(survey: Survey) -> list[str]:
    if not survey.malformed:
        return []
    line, problem = survey.malformed[0]
    found = f"Left out bad lines: {len(survey.malformed):,}, the first is line {line} ({problem})"
    return [f"{found}: correct them, or set on_bad_row: skip."]


def _text(table: TableFile, path: Path, survey: Survey, proposal: Proposal) -> str:
    """Return the config as YAML with a comment on each guess."""
    seen = f"all {survey.rows:,} rows" if survey.whole else f"the first {survey.rows:,} rows"
    lines = [
        f"# Drafted from {table.path.name} ({seen} were read). Check and edit it, then run:",
        f"#   python -m stemlab.prepare dataset=table dataset.config={path} \\",
        f"#   dataset.path={table.path}",
        "# Columns that are not named here are not read.",
        f"name: {_plain(path.name.removesuffix('.stemlab.yaml'))}",
    ]
    if isinstance(table, TextTable):
        lines.append(f"separator: {'tab' if table.separator == _TAB else json.dumps(table.separator)}")
        if not table.has_header:
            lines.append(f"columns: [{', '.join(map(_plain, table.names))}] # the file has no header")
        if proposal.missing:
            words = ", ".join(json.dumps(word) for word in ("", *proposal.missing))
            lines.append(f"missing: [{words}] # cells that mean a missing value; add others")
    lines += _listed("tasks", "0 or 1: what is predicted", proposal.tasks, survey)
    lines += [f"  # - {_plain(c.name)} # {about(c, survey)}; an action, so no input" for c in proposal.actions]
    if proposal.late_numbers:
        kinds = ", ".join(f"{_plain(c.name)}: {{kind: regression}}" for c in proposal.late_numbers)
        lines.append(f"# labels: {{{kinds}}} # numbers that may be tasks too")
    lines += [
        f"# weight: {_plain(c.name)} # {about(c, survey)}; of a row in losses and metrics" for c in proposal.weights
    ]
    lines += _listed(
        "fields", "categories: each value with min_count training rows gets an embedding", proposal.fields, survey
    )
    lines += _listed("numericals", "numbers: scaled; missing values become the mean", proposal.numericals, survey)
    lines += list_lines(proposal.lists, _plain)
    lines += ["scaling: standard # of numericals: standard | minmax | none", *_roles(survey, proposal)]
    least = 2 if survey.rows < _SMALL else 10
    lines.append(f"min_count: {least} # training rows that a category needs to get an id of its own")
    lines += [f"# left out: {_plain(name)} ({reason})" for name, reason in proposal.left_out.items()]
    return "\n".join(lines) + "\n"


def _roles(survey: Survey, proposal: Proposal) -> list[str]:
    named = [c.name for names in GROUP_PATTERNS for c in proposal.fields if names.search(c.name)]
    others = f"; candidates: {', '.join(dict.fromkeys(named))}" if len(set(named)) > 1 else ""
    group = _plain(proposal.group.name) if proposal.group else "null"
    lines = [f"group: {group} # groups the samples for gAUC{others}"]
    if proposal.time is not None:
        lines.append(f"time: {_plain(proposal.time.name)} # {time_range(proposal.time)}")
    if proposal.split is not None:
        lines.append(f"split_column: {_plain(proposal.split.name)} # {about(proposal.split, survey)}")
    rule = "given" if proposal.split is not None else "time" if proposal.time is not None else "random"
    lines += ["split:", f"  rule: {rule} # random | time: the last rows are held out | given: by split_column | dates"]
    for column in (proposal.scenario, *proposal.scenarios):
        if column is None:
            continue
        names = ", ".join(_plain(name) for name in sorted(column.listed or ()))
        mark, comment = "# ", "one model for several surfaces? Then it is no field"
        if column is proposal.scenario:
            mark, comment = "", "no field: model.scenario_feature makes it an input; metrics per scenario"
        lines += [f"{mark}scenario: {_plain(column.name)} # {comment}", f"{mark}scenarios: [{names}]"]
    return lines


def _listed(key: str, comment: str, columns: list[ColumnSurvey], survey: Survey) -> list[str]:
    if not columns:
        return [f"{key}: [] # {comment}"]
    return [f"{key}: # {comment}", *(f"  - {_plain(c.name)} # {about(c, survey)}" for c in columns)]


def _plain(name: str) -> str:
    """Return a name as YAML, quoted if it could be parsed as another type."""
    simple = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and name.lower() not in _RESERVED
    return name if simple else json.dumps(name, ensure_ascii=False)
