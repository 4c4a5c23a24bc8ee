"""Columns of ``dataset.derived``."""

import json

import numpy as np
import pyarrow as pa
import pytest

from stemlab.config.compose import compose
from stemlab.data.prepare.split import SPLITS
from stemlab.data.store import ColumnStore
from stemlab.data.table.derived_columns import DerivedColumn, DerivedColumns
from stemlab.errors import StemlabError
from stemlab.runs.build import build_datamodule

ROWS = [
    ("u1", "feed", "17", "2.5", 1),
    ("u2", "mail", "18", "0", 0),
    ("u1", "feed", "", "", 1),
    ("u3", "", "40.5", "7", 0),
]
CROSS, BUCKETS = "user_x_surface: {cross: [user, surface]}", "age_group: {buckets: age, edges: [18, 25]}"


def write(folder, rows=ROWS * 10):
    text = "\n".join(",".join(map(str, row)) for row in rows)
    (folder / "rows.csv").write_text(f"user,surface,age,price,click\n{text}\n")


def data(folder, *words):
    common = ["model=shared_bottom", "dataset=table", f"dataset.path={folder / 'rows.csv'}", "dataset.min_count=1"]
    roles = ["dataset.fields=[user,user_x_surface,age_group]", "dataset.numericals=[log_price]"]
    places = [f"paths.data_dir={folder / 'data'}", "paths.output_dir=unused", "dataset.scaling=none"]
    if not any(word.startswith("dataset.derived") for word in words):
        roles.append(f"dataset.derived={{{CROSS}, {BUCKETS}, log_price: {{log1p: price}}}}")
    return build_datamodule(compose("train", [*common, *roles, *places, "dataset.tasks=[click]", *words]))


def test_derived_columns_are_fields_and_numericals(tmp_path):
    write(tmp_path)
    made = data(tmp_path)
    directory = made.prepare()
    stores = [ColumnStore(directory / f"{split}.arrow") for split in SPLITS]
    values = np.concatenate([store.dense[:, 0] for store in stores])
    assert all(np.isclose(values, one, atol=1e-5).any() for one in np.log1p([0.0, 2.5, 7.0]))
    assert len({tuple(row) for row in stores[0].ids.tolist()}) == 4
    sizes = {field.name: field.size for field in made.spec.fields}
    assert sizes["age_group"] == 3 + 2  # with padding and out-of-vocabulary
    assert sizes["user_x_surface"] == 2 + 2


def test_rows_to_score_are_encoded_alike(tmp_path):
    write(tmp_path)
    made = data(tmp_path)
    made.prepare()
    batch = made.encode(
        pa.table({"user": ["u1", "u1"], "surface": ["feed", "mail"], "age": [17, 30], "price": [1.0, 2.0]})
    )
    size = {field.name: field.size for field in made.spec.fields}
    assert batch.ids_BF[0, 1] < size["user_x_surface"] - 1 == batch.ids_BF[1, 1]  # the pair (u1, mail) is unseen
    assert batch.ids_BF[0, 2] != batch.ids_BF[1, 2]
    np.testing.assert_allclose(batch.dense_BN[:, 0], np.log1p([1.0, 2.0]), rtol=1e-6)
    with pytest.raises(StemlabError, match=r"'price'.*'log_price'"):
        made.encode(pa.table({"user": ["u1"], "surface": ["feed"], "age": [17]}))


def test_buckets_and_crosses_of_any_type():
    columns = {"b": DerivedColumn(buckets="x", edges=(0.0, 2.5)), "c": DerivedColumn(cross=("x", "y"))}
    table = DerivedColumns(columns, [""])(pa.table({"x": [-1.0, 0.0, 2.5, None], "y": [1, 2, None, 4]}))
    assert table["b"].to_pylist() == ["< 0", "0 to 2.5", ">= 2.5", None]
    crossed = table["c"].to_pylist()
    assert crossed[2:] == [None, None]
    assert len(set(crossed[:2])) == 2


def test_categories_that_differ_have_different_names():
    stamps = [1_700_000_000.0 + 600 * n for n in range(4)]
    columns = {"b": DerivedColumn(buckets="t", edges=tuple(stamps)), "c": DerivedColumn(cross=("x", "y"))}
    times = [stamp + change for stamp in stamps for change in (-1, 0)]
    rows = {"t": times, "x": ["a & b", "a", "a\\", "a\\&b", *"1234"], "y": ["c", "b & c", "&b", "", *"5678"]}
    table = DerivedColumns(columns, [])(pa.table(rows))
    assert [len(set(table[name].to_pylist())) for name in ("b", "c")] == [5, 8]


@pytest.mark.parametrize(
    ("derived", "words"),
    [
        ("{a: {cross: [user]}}", "two columns"),
        ("{a: {buckets: age}}", "edges"),
        ("{a: {buckets: age, edges: [2, 1]}}", "ascending"),
        ("{a: {buckets: age, edges: [nan]}}", "finite"),
        ("{a: {log1p: age, buckets: age, edges: [1]}}", "exactly one"),
        ("{a: {log: age}}", "derived"),
    ],
)
def test_wrong_rules_are_refused(tmp_path, derived, words):
    write(tmp_path)
    with pytest.raises(StemlabError, match=words):
        data(tmp_path, f"dataset.derived={derived}")


@pytest.mark.parametrize(
    ("derived", "words"),
    [("{age: {log1p: price}}", "age.*column of this name"), ("{a: {log1p: prise}}", "no column 'prise'.*price")],
)
def test_columns_that_do_not_fit_the_file_are_refused(tmp_path, derived, words):
    write(tmp_path)
    with pytest.raises(StemlabError, match=words):
        data(tmp_path, f"dataset.derived={derived}", "dataset.fields=[user]", "dataset.numericals=[]").prepare()


def test_a_number_without_logarithm_is_a_bad_row(tmp_path):
    write(tmp_path, [*ROWS * 5, ("u1", "feed", "20", "-3", 1), *ROWS * 5])
    with pytest.raises(StemlabError, match=r"line 22.*log_price"):
        data(tmp_path).prepare()
    skipped = data(tmp_path, "dataset.on_bad_row=skip").prepare()
    assert json.loads((skipped / "manifest.json").read_text())["skipped_rows"] == 1
