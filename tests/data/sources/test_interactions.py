"""dataset=interactions: formats, columns, errors, equality with the other sequence datasets."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stemlab.config.instantiate import instantiate
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.data.sequence.log import Instances
from stemlab.errors import StemlabError
from tests.cli.sequences import write_folder
from tests.data.tiktok_rows import settings

Prepare = Callable[..., SequenceDataModule]
GENRES = ("Drama", "Action|War", "")


@pytest.fixture
def prepare(tmp_path: Path) -> Prepare:
    def make(path: Path, dataset: str = "interactions", **changed: Any) -> SequenceDataModule:
        folders = {"data_dir": str(tmp_path / "data"), "path": str(path)}
        made = instantiate(settings(dataset, **{**folders, **changed}), key="dataset")
        assert isinstance(made, SequenceDataModule)
        made.prepare()
        return made

    return make


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 12, 150), rng.integers(0, 40, 150)
    return pd.DataFrame(
        {
            "userId": [f"u{index}" for index in user],
            "movie_id": item,
            "stars": rng.integers(1, 6, 150),
            "ts": 978_300_000 + rng.permutation(150) * 60,
            "genres": [GENRES[index % 3] for index in item],
        }
    )


def contents(data: SequenceDataModule) -> list[tuple[str, str, int, int]]:
    log = data.log
    users, items = ["", *data.user_tokens], ["", *data.item_tokens]
    rows = zip(log.user, log.item, log.time, log.split, strict=True)
    return [(users[u], items[i], int(t), int(s)) for u, i, t, s in rows]


def test_every_format_gives_the_same_log(frame: pd.DataFrame, prepare: Prepare, tmp_path: Path) -> None:
    frame.to_csv(tmp_path / "log.csv", index=False)
    wanted = prepare(tmp_path / "log.csv", eval_negatives=3)
    assert contents(wanted) == reference(frame)
    assert wanted.item_tokens == [str(item) for item in sorted(frame["movie_id"].unique())]  # integers by value
    frame.to_csv(tmp_path / "log.tsv", index=False, sep="\t")
    dates = frame.assign(ts=pd.to_datetime(frame["ts"], unit="s"))
    dates.to_parquet(tmp_path / "log.parquet")
    dates.assign(ts=dates["ts"].dt.strftime("%Y-%m-%d %H:%M:%S")).to_csv(tmp_path / "iso.csv", index=False)
    frame.assign(ts=frame["ts"] * 1000).to_csv(tmp_path / "ms.csv.gz", index=False)
    frame.to_csv(tmp_path / "bare.txt", index=False, header=False, sep=";")
    inter = tmp_path / "toy"
    inter.mkdir()
    types = {"userId": "user_id:token", "movie_id": "item_id:token", "stars": "rating:float", "ts": "timestamp:float"}
    frame.rename(columns=types)[list(types.values())].to_csv(inter / "toy.inter", index=False, sep="\t")
    items = frame.drop_duplicates("movie_id").rename(columns={"movie_id": "item_id:token", "genres": "genre:token_seq"})
    items["genre:token_seq"] = items["genre:token_seq"].str.replace("|", " ")
    items["title:token"] = 'a "quoted" title'
    columns = ["item_id:token", "title:token", "genre:token_seq"]
    items[columns].to_csv(inter / "toy.item", index=False, sep="\t", quoting=3)
    (inter / "toy.user").write_text("user_id:token\n")
    for name in ("log.tsv", "log.parquet", "iso.csv", "ms.csv.gz", "bare.txt", "toy", "toy/toy.inter"):
        chosen = {"columns": list(frame), "separator": ";"} if name == "bare.txt" else {}
        found = prepare(tmp_path / name, eval_negatives=3, **chosen)
        assert contents(found) == contents(wanted), name
        for split in ("valid", "test"):
            batches = [list(data.eval_loader(split)) for data in (found, wanted)]  # type: ignore[arg-type]
            assert all((a.candidates_BN == b.candidates_BN).all() for a, b in zip(*batches, strict=True))
        for one, other in zip([found.item_categories], [wanted.item_categories], strict=True):
            assert one is not None
            assert other is not None
            assert (one.names, one.code_I.tolist()) == (other.names, other.code_I.tolist()), name
    assert wanted.item_categories is not None
    assert wanted.item_categories.names == ("Action", "Drama")


def reference(frame: pd.DataFrame) -> list[tuple[str, str, int, int]]:
    ordered = frame.sort_values("ts")
    rows = []
    for user, mine in sorted(ordered.groupby("userId")):
        codes = [0] * max(len(mine) - 2, 1) + [1] * (len(mine) > 2) + [2] * (len(mine) > 1)
        rows += [
            (user, str(item), int(t), code) for item, t, code in zip(mine["movie_id"], mine["ts"], codes, strict=True)
        ]
    return rows


def test_lines_are_sequences_in_their_order(prepare: Prepare, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("10 5 3 5 7\n9 3\n\n9 7 11\r\n")
    data = prepare(tmp_path / "log.txt", eval_negatives=0)
    assert (data.user_tokens, data.item_tokens) == (["9", "10"], ["3", "5", "7", "11"])
    assert contents(data) == [
        *(("9", "3", 0, 0), ("9", "7", 1, 1), ("9", "11", 2, 2)),
        *(("10", "5", 0, 0), ("10", "3", 1, 0), ("10", "5", 2, 1), ("10", "7", 3, 2)),
    ]


def test_ratings_below_the_minimum_are_left_out(frame: pd.DataFrame, prepare: Prepare, tmp_path: Path) -> None:
    frame.to_csv(tmp_path / "log.csv", index=False)
    data = prepare(tmp_path / "log.csv", min_rating=4, eval_negatives=0)
    assert sorted(contents(data)) == sorted(reference(frame[frame["stars"] >= 4]))
    assert data.manifest["log"]["rows_below_min_rating"] == int((frame["stars"] < 4).sum())


def test_a_rechorus_folder_is_that_of_its_own_dataset(prepare: Prepare, tmp_path: Path) -> None:
    write_folder(tmp_path / "folder")
    found = prepare(tmp_path / "folder")
    wanted = instantiate(
        settings("rechorus", raw_dir=str(tmp_path / "folder"), data_dir=str(tmp_path / "data")), key="dataset"
    )
    assert contents(found) == contents(wanted)
    assert found.manifest["negatives"] == wanted.manifest["negatives"]


HEAD = "user_id,item_id,time\n"


@pytest.mark.parametrize(
    ("name", "text", "changed", "fragments"),
    [
        ("a.csv", HEAD + "1,2,3\n1,,4\n", {}, ["a.csv, line 3", "'item_id'", "empty"]),
        ("a.csv", HEAD + "1,2,3\n1,3,x\n", {}, ["a.csv, line 3", "'time'", "'x'"]),
        ("a.csv", HEAD + "1,2,3\n1,3\n", {}, ["a.csv, line 3", "2 columns instead of 3"]),
        ("a.csv", HEAD, {}, ["a.csv", "no rows"]),
        ("a.csv", "user,item,when\n1,2,3\n", {}, ["the time", "dataset.time=", "when"]),
        ("a.csv", "user,item,when\n1,2,3\n", {"time": "wen"}, ["dataset.time=wen", "'when'"]),
        ("a.csv", "user_id,user,item,time\n1,1,2,3\n", {}, ["user_id, user", "dataset.user="]),
        ("a.csv", HEAD + "1,2,3\n", {"user": "item_id", "item": "item_id"}, ["dataset.user", "dataset.item"]),
        ("a.csv", HEAD + "1,2,3\n", {"min_rating": 3}, ["the rating"]),
        ("a.csv", HEAD + "1,2,3\n", {"rating": "time"}, ["dataset.rating", "min_rating"]),
        ("a.csv", "1,2,3\n4,5,6\n", {}, ["a.csv, line 1", "dataset.columns"]),
        ("a.csv", HEAD + "1,2,3\n", {"format": "rechorus"}, ["rechorus", "folder"]),
        ("a.csv", HEAD + "1,2,3\n", {"item_file": "b.csv"}, ["dataset.item_file=b.csv"]),
        ("a.txt", "1 2 3\n7\n", {}, ["a.txt, line 2", "'7'"]),
        ("a.txt", "1 2 3\n", {"user": "x"}, ["dataset.user", "lines"]),
        ("a.txt", "1 2 3\n", {"split": {"rule": "time"}}, ["dataset.split.rule=time", "lines"]),
        ("a.inter", "user_id\titem_id:token\n1\t2\n", {}, ["a.inter, line 1", "'user_id'", "type"]),
    ],
)
def test_errors_name_file_line_and_column(
    prepare: Prepare, tmp_path: Path, name: str, text: str, changed: dict[str, Any], fragments: list[str]
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(StemlabError) as error:
        prepare(tmp_path / name, **changed)
    message = str(error.value)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message


def test_bad_rows_are_skipped_and_counted(prepare: Prepare, tmp_path: Path) -> None:
    text = HEAD + "1,2,3\n1,,4\n1,3\n1,3,x\n1,4,5\n2,4,1\n"
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(text.encode()))
    data = prepare(tmp_path / "log.csv.gz", on_bad_row="skip", eval_negatives=0)
    assert contents(data) == [("1", "2", 3, 0), ("1", "4", 5, 2), ("2", "4", 1, 0)]
    assert data.manifest["skipped_rows"] == 3


def test_movielens_equals_its_own_dataset(real_data: Path, prepare: Prepare, tmp_path: Path) -> None:
    """ml100k draws negatives up to the number of items that follow another one, as in the released code."""
    folder = real_data / "ml-100k"
    own = settings("ml100k", raw_dir=str(folder), data_dir=str(tmp_path / "data"), source="raw", eval_negatives=20)
    wanted = instantiate(own, key="dataset")
    wanted.prepare()
    later = np.setdiff1d(np.arange(len(wanted.log)), wanted.log.start)
    found = prepare(
        folder / "u.data",
        columns=["user", "movie", "rating", "timestamp"],
        eval_negatives=20,
        largest_negative=len(np.unique(wanted.log.item[later])),
    )
    same_log_and_negatives(found, wanted)
    assert found.item_tokens == wanted.item_tokens


def test_grocery_equals_its_own_dataset(real_data: Path, prepare: Prepare, tmp_path: Path) -> None:
    """As a folder, and as one table of all rows: the published split and negatives are those of leave-one-out."""
    folder = real_data / "grocery"
    own = settings("grocery", raw_dir=str(folder), data_dir=str(tmp_path / "data"))
    wanted = instantiate(own, key="dataset")
    wanted.prepare()
    found = prepare(folder)
    same_log_and_negatives(found, wanted)
    assert found.item_categories is not None
    assert found.item_categories.names == wanted.item_categories.names
    assert np.array_equal(found.item_categories.code_I, wanted.item_categories.code_I)
    parts = [pd.read_csv(folder / f"{name}.csv.gz", sep="\t") for name in ("train", "dev", "test")]
    columns = ["user_id", "item_id", "time"]
    pd.concat(parts)[columns].to_parquet(tmp_path / "all.parquet")
    same_log_and_negatives(prepare(tmp_path / "all.parquet"), wanted)


def same_log_and_negatives(found: SequenceDataModule, wanted: SequenceDataModule) -> None:
    for name in ("user", "item", "time", "split", "start", "stop", "unit"):
        assert np.array_equal(getattr(found.log, name), getattr(wanted.log, name)), name
    for split in ("valid", "test"):
        one, other = (Instances(data.directory, split) for data in (found, wanted))
        assert np.array_equal(one.row, other.row)
        assert one.negatives is not None
        assert other.negatives is not None
        assert np.array_equal(one.negatives, other.negatives)
