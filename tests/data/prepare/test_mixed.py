"""Numerical columns, scenarios and shared vocabularies: preparation equals a plain reference, and so does encoding."""

import io
import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from stemlab.data.prepare.encode_table import TableEncoder, as_floats, check_group, encode_scenarios
from stemlab.data.prepare.manifest import read_manifest
from stemlab.data.prepare.negative_downsampling import DownsamplingRule
from stemlab.data.prepare.split import SPLITS, SplitRule
from stemlab.data.spec import DatasetSpec, Field
from stemlab.data.store import ColumnStore
from stemlab.errors import StemlabError
from stemlab.prepare import tables
from tests.data.mixed_rows import SCENARIOS, WORDS, prepare_mixed, random_rows

ITEMS, HISTORY = "item", ("hist_1", "hist_2")


def texts(columns):
    """Return field -> tokens of all rows ("" is missing)."""
    return {
        "colour": [WORDS[value] for value in columns["colour"]],
        **{name: [str(value) for value in columns[name]] for name in (ITEMS, *HISTORY)},
    }


def id_map(counts, min_count):
    kept = sorted((t for t, c in counts.items() if c >= min_count and t), key=lambda t: (-counts[t], t))
    return {token: number for number, token in enumerate(kept, start=1)}


def reference_ids(columns, train, min_count=3):
    """Return the ids of all rows in field order; the 0 of a history is padding."""
    words = texts(columns)
    chosen = np.flatnonzero(train)
    items = Counter(words[ITEMS][row] for row in chosen)
    for name in HISTORY:
        items.update(words[name][row] for row in chosen if words[name][row] != "0")
    maps = {ITEMS: id_map(items, min_count), "colour": id_map(Counter(words["colour"][row] for row in chosen), 3)}
    maps |= {name: {**maps[ITEMS], "0": 0} for name in HISTORY}
    order = (ITEMS, "colour", *HISTORY)
    sizes = {name: len(maps["colour" if name == "colour" else ITEMS]) + 2 for name in order}
    ids = [[maps[name].get(words[name][row], sizes[name] - 1) for name in order] for row in range(len(train))]
    return np.array(ids), sizes


def reference_dense(columns, train):
    scaled = []
    for name, rule in (("price", "standard"), ("age", "minmax"), ("rate", "none")):
        values = columns[name].astype(np.float64)
        known = values[train & ~np.isnan(values)]
        filled = np.where(np.isnan(values), known.mean(), values)
        if rule == "standard":
            filled = (filled - known.mean()) / known.std()
        elif rule == "minmax":
            filled = (filled - known.min()) / (known.max() - known.min())
        scaled.append(filled)
    return np.stack(scaled, axis=1)


@pytest.mark.parametrize("chunk_rows", [1, 37, 1000])
def test_equal_to_the_reference_for_any_chunk_size(tmp_path, chunk_rows):
    columns = random_rows(300)
    directory = prepare_mixed(tmp_path, columns, chunk_rows)
    train = columns["split"] == 0
    ids, sizes = reference_ids(columns, train)
    dense = reference_dense(columns, train)
    manifest = read_manifest(directory)
    for code, split in enumerate(SPLITS):
        rows = columns["split"] == code
        store = ColumnStore(directory / f"{split}.arrow")
        np.testing.assert_array_equal(store.ids, ids[rows])
        np.testing.assert_allclose(store.dense, dense[rows], rtol=1e-5, atol=1e-6)
        assert store.dense.dtype == np.float32
        assert store.numericals == ("price", "age", "rate")
        np.testing.assert_array_equal(store.scenario, columns["country"][rows])
        np.testing.assert_array_equal(store.group, columns["user"][rows])
        for number, name in enumerate(SCENARIOS):
            inside = rows & (columns["country"] == number)
            positives = {task: int(columns[task][inside].sum()) for task in ("click", "buy")}
            assert manifest["scenarios"][split][name] == {"rows": int(inside.sum()), "positives": positives}
        assert manifest["rows"][split] == rows.sum()
        assert manifest["positives"][split] == {task: int(columns[task][rows].sum()) for task in ("click", "buy")}
    assert manifest["vocabulary"] == sizes
    assert sorted(path.name for path in (directory / "vocabulary").iterdir()) == ["colour.parquet", "item.parquet"]


def test_manifest_and_spec_describe_the_columns(tmp_path):
    columns = random_rows(300)
    manifest = read_manifest(prepare_mixed(tmp_path, columns))
    train = columns["split"] == 0
    price, age = columns["price"][train].astype(float), columns["age"][train].astype(float)
    entry = manifest["numericals"]["price"]
    assert (entry["part"], entry["scaling"], entry["missing"]) == ("item", "standard", int(np.isnan(price).sum()))
    assert (entry["mean"], entry["std"]) == (pytest.approx(np.nanmean(price)), pytest.approx(np.nanstd(price)))
    assert manifest["numericals"]["age"]["min"] == np.nanmin(age)
    assert manifest["numericals"]["age"]["max"] == np.nanmax(age)
    assert (manifest["scenario_column"], manifest["padding"]) == ("country", {"hist_1": "0", "hist_2": "0"})
    spec = DatasetSpec.from_dict(manifest["spec"])
    size = manifest["vocabulary"]["item"]
    assert spec.fields == (
        Field("item", size),
        Field("colour", 5),
        Field("hist_1", size, table="item"),
        Field("hist_2", size, table="item"),
        Field("price", 0, "numerical", "item"),
        Field("age", 0, "numerical", "user"),
        Field("rate", 0, "numerical", "user"),
    )
    sizes = spec.sizes
    assert sizes.tables == {"hist_1": "item", "hist_2": "item"}
    assert sizes.numericals == {"price": "item", "age": "user", "rate": "user"}
    assert (sizes.scenarios, spec.group) == (SCENARIOS, "user")


def test_summary_tables_of_prepare(tmp_path):
    columns = random_rows(300)
    manifest = read_manifest(prepare_mixed(tmp_path, columns))
    console = Console(width=150, record=True, file=io.StringIO())
    for table in tables(manifest):
        console.print(table)
    lines = [re.split(r" *[│┃] *", line.strip("│┃ ")) for line in console.export_text().splitlines()]
    inside = (columns["split"] == 1) & (columns["country"] == 2)
    clicks, bought = columns["click"][inside].sum(), columns["buy"][inside].sum()
    shares = [f"{count} ({count / inside.sum():.2%})" for count in (clicks, bought)]
    assert ["fr", "valid", str(inside.sum()), *shares] in lines
    age = columns["age"][columns["split"] == 0]
    measured = [f"{value:.6g}" for value in (np.nanmean(age), np.nanstd(age), np.nanmin(age), np.nanmax(age))]
    missing = f"{np.isnan(age).sum()} ({np.isnan(age).mean():.2%})"
    assert ["age", "user", "minmax", *measured, missing] in lines
    assert ["hist_1", "shared with item"] in lines
    assert ["item", str(manifest["vocabulary"]["item"])] in lines


def as_table(columns, kind):
    """Return raw columns as a user gives them: text as in a CSV file, or typed as in a Parquet file."""
    words = texts(columns)
    table = {name: pa.array(words[name]) for name in words}
    for name in ("price", "age", "rate"):
        cells = [None if np.isnan(value) else value for value in columns[name].tolist()]
        table[name] = pa.array(["" if cell is None else repr(cell) for cell in cells] if kind == "text" else cells)
    if kind == "typed":
        table |= {name: pa.array(columns[name]) for name in (ITEMS, *HISTORY)}
    table["country"] = pa.array([SCENARIOS[value] for value in columns["country"]])
    return pa.table(table)


@pytest.mark.parametrize("kind", ["text", "typed"])
def test_raw_rows_are_encoded_like_prepared_rows(tmp_path, kind):
    columns = random_rows(300)
    directory = prepare_mixed(tmp_path, columns)
    encoder = TableEncoder(directory, DatasetSpec.from_dict(read_manifest(directory)["spec"]))
    batch = encoder(as_table(columns, kind))
    for code, split in enumerate(SPLITS):
        rows, store = columns["split"] == code, ColumnStore(directory / f"{split}.arrow")
        np.testing.assert_array_equal(batch.ids_BF.numpy()[rows], store.ids)
        np.testing.assert_array_equal(batch.dense_BN.numpy()[rows], store.dense)
        np.testing.assert_array_equal(batch.scenario_B.numpy()[rows], store.scenario)
    assert (batch.labels_BT, batch.group_B) == (None, None)
    by_id = as_table(columns, kind).set_column(7, "country", pa.array(columns["country"]))
    np.testing.assert_array_equal(encoder(by_id).scenario_B.numpy(), batch.scenario_B.numpy())


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("country", ["nl", "ess"], r"column 'country' holds 'ess', which is not a scenario .*nl, es, fr.*mean 'es'"),
        ("country", ["3", "0"], "column 'country' holds '3', which is not a scenario"),
        ("country", ["nl", None], "column 'country' holds None, which is not a scenario"),
        ("price", ["1.5", "abc"], "'price' .*not a number .*abc"),
        ("price", ["1.5", "inf"], "numerical column 'price' holds an infinite value"),
        ("price", None, "the input has no column 'price'"),
        ("country", None, "the input has no column 'country'"),
    ],
)
def test_invalid_rows_raise(tmp_path, column, values, message):
    columns = random_rows(60)
    directory = prepare_mixed(tmp_path, columns)
    encoder = TableEncoder(directory, DatasetSpec.from_dict(read_manifest(directory)["spec"]))
    table = as_table({name: values[:2] for name, values in columns.items()}, "text").drop_columns([column])
    with pytest.raises(StemlabError, match=message):
        encoder(table if values is None else table.append_column(column, pa.array(values)))


def test_a_single_scenario_needs_no_column(tmp_path):
    columns = {**random_rows(60), "country": np.zeros(60, dtype=np.int64)}
    directory = prepare_mixed(tmp_path, columns, scenarios=("nl",))
    spec = DatasetSpec.from_dict(read_manifest(directory)["spec"])
    batch = TableEncoder(directory, spec)(as_table(columns, "text").drop_columns(["country"]))
    assert batch.scenario_B.tolist() == [0] * 60


def test_scenarios_named_by_numbers_are_no_ids():
    names = ("1", "0", "4")
    assert encode_scenarios("tab", pa.array([1, 0, 4, 1]), names).tolist() == [0, 1, 2, 0]
    with pytest.raises(StemlabError, match="holds '2', which is not a scenario"):
        encode_scenarios("tab", pa.array([0, 2]), names)


def test_as_floats_of_any_column_type():
    expected = [1.0, float("nan"), -2.5]
    for values in (["1", " ", "-2.5"], ["1.0", None, "-25e-1"], [1.0, None, -2.5], [1.0, float("nan"), -2.5]):
        np.testing.assert_array_equal(as_floats("x", pa.array(values)), np.array(expected, np.float32))
    assert as_floats("x", pa.chunked_array([[1, 2], [3]])).tolist() == [1.0, 2.0, 3.0]


def test_infinite_values_raise(tmp_path):
    columns = random_rows(60)
    columns["age"][33] = np.inf
    with pytest.raises(StemlabError, match="numerical column 'age' holds an infinite value"):
        prepare_mixed(tmp_path, columns)
    assert not [path for path in (tmp_path / "prepared").iterdir() if path.is_dir()]


@settings(deadline=None, max_examples=25)
@given(st.integers(20, 120), st.integers(0, 10_000), st.integers(1, 50), st.integers(1, 4))
def test_any_rows_equal_the_reference(tmp_path_factory, rows, seed, chunk_rows, min_count):
    columns = random_rows(rows, seed)
    columns["split"][:3] = [0, 1, 2]
    for name in ("price", "age", "rate"):
        columns[name][0] = 1.0  # a training row has a value
    changed = {"min_count": min_count, "fields": ("item", *HISTORY)}
    directory = prepare_mixed(tmp_path_factory.mktemp("any"), columns, chunk_rows, **changed)
    train = columns["split"] == 0
    ids, sizes = reference_ids(columns, train, min_count)
    rate = columns["rate"].astype(np.float64)
    dense = np.where(np.isnan(rate), np.nanmean(rate[train]), rate)
    assert read_manifest(directory)["vocabulary"]["hist_2"] == sizes["item"]
    for code, split in enumerate(SPLITS):
        store = ColumnStore(directory / f"{split}.arrow")
        np.testing.assert_array_equal(store.ids, ids[columns["split"] == code][:, [0, 2, 3]])
        np.testing.assert_allclose(store.dense[:, 2], dense[columns["split"] == code], rtol=1e-6, atol=1e-6)
        assert np.isfinite(store.dense).all()


def test_split_at_dates(tmp_path):
    columns = random_rows(300)
    rule = SplitRule(rule="dates", valid_from=20220421, test_from=20220426)
    directory = prepare_mixed(tmp_path, columns, split=rule)
    rows = {"train": columns["time"] < 20220421, "test": columns["time"] >= 20220426}
    rows["valid"] = ~rows["train"] & ~rows["test"]
    for split, inside in rows.items():
        np.testing.assert_array_equal(ColumnStore(directory / f"{split}.arrow").group, columns["user"][inside])
    assert read_manifest(directory)["split"]["valid_from"] == 20220421


def test_dropped_negatives_are_in_no_split(tmp_path):
    columns = random_rows(400)
    sampling = DownsamplingRule(label="buy", negatives=1, seed=0)
    directory = prepare_mixed(tmp_path, columns, split=SplitRule(), sampling=sampling)
    manifest = read_manifest(directory)
    assert sum(manifest["rows"].values()) == 2 * columns["buy"].sum()
    stores = [ColumnStore(directory / f"{split}.arrow") for split in SPLITS]
    assert sum(int(store.labels[:, 1].sum()) for store in stores) == columns["buy"].sum()
    assert [len(store) for store in stores] == list(manifest["rows"].values())
    assert manifest["sampling"] == {"label": "buy", "negatives": 1, "seed": 0}
    by_scenario = [counted["rows"] for split in manifest["scenarios"].values() for counted in split.values()]
    assert sum(by_scenario) == sum(manifest["rows"].values())


def test_rows_without_a_split_column(tmp_path):
    columns = random_rows(30)
    del columns["split"]
    with pytest.raises(StemlabError, match=r"dataset\.split\.rule=given: mixed"):
        prepare_mixed(tmp_path, columns)


def test_group_is_one_of_the_fields():
    assert check_group(None, ("item",)) is None
    assert check_group("user", ("item", "user")) == "user"
    with pytest.raises(StemlabError, match=r"dataset.group=usr is none of dataset.fields .*mean 'user'"):
        check_group("usr", ("item", "user"))


@pytest.mark.parametrize(("name", "value", "shown"), [("click", 2, "label 'click'.*0 to 1"), ("click", -1, "'click'")])
def test_labels_out_of_range_are_refused(tmp_path, name, value, shown):
    columns = random_rows(300)
    columns[name][7] = value
    with pytest.raises(StemlabError, match=f"{shown}"):
        prepare_mixed(tmp_path, columns)
    assert not list(tmp_path.rglob("*.arrow"))
