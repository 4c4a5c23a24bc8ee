"""``python -m stemlab.report runs=[runs]``: tables and figures from run records, on the screen and in documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from stemlab.config.cli import command
from stemlab.errors import StemlabError

if TYPE_CHECKING:
    from stemlab.config.report_schema import ReportConfig
    from stemlab.reporting.reference import ReferenceComparison
    from stemlab.reporting.table import ReportTable


@command("report")
def main(config: DictConfig) -> None:
    """Make the table; print it, write it, put it into a document or check it there."""
    from stemlab.config.resolve import resolve

    print(report(resolve(config)))


def report(config: Mapping[str, Any]) -> str:
    """Make the table that the config asks for.

    Args:
        config: plain (``stemlab.config.compose.compose("report", ["runs=[...]"])``).

    Returns:
        What a person is told: the table in Markdown, then the records left out and the files written.

    Raises:
        StemlabError: nothing to report, a key that no run has, or with ``check`` a document that differs.
    """
    from stemlab.config.instantiate import typed
    from stemlab.config.report_schema import ReportConfig
    from stemlab.reporting.collect import collect, save_copies
    from stemlab.reporting.document import check_block, update_block
    from stemlab.reporting.reference import compare_with_reference, read_reference
    from stemlab.reporting.render import markdown
    from stemlab.reporting.table import build_table

    asked = typed(ReportConfig, config)
    if asked.check and asked.update is None:
        raise StemlabError("check=true needs update=<document>: the file in which the table is checked.")
    found = collect(asked.runs or [str(asked.paths["runs_dir"])], asked.only)
    table = build_table(found.runs, asked.by, asked.metrics, asked.split, asked.order, asked.scenarios)
    reference = read_reference(Path(asked.reference)) if asked.reference else None
    beside = compare_with_reference(table, reference) if reference else []
    text = markdown(table, asked.caption, beside, reference.title if reference else "")
    told = [text, *found.skipped]
    if asked.output:
        told += [f"wrote {path}" for path in _write(asked, table, beside, text)]
    if asked.copies:
        paths = save_copies(found.runs, Path(asked.copies))
        told.append(f"wrote {len(paths)} compact records to {asked.copies}")
    if asked.update and asked.check:
        check_block(Path(asked.update), asked.name, text)
        told.append(f"{asked.update}: table {asked.name!r} is what the records give.")
    elif asked.update:
        changed = update_block(Path(asked.update), asked.name, text)
        told.append(f"{asked.update}: table {asked.name!r} {'replaced' if changed else 'is up to date'}.")
    return "\n".join(told)


def _write(asked: ReportConfig, table: ReportTable, beside: Sequence[ReferenceComparison], text: str) -> list[Path]:
    """Write Markdown, CSV, JSON and the figure into ``output``."""
    from stemlab.reporting.figure import baseline_differences, draw
    from stemlab.reporting.render import as_csv, as_json, rows_flat

    folder = Path(str(asked.output))
    rows = rows_flat(table, beside)
    texts = {".md": text, ".csv": as_csv(rows), ".json": as_json(rows, table, asked.caption)}
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{asked.name}{ending}" for ending in texts]
    for path, content in zip(paths, texts.values(), strict=True):
        path.write_text(content, encoding="utf-8")
    figure = asked.figure
    if figure.x is not None:
        curves = baseline_differences(table, figure.x, figure.metric, figure.baseline)
        place = folder / f"{asked.name}_{figure.metric.replace('/', '_')}"
        paths += draw(curves, place, x=figure.x, metric=figure.metric, baseline=figure.baseline, sample=table.sample)
    return paths


if __name__ == "__main__":
    main()
