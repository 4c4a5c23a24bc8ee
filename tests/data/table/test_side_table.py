"""Side tables joined to rows by id."""

import numpy as np
import pytest

from stemlab.data.table.side_table import read_side_table
from stemlab.errors import StemlabError
from tests.conftest import REAL_DATA, require


def read(folder, text, categories=("kind", "tag"), numbers=("length",), key="id"):
    path = folder / "side.csv"
    path.write_text(text, encoding="utf-8")
    seen = []
    table = read_side_table(path, key, categories, numbers, seen.append)
    assert sum(seen) == path.stat().st_size
    return table


TEXT = 'id,kind,extra,length,tag\n30,1.0,x,2.5,"a,b"\n10,,y,,a\n20,1,z,3,"a,b"\n'


def test_columns_are_sorted_by_id_and_joined(tmp_path):
    table = read(tmp_path, TEXT)
    assert table.keys.tolist() == [10, 20, 30]
    index, known = table.find(np.array([30, 10, 11, 99, -5, 20]))
    assert known.tolist() == [True, True, False, False, False, True]
    rows = table.take(index[known])
    tokens = {name: [table.tokens[name][code] for code in rows[name].tolist()] for name in ("kind", "tag")}
    assert tokens == {"kind": ["1", "", "1"], "tag": ["a,b", "a", "a,b"]}
    assert rows["kind"][0] == rows["kind"][2] != 0  # 1.0 and 1 are one token
    assert rows["kind"][1] == 0
    np.testing.assert_array_equal(rows["length"], np.array([2.5, np.nan, 3], np.float32))
    assert rows["length"].dtype == np.float32
    assert rows["kind"].dtype == np.int64


@pytest.mark.parametrize("start", [0, 5])
def test_consecutive_ids_are_found_without_a_search(tmp_path, start):
    rows = "".join(f"{start + i},{i % 3},{i},t\n" for i in (4, 0, 2, 1, 3))
    table = read(tmp_path, f"id,kind,length,tag\n{rows}")
    index, known = table.find(np.array([start + 4, start - 1, start + 5, start]))
    assert known.tolist() == [True, False, False, True]
    assert table.take(index[known])["length"].tolist() == [4, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,kind,length\n1,2,3\n", r"line 1: no column 'tag' \(it has: id, kind, length\)"),
        ("id,kind,length,tag\n1,2,3,a\nx,2,3,a\n", "line 3: column 'id' is 'x', not an integer"),
        ("id,kind,length,tag\n1,2,3,a\n,2,3,a\n", "line 3: column 'id' is '', not an integer"),
        ("id,kind,length,tag\n1.0,2,3,a\n1234567890123456789,2,3,a\nx,2,3,a\n", "line 4: column 'id' is 'x'"),
        ("id,kind,length,tag\n1,2,long,a\n", "line 2: column 'length' is 'long', not a number"),
        ("id,kind,length,tag\n1,2,3,a\n2,2,3\n", "line 3: 3 columns instead of 4"),
        ("id,kind,length,tag\n7,2,3,a\n1,2,3,a\n7,2,3,a\n", "has id 7 twice"),
    ],
)
def test_bad_side_tables_raise(tmp_path, text, message):
    with pytest.raises(StemlabError, match=rf"side\.csv,? {message}"):
        read(tmp_path, text)


def test_the_real_side_tables_of_kuairand_pure():
    folder = require(REAL_DATA / "kuairand" / "user_features_pure.csv").parent
    users = read_side_table(
        folder / "user_features_pure.csv",
        "user_id",
        ["user_active_degree", "fans_user_num_range", "onehot_feat4", "onehot_feat12"],
        ["follow_user_num", "register_days"],
        lambda size: None,
    )
    assert len(users.keys) == 27_285
    rows = users.take(users.find(np.array([0, 1]))[0])
    decoded = {name: [codes[code] for code in rows[name].tolist()] for name, codes in users.tokens.items()}
    assert decoded["user_active_degree"] == ["full_active", "full_active"]
    assert decoded["fans_user_num_range"] == ["[100,1k)", "[10,100)"]
    assert decoded["onehot_feat4"] == ["1", "4"]
    assert rows["follow_user_num"].tolist() == [514, 457]
    assert (users.columns["onehot_feat4"] == 0).sum() == 874
    assert (users.columns["onehot_feat12"] == 0).sum() == 714
    videos = read_side_table(
        folder / "video_features_basic_pure.csv", "video_id", ["author_id", "tag"], ["video_duration"], lambda s: None
    )
    assert len(videos.keys) == 7_583
    assert len(videos.tokens["author_id"]) == 6_510 + 1
    assert np.isnan(videos.columns["video_duration"]).sum() == 239
    rows = videos.take(videos.find(np.array([0, 1, 5]))[0])
    assert rows["video_duration"].tolist() == [87_433, 218_066, 358_016]
    assert [videos.tokens["tag"][code] for code in rows["tag"].tolist()] == ["39", "2", "20,43"]
