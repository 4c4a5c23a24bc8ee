"""Tables as Markdown, CSV and JSON.

Every row and the caption mark synthetic data as SAMPLE and runs with a limit on their batches as LIMITED.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from stemlab.config.limits import LIMITED, limits_text
from stemlab.data.io.csv_cells import escape_formula
from stemlab.metric_directions import REGRESSION_METRICS
from stemlab.reporting.costs import COST_HEADS, COST_WORDS
from stemlab.reporting.reference import ReferenceComparison
from stemlab.reporting.table import ReportRow, ReportTable, Stat

_SAMPLE = "SAMPLE"
_METRIC_NAMES = {"auc": "AUC", "gauc": "gAUC", "gauc_encoded": "gAUC (encoded)", "logloss": "log loss", "ece": "ECE"}
_METRIC_NAMES |= {name: name.upper() for name in REGRESSION_METRICS}
_RANKING = ("hr", "ndcg", "mrr")
_DECIMALS = 4
_SHOWN_SETTINGS = 6  # per row; CSV and JSON have all


def markdown(table: ReportTable, caption: str, comparisons: Sequence[ReferenceComparison] = (), title: str = "") -> str:
    """Return the table with its notes and the comparison with published numbers, as Markdown.

    Args:
        table: table of own runs.
        caption: line above the table.
        comparisons: own and published numbers.
        title: source of the published numbers.
    """
    blocks = [full_caption(table, caption), "", *_grid(table_cells(table))]
    blocks += [f"\n*{note}*" for note in notes_of(table)]
    if comparisons:
        blocks += ["", _about(comparisons, title), "", *_grid(_comparison_lines(comparisons))]
    return "\n".join(blocks) + "\n"


def full_caption(table: ReportTable, caption: str) -> str:
    """Return the caption with a remark on means, synthetic data and limits."""
    remark = "mean ± standard deviation over seeds"
    if table.sample:
        remark += f"; {_SAMPLE}: synthetic data, not results"
    if table.limited:
        remark += f"; {LIMITED}: trained or measured on a part of the batches or epochs, not results"
    return f"{caption} ({remark})" if caption else f"({remark})"


def table_cells(table: ReportTable) -> list[list[str]]:
    """Return heading and rows as texts; significant cells are in ``**``."""
    differs = any(row.differs for row in table.rows)
    head = [key.rpartition(".")[2] for key in table.by]
    head += ["settings"] * differs + [column_heading(name) for name in table.columns]
    lines = [[*head, "seeds", *(COST_HEADS[cost] for cost in table.costs)]]
    for index, row in enumerate(table.rows):
        line = label_of(row) + [settings_text(row, _SHOWN_SETTINGS)] * differs
        line += [_marked(format_stat(row.stats[name]), table, index, name) for name in table.columns]
        lines.append([*line, str(len(row.seeds)), *(_whole(row.costs[column]) for column in table.costs)])
    return lines


def _marked(cell: str, table: ReportTable, row: int, column: str) -> str:
    """Return a cell in bold if its row is the best of the column or not significantly worse."""
    bold = table.significance is not None and table.significance.is_best(row, column)
    return f"**{cell}**" if bold else cell


def column_heading(name: str) -> str:
    """Return ``like AUC`` for ``auc/like``, ``click nl AUC`` for ``auc/click/nl``, ``NDCG@5`` for ``ndcg@5``."""
    metric, *rest = name.split("/", 2)
    return " ".join([*rest, _shown(metric)])


def _shown(metric: str) -> str:
    return _METRIC_NAMES.get(metric, metric.upper() if metric.partition("@")[0] in _RANKING else metric)


def label_of(row: ReportRow) -> list[str]:
    """Return the values of the keys of a row as texts, with its marks (one network per task, SAMPLE, ...)."""
    marks = " (one network per task)" * row.alone + " (own epoch per task)" * row.per_task + f" {_SAMPLE}" * row.sample
    marks += f" {LIMITED}" * bool(row.limits)
    marked = "model" if "model" in row.labels else next(iter(row.labels))
    return [f"{_word(value)}{marks if key == marked else ''}" for key, value in row.labels.items()]


def _word(value: Any) -> str:
    if value is None:  # a key that only other rows have
        return "–"
    names = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return " ".join(value) if names else str(value)


def settings_text(row: ReportRow, shown: int | None = None) -> str:
    """Return the settings in which a row differs from others of its name, at most ``shown`` of them."""
    words = [f"{key.rpartition('.')[2]}={_word(value)}" for key, value in row.differs.items()]
    more = [] if shown is None or len(words) <= shown else [f"and {len(words) - shown} more"]
    return ", ".join(words[:shown] + more)


def format_stat(stat: Stat) -> str:
    """Return ``0.8208 ± 0.0003``; without deviation for a single seed; a dash if undefined."""
    if stat.mean is None:
        return "–"
    return _fixed(stat.mean) if stat.std is None else f"{_fixed(stat.mean)} ± {_fixed(stat.std)}"


def _fixed(value: float) -> str:
    return f"{value:.{_DECIMALS}f}"


def _whole(stat: Stat) -> str:
    return "–" if stat.mean is None else f"{stat.mean:,.0f}"


def notes_of(table: ReportTable) -> list[str]:
    """Return the sentences below the table."""
    machines = {(run.value("hardware.cpu"), run.value("hardware.threads")) for row in table.rows for run in row.runs}
    names = "; ".join(sorted(f"{cpu}, {threads} thread{'s' * (threads != 1)}" for cpu, threads in machines if cpu))
    return [
        *_cost_notes(table),
        *_limit_notes(table),
        *_test_notes(table),
        *([f"Measured on: {names}."] if names else []),
        *table.warnings,
    ]


def _cost_notes(table: ReportTable) -> list[str]:
    """Return what the cost columns count if a row has one network per task."""
    if not table.costs or not any(row.alone for row in table.rows):
        return []
    *others, last = dict.fromkeys(COST_WORDS[cost] for cost in table.costs)
    names = f"{', '.join(others)} and {last}" if others else last
    return [f"With one network per task, {names} are those of one network."]


def _test_notes(table: ReportTable) -> list[str]:
    """Return how the differences were tested, and which differences could not have been found."""
    found = table.significance
    if found is None or not found.cells:
        return []
    least = ", ".join(f"{column_heading(name)} {value:.2g}" for name, value in found.detectable.items())
    several = len({row.runs[0].record["dataset_fingerprint"] for row in table.rows}) > 1
    same = "; only rows on the same data are compared" * several
    without = ", ".join(map(column_heading, found.untested))
    return [
        f"Bold: the best mean and those not significantly worse ({found.method}, {len(found.cells)} tests, Holm's "
        f"correction, level {found.level:g}{same}). Smallest detectable difference of one test (power 0.8): {least}."
        + f" Not tested, because the best row has no two seeds in common with another: {without}."
        * bool(without)
    ]


def _limit_notes(table: ReportTable) -> list[str]:
    return [f"{LIMITED}: {' '.join(label_of(row))}: {limits_text(row.limits)}." for row in table.rows if row.limits]


def _about(comparisons: Sequence[ReferenceComparison], title: str) -> str:
    tolerances = {one.name.split("/")[0]: one.tolerance for one in comparisons if one.tolerance is not None}
    bold = ", ".join(f"{_shown(metric)} more than {value:g}" for metric, value in tolerances.items())
    single = list(dict.fromkeys(label_of(one.row)[0] for one in comparisons if one.seeds == 1))
    return (
        f"Numbers of {title}, with the difference of stemlab's mean in brackets"
        + (f" (bold: {bold})" if bold else "")
        + (f"; one seed only: {', '.join(single)}" if single else "")
        + ":"
    )


def _comparison_lines(comparisons: Sequence[ReferenceComparison]) -> list[list[str]]:
    """Return one line per row of own runs, with one column per metric and task."""
    names = list(dict.fromkeys(one.name for one in comparisons))
    heads = [key.rpartition(".")[2] for key in comparisons[0].row.labels]
    lines = [[*heads, *map(column_heading, names)]]
    by_row: dict[int, list[ReferenceComparison]] = {}
    for one in comparisons:
        by_row.setdefault(id(one.row), []).append(one)
    for row in by_row.values():
        cells = {one.name: _distance(one) for one in row}
        lines.append([*label_of(row[0].row), *(cells.get(name, "–") for name in names)])
    return lines


def _distance(one: ReferenceComparison) -> str:
    published = _fixed(one.published) + ("" if one.std is None else f" ± {_fixed(one.std)}")
    distance = f"({one.difference:+.{_DECIMALS}f})"
    return f"{published} {distance if one.within is not False else f'**{distance}**'}"


def aligned(text: str) -> str:
    """Return a text with the cells of its Markdown tables padded to the width of their columns, to be read as it is."""
    lines = text.split("\n")
    starts = [i for i, line in enumerate(lines) if line.startswith("|---")]
    for start in starts:
        end = next((i for i in range(start, len(lines)) if not lines[i].startswith("|")), len(lines))
        rows = {i: lines[i].strip("|").split("|") for i in range(start - 1, end) if i != start}
        if len({len(cells) for cells in rows.values()}) > 1:  # a cell has the separator in it
            continue
        widths = [max(len(cell.strip()) for cell in column) for column in zip(*rows.values(), strict=True)]
        for i, cells in rows.items():
            padded = (cell.strip().ljust(width) for cell, width in zip(cells, widths, strict=True))
            lines[i] = f"| {' | '.join(padded)} |"
        lines[start] = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    return "\n".join(lines)


def _grid(lines: Sequence[Sequence[str]]) -> list[str]:
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    return [head, f"|{'---|' * len(lines[0])}", *body]


def rows_flat(table: ReportTable, comparisons: Sequence[ReferenceComparison] = ()) -> list[dict[str, Any]]:
    """Return one dictionary per row: labels, SAMPLE mark, seeds, settings; mean, std and count per metric and cost."""
    compared = {(id(one.row), one.name): one for one in comparisons}
    flat = []
    for index, row in enumerate(table.rows):
        line: dict[str, Any] = {**row.labels, "sample": row.sample, "seeds": " ".join(map(str, row.seeds))}
        if table.limited:
            line["limited"] = limits_text(row.limits)
        line["settings"] = settings_text(row)
        for name, stat in {**row.stats, **row.costs}.items():
            line |= {f"{name} mean": stat.mean, f"{name} std": stat.std, f"{name} n": len(stat.values)}
            if (one := compared.get((id(row), name))) is not None:
                line |= {f"{name} published": one.published, f"{name} difference": one.difference}
        if table.significance is not None:
            line |= table.significance.flat(index, table.columns)
        flat.append(line)
    return flat


def as_csv(rows: Sequence[Mapping[str, Any]], *, escape: bool = False) -> str:
    """Return flat rows as CSV; undefined values are empty cells.

    Args:
        rows: column -> value.
        escape: put ``'`` in front of texts that a spreadsheet would read as formulas.
    """
    if escape:
        rows = [{escape_formula(key): escape_formula(value) for key, value in row.items()} for row in rows]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_json(rows: Sequence[Mapping[str, Any]], table: ReportTable, caption: str) -> str:
    """Return flat rows with caption and warnings as JSON; undefined values are null."""
    content = {
        "caption": full_caption(table, caption),
        "sample": table.sample,
        "limited": table.limited,
        "warnings": table.warnings,
        "rows": list(rows),
    }
    return json.dumps(content, indent=2) + "\n"
