"""``python -m stemlab.prepare dataset=tiktok``: raw files -> prepared dataset, and a summary of what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from stemlab.config.cli import command


@command("prepare")
def main(config: DictConfig) -> None:
    """Prepare the dataset that the command line composed and print its summary."""
    from stemlab.config.resolve import resolve

    prepare(resolve(config))


def prepare(config: Mapping[str, Any]) -> None:
    """Prepare ``config['dataset']`` (or find it prepared) and print its rows, sizes and place.

    Args:
        config: validated, plain config (``stemlab.config.compose.compose("prepare", [...])``).
    """
    from stemlab.config.instantiate import instantiate
    from stemlab.data.datamodule import ImpressionDataModule
    from stemlab.data.sequence.datamodule import SequenceDataModule

    datamodule = cast(ImpressionDataModule | SequenceDataModule, instantiate(config["dataset"], key="dataset"))
    directory = datamodule.prepare()
    console = Console(highlight=False)
    for table in tables(datamodule.manifest):
        console.print(table)
    skipped = datamodule.manifest["skipped_rows"]
    if skipped:
        console.print(f"{skipped:,} bad rows were skipped.")
    console.print(f"prepared in {directory}", soft_wrap=True)


def tables(manifest: Mapping[str, Any]) -> list[Table]:
    """Return what the manifest of a dataset of either kind is shown as."""
    if manifest["spec"].get("kind") == "sequence":
        return [sequence_table(manifest), count_table(manifest)]
    return [split_table(manifest), vocabulary_table(manifest)]


def split_table(manifest: Mapping[str, Any]) -> Table:
    """Return rows and positives of each split."""
    table = Table("split", title=_title(manifest), title_justify="left")
    for name in ("rows", *manifest["spec"]["tasks"]):
        table.add_column(name, justify="right")
    for split, rows in manifest["rows"].items():
        shares = (f"{count:,} ({count / rows:.2%})" for count in manifest["positives"][split].values())
        table.add_row(split, f"{rows:,}", *shares)
    return table


def vocabulary_table(manifest: Mapping[str, Any]) -> Table:
    """Return the embedding rows of each field."""
    table = Table("field", title_justify="left")
    table.add_column("ids (with padding and out-of-vocabulary)", justify="right")
    for name, size in manifest["vocabulary"].items():
        table.add_row(name, f"{size:,}")
    return table


def sequence_table(manifest: Mapping[str, Any]) -> Table:
    """Return interactions, instances (those with a history) and stored negatives a row of each split."""
    table = Table("split", title=_title(manifest), title_justify="left")
    for name in ("interactions", "instances", "stored negatives"):
        table.add_column(name, justify="right")
    for split, rows in manifest["rows"].items():
        stored = manifest["negatives"].get(split)
        table.add_row(split, f"{manifest['interactions'][split]:,}", f"{rows:,}", f"{stored:,}" if stored else "-")
    return table


def count_table(manifest: Mapping[str, Any]) -> Table:
    """Return the numbers of users and items."""
    table = Table("ids", title_justify="left")
    table.add_column("number", justify="right")
    for name in ("users", "items"):
        table.add_row(name, f"{manifest['spec'][name]:,}")
    table.add_row("users with one interaction (no instance)", f"{manifest['users_with_one_interaction']:,}")
    return table


def _title(manifest: Mapping[str, Any]) -> str:
    mark = "  SAMPLE: synthetic rows, no results" if manifest["sample"] else ""
    return f"{manifest['spec']['name']}{mark}"


if __name__ == "__main__":
    main()
