"""``python -m stemlab.prepare dataset=tiktok``: convert raw files to a prepared dataset and print its summary."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from stemlab.config.cli import command

_WIDEST_NAME = 24  # characters
_NOT_COMPARED = 3  # exit status

if TYPE_CHECKING:
    from stemlab.data.sources.table import TableDataModule


@command("prepare")
def main(config: DictConfig) -> None:
    """Prepare the dataset of the command line and print its summary."""
    from stemlab.config.resolve import resolve

    if status := prepare(resolve(config)):
        sys.exit(status)


def prepare(config: Mapping[str, Any]) -> int:
    """Prepare ``config['dataset']`` if needed; print its samples, vocabulary sizes and directory.

    Args:
        config: validated, plain config (``stemlab.config.compose.compose("prepare", [...])``).

    Returns:
        The exit status: with ``verify``, 1 if a published statistic differs and 3 if nothing was compared; else 0.
    """
    from stemlab.config.instantiate import instantiate
    from stemlab.config.raw_folder import dataset_settings
    from stemlab.data.datamodule import ImpressionDataModule
    from stemlab.data.sequence.datamodule import SequenceDataModule
    from stemlab.data.sources.table import TableDataModule

    datamodule = cast(ImpressionDataModule | SequenceDataModule, instantiate(dataset_settings(config), key="dataset"))
    if isinstance(datamodule, TableDataModule) and not datamodule.described:
        draft(datamodule)
        return 0
    directory = datamodule.prepare()
    console = Console(highlight=False, markup=False)  # names of columns and scenarios may have brackets
    for table in tables(datamodule.manifest):
        console.print(table)
    skipped = datamodule.manifest["skipped_rows"]
    if skipped:
        console.print(f"{skipped:,} bad rows were skipped.")
    console.print(f"prepared in {directory}", soft_wrap=True)
    return verify(config["dataset"], datamodule.manifest, directory, console) if config["verify"] else 0


def verify(dataset: Mapping[str, Any], manifest: Mapping[str, Any], directory: Path, console: Console) -> int:
    """Compare a prepared dataset with the published statistics of its source; print one table.

    Args:
        dataset: settings of the dataset.
        manifest: manifest of the prepared dataset.
        directory: the prepared directory.
        console: prints the table.

    Returns:
        0 if all compared statistics agree, 1 if one differs, 3 if none was compared.
    """
    from stemlab.reporting.data_contract import check_statistics, measured_statistics, read_statistics, statistic_rows

    if manifest["sample"]:
        console.print("SAMPLE: synthetic data are not compared with published statistics.")
        return _NOT_COMPARED
    published = read_statistics(dataset)
    if not published:
        console.print(f"there are no published statistics of {dataset['name']} with these settings (conf/statistics).")
        return _NOT_COMPARED
    checks = check_statistics(published, measured_statistics(directory))
    table = Table(title="published statistics", title_justify="left")
    table.add_column("statistic", overflow="fold")
    for name in ("prepared", "published", "difference", "result"):
        table.add_column(name, justify="left" if name == "result" else "right", no_wrap=True)
    table.add_column("source", justify="right", no_wrap=True)
    sources = list(dict.fromkeys(entry.source for entry in published))
    for *row, source in statistic_rows(checks):
        table.add_row(*row, str(sources.index(source) + 1))
    console.print(table)
    for number, source in enumerate(sources, start=1):
        console.print(f"source {number}: {source}", soft_wrap=True)
    results = [check.agrees for check in checks if check.agrees is not None]
    differ = len(results) - sum(results)
    others = len(checks) - len(results)
    console.print(f"{sum(results)} of {len(results)} compared statistics agree, {others} not compared.")
    return 1 if differ else 0 if results else _NOT_COMPARED


def draft(table: TableDataModule) -> None:
    """Write a draft of the table description (``rows.stemlab.yaml``) and print what to check; prepare nothing."""
    path, columns, (found, *checks) = table.draft()
    width = min(max(len(name) for name, _, _ in columns), _WIDEST_NAME)
    for name, cells, decision in columns:
        print(f"{name.ljust(width)}  {cells} -> {decision}")
    print(found)
    for check in checks:
        print(f"- {check}")
    print(f"wrote the draft {path}: check it, edit it and set dataset.config={path}; nothing is prepared yet.")


def tables(manifest: Mapping[str, Any]) -> list[Table]:
    """Return the summary tables of a manifest, of impressions or of sequences."""
    if manifest["spec"].get("kind") == "sequence":
        return [sequence_table(manifest), count_table(manifest)]
    optional = [("scenarios", scenario_table), ("numericals", numerical_table)]
    return [
        split_table(manifest),
        *(table(manifest) for key, table in optional if key in manifest),
        vocabulary_table(manifest),
    ]


def split_table(manifest: Mapping[str, Any]) -> Table:
    """Return the table of samples and positives per split."""
    table = Table("split", title=_title(manifest), title_justify="left")
    for name in ("samples", *manifest["spec"]["tasks"]):
        table.add_column(name, justify="right")
    for split, samples in manifest["rows"].items():
        table.add_row(split, f"{samples:,}", *_shares(samples, manifest["positives"][split]))
    return table


def scenario_table(manifest: Mapping[str, Any]) -> Table:
    """Return the table of samples and positives per scenario and split."""
    table = Table("scenario", "split", title_justify="left")
    for name in ("samples", *manifest["spec"]["tasks"]):
        table.add_column(name, justify="right")
    for scenario in manifest["spec"]["scenarios"]:
        for split, counts in manifest["scenarios"].items():
            samples, positives = counts[scenario]["rows"], counts[scenario]["positives"]
            table.add_row(scenario, split, f"{samples:,}", *_shares(samples, positives))
    return table


def numerical_table(manifest: Mapping[str, Any]) -> Table:
    """Return the table of numerical fields: scaling, statistics of the raw training values, missing values."""
    table = Table("numerical", "part", "scaling", title_justify="left")
    measured = ("mean", "std", "min", "max")
    for name in (*measured, "missing in train"):
        table.add_column(name, justify="right")
    train = manifest["rows"]["train"]
    for name, numerical in manifest["numericals"].items():
        values = (f"{numerical[key]:.6g}" for key in measured)
        missing = f"{numerical['missing']:,} ({numerical['missing'] / train:.2%})"
        table.add_row(name, numerical["part"], numerical["scaling"], *values, missing)
    return table


def _shares(samples: int, positives: Mapping[str, int]) -> list[str]:
    return [f"{count:,} ({count / samples:.2%})" if samples else f"{count:,}" for count in positives.values()]


def vocabulary_table(manifest: Mapping[str, Any]) -> Table:
    """Return the table of vocabulary sizes: number of ids per field, or the field whose embedding table it shares."""
    table = Table("field", title_justify="left")
    table.add_column("ids (with padding and out-of-vocabulary)", justify="right")
    owners = {field["name"]: field.get("table") for field in manifest["spec"]["fields"]}
    lists = {field["name"]: field["size"] for field in manifest["spec"]["fields"] if field["kind"] == "list"}
    for name, size in {**manifest["vocabulary"], **lists}.items():
        owner = owners.get(name)
        table.add_row(name, f"shared with {owner}" if owner else f"{size:,}")
    return table


def sequence_table(manifest: Mapping[str, Any]) -> Table:
    """Return the table of interactions, samples (interactions with a history) and stored negatives per split."""
    table = Table("split", title=_title(manifest), title_justify="left")
    for name in ("interactions", "samples", "stored negatives per sample"):
        table.add_column(name, justify="right")
    for split, samples in manifest["rows"].items():
        stored = manifest["negatives"].get(split)
        table.add_row(split, f"{manifest['interactions'][split]:,}", f"{samples:,}", f"{stored:,}" if stored else "-")
    return table


def count_table(manifest: Mapping[str, Any]) -> Table:
    """Return the table of the numbers of users, items and, if prepared, item categories."""
    table = Table("ids", title_justify="left")
    table.add_column("number", justify="right")
    for name in ("users", "items"):
        table.add_row(name, f"{manifest['spec'][name]:,}")
    table.add_row("users with one interaction (no sample)", f"{manifest['users_with_one_interaction']:,}")
    for split, count in manifest.get("rows_without_history", {}).items():
        if count:
            table.add_row(f"{split} rows without an earlier interaction (no sample)", f"{count:,}")
    if "categories" in manifest:
        table.add_row("item categories", f"{manifest['categories']:,}")
        table.add_row("items without a category", f"{manifest['items_without_category']:,}")
    return table


def _title(manifest: Mapping[str, Any]) -> str:
    mark = "  SAMPLE: synthetic data, not a result" if manifest["sample"] else ""
    return f"{manifest['spec']['name']}{mark}"


if __name__ == "__main__":
    main()
