"""Lists of values in a table: prepared as a plain loop would, from any format; bad cells, truncation, refusals."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from stemlab.data.list_layout import list_columns
from stemlab.data.prepare.vocabulary import Vocabulary
from stemlab.data.sources.table import TableDataModule
from stemlab.data.table.list_settings import SequenceField, list_roles
from stemlab.data.table.lists import split_lists
from stemlab.errors import StemlabError
from tests.data.table.list_rows import DESCRIBED_LOG, LISTS, click_log, joined
from tests.data.table.rows import save, table

STORED = ("ids", "dense", "labels", "scenario", "group", "list_ids", "list_weights")


def stored(module: TableDataModule) -> dict[str, dict[str, Any]]:
    module.prepare()
    return {
        split: {name: module.store(split).column(name) for name in STORED}  # type: ignore[arg-type]
        for split in ("train", "valid", "test")
    }


def log_module(folder: Path, rows: pd.DataFrame | None = None, **changed: Any) -> TableDataModule:
    rows = click_log() if rows is None else rows
    return table(folder, save(rows, folder / "rows.csv"), **{**DESCRIBED_LOG, **changed})


def test_csv_parquet_and_list_types_give_the_same_columns(tmp_path: Path) -> None:
    log = click_log()
    of_csv = stored(log_module(tmp_path, joined(log)))
    assert of_csv["train"]["list_ids"].shape[1] == 3 + 4 + 5 + 5 + 5 + 2
    assert of_csv["train"]["list_weights"].shape[1] == 3
    plain = pa.Table.from_pandas(log)
    large = pa.schema(
        [f.with_type(pa.large_list(f.type.value_type)) if pa.types.is_list(f.type) else f for f in plain.schema]
    )
    for number, rows in enumerate((log, plain.cast(large).to_pandas(types_mapper=pd.ArrowDtype))):
        path = tmp_path / f"rows{number}.parquet"
        rows.to_parquet(path)
        for split, columns in stored(table(tmp_path, path, **DESCRIBED_LOG)).items():
            for name, values in columns.items():
                np.testing.assert_array_equal(values, of_csv[split][name])


def test_prepared_lists_equal_a_loop_over_the_rows(tmp_path: Path) -> None:
    log = click_log()
    module = log_module(tmp_path, joined(log), split={"rule": "time"}, time="time")
    found = stored(module)
    ids = np.concatenate([columns["list_ids"] for columns in found.values()])
    weights = np.concatenate([columns["list_weights"] for columns in found.values()])
    train = log.iloc[: len(found["train"]["ids"])]
    counts = {
        "item_id": Counter(str(i) for own in train["hist_items"] for i in own[-5:])
        + Counter(str(i) for own in train["hist_items"] for i in own[-2:])
        + Counter(map(str, train["item_id"])),
        "genres": Counter(g for own in train["genres"] for g in own[:3]),
    }
    known = {}
    for name, counted in counts.items():
        kept = sorted((t for t in counted if counted[t] >= 2), key=lambda t: (-counted[t], t))
        known[name] = {token: number for number, token in enumerate(kept, start=1)}
        assert Vocabulary.load(module.directory / "vocabulary", name).tokens.to_pylist() == kept
    columns, _ = list_columns(module.spec.lists)
    of = dict(zip((f.name for f in module.spec.lists), columns, strict=True))
    for row, values in enumerate(log.to_dict("records")):
        items = [known["item_id"].get(str(i), len(known["item_id"]) + 1) for i in values["hist_items"][-5:]]
        genres = [known["genres"][g] for g in values["genres"][:3]]
        newest = values["hist_times"][-1:]
        ages = [newest[0] - t for t in values["hist_times"][-5:]]
        for name, part, expected in (
            ("history", "ids", items),
            ("history", "ages", ages),
            ("recent", "ids", items[-2:]),
            ("genres", "ids", genres),
        ):
            own = ids[row, getattr(of[name], part)]
            assert own.tolist() == expected + [0] * (len(own) - len(expected))
        expected_weights = values["genre_weights"][:3]
        np.testing.assert_allclose(weights[row], expected_weights + [0] * (3 - len(expected_weights)), rtol=1e-6)
    more = sum(len(own) > 3 for own in log["genres"])
    assert module.manifest["source"]["truncated"]["genres"] == more > 0


def test_rows_to_score_are_encoded_as_in_training(tmp_path: Path) -> None:
    log = click_log()
    module = log_module(tmp_path, joined(log), split={"rule": "time"}, time="time")
    expected = {name: np.concatenate([own[name] for own in stored(module).values()]) for name in STORED[-2:]}
    for rows in (joined(log).astype(str), log, joined(log)):
        batch = module.encode(pa.Table.from_pandas(rows))
        assert batch.list_ids_BK is not None
        assert batch.list_weights_BW is not None
        np.testing.assert_array_equal(batch.list_ids_BK.numpy(), expected["list_ids"])
        np.testing.assert_array_equal(batch.list_weights_BW.numpy(), expected["list_weights"])
    assert module.encode(pa.Table.from_pandas(log[:0])).list_ids_BK.shape == (0, 24)
    without = pa.Table.from_pandas(log.drop(columns="hist_times"))
    with pytest.raises(StemlabError, match="hist_times"):
        module.encode(without)
    bad = joined(log)
    bad.loc[3, "genre_weights"] = "x"
    with pytest.raises(StemlabError, match="genre_weights"):
        module.encode(pa.Table.from_pandas(bad))


def test_unknown_and_missing_values(tmp_path: Path) -> None:
    """An unseen value has the last id; empty and missing values are left out with what belongs to them."""
    module = log_module(tmp_path, joined(click_log()))
    rows = joined(click_log())[:3].copy()
    rows["genres"], rows["genre_weights"] = ["new| g1 ", "|g1|", ""], ["0.5|0.25", "|2|-3", ""]
    batch = module.encode(pa.Table.from_pandas(rows))
    assert batch.list_ids_BK is not None
    assert batch.list_weights_BW is not None
    size = next(f.size for f in module.spec.lists if f.name == "genres")
    first = batch.list_ids_BK[:, :3].tolist()
    assert first[0][0] == size - 1
    assert first[1:] == [[first[0][1], 0, 0], [0, 0, 0]]
    assert batch.list_weights_BW.tolist() == [[0.5, 0.25, 0], [2, 0, 0], [0, 0, 0]]


BAD_CELLS = {
    "genre_weights": ("1|2|3|4|5|6|7", "values"),
    "hist_categories": ("c1|" * 9 + "c1", "values"),
    "hist_times": ("9|8|7", "values|left"),
}


@pytest.mark.parametrize("column", BAD_CELLS)
def test_rows_with_bad_cells_are_reported_or_skipped(tmp_path: Path, column: str) -> None:
    cell, match = BAD_CELLS[column]
    rows = joined(click_log())
    rows.loc[7, column] = cell
    with pytest.raises(StemlabError, match=rf"line 9: column '{column}'.*({match})"):
        log_module(tmp_path, rows).prepare()
    module = log_module(tmp_path, rows, on_bad_row="skip")
    module.prepare()
    assert module.manifest["skipped_rows"] == 1
    assert sum(module.manifest["rows"].values()) == len(rows) - 1


@pytest.mark.parametrize(
    ("cell", "match"), [("a", "'a', not a number"), ("-1", "'-1'"), ("inf", "inf"), ("nan", "nan")]
)
def test_bad_weights(tmp_path: Path, cell: str, match: str) -> None:
    rows = joined(click_log())
    row = int(np.argmax([len(own) == 3 for own in click_log()["genres"]]))
    rows.loc[row, "genre_weights"] = f"1|{cell}|1"
    with pytest.raises(StemlabError, match=f"line {row + 2}.*genre_weights.*'{cell}', not a number"):
        log_module(tmp_path, rows).prepare()


def changed(kind: str, name: str, **settings: Any) -> dict[str, Any]:
    """Return ``LISTS`` with one field changed; a setting of None is removed."""
    field = {k: v for k, v in {**LISTS[kind].get(name, {}), **settings}.items() if v is not None}
    return {**LISTS, kind: {**LISTS[kind], name: field}}


REFUSALS: list[tuple[dict[str, Any], str]] = [
    (changed("multivalued", "genres", max_length=None), r"multivalued\.genres\.max_length"),
    (changed("multivalued", "genres", max_length=0), r"multivalued\.genres\.max_length"),
    (changed("multivalued", "genres", pooling="median"), r"multivalued\.genres\.pooling.*mean"),
    (changed("multivalued", "genres", pooling="din"), r"multivalued\.genres\.pooling"),
    (changed("multivalued", "genres", table="item"), r"multivalued\.genres\.table.*item_id"),
    (changed("multivalued", "genres", separator=""), r"multivalued\.genres\.separator"),
    (changed("multivalued", "genres", longest=3), r"multivalued\.genres\.longest"),
    (changed("multivalued", "item_id", max_length=2), r"multivalued\.item_id.*another field"),
    (changed("multivalued", "click", max_length=2), r"click.*leaks"),
    (changed("sequences", "history", target="item"), r"sequences\.history\.target.*item_id"),
    (changed("sequences", "history", target_category=None), r"sequences\.history.*target_category"),
    (changed("sequences", "history", pooling="din"), r"times.*pooling=tin"),
    (changed("sequences", "recent", pooling="mean", attention_units=[3]), r"attention_units.*pooling"),
    (changed("sequences", "recent", items="hist"), r"sequences\.recent.*hist_items"),
]


@pytest.mark.parametrize(("settings", "match"), REFUSALS, ids=[match for _, match in REFUSALS])
def test_settings_that_are_refused(tmp_path: Path, settings: dict[str, Any], match: str) -> None:
    with pytest.raises(StemlabError, match=match) as error:
        log_module(tmp_path, joined(click_log(30)), **settings).prepare()
    assert "\n" not in str(error.value)


def test_a_list_column_as_a_field_names_the_setting(tmp_path: Path) -> None:
    path = save(click_log(30), tmp_path / "rows.parquet")
    described = {**DESCRIBED_LOG, "multivalued": {}, "fields": ["item_id", "category", "tags"]}
    with pytest.raises(StemlabError, match=r"tags.*dataset\.multivalued"):
        table(tmp_path, path, **described).prepare()


def test_times_in_milliseconds_and_timestamps(tmp_path: Path) -> None:
    log = click_log()
    expected = stored(table(tmp_path, save(log, tmp_path / "s.parquet"), **DESCRIBED_LOG))["train"]["list_ids"]
    log["hist_times"] = [[1000 * t + 1 for t in own] for own in log["hist_times"]]
    history = changed("sequences", "history", time_unit="ms")
    found = stored(table(tmp_path, save(log, tmp_path / "ms.parquet"), **{**DESCRIBED_LOG, **history}))
    np.testing.assert_array_equal(found["train"]["list_ids"], expected)
    log["hist_times"] = [pd.to_datetime(own, unit="ms").to_list() for own in log["hist_times"]]
    found = stored(table(tmp_path, save(log, tmp_path / "dates.parquet"), **DESCRIBED_LOG))
    np.testing.assert_array_equal(found["train"]["list_ids"], expected)


@pytest.mark.parametrize("unit", ["us", "ns"])
def test_timestamps_may_be_finer_than_a_millisecond(unit: str) -> None:
    (role,) = list_roles({}, {"history": SequenceField(items="items", target="item", max_length=3, times="times")})
    times = [datetime(2024, 1, 1, 0, 0, 0, 1500), datetime(2024, 1, 1, 0, 0, 7, 1501)]
    columns = {"items": pa.array([["a", "b"]]), "times": pa.array([times], pa.list_(pa.timestamp(unit)))}
    found = split_lists(role, columns, [""])
    assert not found.bad_rows().any()
    assert found.ages_N is not None
    assert found.ages_N.tolist() == [7, 0]
