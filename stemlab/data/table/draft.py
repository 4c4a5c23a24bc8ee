"""A proposed config for a table that nobody has described yet, with the reason of every guess in a comment."""

from __future__ import annotations

import json
import re
from pathlib import Path

from stemlab.data.table.file import TableFile, TextTable
from stemlab.data.table.guess import GROUP_PATTERNS, Proposal, propose
from stemlab.data.table.survey import ColumnSurvey, Survey, survey_table
from stemlab.errors import StemlabError

_ENDS = (".gz", ".zip", ".csv", ".tsv", ".txt", ".parquet", ".pq")
_TAB = "\t"
_SMALL = 100_000  # rows; below, two training rows of a category are enough
_RESERVED = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")


def draft_path(path: Path) -> Path:
    """Return where the draft of a table goes: ``rows.csv.gz`` -> ``rows.stemlab.yaml``."""
    name = path.name
    while name.lower().endswith(_ENDS):
        name = name.rpartition(".")[0]
    return path.with_name(f"{name}.stemlab.yaml")


def write_draft(table: TableFile) -> tuple[Path, list[str]]:
    """Look at a table and write a config beside it.

    Returns:
        The config, and sentences: what was found and what to check.

    Raises:
        StemlabError: there is such a config already; the table cannot be read or has no header.
    """
    path = draft_path(table.path)
    if path.exists():
        raise StemlabError(
            f"{path} is there already: name it, dataset.config={path}, or delete it for a new draft of {table.path}."
        )
    _check_header(table)
    survey = survey_table(table)
    proposal = propose(survey)
    path.write_text(_text(table, path, survey, proposal), encoding="utf-8")
    return path, [_found(survey, proposal), *proposal.checks]


def _check_header(table: TableFile) -> None:
    numbers = [name for name in table.names if re.fullmatch(r"[+-]?[0-9.]+", name)]
    if isinstance(table, TextTable) and table.headed and numbers:
        raise StemlabError(
            f"{table.path}, line 1 holds {numbers[0]!r} where names of columns are expected: put a header there, or "
            "give the names, dataset.columns=[click,user,...]."
        )


def _found(survey: Survey, made: Proposal) -> str:
    counts = (f"tasks {len(made.tasks)}", f"fields {len(made.fields)}", f"numericals {len(made.numericals)}")
    return f"rows {survey.rows:,}, columns {len(survey.columns)}: {', '.join(counts)}, left out {len(made.left)}."


def _text(table: TableFile, path: Path, survey: Survey, made: Proposal) -> str:
    """Return the config as YAML with a comment to every guess."""
    seen = f"all {survey.rows:,} rows" if survey.whole else f"the first {survey.rows:,} rows"
    lines = [
        f"# Drafted from {table.path.name} ({seen} were read). Check it, change it, then:",
        f"#   python -m stemlab.prepare dataset=table dataset.path={table.path.name} dataset.config={path.name}",
        "# Columns that are not named here are not read.",
        f"name: {_plain(path.name.removesuffix('.stemlab.yaml'))}",
    ]
    if isinstance(table, TextTable):
        lines.append(f"separator: {'tab' if table.separator == _TAB else json.dumps(table.separator)}")
        if not table.headed:
            lines.append(f"columns: [{', '.join(map(_plain, table.names))}] # the file has no header")
        if made.missing:
            words = ", ".join(json.dumps(word) for word in ("", *made.missing))
            lines.append(f"missing: [{words}] # cells that stand for a missing value; add the others")
    lines += _listed("tasks", "0 or 1: what is predicted", made.tasks, survey)
    lines += _listed(
        "fields", "categories: each value with min_count training rows gets an embedding", made.fields, survey
    )
    lines += _listed("numericals", "amounts: scaled, missing ones become the mean", made.numericals, survey)
    lines += ["scaling: standard # of numericals: standard | minmax | none", *_roles(survey, made)]
    least = 2 if survey.rows < _SMALL else 10
    lines.append(f"min_count: {least} # training rows that a category needs to get an id of its own")
    lines += [f"# left out: {_plain(name)} ({reason})" for name, reason in made.left.items()]
    return "\n".join(lines) + "\n"


def _roles(survey: Survey, made: Proposal) -> list[str]:
    named = [c.name for names in GROUP_PATTERNS for c in made.fields if names.search(c.name)]
    others = f"; candidates: {', '.join(dict.fromkeys(named))}" if len(set(named)) > 1 else ""
    lines = [
        f"group: {_plain(made.group.name) if made.group else 'null'} # whose rows are ranked together (gAUC){others}"
    ]
    if made.time is not None:
        lines.append(f"time: {_plain(made.time.name)} # {_about(made.time, survey)}")
    if made.split is not None:
        lines.append(f"split_column: {_plain(made.split.name)} # {_about(made.split, survey)}")
    rule = "given" if made.split is not None else "time" if made.time is not None else "random"
    lines += ["split:", f"  rule: {rule} # random | time: the last rows are held out | given: by split_column | dates"]
    for column in made.scenarios:
        names = ", ".join(_plain(name) for name in sorted(column.listed or ()))
        lines += [f"# scenario: {_plain(column.name)} # one model for several surfaces?", f"# scenarios: [{names}]"]
    return lines


def _listed(key: str, about: str, columns: list[ColumnSurvey], survey: Survey) -> list[str]:
    if not columns:
        return [f"{key}: [] # {about}"]
    return [f"{key}: # {about}", *(f"  - {_plain(c.name)} # {_about(c, survey)}" for c in columns)]


def _about(column: ColumnSurvey, survey: Survey) -> str:
    more = "more than " if column.full else ""
    told = [f"{more}{column.distinct:,} values"]
    if column.binary:
        told = [f"{_share(column.ones, survey)} ones"]
    elif column.kind == "integer":
        told.append(f"{column.low:.0f} to {column.high:.0f}")
    elif column.kind == "number":
        told.append(f"{column.low:g} to {column.high:g}")
    missing = column.missing + (column.spellings.total() if column.kind != "text" else 0)
    if missing:
        told.append(f"{_share(missing, survey)} missing")
    return ", ".join(told)


def _share(part: int, survey: Survey) -> str:
    return f"{100 * part / survey.rows:.3g} %"


def _plain(name: str) -> str:
    """Return a name as YAML: quoted where it could be taken for something else."""
    simple = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and name.lower() not in _RESERVED
    return name if simple else json.dumps(name, ensure_ascii=False)
