"""Output folder of an analysis: numbers, tables, figures and the page, written atomically."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from stemlab.analysis.base import Findings, Matrix, Sections
from stemlab.analysis.page import PageFigure, page
from stemlab.analysis.plots import save
from stemlab.analysis.runs import AnalysedRun, summarise_runs
from stemlab.config.resolve import config_hash
from stemlab.data.io.csv_cells import escape_formula
from stemlab.data.io.output_file import require_writable, write_errors
from stemlab.errors import StemlabError
from stemlab.reporting.record import code_version, file_name, packages, write_json

_SCHEMA = 1
RESULTS, PAGE = "results.json", "index.html"


def output_folder(config: Mapping[str, Any], name: str, runs: Sequence[AnalysedRun]) -> Path:
    """Return the output folder; called before anything is computed.

    Raises:
        StemlabError: the folder exists and holds other files than results of an analysis.
    """
    if config["output"]:
        folder = Path(config["output"]).absolute()
    elif runs:
        parent = runs[0].checkpoint.parent
        folder = (parent.parent if parent.name == "checkpoints" else parent) / "analysis" / name
    else:
        folder = Path(config["paths"]["runs_dir"]) / "analysis" / name
    if folder.exists() and not (folder.is_dir() and (_holds_results(folder) or not any(folder.iterdir()))):
        raise StemlabError(
            f"output={folder} exists and holds other files than results of stemlab.analyze; choose another folder."
        )
    require_writable(folder)
    return folder


def _holds_results(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / RESULTS).read_text(encoding="utf-8")).get("command") == "analyze")
    except (OSError, ValueError, AttributeError):
        return False


def write_results(
    folder: Path, config: Mapping[str, Any], name: str, runs: Sequence[AnalysedRun], sections: Sections
) -> None:
    """Write all results into a temporary folder and rename it to ``folder``.

    Args:
        folder: output folder; earlier results in it are replaced.
        config: config of the command.
        name: name of the analysis.
        runs: analysed runs.
        sections: findings.
    """
    with write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    part, old = (folder.with_name(f".{folder.name}.{suffix}-{os.getpid()}") for suffix in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)
    try:
        with write_errors(folder):
            part.mkdir()
            _fill(part, config, name, runs, sections)
            if folder.exists():
                folder.rename(old)
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _fill(folder: Path, config: Mapping[str, Any], name: str, runs: Sequence[AnalysedRun], sections: Sections) -> None:
    figures, sample = {}, _is_sample(sections, runs)
    for section, findings in sections.found.items():
        inner = folder if [section] == list(sections.found) == [name] else folder / file_name(section)
        inner.mkdir(exist_ok=True)
        figures[section] = _write_section(folder, inner, findings, sample, bool(config.get("escape_csv")))
    results = results_dict(config, name, runs, sections)
    results["files"] = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    write_json(folder / RESULTS, results)
    (folder / PAGE).write_text(page(results, figures), encoding="utf-8")


def _is_sample(sections: Sections, runs: Sequence[AnalysedRun]) -> bool:
    return sections.sample or any(run.spec.sample for run in runs)


def _write_section(folder: Path, inner: Path, findings: Findings, sample: bool, escape: bool) -> list[PageFigure]:
    """Write matrices and figures; return the figures for the page."""
    for name, matrix in findings.matrices.items():
        write_csv(inner / f"{file_name(name)}.csv", matrix, escape=escape)
    figures = []
    for name, captioned in findings.figures.items():
        figure: Figure = captioned.figure
        png, svg = save(figure, inner / file_name(name), sample)
        figures.append(PageFigure(png.read_bytes(), str(svg.relative_to(folder)), captioned.caption))
    return figures


def write_csv(path: Path, matrix: Matrix, *, escape: bool = False) -> None:
    """Write a matrix as CSV: names in the first row and column, full precision, NaN as an empty cell.

    Args:
        path: the file.
        matrix: names and values.
        escape: put ``'`` in front of names that a spreadsheet would read as formulas.
    """
    shown = escape_formula if escape else str
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow([shown(matrix.corner), *map(shown, matrix.columns)])
        for name, values in zip(matrix.rows, matrix.values.tolist(), strict=True):
            lines.writerow([shown(name), *("" if value != value else value for value in values)])


def results_dict(
    config: Mapping[str, Any], name: str, runs: Sequence[AnalysedRun], sections: Sections
) -> dict[str, Any]:
    """Return the content of ``results.json``: findings, runs, settings and versions."""
    settings = {key: value for key, value in config["analysis"].items() if key != "_target_"}
    return {
        "schema": _SCHEMA,
        "command": "analyze",
        "analysis": name,
        "sample": _is_sample(sections, runs),
        "runs": summarise_runs(runs),
        "config": settings,
        "config_hash": config_hash({"analysis": config["analysis"]}),
        "code": code_version(),
        "packages": packages(),
        "sections": {key: _plain(findings) for key, findings in sections.found.items()},
        "refused": dict(sections.refused),
    }


def _plain(findings: Findings) -> dict[str, Any]:
    return {
        "title": findings.title,
        "verdict": findings.verdict,
        "reading": list(findings.reading),
        "notes": list(findings.notes),
        "numbers": findings.numbers,
        "tables": sorted(findings.matrices),
        "figures": sorted(findings.figures),
    }
