"""User tables: equal rows in any file format give equal prepared arrays; invalid input is reported."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.data.prepare.split import SplitRule, random_codes
from stemlab.data.sources.table import TableDataModule
from stemlab.data.table import file
from stemlab.errors import StemlabError
from stemlab.types import MISSING_GROUP
from tests.data.table.rows import DESCRIBED, frame, save, table


def arrays(module: TableDataModule):
    """Return split -> (ids, dense, labels, scenario, group)."""
    module.prepare()
    stores = {split: module.store(split) for split in ("train", "valid", "test")}
    return {
        split: (store.ids, store.dense, store.labels, store.scenario, store.group) for split, store in stores.items()
    }


def assert_same(one, other):
    for split in one:
        for left, right in zip(one[split], other[split], strict=True):
            np.testing.assert_array_equal(left, right)


@pytest.fixture
def saved(tmp_path):
    return save(frame(), tmp_path / "rows.csv")


def test_equals_a_plain_implementation(tmp_path, saved):
    """Compare with vocabularies from counters, scaling with NumPy, and splits by their rule."""
    rows = pd.read_csv(saved, dtype=str, keep_default_na=False)
    codes = random_codes(len(rows), SplitRule())
    train = rows[codes == 0]
    expected = np.empty((len(rows), 3), dtype=np.int64)
    for column, name in enumerate(DESCRIBED["fields"]):
        counts = train[name][train[name] != ""].value_counts()
        kept = sorted(counts[counts >= 2].index, key=lambda token: (-counts[token], token))
        ids = {token: number for number, token in enumerate(kept, start=1)}
        expected[:, column] = [ids.get(token, len(ids) + 1) for token in rows[name]]
    found = arrays(table(tmp_path, saved))
    for code, split in enumerate(("train", "valid", "test")):
        ids, dense, labels, scenario, group = found[split]
        np.testing.assert_array_equal(ids, expected[codes == code])
        np.testing.assert_array_equal(labels, rows.loc[codes == code, ["click", "buy"]].astype(int))
        same_user = rows.loc[codes == code, "user_id"].to_numpy()
        assert (pd.factorize(group)[0] == pd.factorize(same_user)[0]).all()
        assert scenario is None
        for column, name in enumerate(("price", "age")):
            numbers = pd.to_numeric(train[name]).to_numpy()
            scaled = (pd.to_numeric(rows.loc[codes == code, name]) - np.nanmean(numbers)) / np.nanstd(numbers)
            np.testing.assert_allclose(dense[:, column], scaled.fillna(0), rtol=0, atol=2e-6)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_csv_and_parquet_of_the_same_rows_are_the_same(tmp_path_factory, seed, categories):
    folder = tmp_path_factory.mktemp("same")
    rows = frame(120, seed)
    described = {"scenario": "country", "scenarios": ["nl", "es", "fr"], "fields": ["user_id", "item_id", "is_new"]}
    csv = arrays(table(folder, save(rows, folder / "rows.csv"), **described))
    if categories:
        rows = rows.astype({"user_id": "category", "country": "category"})
    assert_same(csv, arrays(table(folder, save(rows, folder / "rows.parquet"), **described)))
    assert_same(csv, arrays(table(folder, save(rows, folder / "rows.csv.gz", sep=";"), **described)))


@settings(max_examples=5, deadline=None)
@given(st.permutations(list(frame(1).columns)), st.integers(40, 4000))
def test_result_does_not_depend_on_column_order_and_block_size(tmp_path_factory, order, block):
    folder = tmp_path_factory.mktemp("order")
    rows = frame(120)
    first = arrays(table(folder, save(rows, folder / "rows.csv")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "TABLE_BLOCK_BYTES", block)
        other = table(folder, save(rows[order], folder / "other.csv"))
        assert_same(first, arrays(other))


def test_scenarios_time_and_shared_vocabularies(tmp_path):
    rows = frame()
    rows["day"] = pd.to_datetime(1_700_000_000 + (rows["ts"] - 1_700_000_000) * 1000, unit="s").dt.strftime("%Y-%m-%d")
    rows["last_item"] = rows["item_id"].shift(fill_value=999)
    module = table(
        tmp_path,
        save(rows, tmp_path / "rows.csv"),
        fields=["item_id", "last_item", "country"],
        shared={"last_item": "item_id"},
        scenario="country",
        scenarios=["nl", "es", "fr"],
        time="day",
        split={"rule": "time"},
    )
    found = arrays(module)
    order = rows["day"].to_numpy().argsort(kind="stable")
    for split, part in (("test", order[-40:]), ("train", order[: 400 - 40 - 36])):
        part = np.sort(part)
        expected = rows["country"].map({"nl": 0, "es": 1, "fr": 2}).to_numpy()[part]
        np.testing.assert_array_equal(found[split][3], expected)
        assert module.manifest["scenarios"][split]["es"]["rows"] == (expected == 1).sum()
    sizes = module.spec.sizes
    assert sizes.tables == {"last_item": "item_id"}
    assert sizes.scenarios == ("nl", "es", "fr")
    ids = found["train"][0]
    where = np.flatnonzero(rows["last_item"].to_numpy()[np.sort(order[:324])] == 104)
    items = ids[rows["item_id"].to_numpy()[np.sort(order[:324])] == 104, 0]
    assert set(ids[where, 1]) == set(items)


def test_a_given_split(tmp_path):
    rows = frame()
    rows["part"] = np.random.default_rng(1).choice(["train", "val", "Test"], len(rows), p=[0.8, 0.1, 0.1])
    module = table(tmp_path, save(rows, tmp_path / "r.parquet"), split_column="part", split={"rule": "given"})
    found = arrays(module)
    for split, word in (("train", "train"), ("valid", "val"), ("test", "Test")):
        np.testing.assert_array_equal(found[split][2], rows.loc[rows["part"] == word, ["click", "buy"]])


def test_labels_may_be_booleans_and_the_group_no_field(tmp_path):
    rows = frame().astype({"click": bool})
    module = table(tmp_path, save(rows, tmp_path / "rows.csv"), fields=["item_id"])
    module.prepare()
    assert module.spec.group == "user_id"
    same = table(tmp_path, save(frame(), tmp_path / "ints.parquet"), fields=["item_id"])
    assert_same(arrays(module), arrays(same))


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_an_empty_cell_of_the_group_column_is_no_user(tmp_path, name):
    rows = frame()
    rows.loc[::5, "user_id"] = None
    found = arrays(table(tmp_path, save(rows, tmp_path / name)))
    codes = random_codes(len(rows), SplitRule())
    for code, split in enumerate(("train", "valid", "test")):
        expected = rows.loc[codes == code, "user_id"].isna()
        np.testing.assert_array_equal(found[split][4] == MISSING_GROUP, expected)
        assert expected.any()


def test_encoded_rows_are_the_prepared_ones(tmp_path):
    rows = frame()
    described = {"scenario": "country", "scenarios": ["es", "fr", "nl"]}
    module = table(tmp_path, save(rows, tmp_path / "rows.csv"), missing=["", "NA"], **described)
    found = arrays(module)
    test = rows[random_codes(len(rows), SplitRule()) == 2].reset_index(drop=True)
    texts = pd.read_csv(save(test, tmp_path / "test.csv"), dtype=str, keep_default_na=False)
    texts["page"] = texts["page"].replace("", "NA")
    for given_rows in (pa.Table.from_pandas(test), pa.Table.from_pandas(texts)):
        batch = module.encode(given_rows)
        np.testing.assert_array_equal(batch.ids_BF, found["test"][0])
        np.testing.assert_array_equal(batch.dense_BN, found["test"][1])
        np.testing.assert_array_equal(batch.scenario_B, found["test"][3])
    with pytest.raises(StemlabError, match="scenario column 'country'"):
        module.encode(pa.Table.from_pandas(test.drop(columns="country")))
    with pytest.raises(StemlabError, match=r"column 'age'.*'old'"):
        module.encode(pa.Table.from_pandas(texts.assign(age="old")))


def test_ids_written_as_floats_are_the_same_ids(tmp_path):
    """Missing cells turn a column of integer ids into floats: 105.0 in csv, float64 in parquet."""
    rows = frame()
    described = {"fields": ["item_id"], "numericals": [], "scenario": "age", "scenarios": [1, 2], "group": None}
    rows["age"] = rows["age"] % 2 + 1
    expected = arrays(table(tmp_path, save(rows, tmp_path / "rows.csv"), **described))
    floats = rows.astype({"item_id": float, "age": float})
    for name in ("floats.csv", "floats.parquet"):
        assert_same(expected, arrays(table(tmp_path, save(floats, tmp_path / name), **described)))
    module = table(tmp_path, tmp_path / "rows.csv", **described)
    module.prepare()
    test = random_codes(len(rows), SplitRule()) == 2
    for given_rows in (floats[test], floats[test].astype(str), floats[test].astype({"item_id": "float32"})):
        batch = module.encode(pa.Table.from_pandas(given_rows))
        np.testing.assert_array_equal(batch.ids_BF, expected["test"][0])
        np.testing.assert_array_equal(batch.scenario_B, expected["test"][3])


def test_ids_that_floats_cannot_hold_are_refused(tmp_path):
    rows = frame()
    module = table(tmp_path, save(rows, tmp_path / "rows.csv"), fields=["item_id"], group=None)
    large = rows.astype({"item_id": float})
    large.loc[5, "item_id"] = 2.0**53 + 2
    with pytest.raises(
        StemlabError, match=r"rows\.parquet, row 6: column 'item_id' is '9007199254740994'.*integers or text"
    ):
        table(tmp_path, save(large, tmp_path / "rows.parquet"), fields=["item_id"], group=None).prepare()
    module.prepare()
    with pytest.raises(StemlabError, match=r"'item_id'.*integers or text"):
        module.encode(pa.Table.from_pandas(large))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_split_by_time_orders_rows_within_a_second(tmp_path, suffix):
    rows = frame(200)
    rank = np.random.default_rng(1).permutation(len(rows))
    rows["at"] = pd.Timestamp("2024-05-06 07:08:09") + pd.to_timedelta(rank, unit="ns")
    module = table(
        tmp_path,
        save(rows, tmp_path / f"rows.{suffix}"),
        fields=["row"],
        min_count=1,
        time="at",
        split={"rule": "time"},
    )
    found = arrays(module)
    for split, kept in (("train", rank < 162), ("valid", (rank >= 162) & (rank < 180)), ("test", rank >= 180)):
        np.testing.assert_array_equal(found[split][2], rows.loc[kept, ["click", "buy"]])


def test_fingerprint_depends_on_the_reader_settings(tmp_path, saved):
    first = table(tmp_path, saved).prepare()
    assert table(tmp_path, saved, batch_size=7).prepare() == first
    assert table(tmp_path, saved, separator=",").prepare() == first
    others = [{"missing": ["", "home"]}, {"scaling": "minmax"}, {"min_count": 3}, {"on_bad_row": "skip"}]
    assert len({table(tmp_path, saved, **changed).prepare() for changed in others} | {first}) == 5


def test_criteo(tmp_path):
    """The label, 13 integers, 26 hashes, no header, empty cells."""
    rng = np.random.default_rng(0)
    label, counts = rng.integers(0, 2, 200), rng.geometric(0.01, (200, 13))
    hashes = [[f"{number:08x}" for number in row] for row in rng.integers(0, 2**32, (30, 26))[rng.integers(0, 30, 200)]]
    holes = rng.random((200, 39)) < 0.2
    lines = []
    for row in range(200):
        cells = [*map(str, counts[row]), *hashes[row]]
        lines.append(
            "\t".join([str(label[row]), *("" if gone else c for c, gone in zip(cells, holes[row], strict=True))])
        )
    path = tmp_path / "train.txt"
    path.write_text("\n".join(lines) + "\n")
    module = table(tmp_path, path, option="criteo", min_count=1)
    module.prepare()
    codes = random_codes(200, SplitRule())
    store = module.store("train")
    assert [field.name for field in module.spec.numericals] == [f"I{n}" for n in range(1, 14)]
    np.testing.assert_array_equal(store.labels[:, 0], label[codes == 0])
    assert module.spec.field_sizes["C7"] == 2 + len(
        {hashes[r][6] for r in range(200) if codes[r] == 0 and not holes[r, 19]}
    )
    first = np.where(holes[:, 0], np.nan, counts[:, 0])
    scaled = (first - np.nanmean(first[codes == 0])) / np.nanstd(first[codes == 0])
    np.testing.assert_allclose(store.dense[:, 0], np.nan_to_num(scaled[codes == 0]), rtol=0, atol=1e-5)
    assert module.raw_columns[:2] == ("click", "I1")
