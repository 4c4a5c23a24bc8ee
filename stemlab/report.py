"""``python -m stemlab.report runs=runs``: tables and figures from run records, printed and written to documents."""

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
    """Build the report table; print it, write it, insert it into a document or check it there."""
    from stemlab.config.resolve import resolve

    print(report(resolve(config)))


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
    from stemlab.reporting.collect import collect, save_copies
    from stemlab.reporting.document import check_block, update_block
    from stemlab.reporting.reference import compare_with_reference, read_reference
    from stemlab.reporting.render import markdown
    from stemlab.reporting.table import build_table

    settings = validate_as(ReportConfig, config)
    if settings.check and settings.update is None:
        raise StemlabError("check=true needs update=<document>: set it to the file whose table is checked.")
    found = collect(settings.runs or [str(settings.paths["runs_dir"])], settings.only)
    table = build_table(found.runs, settings.by, settings.metrics, settings.split, settings.order, settings.scenarios)
    reference = read_reference(Path(settings.reference)) if settings.reference else None
    comparisons = compare_with_reference(table, reference) if reference else []
    text = markdown(table, settings.caption, comparisons, reference.title if reference else "")
    lines = [text, *found.skipped]
    if settings.output:
        lines += [f"wrote {path}" for path in _write(settings, table, comparisons, text)]
    if settings.copies:
        paths = save_copies(found.runs, Path(settings.copies))
        lines.append(f"wrote {len(paths)} compact records to {settings.copies}")
    if settings.update and settings.check:
        check_block(Path(settings.update), settings.name, text)
        lines.append(f"{settings.update}: table {settings.name!r} matches the records.")
    elif settings.update:
        changed = update_block(Path(settings.update), settings.name, text)
        lines.append(f"{settings.update}: table {settings.name!r} {'replaced' if changed else 'is up to date'}.")
    return "\n".join(lines)


def _write(
    settings: ReportConfig, table: ReportTable, comparisons: Sequence[ReferenceComparison], text: str
) -> list[Path]:
    """Write Markdown, CSV, JSON and the figure to ``output``; return the files."""
    from stemlab.data.io.output_file import write_text_file
    from stemlab.reporting.figure import baseline_differences, draw
    from stemlab.reporting.render import as_csv, as_json, rows_flat

    folder = Path(str(settings.output))
    rows = rows_flat(table, comparisons)
    texts = {".md": text, ".csv": as_csv(rows), ".json": as_json(rows, table, settings.caption)}
    paths = [folder / f"{settings.name}{ending}" for ending in texts]
    for path, content in zip(paths, texts.values(), strict=True):
        write_text_file(path, content)
    figure = settings.figure
    if figure.x is not None:
        curves = baseline_differences(table, figure.x, figure.metric, figure.baseline)
        figure_base = folder / f"{settings.name}_{figure.metric.replace('/', '_')}"
        paths += draw(
            curves,
            figure_base,
            x=figure.x,
            metric=figure.metric,
            baseline=figure.baseline,
            sample=table.sample,
            limited=table.limited,
        )
    return paths


if __name__ == "__main__":
    main()
