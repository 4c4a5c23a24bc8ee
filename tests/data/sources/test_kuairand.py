import csv
import shutil

import numpy as np
import pyarrow as pa
import pytest

from stemlab.data.prepare.split import SPLITS
from stemlab.data.sample.kuairand import KuairandSimulation, log_names, side_names, write_sample
from stemlab.data.store import ColumnStore
from stemlab.errors import StemlabError
from tests.data.prepared_rows import datamodule, decode_all, decoded, sorted_rows
from tests.data.tiktok_rows import settings

SIMULATION = KuairandSimulation(rows=2_500, random_rows=300, users=30, videos=40)
FIELDS = ["user_id", "video_id", "user_active_degree", "onehot_feat4", "is_live_streamer", "author_id", "tag"]
NUMBERS = ["follow_user_num", "video_duration"]
TABS = {"tab0": "0", "tab1": "1", "tab2": "2", "tab4": "4", "tab6": "6"}


def kuairand(folder, **changed):
    small = {"fields": FIELDS, "numericals": NUMBERS, "scaling": "none", "min_count": 1}
    return datamodule("kuairand", folder, **{**small, **changed})


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kuairand") / "raw"
    folder.mkdir()
    return write_sample(folder, SIMULATION, "1k")


@pytest.fixture
def workdir(raw, tmp_path):
    """A folder with the five files of a small simulation in ``raw``."""
    shutil.copytree(raw, tmp_path / "raw")
    return tmp_path


def texts(path):
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def joined(folder, logs):
    """Join the log with the user and video tables row by row."""
    users, videos = (
        {row[key]: row for row in texts(folder / "raw" / name)}
        for name, key in zip(side_names("1k"), ("user_id", "video_id"), strict=True)
    )
    rows = [row for name in logs for row in texts(folder / "raw" / name)]
    return [{**row, **users[row["user_id"]], **videos[row["video_id"]]} for row in rows]


def plain(row):
    """Return fields as tokens and numerical values of a raw row: 1.0 is 1, empty is out-of-vocabulary or NaN."""
    values = {name: row[name].removesuffix(".0") or "?" for name in FIELDS}
    values |= {name: float(row[name] or "nan") for name in NUMBERS}
    return {
        **values,
        **{name: int(row[name]) for name in ("is_click", "is_like", "long_view")},
        "scenario": f"tab{row['tab']}",
    }


def test_logs_are_joined_with_users_and_videos_and_split_at_dates(workdir):
    module = kuairand(workdir)
    raw = [row for row in joined(workdir, log_names("1k")[:2]) if row["tab"] in TABS.values()]
    parts = {
        "train": [row for row in raw if row["date"] < "20220507"],
        "valid": [row for row in raw if row["date"] == "20220507"],
        "test": [row for row in raw if row["date"] == "20220508"],
    }
    assert module.prepare()
    tokens = {name: {plain(row)[name] for row in parts["train"]} for name in FIELDS}
    mean = np.nanmean(np.array([plain(row)["video_duration"] for row in parts["train"]], np.float32))
    for split, rows in parts.items():
        wanted = [plain(row) for row in rows]
        for row in wanted:
            row |= {name: row[name] if row[name] in tokens[name] else "?" for name in FIELDS}
            row["video_duration"] = mean if np.isnan(row["video_duration"]) else row["video_duration"]
        ours = decoded(module, split)
        for row in (*wanted, *ours):
            row["video_duration"] = round(float(row["video_duration"]), 1)
        names = [*FIELDS, *NUMBERS, "is_click", "is_like", "long_view", "scenario"]
        assert sorted_rows(ours, *names) == sorted_rows(wanted, *names), split
        assert module.manifest["rows"][split] == len(rows)
    other = [row for row in joined(workdir, log_names("1k")[:2]) if row["tab"] not in TABS.values()]
    assert module.manifest["source"] == {"rows_of_other_tabs": len(other)}
    assert len(other) > 0


def test_scenarios_are_the_tabs_in_the_order_named(workdir):
    module = kuairand(workdir, scenarios=["tab4", "tab1"])
    rows = decode_all(module)
    raw = joined(workdir, log_names("1k")[:2])
    assert module.spec.scenarios == ("tab4", "tab1")
    store = ColumnStore(module.directory / "train.arrow")
    early = [row for row in raw if row["date"] < "20220507"]
    for scenario, tab in enumerate(("4", "1")):
        mine = [row for row in early if row["tab"] == tab]
        assert (store.scenario == scenario).sum() == len(mine)
        counted = module.manifest["scenarios"]["train"][f"tab{tab}"]
        assert counted["rows"] == len(mine)
        assert counted["positives"]["is_click"] == sum(row["is_click"] == "1" for row in mine)
    assert len(rows) == sum(row["tab"] in ("1", "4") for row in raw)


def test_without_scenarios_all_tabs_are_kept_and_tab_may_be_a_field(workdir):
    module = kuairand(workdir, scenarios=[], fields=["user_id", "tab"])
    rows = decode_all(module)
    raw = joined(workdir, log_names("1k")[:2])
    assert len(rows) == len(raw) == 2_500
    assert sorted_rows(rows, "user_id", "tab", "is_like") == sorted_rows(raw, "user_id", "tab", "is_like")
    assert module.spec.scenarios == ()


def test_numerical_columns_are_scaled_by_training_rows(workdir):
    module = kuairand(workdir, scaling="standard")
    directory = module.prepare()
    raw = [
        row for row in joined(workdir, log_names("1k")[:2]) if row["tab"] in TABS.values() and row["date"] < "20220507"
    ]
    for name, part in {"follow_user_num": "user", "video_duration": "item"}.items():
        values = np.array([float(row[name] or "nan") for row in raw])
        stored = module.manifest["numericals"][name]
        assert stored["mean"] == pytest.approx(np.nanmean(values), rel=1e-6)
        assert stored["std"] == pytest.approx(np.nanstd(values), rel=1e-6)
        assert stored["missing"] == np.isnan(values).sum()
        assert (stored["part"], stored["scaling"]) == (part, "standard")
    assert module.manifest["numericals"]["video_duration"]["missing"] > 0
    dense = ColumnStore(directory / "train.arrow").dense
    np.testing.assert_allclose(dense.mean(axis=0), 0, atol=1e-5)
    assert module.spec.sizes.numericals == {"follow_user_num": "user", "video_duration": "item"}


def test_random_log_as_test_split(workdir):
    biased, unbiased = kuairand(workdir), kuairand(workdir, test_log="random")
    names = [*FIELDS, "is_click", "scenario"]
    for split in ("train", "valid"):
        assert sorted_rows(decoded(biased, split), *names) == sorted_rows(decoded(unbiased, split), *names)
    random = [row for row in joined(workdir, log_names("1k")[2:]) if row["tab"] in TABS.values()]
    assert sorted_rows(decoded(unbiased, "test"), "user_id", "video_id", "is_click", "long_view") == sorted_rows(
        random, "user_id", "video_id", "is_click", "long_view"
    )
    split = {**settings("kuairand")["split"], "valid_from": 20220506}
    assert kuairand(workdir, test_log="random", split=split).prepare() != unbiased.prepare()


def test_split_by_time_and_at_random(workdir):
    split = {**settings("kuairand")["split"], "rule": "time"}
    late = kuairand(workdir, split=split, scenarios=[], fields=["user_id", "video_id"])
    raw = sorted(joined(workdir, log_names("1k")[:2]), key=lambda row: int(row["time_ms"]))
    assert sorted_rows(decoded(late, "test"), "user_id", "is_click") == sorted_rows(raw[-250:], "user_id", "is_click")
    chance = kuairand(workdir, split={**split, "rule": "random"}, scenarios=[])
    chance.prepare()
    assert chance.manifest["rows"] == {"train": 2_025, "valid": 225, "test": 250}


def test_file_names_of_versions_and_parts_of_27k(workdir):
    whole = kuairand(workdir)
    folder = workdir / "raw" / "KuaiRand-27K" / "data"
    folder.mkdir(parents=True)
    for name in (*log_names("1k"), *side_names("1k")):
        path = workdir / "raw" / name
        lines = path.read_text().splitlines(keepends=True)
        new = folder / name.replace("_1k", "_27k")
        if name.startswith("log_standard"):
            for part, some in enumerate((lines[1:400], lines[400:]), start=1):
                new.with_name(f"{new.stem}_part{part}.csv").write_text("".join([lines[0], *some]))
        else:
            new.write_text("".join(lines))
    parts = kuairand(workdir, version="27k")
    names = [*FIELDS, *NUMBERS, "is_click", "scenario"]
    for split in SPLITS:
        assert sorted_rows(decoded(parts, split), *names) == sorted_rows(decoded(whole, split), *names)
    assert len(parts.manifest["raw"]) == 6
    with pytest.raises(StemlabError, match=r"user_features_pure\.csv.*KuaiRand-Pure/data"):
        kuairand(workdir, version="pure").prepare()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"fields": ["user_id", "play_time_ms"]}, "dataset.fields.*'play_time_ms'.*known only after"),
        ({"fields": ["user_id", "long_view"]}, "dataset.fields.*'long_view'.*a label"),
        ({"numericals": ["profile_stay_time"]}, "dataset.numericals.*'profile_stay_time'.*known only after"),
        ({"numericals": ["is_like"]}, "dataset.numericals.*'is_like'.*a label"),
        ({"numericals": ["register_day"]}, "'register_day', .*Did you mean 'register_days'"),
        ({"fields": ["user_id", "server_width"], "numericals": ["server_width"]}, "'server_width'.*twice"),
        ({"tasks": ["click"]}, "dataset.tasks.*'click'.*Did you mean 'is_click'"),
        ({"scenarios": ["tab1", "tab15"]}, "dataset.scenarios.*'tab15'.*tab0, "),
        ({"scenarios": ["tab1", "tab1"]}, "dataset.scenarios.*'tab1' twice"),
        ({"version": "1K"}, "dataset.version='1K'.*Did you mean '1k'"),
        ({"test_log": "random", "split": {"rule": "random"}}, "test_log=random.*dataset.split.rule=dates"),
        ({"split": {"rule": "given"}}, "rule=given.*dates, time or random"),
        ({"scaling": "minmx"}, "dataset.scaling='minmx'.*Did you mean 'minmax'"),
    ],
)
def test_invalid_settings_are_rejected_before_reading(tmp_path, changed, expected):
    with pytest.raises(StemlabError, match=expected):
        kuairand(tmp_path, **changed)


def test_invalid_rows_and_unknown_ids_are_reported_with_file_and_line(workdir):
    path = workdir / "raw" / log_names("1k")[1]
    lines = path.read_text().splitlines()
    rows = len(texts(path))
    cells = lines[7].split(",")
    for column, cell, expected in (
        (1, "777777", r"line 8: video_id 777777 is not in video_features_basic_1k\.csv"),
        (0, "888888", r"line 8: user_id 888888 is not in user_features_1k\.csv"),
        (5, "3", "line 8: column 'is_click' is '3', not 0 or 1"),
    ):
        wrong = [*cells[:column], cell, *cells[column + 1 :]]
        wrong[18] = "1"  # a tab of the scenarios
        path.write_text("\n".join([*lines[:7], ",".join(wrong), *lines[8:]]) + "\n")
        with pytest.raises(StemlabError, match=rf"{path.name}, {expected}.*dataset\.on_bad_row=skip"):
            kuairand(workdir).prepare()
        module = kuairand(workdir, on_bad_row="skip", scenarios=[])
        module.prepare()
        assert module.manifest["skipped_rows"] == 1
    assert rows == len(lines) - 1
    path.write_text("\n".join([lines[0].replace("is_like", "liked"), *lines[1:]]) + "\n")
    with pytest.raises(StemlabError, match=r"line 1: .*'is_like'"):
        kuairand(workdir).prepare()


def test_missing_log_is_named(workdir):
    (workdir / "raw" / log_names("1k")[0]).unlink()
    with pytest.raises(StemlabError, match=rf"has no file {log_names('1k')[0]}.*dataset\.source=sample"):
        kuairand(workdir, source="auto").prepare()
    later = kuairand(workdir, logs=[log_names("1k")[1]])
    later.prepare()
    assert sum(later.manifest["rows"].values()) < 2_500


def test_without_raw_files_the_sample_is_generated_with_a_warning(tmp_path, caplog):
    small = {**settings("kuairand")["sample"], "rows": 1_500, "users": 20, "videos": 30}
    module = kuairand(tmp_path, source="auto", sample=small)
    directory = module.prepare()
    assert "SAMPLE" in caplog.text
    assert "no user_features_1k.csv" in caplog.text
    assert module.spec.sample is True
    assert kuairand(tmp_path, source="sample", sample=small).prepare() == directory


def test_joined_rows_are_encoded_as_in_training(workdir):
    module = kuairand(workdir, scaling="standard")
    module.prepare()
    raw = [row for row in joined(workdir, log_names("1k")[:2]) if row["tab"] in TABS.values()]
    table = pa.table({name: [row[name] for row in raw] for name in raw[0]})
    batch = module.encode(table)
    stores = [ColumnStore(module.directory / f"{split}.arrow") for split in SPLITS]
    stored = sorted(
        (*ids, scenario, *np.round(dense, 4).tolist())
        for store in stores
        for ids, scenario, dense in zip(store.ids.tolist(), store.scenario.tolist(), store.dense, strict=True)
    )
    ours = sorted(
        (*ids, scenario, *np.round(dense, 4).tolist())
        for ids, scenario, dense in zip(
            batch.ids_BF.tolist(), batch.scenario_B.tolist(), batch.dense_BN.numpy(), strict=True
        )
    )
    assert ours == stored
    floats = table.set_column(table.column_names.index("tab"), "tab", pa.array([float(row["tab"]) for row in raw]))
    assert module.encode(floats).scenario_B.tolist() == batch.scenario_B.tolist()
    with pytest.raises(StemlabError, match=r"'tab13'.*scenario"):
        module.encode(table.set_column(table.column_names.index("tab"), "tab", pa.array(["13"] * len(raw))))
