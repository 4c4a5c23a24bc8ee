"""The folder of results: numbers, tables, figures and the page appear in one step, whole, or not at all."""

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
from stemlab.analysis.page import Shown, page
from stemlab.analysis.plots import save
from stemlab.analysis.runs import AnalysedRun, describe
from stemlab.config.resolve import config_hash
from stemlab.errors import StemlabError
from stemlab.reporting.record import code_version, packages, write_json

SCHEMA = 1
RESULTS, PAGE = "results.json", "index.html"


def output_folder(config: Mapping[str, Any], name: str, runs: Sequence[AnalysedRun]) -> Path:
    """Return where the results go, before anything is computed.

    Raises:
        StemlabError: something else than results of an analysis is there, or nowhere to write was told.
    """
    if config["output"]:
        folder = Path(config["output"]).absolute()
    elif runs:
        beside = runs[0].checkpoint.parent
        folder = (beside.parent if beside.name == "checkpoints" else beside) / "analysis" / name
    else:
        folder = Path(config["paths"]["runs_dir"]) / "analysis" / name
    if folder.exists() and not (folder.is_dir() and (_is_ours(folder) or not any(folder.iterdir()))):
        raise StemlabError(f"output={folder} holds other files than those of stemlab.analyze: name another folder.")
    return folder


def _is_ours(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / RESULTS).read_text(encoding="utf-8")).get("command") == "analyze")
    except (OSError, ValueError, AttributeError):
        return False


def write_results(
    folder: Path, config: Mapping[str, Any], name: str, runs: Sequence[AnalysedRun], sections: Sections
) -> None:
    """Write everything beside ``folder`` and move it into place.

    Args:
        folder: replaced where it holds earlier results.
        config: of the command.
        name: of the analysis.
        runs: what was analysed.
        sections: what was found.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    part, old = (folder.with_name(f".{folder.name}.{word}-{os.getpid()}") for word in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        _fill(part, config, name, runs, sections)
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _fill(folder: Path, config: Mapping[str, Any], name: str, runs: Sequence[AnalysedRun], sections: Sections) -> None:
    shown, sample = {}, _of_sample(sections, runs)
    for section, findings in sections.found.items():
        inner = folder if [section] == list(sections.found) == [name] else folder / section
        inner.mkdir(exist_ok=True)
        shown[section] = _write_section(folder, inner, findings, sample)
    results = described(config, name, runs, sections)
    results["files"] = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    write_json(folder / RESULTS, results)
    (folder / PAGE).write_text(page(results, shown), encoding="utf-8")


def _of_sample(sections: Sections, runs: Sequence[AnalysedRun]) -> bool:
    return sections.sample or any(run.spec.sample for run in runs)


def _write_section(folder: Path, inner: Path, findings: Findings, sample: bool) -> list[Shown]:
    """Write tables and figures; return the figures as the page shows them."""
    for name, matrix in findings.matrices.items():
        write_csv(inner / f"{name}.csv", matrix)
    shown = []
    for name, drawing in findings.drawings.items():
        figure: Figure = drawing.figure
        png, svg = save(figure, inner / name, sample)
        shown.append(Shown(png.read_bytes(), str(svg.relative_to(folder)), drawing.caption))
    return shown


def write_csv(path: Path, matrix: Matrix) -> None:
    """Write a table: names in the first line and column, undefined numbers empty, all digits."""
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow([matrix.corner, *matrix.columns])
        for name, values in zip(matrix.rows, matrix.values.tolist(), strict=True):
            lines.writerow([name, *("" if value != value else value for value in values)])


def described(config: Mapping[str, Any], name: str, runs: Sequence[AnalysedRun], sections: Sections) -> dict[str, Any]:
    """Return ``results.json``: what was found, in what, with what."""
    settings = {key: value for key, value in config["analysis"].items() if key != "_target_"}
    return {
        "schema": SCHEMA,
        "command": "analyze",
        "analysis": name,
        "sample": _of_sample(sections, runs),
        "runs": describe(runs),
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
        "figures": sorted(findings.drawings),
    }
