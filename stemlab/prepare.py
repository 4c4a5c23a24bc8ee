"""``python -m stemlab.prepare dataset=tiktok``: raw files -> prepared dataset, and a summary of what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from stemlab.config.cli import command

if TYPE_CHECKING:
    from stemlab.data.sources.table import TableDataModule


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
    from stemlab.data.sources.table import TableDataModule

    datamodule = cast(ImpressionDataModule | SequenceDataModule, instantiate(config["dataset"], key="dataset"))
    if isinstance(datamodule, TableDataModule) and not datamodule.described:
        draft(datamodule)
        return
    directory = datamodule.prepare()
    console = Console(highlight=False)
    for table in tables(datamodule.manifest):
        console.print(table)
    skipped = datamodule.manifest["skipped_rows"]
    if skipped:
        console.print(f"{skipped:,} bad rows were skipped.")
    console.print(f"prepared in {directory}", soft_wrap=True)


def draft(table: TableDataModule) -> None:
    """Write a proposed config beside a table that nobody has described, and say what to check; prepare nothing."""
    path, (found, *checks) = table.draft()
    print(found)
    for sentence in checks:
        print(f"- {sentence}")
    print(f"drafted {path}: read it, mend it, and give it with dataset.config={path}; nothing is prepared yet.")


def tables(manifest: Mapping[str, Any]) -> list[Table]:
    """Return what the manifest of a dataset of either kind is shown as."""
    if manifest["spec"].get("kind") == "sequence":
        return [sequence_table(manifest), count_table(manifest)]
    optional = [("scenarios", scenario_table), ("numericals", numerical_table)]
    return [
        split_table(manifest),
        *(table(manifest) for key, table in optional if key in manifest),
        vocabulary_table(manifest),
    ]


def split_table(manifest: Mapping[str, Any]) -> Table:
    """Return rows and positives of each split."""
    table = Table("split", title=_title(manifest), title_justify="left")
    for name in ("rows", *manifest["spec"]["tasks"]):
        table.add_column(name, justify="right")
    for split, rows in manifest["rows"].items():
        table.add_row(split, f"{rows:,}", *_shares(rows, manifest["positives"][split]))
    return table


def scenario_table(manifest: Mapping[str, Any]) -> Table:
    """Return rows and positives of each scenario in each split."""
    table = Table("scenario", "split", title_justify="left")
    for name in ("rows", *manifest["spec"]["tasks"]):
        table.add_column(name, justify="right")
    for scenario in manifest["spec"]["scenarios"]:
        for split, counted in manifest["scenarios"].items():
            rows, positives = counted[scenario]["rows"], counted[scenario]["positives"]
            table.add_row(scenario, split, f"{rows:,}", *_shares(rows, positives))
    return table


def numerical_table(manifest: Mapping[str, Any]) -> Table:
    """Return scaling, spread (of the raw training values) and missing training values of each numerical column."""
    table = Table("numerical", "part", "scaling", title_justify="left")
    measured = ("mean", "std", "min", "max")
    for name in (*measured, "missing in train"):
        table.add_column(name, justify="right")
    train = manifest["rows"]["train"]
    for name, told in manifest["numericals"].items():
        values = (f"{told[key]:.6g}" for key in measured)
        missing = f"{told['missing']:,} ({told['missing'] / train:.2%})"
        table.add_row(name, told["part"], told["scaling"], *values, missing)
    return table


def _shares(rows: int, positives: Mapping[str, int]) -> list[str]:
    return [f"{count:,} ({count / rows:.2%})" if rows else f"{count:,}" for count in positives.values()]


def vocabulary_table(manifest: Mapping[str, Any]) -> Table:
    """Return the embedding rows of each field, or the field whose table it uses."""
    table = Table("field", title_justify="left")
    table.add_column("ids (with padding and out-of-vocabulary)", justify="right")
    owners = {field["name"]: field.get("table") for field in manifest["spec"]["fields"]}
    for name, size in manifest["vocabulary"].items():
        owner = owners.get(name)
        table.add_row(name, f"those of {owner}" if owner else f"{size:,}")
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
    """Return the numbers of users, items and, where they are prepared, their categories."""
    table = Table("ids", title_justify="left")
    table.add_column("number", justify="right")
    for name in ("users", "items"):
        table.add_row(name, f"{manifest['spec'][name]:,}")
    table.add_row("users with one interaction (no instance)", f"{manifest['users_with_one_interaction']:,}")
    if "categories" in manifest:
        table.add_row("categories of items", f"{manifest['categories']:,}")
        table.add_row("items without a category", f"{manifest['items_without_category']:,}")
    return table


def _title(manifest: Mapping[str, Any]) -> str:
    mark = "  SAMPLE: synthetic rows, no results" if manifest["sample"] else ""
    return f"{manifest['spec']['name']}{mark}"


if __name__ == "__main__":
    main()
