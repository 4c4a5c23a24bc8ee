"""Write the tables of docs/board.md from the records in scripts/records/board.

    python scripts/board_page.py            # replace the tables
    python scripts/board_page.py --check    # exit status 1 if page and records differ

Per dataset: the table of the report (`python -m stemlab.report study=board_DATASET`) and a list of the significant
differences. A dataset with its first result gets a section. Over all
datasets: who is best, not worse, or worse, and the settings that the tuning chose.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from board import DEFINITION, RECORDS, RESULT, ROOT

from stemlab.config.compose import compose
from stemlab.data.io.output_file import write_text_file
from stemlab.errors import StemlabError
from stemlab.report import report
from stemlab.reporting.collect import Run, collect
from stemlab.reporting.document import END, check_block, update_block
from stemlab.reporting.render import column_heading
from stemlab.reporting.table import ReportTable, build_table

LAST = "## Again, or further"
PAGE = ROOT / "docs" / "board.md"
SETTINGS = {"optim.lr": "lr", "model.embedding_regularizer": "L2", "optim.l2": "L2"}


def studies() -> list[str]:
    """Return the names of the datasets that have results, in the order of the definition."""
    return [name for name in _definition()["datasets"] if _has_results(RECORDS / f"{name}.jsonl")]


def _has_results(path: Path) -> bool:
    return path.is_file() and f'"{RESULT}"' in path.read_text(encoding="utf-8")


def _definition() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(DEFINITION.read_text(encoding="utf-8"))
    return found


def add_sections(page: Path, names: Sequence[str]) -> None:
    """Add a section for each dataset that the page lacks, before the last section."""
    text, datasets = page.read_text(encoding="utf-8"), _definition()["datasets"]
    for name in names:
        if f"<!-- table:board_{name} -->" not in text:
            empty = "\n\n".join(f"<!-- table:board_{block} -->\n{END}" for block in (name, f"{name}_differences"))
            one = datasets[name]
            text = text.replace(LAST, f"## {one['title']}\n\n{one['about'].strip()}\n\n{empty}\n\n{LAST}")
    write_text_file(page, text)


def table_of(config: Mapping[str, Any]) -> ReportTable:
    """Return the table of a report's config, with its tests."""
    runs = collect(list(config["runs"]), config["only"]).runs
    return build_table(runs, config["by"], config["metrics"], order=config["order"], level=config["level"])


def verdict(table: ReportTable, row: int) -> str:
    """Return ``best``, ``not worse`` or ``worse k/n`` (on k of n columns) of a row; ``n=1`` without tests."""
    tests = table.significance
    if tests is None or not any((row, column) in {*tests.cells, *tests.best} for column in table.columns):
        return "n=1"
    worse = sum((row, column) in tests.cells and not tests.is_best(row, column) for column in table.columns)
    if worse:
        return f"worse {worse}/{len(table.columns)}"
    return "**best**" if any((row, column) in tests.best for column in table.columns) else "not worse"


def matrix(tables: Mapping[str, ReportTable]) -> str:
    """Return the table of verdicts: one row per network, one column per dataset."""
    networks = list(_definition()["networks"])
    found = {name: _by_network(table) for name, table in tables.items()}
    head = [
        f"{name}{' SAMPLE' if table.sample else ''} (n={_seeds(table)})" if table.rows else name
        for name, table in tables.items()
    ]
    lines = [["network", *head]]
    for network in networks:
        cells = [verdict(tables[name], rows[network]) if network in rows else "–" for name, rows in found.items()]
        if any(cell != "–" for cell in cells):
            lines.append([network, *cells])
    return _grid(lines)


def chosen_settings(tables: Mapping[str, ReportTable]) -> str:
    """Return the table of the settings that the tuning chose."""
    networks = list(_definition()["networks"])
    lines = [["network", *tables]]
    for network in networks:
        cells = []
        for table in tables.values():
            rows = _by_network(table)
            cells.append(_settings(table.rows[rows[network]].runs[0]) if network in rows else "–")
        if any(cell != "–" for cell in cells):
            lines.append([network, *cells])
    return _grid(lines)


def differences(table: ReportTable) -> str:
    """Return one line per column: the best network, and those that are significantly worse, with the difference."""
    tests = table.significance
    if tests is None or not tests.best:
        return "No tests: one seed only."
    lines = []
    for column in table.columns:
        best = [row for row in range(len(table.rows)) if (row, column) in tests.best]
        if not best:
            continue
        worse = {
            row: tests.cells[row, column].test.difference
            for row in range(len(table.rows))
            if (row, column) in tests.cells and not tests.is_best(row, column)
        }
        words = [f"{_network(table, row)} {worse[row]:+.4f}" for row in sorted(worse, key=lambda row: worse[row])]
        value = table.rows[best[0]].stats[column].mean
        text = f"worse: {', '.join(words)}" if words else "no network is significantly worse"
        lines.append(f"- {column_heading(column)}: best {_network(table, best[0])} ({value:.4f}); {text}.")
    return f"{_in_short(table)} Holm-adjusted p < {tests.level:g}:\n\n" + "\n".join(lines)


def _in_short(table: ReportTable) -> str:
    """Return one sentence: the networks that are worse somewhere, and those that are nowhere."""
    verdicts = {_network(table, row): verdict(table, row) for row in range(len(table.rows))}
    worse = [f"{name} ({text.removeprefix('worse ')})" for name, text in verdicts.items() if text.startswith("worse")]
    others = [name for name, text in verdicts.items() if not text.startswith("worse")]
    if not others:
        alike = "each network is worse than the best on some column"
    elif len(others) > 1:
        alike = f"no significant difference from the best: {', '.join(others)}"
    else:
        alike = f"{others[0]} is the best"
    if not worse:
        return f"With {_seeds(table)} seeds no difference is significant."
    return f"With {_seeds(table)} seeds, significantly worse than the best (columns): {', '.join(worse)}; {alike}."


def blocks(tables: Mapping[str, ReportTable]) -> dict[str, str]:
    """Return the name and the content of every generated block except the report's tables."""
    found = {f"board_{name}_differences": differences(table) for name, table in tables.items()}
    return {"board": matrix(tables), "board_settings": chosen_settings(tables), **found}


def main() -> int:
    """Update or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    os.chdir(ROOT)
    try:
        if not check:
            add_sections(PAGE, studies())
        configs = {name: compose("report", [f"study=board_{name}"]) for name in studies()}
        for config in configs.values():
            report({**config, "update": str(PAGE), "check": check})
        for name, content in blocks({name: table_of(config) for name, config in configs.items()}).items():
            (check_block if check else update_block)(PAGE, name, content)
    except StemlabError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{PAGE}: {'agrees with' if check else 'made from'} the records")
    return 0


def _by_network(table: ReportTable) -> dict[str, int]:
    return {_network(table, row): row for row in range(len(table.rows))}


def _network(table: ReportTable, row: int) -> str:
    return str(table.rows[row].labels["model"])


def _seeds(table: ReportTable) -> str:
    counts = [len(row.seeds) for row in table.rows]
    return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _settings(run: Run) -> str:
    values = {label: run.value(key) for key, label in SETTINGS.items() if run.value(key) is not None}
    return ", ".join(f"{label} {value:g}" for label, value in values.items())


def _grid(lines: list[list[str]]) -> str:
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([rows[0], "|---" * len(lines[0]) + "|", *rows[1:]])


if __name__ == "__main__":
    sys.exit(main())
