"""``python -m stemlab.report runs=runs``: tables and figures from run records, printed and written to documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig

from stemlab.config.cli import command
from stemlab.errors import StemlabError

if TYPE_CHECKING:
    from stemlab.config.report_schema import ReportConfig
    from stemlab.reporting.collect import Run
    from stemlab.reporting.parts import ReportPart
    from stemlab.reporting.reference import Reference, ReferenceComparison
    from stemlab.reporting.table import ReportTable

_SHOWN_SKIPPED = 5


@command("report")
def main(config: DictConfig) -> None:
    """Build the report table; print it, write it, insert it into a document or check it there."""
    from stemlab.config.resolve import resolve
    from stemlab.reporting.render import aligned

    print(aligned(report(resolve(config))))


def report(config: Mapping[str, Any]) -> str:
    """Build the report table of the config and write the configured files.

    Args:
        config: plain (``stemlab.config.compose.compose("report", ["runs=..."])``).

    Returns:
        Text to print: the table in Markdown, then skipped records and written files.

    Raises:
        StemlabError: there is no run to report, no run has a key of ``by``, or with ``check`` the document differs.
    """
    from stemlab.config.instantiate import validate_as
    from stemlab.config.report_schema import ReportConfig
    from stemlab.data.io.output_file import check_folder_name
    from stemlab.reporting.collect import collect, save_copies
    from stemlab.reporting.document import check_block, update_block
    from stemlab.reporting.parts import ReportPart, separate
    from stemlab.reporting.reference import read_reference

    settings = validate_as(ReportConfig, config)
    if settings.check and settings.update is None:
        raise StemlabError("check=true needs update=<document>: set it to the file whose table is checked.")
    if settings.output is None and (settings.critical.metrics or settings.pareto.metric or settings.reliability):
        raise StemlabError("critical, pareto and reliability write figures: set output=<folder>.")
    if settings.output:
        check_folder_name(settings.output, (".md", ".html", ".tex", ".csv", ".json"))
    found = collect(settings.runs or [str(settings.paths["runs_dir"])], settings.only)
    reference = read_reference(Path(settings.reference)) if settings.reference else None
    parts = separate(found.runs, settings.by) if settings.tables == "separate" else [ReportPart("", found.runs)]
    tables, left_out = _tables(settings, parts, reference)
    text = "\n".join(table.text for table in tables)
    lines = [text, *left_out, *_shortened(found.skipped)]
    if settings.output:
        lines += [f"wrote {path}" for path in _write(settings, tables, text)]
    if settings.copies:
        paths = save_copies(found.runs, Path(settings.copies), settings.significance == "samples")
        lines.append(f"wrote {len(paths)} compact records to {settings.copies}")
    if settings.update and settings.check:
        check_block(Path(settings.update), settings.name, text)
        lines.append(f"{settings.update}: table {settings.name!r} matches the records.")
    elif settings.update:
        changed = update_block(Path(settings.update), settings.name, text)
        lines.append(f"{settings.update}: table {settings.name!r} {'replaced' if changed else 'is up to date'}.")
    return "\n".join(lines)


class _PartTable(NamedTuple):
    """Table of a part of the report: suffix of its files, caption, comparisons with published numbers, Markdown."""

    suffix: str
    caption: str
    table: ReportTable
    comparisons: Sequence[ReferenceComparison]
    text: str


def _tables(
    settings: ReportConfig, parts: Sequence[ReportPart], reference: Reference | None
) -> tuple[list[_PartTable], list[str]]:
    """Return the table of each part, and one sentence per part that has none.

    Raises:
        StemlabError: no part has a table.
    """
    tables, left_out = [], []
    for part in parts:
        title, suffix = (part.title, part.file_suffix) if len(parts) > 1 else ("", "")
        try:
            table = _table(settings, part.runs, reference, ": ".join(filter(None, (settings.caption, title))), suffix)
        except StemlabError as error:
            if len(parts) == 1:
                raise
            left_out.append(f"{title} is left out: {error}")
        else:
            tables.append(table)
    if not tables:
        raise StemlabError(" ".join(left_out))
    return tables, left_out


def _table(
    settings: ReportConfig, runs: Sequence[Run], reference: Reference | None, caption: str, suffix: str
) -> _PartTable:
    from stemlab.reporting.parts import metrics_of
    from stemlab.reporting.reference import compare_with_reference
    from stemlab.reporting.render import markdown
    from stemlab.reporting.table import build_table

    metrics = settings.metrics or metrics_of(runs, settings.split)
    level, over = (settings.level if settings.significance else None), settings.significance or "seeds"
    table = build_table(runs, settings.by, metrics, settings.split, settings.order, settings.scenarios, level, over)
    table.costs = settings.costs
    comparisons = compare_with_reference(table, reference) if reference else []
    text = markdown(table, caption, comparisons, reference.title if reference else "")
    return _PartTable(suffix, caption, table, comparisons, text)


def _shortened(sentences: Sequence[str]) -> list[str]:
    """Return the sentences about skipped records, a few of many."""
    shown = list(sentences[:_SHOWN_SKIPPED])
    rest = len(sentences) - len(shown)
    return [*shown, f"{rest} more records are skipped."] if rest else shown


def _write(settings: ReportConfig, tables: Sequence[_PartTable], text: str) -> list[Path]:
    """Write Markdown, HTML, LaTeX, CSV, JSON and the figure to ``output``; return the files."""
    from stemlab.data.io.output_file import write_text_files
    from stemlab.reporting.formats import as_html, as_latex
    from stemlab.reporting.render import as_csv, as_json, full_caption, notes_of, rows_flat, table_cells

    folder = Path(str(settings.output))
    shown = [(table_cells(one.table), full_caption(one.table, one.caption), notes_of(one.table)) for one in tables]
    contents = {folder / f"{settings.name}.md": text, folder / f"{settings.name}.html": as_html(shown, settings.name)}
    for part, content in zip(tables, shown, strict=True):
        contents[folder / f"{settings.name}{part.suffix}.tex"] = as_latex(*content, settings.name + part.suffix)
        rows = rows_flat(part.table, part.comparisons)
        contents[folder / f"{settings.name}{part.suffix}.csv"] = as_csv(rows, escape=settings.escape_csv)
        contents[folder / f"{settings.name}{part.suffix}.json"] = as_json(rows, part.table, part.caption)
    if settings.figure.x is not None and len(tables) > 1:
        raise StemlabError("figure: the runs make several tables; select those of one with only={dataset: ...}.")
    write_text_files(contents)
    return [*contents, *_figures(settings, tables, folder)]


def _figures(settings: ReportConfig, tables: Sequence[_PartTable], folder: Path) -> list[Path]:
    """Write the figures of the config: differences from a baseline, critical differences, quality against costs."""
    from stemlab.reporting.critical import blocks_of_tables, rank_models
    from stemlab.reporting.evidence_figures import draw_critical, draw_pareto
    from stemlab.reporting.figure import baseline_differences, draw

    every, paths, figure = [one.table for one in tables], [], settings.figure
    sample, limited = any(table.sample for table in every), any(table.limited for table in every)
    if figure.x is not None:
        curves = baseline_differences(every[0], figure.x, figure.metric, figure.baseline)
        base = folder / f"{settings.name}_{figure.metric.replace('/', '_')}"
        words = {"x": figure.x, "metric": figure.metric, "baseline": figure.baseline}
        paths += draw(curves, base, **words, sample=sample, limited=limited)
    if settings.critical.metrics is not None:
        names, values, left_out = blocks_of_tables(every, settings.critical.metrics)
        ranked = rank_models(names, values, settings.critical.method, settings.level, left_out)
        paths += draw_critical(ranked, folder / f"{settings.name}_critical", sample, limited)
    if settings.reliability:
        for one in tables:
            paths += _reliability(one.table, folder / f"{settings.name}{one.suffix}_reliability", settings.escape_csv)
    if settings.pareto.metric is not None:
        having = [one for one in tables if settings.pareto.metric in one.table.columns]
        for one in having or tables[:1]:
            base = folder / f"{settings.name}{one.suffix}_pareto"
            paths += draw_pareto(one.table, settings.pareto.metric, settings.pareto.costs, base)
    return paths


def _reliability(table: ReportTable, base: Path, escape: bool) -> list[Path]:
    """Write figure and CSV of the calibration of the runs of a table; return the files."""
    from stemlab.data.io.output_file import write_text_file
    from stemlab.reporting.reliability import draw_reliability, reliabilities
    from stemlab.reporting.render import as_csv

    found = reliabilities(table)
    write_text_file(base.with_name(f"{base.name}.csv"), as_csv([one.cells() for one in found], escape=escape))
    return [base.with_name(f"{base.name}.csv"), *draw_reliability(found, base, table.sample, table.limited)]


if __name__ == "__main__":
    main()
