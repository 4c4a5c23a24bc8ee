"""Drafts of tables with lists: sets with weights, sequences with categories and times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stemlab.config.table_description import read_description
from stemlab.data.table.draft import write_draft
from stemlab.data.table.file import open_table
from tests.data.table.list_rows import click_log, joined
from tests.data.table.rows import table

SEQUENCE = {
    "items": "hist_items",
    "target": "item_id",
    "max_length": 7,
    "categories": "hist_categories",
    "target_category": "category",
    "pooling": "mean",
}


@pytest.fixture(autouse=True)
def current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in its temporary directory, where drafts are written."""
    monkeypatch.chdir(tmp_path)


def drafted(rows: pd.DataFrame, name: str) -> tuple[dict[str, Any], str, dict[str, str]]:
    """Return the draft, its text, and column -> decision."""
    if name.endswith(".parquet"):
        rows.to_parquet(name)
    else:
        rows.to_csv(name, index=False)
    written, lines, _ = write_draft(open_table(Path(name)))
    assert [column for column, _, _ in lines] == list(rows)
    return read_description(written), written.read_text(), {column: decision for column, _, decision in lines}


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_the_lists_of_a_click_log(name: str, tmp_path: Path) -> None:
    log = click_log()
    found, text, decisions = drafted(log if name.endswith("parquet") else joined(log), name)
    assert found["multivalued"] == {"genres": {"max_length": 4, "weights": "genre_weights"}, "tags": {"max_length": 5}}
    assert found["sequences"] == {"hist_items": SEQUENCE}
    assert "# times: hist_times" in text
    assert decisions["genre_weights"] == "weights of genres"
    assert decisions["tags"] == "multi-valued field"
    assert decisions["hist_items"] == "sequence, of the values of item_id"
    assert decisions["hist_categories"] == "categories of the sequence hist_items"
    assert "times of the sequence hist_items" in decisions["hist_times"]
    assert found["fields"] == ["user_id", "item_id", "category", "page"]
    module = table(tmp_path, Path(name), **found)
    module.prepare()  # an unchanged draft is a valid description
    assert {field.name for field in module.spec.fields if field.kind == "list"} >= {"genres", "tags", "hist_items"}


def test_a_separator_other_than_a_bar_is_drafted() -> None:
    log = joined(click_log(), ",").drop(columns=["genre_weights"])
    found, _, _ = drafted(log, "log.csv")
    assert found["multivalued"]["genres"] == {"max_length": 4, "separator": ","}
    assert found["sequences"] == {"hist_items": {**SEQUENCE, "separator": ","}}


def test_a_history_of_other_values_is_a_set_and_vectors_are_left_out() -> None:
    log = click_log()
    log["hist_items"] = [[1000 + value for value in values] for values in log["hist_items"]]
    log["emb"] = [np.arange(3) / 7] * len(log)
    found, text, decisions = drafted(log.drop(columns=["hist_categories"]), "log.parquet")
    assert "sequences" not in found
    assert found["multivalued"]["hist_items"] == {"max_length": 7}
    assert decisions["hist_times"] == "left out: times of no sequence"
    assert decisions["emb"] == "left out: lists of numbers"
    assert "# left out: emb (lists of numbers)" in text


def test_long_lists_are_cut() -> None:
    log = click_log(100)
    log["tags"] = [[f"t{n}" for n in range(40)]] * 100
    log["hist_items"] = [[item] * 70 for item in log["item_id"]]
    found, _, _ = drafted(log, "log.parquet")
    assert found["multivalued"]["tags"]["max_length"] == 20
    assert found["sequences"]["hist_items"]["max_length"] == 50
