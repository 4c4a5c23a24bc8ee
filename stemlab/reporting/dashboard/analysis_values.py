"""Values of a dashboard from the results of ``stemlab.analyze``: gains per bucket and spectra of embedding tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stemlab.reporting.dashboard.rounding import rounded
from stemlab.reporting.path_patterns import matching_paths

RESULTS_FILE = "results.json"
"""Name of the file that ``stemlab.analyze`` writes into its folder."""

Row = dict[str, Any]


def find_results(patterns: Sequence[str]) -> list[Path]:
    """Return the files of results at or below some paths, sorted and unique."""
    found: set[Path] = set()
    for pattern in patterns:
        for match in matching_paths(pattern):
            found.update(match.rglob(RESULTS_FILE) if match.is_dir() else ())
    return sorted(found)


def analysis_entries(patterns: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the results of analyses for the page, one entry per file and section, and why files are left out.

    An entry has ``analysis`` (comparable, transfer, collapse), ``path``, ``runs`` (identity of each run: see
    ``run_key``), ``rows`` and, per label of a run, its ``models``.
    """
    entries, skipped = [], []
    for path in find_results(patterns):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.get("command") == "analyze":
                entries += list(_entries(path, content))
        except (AttributeError, KeyError, OSError, TypeError, ValueError, csv.Error) as error:
            skipped.append(f"{path} is left out: it is not a file of results of this version ({error!r}).")
    return entries, skipped


def run_key(entry: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Return the identity of a run in records and in results: data, settings, seed."""
    return entry.get("dataset_fingerprint"), entry.get("config_hash"), entry.get("seed")


def _entries(path: Path, content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    runs = [dict(run) for run in content["runs"]]
    for name, section in content["sections"].items():
        if name in _READERS:
            yield {
                "analysis": name,
                "path": str(path.parent),
                "sample": bool(content.get("sample")),
                "runs": [list(run_key(run)) for run in runs],
                "models": {run["label"]: run["model"] for run in runs},
                "rows": list(_READERS[name](path.parent, section["numbers"])),
            }


def _comparable(folder: Path, numbers: Mapping[str, Any]) -> Iterator[Row]:
    for comparison in numbers["comparisons"]:
        first, second = comparison["tasks"]
        for task, panel in comparison["panels"].items():
            facet = f"{task}: feedback for {first} against {second}"
            yield from _bucket_rows(facet, panel["models"], "delta_auc")


def _transfer(folder: Path, numbers: Mapping[str, Any]) -> Iterator[Row]:
    for task, found in numbers["tasks"].items():
        yield from _bucket_rows(task, found["models"], "gain")


def _bucket_rows(facet: str, models: Mapping[str, Any], key: str) -> Iterator[Row]:
    """Yield one row per run and bucket; gains in thousandths. A star marks the bucket with similar feedback."""
    for label, cells in models.items():
        for bucket, cell in cells.items():
            if key in cell:  # the single-task network has no gain
                found = {"gain": cell[key], "low": cell["low"], "high": cell["high"]}
                row = {
                    "label": label,
                    "facet": facet,
                    "bucket": bucket.removesuffix("*"),
                    "similar": bucket.endswith("*"),
                }
                yield row | {"samples": cell["rows"]} | {name: rounded(1000 * value) for name, value in found.items()}


def _collapse(folder: Path, numbers: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the mean spectrum of each run and role over its tables of full width: singular values / the largest."""
    inner = folder / "collapse"
    path = (inner if inner.is_dir() else folder) / "spectra.csv"
    if not path.is_file():  # a copy of results.json only
        return
    with path.open(encoding="utf-8", newline="") as file:
        _, *lines = csv.reader(file)
    spectra: dict[tuple[str, str], list[list[float]]] = {}
    for name, *cells in lines:
        label, _, role = _split_table(name, numbers["runs"])
        if all(cells):
            spectra.setdefault((label, role), []).append([float(cell) for cell in cells])
    for (label, role), tables in spectra.items():
        full = [table for table in tables if table[-1] > 0] or tables
        for index, values in enumerate(zip(*full, strict=True), start=1):
            mean = rounded(sum(values) / len(values))
            yield {"label": label, "role": role, "index": index, "value": mean, "tables": len(full)}


def _split_table(name: str, labels: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return label, field and role of ``label/field/role``; the parts may hold slashes, the label is known."""
    label = max((one for one in labels if name.startswith(f"{one}/")), key=len)
    field, _, role = name[len(label) + 1 :].partition("/")
    return label, field, role


_READERS: dict[str, Callable[[Path, Mapping[str, Any]], Iterator[Row]]] = {
    "comparable": _comparable,
    "transfer": _transfer,
    "collapse": _collapse,
}
