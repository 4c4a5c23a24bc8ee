"""``python -m stemlab.prepare dataset=tiktok``: convert raw files to a prepared dataset and print its summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from stemlab.config.cli import command

_WIDEST_NAME = 24  # characters

if TYPE_CHECKING:
    from stemlab.data.sources.table import TableDataModule


@command("prepare")
def main(config: DictConfig) -> None:
    """Prepare the dataset of the command line and print its summary."""
    from stemlab.config.resolve import resolve

    prepare(resolve(config))


def prepare(config: Mapping[str, Any]) -> None:
    """Prepare ``config['dataset']`` if needed; print its samples, vocabulary sizes and directory.

    Args:
        config: validated, plain config (``stemlab.config.compose.compose("prepare", [...])``).
    """
    from stemlab.config.instantiate import instantiate
    from stemlab.config.raw_folder import dataset_settings
    from stemlab.data.datamodule import ImpressionDataModule
    from stemlab.data.sequence.datamodule import SequenceDataModule
    from stemlab.data.sources.table import TableDataModule

    datamodule = cast(ImpressionDataModule | SequenceDataModule, instantiate(dataset_settings(config), key="dataset"))
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
    console.print(f"prepared in {directory}", soft_wrap=True, markup=False)


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
    for name, size in manifest["vocabulary"].items():
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
