"""Decodes prepared rows into tokens, for the tests of the data sources."""

from __future__ import annotations

from typing import Any

from stemlab.config.instantiate import instantiate
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.prepare.split import SPLITS
from stemlab.data.prepare.vocabulary import Vocabulary
from stemlab.data.store import ColumnStore
from tests.data.tiktok_rows import settings


def datamodule(name: str, folder: Any, **changed: Any) -> Any:
    """Return the datamodule of ``conf/dataset/<name>.yaml`` that reads ``folder/raw`` and prepares in ``folder``."""
    paths = {"raw_dir": str(folder / "raw"), "data_dir": str(folder), "source": "raw"}
    return instantiate(settings(name, **{**paths, **changed}), key="dataset")


def decoded(module: ImpressionDataModule, split: str) -> list[dict[str, Any]]:
    """Return a split's rows: field -> token (``None`` padding, ``?`` out-of-vocabulary), task -> label, scenario name,
    numerical -> value."""
    directory, spec = module.prepare(), module.spec
    store = ColumnStore(directory / f"{split}.arrow")
    names: dict[str, list[str | None]] = {}
    for field in spec.fields:
        if field.kind == "categorical":
            known = Vocabulary.load(directory / "vocabulary", field.table or field.name).tokens.to_pylist()
            names[field.name] = [None, *known, "?"]
    rows = []
    for row in range(len(store)):
        values: dict[str, Any] = {
            name: known[store.ids[row, column]] for column, (name, known) in enumerate(names.items())
        }
        values |= dict(zip(spec.tasks, store.labels[row].tolist(), strict=True))
        if store.dense is not None:
            values |= dict(zip((f.name for f in spec.numericals), store.dense[row].tolist(), strict=True))
        if store.scenario is not None:
            values["scenario"] = spec.scenarios[store.scenario[row]]
        rows.append(values)
    return rows


def decode_all(module: ImpressionDataModule) -> list[dict[str, Any]]:
    """Return the rows of all splits."""
    return [row for split in SPLITS for row in decoded(module, split)]


def sorted_rows(rows: list[dict[str, Any]], *names: str) -> list[tuple[str, ...]]:
    """Return the given columns of all rows as strings, sorted; rows may repeat."""
    return sorted(tuple(str(row[name]) for name in names) for row in rows)
