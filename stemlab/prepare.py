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
    """Prepare ``config['dataset']`` (or find it prepared) and print rows, positives, vocabulary sizes and place.

    Args:
        config: validated, plain config (``stemlab.config.compose.compose("prepare", [...])``).
    """
    from stemlab.config.instantiate import instantiate
    from stemlab.data.datamodule import ImpressionDataModule

    datamodule = cast(ImpressionDataModule, instantiate(config["dataset"], key="dataset"))
    directory = datamodule.prepare()
    console = Console(highlight=False)
    for table in (split_table(datamodule.manifest), vocabulary_table(datamodule.manifest)):
        console.print(table)
    skipped = datamodule.manifest["skipped_rows"]
    if skipped:
        console.print(f"{skipped:,} bad rows were skipped.")
    console.print(f"prepared in {directory}", soft_wrap=True)


def split_table(manifest: Mapping[str, Any]) -> Table:
    """Return rows and positives of each split."""
    mark = "  SAMPLE: synthetic rows, no results" if manifest["sample"] else ""
    table = Table("split", title=f"{manifest['spec']['name']}{mark}", title_justify="left")
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


if __name__ == "__main__":
    main()
