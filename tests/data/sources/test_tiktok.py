import gzip

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from stemlab.data.sample.tiktok import TIKTOK_COLUMNS
from stemlab.data.sources.tiktok import TIKTOK_FIELDS, TIKTOK_FILE, TIKTOK_FILES
from stemlab.data.store import ColumnStore
from stemlab.errors import StemlabError
from tests.data.tiktok_rows import random_columns, settings, tiktok, write_raw

SMALL_SAMPLE = {**settings("tiktok")["sample"], "rows": 2000, "users": 50, "items": 50, "authors": 10}


def test_official_names_plain_or_compressed(tmp_path):
    assert {TIKTOK_FILE, f"{TIKTOK_FILE}.gz", f"{TIKTOK_FILE}.tgz", "final_track1_train.tgz"} <= set(TIKTOK_FILES)
    path = write_raw(tmp_path, random_columns(300))
    plain = ColumnStore(tiktok(tmp_path).prepare() / "train.arrow").ids.copy()
    (path.parent / f"{TIKTOK_FILE}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    module = tiktok(tmp_path, source="auto")
    np.testing.assert_array_equal(ColumnStore(module.prepare() / "train.arrow").ids, plain)
    assert module.manifest["raw"][0]["name"] == f"{TIKTOK_FILE}.gz"


def test_without_a_raw_file_auto_generates_the_sample_with_a_warning(tmp_path, caplog):
    module = tiktok(tmp_path, source="auto", sample=SMALL_SAMPLE)
    directory = module.prepare()
    announced = [r.message for r in caplog.records if "SAMPLE" in r.message]
    assert len(announced) == 1
    assert f"no {TIKTOK_FILE} in {tmp_path / 'raw'}" in announced[0]
    assert module.spec.sample is True
    assert module.manifest["sample"] is True
    assert sum(module.manifest["rows"].values()) == 2000
    (raw,) = (tmp_path / "sample").glob(f"tiktok-*/{TIKTOK_FILE}")
    written = raw.stat().st_mtime_ns
    assert tiktok(tmp_path, source="sample", sample=SMALL_SAMPLE).prepare() == directory
    assert raw.stat().st_mtime_ns == written
    other = tiktok(tmp_path, source="sample", sample={**SMALL_SAMPLE, "conflict": 0.0})
    assert other.prepare() != directory


def test_raw_file_takes_precedence_over_the_sample(tmp_path, caplog):
    write_raw(tmp_path, random_columns(300))
    module = tiktok(tmp_path, source="auto")
    module.prepare()
    assert module.spec.sample is False
    assert "SAMPLE" not in caplog.text
    assert not (tmp_path / "sample").exists()


def test_the_same_rows_as_sample_and_as_raw_are_two_datasets(tmp_path):
    sample = tiktok(tmp_path, source="sample", sample=SMALL_SAMPLE).prepare()
    (raw,) = (tmp_path / "sample").glob("tiktok-*")
    assert tiktok(tmp_path, raw_dir=str(raw)).prepare() != sample


@pytest.mark.parametrize("changed", [{"source": "raw"}, {"source": "auto", "raw_file": "mine.txt"}])
def test_missing_raw_file_is_named(tmp_path, changed):
    name = changed.get("raw_file") or TIKTOK_FILE
    with pytest.raises(StemlabError, match=rf"raw has no file {name}.*dataset\.raw_dir.*dataset\.source=sample"):
        tiktok(tmp_path, **changed).prepare()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"fields": ["uid", "itme_id"]}, "dataset.fields.*'itme_id'.*Did you mean 'item_id'"),
        ({"fields": ["uid", "like"]}, "dataset.fields.*'like'"),
        ({"fields": ["uid", "uid"]}, "dataset.fields.*'uid' twice"),
        ({"fields": []}, "dataset.fields is empty"),
        ({"tasks": ["finnish"]}, "dataset.tasks.*'finnish'.*Did you mean 'finish'"),
        ({"group": "user_city"}, "dataset.group=user_city.*dataset.fields"),
        ({"split": {"rule": "tme"}}, "dataset.split.rule='tme' .*Did you mean 'time'"),
        ({"min_count": 0}, "dataset.min_count=0 "),
        ({"on_bad_row": "skp"}, "dataset.on_bad_row='skp' .*Did you mean 'skip'"),
    ],
)
def test_invalid_settings_are_rejected_before_reading(tmp_path, changed, expected):
    with pytest.raises(StemlabError, match=expected):
        tiktok(tmp_path, **changed)


def test_labels_are_not_inputs():
    assert set(TIKTOK_COLUMNS) - set(TIKTOK_FIELDS) == {"finish", "like"}


def test_encode_raw_rows(tmp_path):
    path = write_raw(tmp_path, random_columns(400))
    module = tiktok(tmp_path)
    module.prepare()
    options = pyarrow.csv.ReadOptions(column_names=list(TIKTOK_COLUMNS)), pyarrow.csv.ParseOptions(delimiter="\t")
    table = pyarrow.csv.read_csv(path, *options)
    batch = module.encode(table)
    stores = [ColumnStore(module.directory / f"{split}.arrow") for split in ("train", "valid", "test")]
    assert sorted(batch.ids_BF.tolist()) == sorted(row for store in stores for row in store.ids.tolist())
    assert batch.labels_BT is None


def test_encode_unseen_and_missing(tmp_path):
    write_raw(tmp_path, random_columns(400))
    module = tiktok(tmp_path, fields=["uid", "channel"])
    module.prepare()
    oov = [size - 1 for size in module.spec.field_sizes.values()]
    batch = module.encode(pa.table({"channel": [None, 99], "uid": ["nobody", None], "x": [1, 2]}))
    assert batch.ids_BF.tolist() == [oov, oov]
    with pytest.raises(StemlabError, match=r"'channel'.*Did you mean 'chanel'"):
        module.encode(pa.table({"uid": [1], "chanel": [1]}))
