import csv

from stemlab.data.prepare.split import SPLITS
from tests.conftest import REAL_DATA, require
from tests.data.prepared_rows import datamodule, decoded


def test_real_logs_are_joined_with_real_tables(tmp_path):
    folder = require(REAL_DATA / "kuairand" / "kuairand_sample.csv").parent
    module = datamodule(
        "kuairand",
        tmp_path,
        raw_dir=str(folder),
        version="pure",
        logs=["kuairand_sample.csv"],
        tasks=["is_click"],
        scenarios=["tab1"],
        fields=["user_id", "video_id", "is_live_streamer", "onehot_feat3", "onehot_feat8"],
        scaling="none",
        min_count=1,
        numericals=["follow_user_num", "fans_user_num", "register_days", "server_width"],
        split={"rule": "random"},
    )
    with (folder / "kuairand_sample.csv").open(newline="") as lines:
        real = list(csv.DictReader(lines))
    assert module.prepare()
    assert module.manifest["rows"] == {"train": 162, "valid": 18, "test": 20}
    rows = [row for split in SPLITS for row in decoded(module, split)]
    train = decoded(module, "train")
    assert len(rows) == len(real) == 200
    by_pair = {(row["user_id"], row["video_id"]): row for row in real}
    # the publisher of the sample joined the same tables: user and video columns must be equal
    for row in train:
        theirs = by_pair[row["user_id"], row["video_id"]]
        for name in ("is_live_streamer", "onehot_feat3", "onehot_feat8"):
            assert row[name] == theirs[name], name
        for name in ("follow_user_num", "fans_user_num", "register_days", "server_width"):
            assert row[name] == float(theirs[name]), name
    assert sum(row["is_click"] for row in rows) == sum(row["is_click"] == "1" for row in real) == 32
