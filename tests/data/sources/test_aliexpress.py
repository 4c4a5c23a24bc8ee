"""AliExpress from the publisher's and from MTReclib's files: equal rows, in the order of a plain join."""

import gzip
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.data.io.csv_integers import IntegerReader
from stemlab.data.io.text_blocks import TextBlock
from stemlab.data.sources.aliexpress_columns import (
    CATEGORICALS,
    ITEM_FILE,
    NUMERICAL_PARTS,
    NUMERICALS,
    USER_FILE,
)
from stemlab.data.sources.aliexpress_join import PageJoin
from stemlab.data.store import ColumnStore
from stemlab.errors import StemlabError
from tests.conftest import require
from tests.data.aliexpress_rows import (
    PROCESSED_FILE,
    aliexpress,
    mtreclib_frame,
    read_lines,
    write_country,
    write_lines,
    write_processed,
    zip_files,
)
from tests.data.prepared_rows import decoded


def prepared(module):
    """Return ids, numerical values, labels and scenarios of the splits as plain arrays."""
    directory = module.prepare()
    stores = [ColumnStore(directory / f"{split}.arrow") for split in ("train", "valid", "test")]
    return [(s.ids.copy(), s.dense.copy(), s.labels.copy(), s.scenario.copy(), s.group.copy()) for s in stores]


def assert_same(some, others):
    for left, right in zip(some, others, strict=True):
        for a, b in zip(left, right, strict=True):
            np.testing.assert_array_equal(a, b)


def test_column_positions_of_the_publisher():
    assert (len(USER_FILE), len(ITEM_FILE), len(PROCESSED_FILE)) == (33, 49, 82)
    assert USER_FILE[1:8] + USER_FILE[31:33] == CATEGORICALS[:9]
    assert USER_FILE[8:31] == NUMERICALS[:23]
    assert tuple(ITEM_FILE[column - 1] for column in (19, 34, 35, 36, 40, 41, 42)) == CATEGORICALS[9:]
    assert tuple(name for name in ITEM_FILE if name.startswith("numerical")) == NUMERICALS[23:]
    assert (USER_FILE[0], ITEM_FILE[0], ITEM_FILE[48]) == ("search_id", "search_id", "label")
    assert [NUMERICAL_PARTS[f"numerical_{number}"] for number in (1, 23, 24, 63)] == ["user", "user", "item", "item"]


def test_raw_files_give_the_rows_of_a_plain_join_in_its_order(tmp_path):
    raw = write_country(tmp_path)
    for split in ("train", "test"):  # item file in another order than the user file
        lines = read_lines(raw / f"nl_item_{split}.csv")
        write_lines(
            raw / f"nl_item_{split}.csv", [lines[row] for row in np.random.default_rng(0).permutation(len(lines))]
        )
        users = read_lines(raw / f"nl_user_{split}.csv")
        write_lines(raw / f"nl_user_{split}.csv", users[::-1])
    module = aliexpress(tmp_path, split={"rule": "given", "valid_size": 0.1, "carve": "last", "seed": 1})
    frames = {split: mtreclib_frame(raw, "nl", split) for split in ("train", "test")}
    rows = {split: decoded(module, split) for split in ("train", "valid", "test")}
    assert len(frames["train"]) > 100 < 10 * len(rows["valid"])
    for frame, found in ((frames["train"], rows["train"] + rows["valid"]), (frames["test"], rows["test"])):
        assert len(frame) == len(found)
        known = {name: set(frames["train"][name][: len(rows["train"])].astype(str)) for name in CATEGORICALS}
        for name in CATEGORICALS:
            expected = [token if token in known[name] else "?" for token in frame[name].astype(str)]
            assert [row[name] for row in found] == expected
        for name in NUMERICALS:
            assert [row[name] for row in found] == frame[name].to_numpy(np.float32).tolist()
        for task in ("click", "conversion"):
            assert [row[task] for row in found] == frame[task].tolist()
    assert module.manifest["rows"]["valid"] == -(-len(frames["train"]) // 10)
    assert module.spec.tasks == ("click", "conversion")
    assert {field.name: field.part for field in module.spec.numericals} == NUMERICAL_PARTS
    assert module.manifest["source"] == {"forms": {"nl": "raw"}, "pages_without_items": 0}


def test_mtreclib_files_give_the_same_rows_as_raw_files(tmp_path):
    raw = write_country(tmp_path)
    from_raw = prepared(aliexpress(tmp_path))
    folder = raw / "AliExpress_NL"
    folder.mkdir()
    for split in ("train", "test"):
        mtreclib_frame(raw, "nl", split).to_csv(folder / f"{split}.csv", index=False)
    for path in raw.glob("nl_*.csv"):
        path.unlink()
    module = aliexpress(tmp_path)
    assert_same(prepared(module), from_raw)
    assert module.manifest["source"]["forms"] == {"nl": "processed"}
    for path in folder.iterdir():
        (raw / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    shutil.rmtree(folder)
    assert_same(prepared(aliexpress(tmp_path)), from_raw)  # directly in raw_dir, for a single country


def test_countries_are_scenarios_and_zip_archives_are_read(tmp_path):
    for country in ("nl", "es", "us"):
        write_country(tmp_path, country)
    raw = tmp_path / "raw"
    plain = prepared(aliexpress(tmp_path, scenarios=["es", "us", "nl"]))
    (raw / "NL").mkdir()  # a folder of zip archives
    for path in list(raw.glob("nl_*.csv")):
        zip_files(raw / "NL" / f"{path.stem}.zip", path)
    pairs = list(raw.glob("es_*.csv"))  # the publisher's zip archive of zip archives
    for path in pairs:
        zip_files(path.with_suffix(".zip"), path)
    zip_files(raw / "aliexpress_ES_datasets.zip", *raw.glob("es_*.zip"), within="aliexpress_ES_datasets/")
    module = aliexpress(tmp_path, scenarios=["es", "us", "nl"])
    assert_same(prepared(module), plain)
    assert module.spec.scenarios == ("es", "us", "nl")
    train, valid, _ = plain
    assert train[3].tolist() == sorted(train[3].tolist())
    for scenario in range(3):  # each country has validation rows
        shares = [int((part[3] == scenario).sum()) for part in (train, valid)]
        assert shares[1] == -(-sum(shares) // 10)
    groups = [set(train[4][train[3] == scenario].tolist()) for scenario in range(3)]
    assert not groups[0] & groups[1]  # groups never mix countries
    assert all(train[4] // 5 >= 1)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_join_equals_pandas_for_any_order_and_partition(tmp_path_factory, data):
    ids = data.draw(st.lists(st.integers(-5, 20), unique=True, min_size=1, max_size=12))
    shown = data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=30))
    users = pd.DataFrame({"search_id": ids, "u": range(len(ids))}).assign(x=lambda f: f["u"] / 4)
    items = pd.DataFrame({"search_id": shown, "i": range(len(shown))}).assign(y=lambda f: f["i"] / 8)
    readers = [
        IntegerReader(tmp_path_factory.getbasetemp() / name, names, b",", float_columns=numbers, kept=names)
        for name, names, numbers in (("u.csv", ("search_id", "u", "x"), "x"), ("i.csv", ("search_id", "i", "y"), "y"))
    ]
    join = PageJoin(*readers, tmp_path_factory.getbasetemp() / "join", data.draw(st.sampled_from([None, 1, 2, 3])))
    step = data.draw(st.integers(1, 30))
    parts = list(join.join(blocks(users, step), blocks(items, step)))
    # a left join keeps the order of its left rows in every pandas version, an inner join only from 3.1 on
    expected = users.merge(items, on="search_id", how="left").dropna()
    for name in expected:
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), expected[name])
    assert join.empty_pages == len(set(ids) - set(shown))
    assert list((tmp_path_factory.getbasetemp() / "join").iterdir()) == []  # temporary files are deleted


def blocks(frame, rows):
    for start in range(0, len(frame), rows):
        text = frame[start : start + rows].to_csv(header=False, index=False)
        yield TextBlock(text.encode(), start + 1)


@pytest.fixture
def processed(tmp_path):
    """A country in MTReclib's format, and the lines of its training file."""
    return write_processed(tmp_path)


def test_empty_numerical_cells_become_the_training_mean(tmp_path, processed):
    at = processed[0].index("numerical_30")
    for line in (2, 4):
        processed[line][at] = ""
    write_lines(tmp_path / "raw" / "train.csv", processed)
    module = aliexpress(tmp_path)
    rows = decoded(module, "train")
    stored = module.manifest["numericals"]["numerical_30"]
    assert (stored["missing"], stored["part"], stored["scaling"]) == (2, "item", "none")
    others = [float(line[at]) for line in processed[1 : len(rows) + 1] if line[at]]
    assert stored["mean"] == pytest.approx(np.mean(others), rel=1e-6)
    assert rows[1]["numerical_30"] == rows[3]["numerical_30"] == pytest.approx(np.mean(others), rel=1e-6)


def test_missing_files_are_reported(tmp_path):
    with pytest.raises(StemlabError, match=r"no files of ES.*AliExpress_ES/train\.csv.*dataset\.source=sample"):
        aliexpress(tmp_path, scenarios=["es", "nl"]).prepare()
    raw = write_country(tmp_path)
    with pytest.raises(StemlabError, match=r"no files of US.*dataset\.scenarios=\[nl\]"):
        aliexpress(tmp_path, source="auto", scenarios=["nl", "us"]).prepare()
    (raw / "nl_item_test.csv").unlink()
    with pytest.raises(StemlabError, match=r"nl_user_train\.csv.*no nl_item_test\.csv"):
        aliexpress(tmp_path).prepare()
    assert not (tmp_path / "sample").exists()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"scenarios": ["nl", "uk"]}, "dataset.scenarios.*'uk'.*nl, es, fr, us, ru"),
        ({"scenarios": []}, "dataset.scenarios is empty"),
        ({"fields": ["categorical_17"]}, "dataset.fields.*'categorical_17'.*Did you mean 'categorical_"),
        ({"numericals": ["numerical_0"]}, "dataset.numericals.*'numerical_0'"),
        ({"tasks": ["buy"]}, "dataset.tasks.*'buy'"),
        ({"group": "user"}, "dataset.group.*'user'.*search_id, categorical_1"),
        ({"split": {"rule": "random"}}, "dataset.split.rule=random.*use given"),
        ({"sample": {"difference": 1.5}}, "dataset.sample.difference=1.5"),
    ],
)
def test_invalid_settings_are_rejected_before_reading(tmp_path, changed, expected):
    with pytest.raises(StemlabError, match=expected):
        aliexpress(tmp_path, **changed)


def test_fewer_columns_and_no_group(tmp_path):
    write_country(tmp_path)
    module = aliexpress(tmp_path, fields=["categorical_12"], numericals=[], group=None, tasks=["conversion"])
    module.prepare()
    store = ColumnStore(module.directory / "train.arrow")
    assert (store.ids.shape[1], store.labels.shape[1], store.dense, store.group) == (1, 1, None, None)


def test_rows_are_encoded_as_they_were_prepared(tmp_path, processed):
    module = aliexpress(tmp_path)
    (train, *_) = prepared(module)
    columns = {name: [line[at] for line in processed[1:]] for at, name in enumerate(processed[0])}
    batch = module.encode(pa.table(columns))
    rows = len(train[0])
    assert batch.ids_BF[:rows].tolist() == train[0].tolist()
    assert batch.dense_BN[:rows].tolist() == train[1].tolist()
    assert set(batch.scenario_B.tolist()) == {0}


def test_sample_has_the_raw_format_and_is_announced(tmp_path, caplog):
    simulation = {"rows": 200, "values": 4}
    module = aliexpress(tmp_path, source="auto", scenarios=["fr", "es"], sample=simulation)
    directory = module.prepare()
    (announced,) = [record.message for record in caplog.records if "SAMPLE" in record.message]
    assert "no files of fr, es" in announced
    assert (module.spec.sample, module.spec.scenarios) == (True, ("fr", "es"))
    names = {path.name for path in (tmp_path / "sample").glob("aliexpress-fr-*/*")}
    assert names == {f"fr_{side}_{split}.csv" for side in ("user", "item") for split in ("train", "test")}
    alone = aliexpress(tmp_path, source="sample", scenarios=["fr"], sample=simulation)
    assert len(alone_rows := decoded(alone, "test")) == sum(row["scenario"] == "fr" for row in decoded(module, "test"))
    assert alone_rows[0]["numerical_5"] == decoded(module, "test")[0]["numerical_5"]
    assert alone.directory != directory


def test_real_files_are_read(tmp_path, real_data):
    slices = require(real_data / "aliexpress")
    (tmp_path / "raw" / "nl").mkdir(parents=True)
    for split in ("train", "test"):
        shutil.copy(slices / f"aliexpress_{split}_sample.csv", tmp_path / "raw" / "nl" / f"{split}.csv")
    module = aliexpress(tmp_path)
    rows = decoded(module, "train") + decoded(module, "valid")
    frame = pd.read_csv(slices / "aliexpress_train_sample.csv")
    assert module.manifest["rows"] == {"train": 90, "valid": 10, "test": 20}
    assert (sum(row["click"] for row in rows), sum(row["conversion"] for row in rows)) == (60, 2)
    for name in NUMERICALS:
        assert [row[name] for row in rows] == frame[name].to_numpy(np.float32).tolist()
    assert [row["categorical_7"] for row in rows[:90]] == frame["categorical_7"].astype(str).tolist()[:90]
    assert module.spec.field_sizes["categorical_1"] == 1 + 2  # 9 is all there is
