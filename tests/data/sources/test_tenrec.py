import csv
import gzip
import shutil
from collections import Counter

import pyarrow as pa
import pytest

from stemlab.data.prepare.split import SPLITS
from stemlab.data.sample.tenrec import HISTORY, TENREC_COLUMNS, TenrecSimulation, write_sample
from stemlab.data.store import ColumnStore
from stemlab.errors import StemlabError
from tests.data.prepared_rows import datamodule, decode_all, sorted_rows
from tests.data.tiktok_rows import settings

SIMULATION = TenrecSimulation(rows=1_500, users=30, items=40)
FIVE = ("user_id", "item_id", "gender", "age", "video_category")


def tenrec(folder, **changed):
    return datamodule("tenrec", folder, **{"min_count": 1, **changed})


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """The four files of a small simulation, and their rows as texts."""
    folder = tmp_path_factory.mktemp("tenrec") / "raw"
    for file in TENREC_COLUMNS:
        write_sample(folder / f"{file}.csv", SIMULATION, file)
    return folder


@pytest.fixture
def workdir(raw, tmp_path):
    """A folder with these files in ``raw``."""
    shutil.copytree(raw, tmp_path / "raw")
    return tmp_path


def texts(folder, file):
    with (folder / "raw" / f"{file}.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return [{name: "-1" if value == "\\N" else value.removesuffix(".0") for name, value in row.items()} for row in rows]


def test_stem_protocol_keeps_all_rows_8_1_1(workdir):
    module = tenrec(workdir, file="QK-video", protocol="stem")
    rows = decode_all(module)
    assert module.manifest["rows"] == {"train": 1_200, "valid": 150, "test": 150}
    assert module.spec.field_sizes.keys() == set(FIVE)
    assert sorted_rows(rows, *FIVE, "click", "like") == sorted_rows(texts(workdir, "QK-video"), *FIVE, "click", "like")
    assert "sampling" not in module.manifest
    assert module.manifest["split"]["rule"] == "random"
    assert any(row["video_category"] == "-1" for row in rows)  # \N is a value of its own


def test_paper_protocol_keeps_all_clicks_and_twice_as_many_others(workdir):
    module = tenrec(workdir, tasks=["click", "like", "share", "follow"])
    raw = texts(workdir, "ctr_data_1M")
    clicks = [row for row in raw if row["click"] == "1"]
    rows = decode_all(module)
    assert sum(row["click"] for row in rows) == len(clicks)
    assert len(rows) == 3 * len(clicks) < len(raw)
    names = ("user_id", "item_id", "gender", "age", "click", "like", "share", "follow")
    chosen, there = Counter(sorted_rows(rows, *names)), Counter(sorted_rows(raw, *names))
    assert chosen <= there
    assert module.manifest["sampling"] == {"label": "click", "negatives": 2, "seed": 42}
    total = sum(module.manifest["rows"].values())
    assert abs(module.manifest["rows"]["test"] - total / 10) <= 1
    assert abs(module.manifest["rows"]["valid"] - total / 10) <= 1
    split = {**settings("tenrec")["split"], "seed": 1}
    other = decode_all(tenrec(workdir, tasks=["click", "like", "share", "follow"], split=split))
    assert len(other) == len(rows)
    assert Counter(sorted_rows(other, *names)) != chosen


def test_the_defaults_of_the_protocols(workdir):
    paper, stem = tenrec(workdir, min_count=None), tenrec(workdir, min_count=None, protocol="stem")
    for module in (paper, stem):
        module.prepare()
    assert list(paper.spec.field_sizes) == [*FIVE, *HISTORY]
    assert list(stem.spec.field_sizes) == list(FIVE)
    assert (paper.manifest["min_count"], stem.manifest["min_count"]) == (1, 10)


def test_scenarios_share_users_and_items_and_follow_the_file(workdir):
    module = tenrec(workdir, scenarios=["QB-video", "QK-video"], protocol="stem")
    rows = decode_all(module)
    for file in ("QB-video", "QK-video"):
        mine = [row for row in rows if row["scenario"] == file]
        raw = texts(workdir, file)
        assert sorted_rows(mine, *FIVE, "click", "like") == sorted_rows(raw, *FIVE, "click", "like")
    assert module.spec.scenarios == ("QB-video", "QK-video")
    people = {file: {row["user_id"] for row in rows if row["scenario"] == file} for file in module.spec.scenarios}
    assert people["QB-video"] & people["QK-video"]  # one id for both
    counts = module.manifest["scenarios"]
    for file in ("QB-video", "QK-video"):
        raw = texts(workdir, file)
        assert sum(counts[split][file]["rows"] for split in SPLITS) == len(raw)
        positives = sum(counts[split][file]["positives"]["like"] for split in SPLITS)
        assert positives == sum(row["like"] == "1" for row in raw)


def test_paper_protocol_samples_per_scenario(workdir):
    lines = (workdir / "raw" / "QB-video.csv").read_text().splitlines()
    many = [line for line in lines[1:] if line.split(",")[2] == "1"]
    few = [line for line in lines[1:] if line.split(",")[2] == "0"][:25]
    (workdir / "raw" / "QB-video.csv").write_text("\n".join([lines[0], *many, *few]) + "\n")
    module = tenrec(workdir, scenarios=["QK-video", "QB-video"])
    rows = decode_all(module)
    clicks = sum(row["click"] == "1" for row in texts(workdir, "QK-video"))
    assert sum(row["scenario"] == "QB-video" for row in rows) == len(many) + 25  # fewer than twice: all of them
    assert sum(row["scenario"] == "QK-video" for row in rows) == 3 * clicks


def test_empty_history_columns_are_padding(tmp_path):
    simulation = TenrecSimulation(rows=800, users=90, items=120)
    write_sample(tmp_path / "raw" / "ctr_data_1M.csv", simulation, "ctr_data_1M")
    module = tenrec(tmp_path, protocol="stem", fields=["user_id", "item_id", "hist_1", "hist_10"])
    raw = texts(tmp_path, "ctr_data_1M")
    rows = decode_all(module)
    empty = sum(row["hist_10"] == "0" for row in raw)
    assert 0 < empty < len(raw)
    assert sum(row["hist_10"] is None for row in rows) == empty
    train = ColumnStore(module.directory / "train.arrow").ids
    assert train[:, 3].min() == 0
    assert train[:, 1].min() == 1


def test_history_shares_item_ids_if_set(workdir):
    fields = ["user_id", "item_id", "hist_1", "hist_2"]
    own = tenrec(workdir, protocol="stem", fields=fields)
    shared = tenrec(workdir, protocol="stem", fields=fields, shared_history=True)
    assert own.prepare() != shared.prepare()
    assert own.spec.sizes.tables == {}
    assert shared.spec.sizes.tables == {"hist_1": "item_id", "hist_2": "item_id"}
    assert len({shared.spec.field_sizes[name] for name in fields[1:]}) == 1
    raw = texts(workdir, "ctr_data_1M")
    rows = decode_all(shared)
    assert sorted_rows(rows, "user_id", "hist_1", "click") == sorted_rows(
        [{**row, "hist_1": None if row["hist_1"] == "0" else row["hist_1"]} for row in raw],
        "user_id",
        "hist_1",
        "click",
    )
    batch = shared.encode(pa.table({name: ["1", "5", "0"] for name in fields}))
    item, first = batch.ids_BF[:, 1].tolist(), batch.ids_BF[:, 2].tolist()
    assert item[:2] == first[:2]
    assert first[2] == 0  # no item of the history
    assert item[2] == shared.spec.field_sizes["item_id"] - 1  # no such item


def test_articles_have_float_labels_and_no_click_task(workdir):
    path = workdir / "raw" / "QK-article.csv"
    lines = path.read_text().splitlines()
    cells = lines[1].split(",")
    cells[12] = ""  # category_second
    cells[13] = "\\N"  # category_first
    path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    module = tenrec(workdir, file="QK-article", protocol="stem", tasks=["read", "like", "favorite"])
    rows = decode_all(module)
    names = ("user_id", "item_id", "category_first", "read", "like", "favorite")
    for row in rows:  # one row has none, and may be in any split
        row["category_first"] = row["category_first"].replace("?", "-1")
    assert sorted_rows(rows, *names) == sorted_rows(texts(workdir, "QK-article"), *names)
    assert list(module.spec.field_sizes) == [*FIVE[:4], "category_first", "category_second"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"file": "QK-article", "protocol": "stem"},
            "dataset.tasks.*'click'.*QK-article.*choose from read",
        ),
        ({"file": "QK-article", "tasks": ["read"]}, "dataset.protocol=paper.*dataset.protocol=stem"),
        ({"fields": ["user_id", "watching_times"]}, "'watching_times'.*known only after"),
        ({"fields": ["user_id", "like"]}, "dataset.fields.*'like'.*a label"),
        (
            {"file": "QK-article", "protocol": "stem", "tasks": ["read"], "fields": ["click_count"]},
            "'click_count'.*a total over the whole",
        ),
        (
            {"file": "QK-article", "protocol": "stem", "tasks": ["read"], "fields": ["read_percentage"]},
            "'read_percentage'.*known only after",
        ),
        ({"file": "QB-video", "fields": ["user_id", "hist_1"]}, "'hist_1'.*QB-video.csv has no history"),
        ({"file": "QK-vidoe"}, "dataset.file='QK-vidoe'.*Did you mean 'QK-video'"),
        ({"protocol": "papr"}, "dataset.protocol='papr'.*Did you mean 'paper'"),
        ({"tasks": ["clik"]}, "dataset.tasks.*'clik'.*Did you mean 'click'"),
        ({"tasks": ["click", "read"]}, "dataset.tasks.*'read'.*click, like, share, follow"),
        ({"scenarios": ["QK-video", "QK-article"]}, "'QK-article'.*clicked rows only"),
        ({"scenarios": ["QK-video", "ctr_data_1M"]}, "dataset.scenarios.*ctr_data_1M"),
        ({"scenarios": ["QK-video", "QB-vide"]}, "dataset.scenarios.*'QB-vide'.*Did you mean 'QB-video'"),
        ({"shared_history": True, "fields": ["user_id", "hist_1"]}, "shared_history=true.*item_id and hist_1"),
        ({"group": "users"}, "dataset.group.*'users'.*Did you mean 'user_id'"),
        ({"split": {"rule": "time"}}, "dataset.split.rule=time.*use random"),
    ],
)
def test_invalid_settings_are_rejected_before_reading(tmp_path, changed, expected):
    with pytest.raises(StemlabError, match=expected):
        tenrec(tmp_path, **changed)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1,5,2,0,0,0,1,0,1,3", "column 'click' is '2', not 0 or 1"),
        ("1,5,\\N,0,0,0,1,0,1,3", r"column 'click' is '\\\\N', not 0 or 1"),
        ("\\N,5,1,0,0,0,1,0,1,3", r"column 'user_id' is '\\\\N', not 0 or more"),
        ("1,5,1,0,0,0,1,0,one,3", "column 'gender' is 'one', not an integer"),
        ("1,5,1", "3 columns instead of 10"),
    ],
)
def test_invalid_row_is_reported_with_file_line_and_column(workdir, line, expected):
    path = workdir / "raw" / "QB-video.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], line, *lines[4:]]) + "\n")
    with pytest.raises(StemlabError, match=rf"QB-video\.csv, line 5: {expected}"):
        tenrec(workdir, file="QB-video").prepare()
    module = tenrec(workdir, file="QB-video", on_bad_row="skip", protocol="stem")
    module.prepare()
    assert module.manifest["skipped_rows"] == 1
    assert sum(module.manifest["rows"].values()) == len(lines) - 1


def test_wrong_header_is_reported(workdir):
    path = workdir / "raw" / "QB-video.csv"
    path.write_text(path.read_text().replace("video_category", "category", 1))
    with pytest.raises(StemlabError, match=r"QB-video\.csv, line 1: .*'video_category'.*Did you mean 'category'"):
        tenrec(workdir, file="QB-video").prepare()


def test_compressed_files_and_files_in_their_own_folder_are_found(workdir):
    plain = sorted_rows(decode_all(tenrec(workdir, file="QB-video", protocol="stem")), *FIVE, "click")
    path = workdir / "raw" / "QB-video.csv"
    packed = workdir / "raw" / "Tenrec" / "QB-video.csv.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    module = tenrec(workdir, file="QB-video", protocol="stem", source="auto")
    assert sorted_rows(decode_all(module), *FIVE, "click") == plain
    assert module.spec.sample is False


def test_missing_file_is_named_even_if_others_exist(workdir):
    (workdir / "raw" / "QB-video.csv").unlink()
    for changed in ({"file": "QB-video"}, {"scenarios": ["QK-video", "QB-video"], "source": "auto"}):
        with pytest.raises(StemlabError, match=r"raw has no file QB-video\.csv.*dataset\.source=sample"):
            tenrec(workdir, **changed).prepare()


def test_without_raw_files_the_sample_is_generated_with_a_warning(tmp_path, caplog):
    small = {**settings("tenrec")["sample"], "rows": 900, "users": 20, "items": 30}
    module = tenrec(tmp_path, source="auto", sample=small, scenarios=["QK-video", "QB-video"])
    module.prepare()
    assert "no QK-video.csv" in caplog.text
    assert "SAMPLE" in caplog.text
    assert module.spec.sample is True
    names = {path.name for path in (tmp_path / "sample").glob("*/*.csv")}
    assert names == {"QK-video.csv", "QB-video.csv"}


def test_raw_rows_are_encoded_as_in_training(workdir):
    module = tenrec(workdir, scenarios=["QK-video", "QB-video"], protocol="stem", min_count=10)
    module.prepare()
    with (workdir / "raw" / "QB-video.csv").open(newline="") as lines:
        raw = list(csv.DictReader(lines))
    table = pa.table({name: [row[name] for row in raw] for name in raw[0]} | {"scenario": ["QB-video"] * len(raw)})
    batch = module.encode(table)
    stored = []
    for split in SPLITS:
        store = ColumnStore(module.directory / f"{split}.arrow")
        stored += store.ids[store.scenario == 1].tolist()
    assert sorted(batch.ids_BF.tolist()) == sorted(stored)
    assert set(batch.scenario_B.tolist()) == {1}
    columns = {"user_id": [1, None], "item_id": [5, 6], "gender": [1.0, None], "age": ["2.0", "2"]}
    missing = {"video_category": ["\\N", None], "scenario": ["QK-video", "QB-video"]}
    ids = module.encode(pa.table({**columns, **missing})).ids_BF
    assert ids[0, 4] == ids[1, 4] < module.spec.field_sizes["video_category"] - 1
    assert ids[0, 3] == ids[1, 3]
    small = {"gender": pa.array([1, 2], pa.uint8()), "age": pa.array([2, None], pa.uint8())}
    assert module.encode(pa.table({**columns, **missing, **small})).ids_BF[0].tolist() == ids[0].tolist()
    with pytest.raises(StemlabError, match=r"'QK-vdeo'.*scenario"):
        module.encode(table.set_column(table.num_columns - 1, "scenario", pa.array(["QK-vdeo"] * len(raw))))
