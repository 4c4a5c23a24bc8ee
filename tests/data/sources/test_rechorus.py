"""Folders in the ReChorus format: reading and invalid input."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from stemlab.data.sequence.protocol import RankingProtocol
from stemlab.data.sources.rechorus import RechorusDataModule, find_parts, read_folder
from stemlab.errors import StemlabError

TRAIN = "user_id\titem_id\ttime\n1\t1\t10\n2\t3\t11\n1\t2\t12\n2\t4\t13\n"
DEV = "user_id\titem_id\ttime\tneg_items\n1\t3\t20\t[4, 5]\n2\t1\t21\t[2, 5]\n"
TEST = "user_id\titem_id\ttime\tneg_items\n2\t5\t31\t[2, 2]\n1\t4\t30\t[5, 5]\n"


@pytest.fixture
def folder(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for name, text in (("train", TRAIN), ("dev", DEV), ("test", TEST)):
        (raw / f"{name}.csv").write_text(text)
    return raw


def read(folder):
    return read_folder(find_parts(folder), lambda size: None)


def datamodule(raw_dir, data_dir, **changes):
    settings = {
        "name": "toy",
        "raw_dir": raw_dir,
        "data_dir": data_dir,
        "batch_size": 4,
        "eval_batch_size": 4,
        "seed": 0,
        "history_max": 20,
        "num_negatives": 1,
        "train_negatives": "train",
        "times": True,
        "evaluation": RankingProtocol(),
    }
    return RechorusDataModule(**{**settings, **changes})


def test_train_rows_come_first_and_negatives_are_read(folder):
    sequences = read(folder)
    assert sequences.user.tolist() == [1, 2, 1, 2, 1, 2, 2, 1]
    assert sequences.item.tolist() == [1, 3, 2, 4, 3, 1, 5, 4]
    assert sequences.time.tolist() == [10, 11, 12, 13, 20, 21, 31, 30]
    assert sequences.split.tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
    assert sequences.negatives["valid"].tolist() == [[4, 5], [2, 5]]
    assert sequences.negatives["test"].tolist() == [[2, 2], [5, 5]]
    assert (sequences.users, sequences.items) == (2, 5)


def test_gzip_and_other_columns_and_names(folder):
    text = "time\tuser_id\tx\titem_id\n" + "".join(
        f"{t}\t{u}\tword\t{i}\n" for u, i, t in ((1, 1, 10), (2, 3, 11), (1, 2, 12), (2, 4, 13))
    )
    (folder / "train.csv").unlink()
    (folder / "train.rebuilt.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert read(folder).item.tolist() == [1, 3, 2, 4, 3, 1, 5, 4]


def test_order_of_the_rows_does_not_matter(folder, tmp_path):
    module = datamodule(folder, tmp_path / "one")
    module.prepare()
    head, *rows = TRAIN.splitlines(keepends=True)
    (folder / "train.csv").write_text(head + "".join(reversed(rows)))
    other = datamodule(folder, tmp_path / "two")
    other.prepare()
    assert module.manifest["fingerprint"] != other.manifest["fingerprint"]
    for name in ("user", "item", "time"):
        assert np.array_equal(getattr(module.log, name), getattr(other.log, name))
    batches = list(module.test_dataloader())
    assert [row for batch in batches for row in batch.candidates_BN.tolist()] == [[4, 5, 5], [5, 2, 2]]
    # the dev item is part of the history
    assert [row for batch in batches for row in batch.history_BL.tolist()] == [[1, 2, 3], [3, 4, 1]]


@pytest.mark.parametrize(
    ("name", "text", "fragments"),
    [
        (
            "train",
            TRAIN + "1\t2\t25\n",
            ["train.csv, line 6", "user 1 has time 25", "time 20 in dev.csv, line 2", "1 users have"],
        ),
        ("dev", DEV + "2\t3\t32\t[4, 5]\n", ["dev.csv, line 4", "user 2 has time 32", "time 31 in test.csv, line 2"]),
        ("test", TEST.replace("\t30", "\t19"), ["dev.csv, line 2", "user 1 has time 20", "test.csv, line 3"]),
        ("train", TRAIN.replace("\n2", "\r2"), ["train.csv, line 2", "carriage return"]),
        ("dev", DEV.replace("\titem", "\ritem"), ["dev.csv, line 1", "carriage return"]),
        ("train", "user_id\titem_id\n1\t1\n", ["train.csv, line 1", "'time'", "user_id, item_id"]),
        ("train", TRAIN + "1\tx\t5\n", ["train.csv, line 6", "item_id is 'x'"]),
        ("train", TRAIN + "1\t2\n", ["train.csv, line 6", "2 columns instead of 3"]),
        ("train", TRAIN + "1\t0\t14\n", ["train.csv, line 6", "item_id is 0", "from 1"]),
        ("train", "user_id\titem_id\ttime\n", ["train.csv", "no rows"]),
        ("train", "", ["train.csv", "empty"]),
        ("train", TRAIN + "1\t1149206400\t14\n", ["train.csv, line 6", "item_id is 1149206400", "6 distinct"]),
        ("test", TEST.replace("2\t5", "99999\t5"), ["test.csv, line 2", "user_id is 99999"]),
        ("dev", DEV.replace("[2, 5]", f"[2, {2**32 + 1}]"), ["dev.csv, line 3", f"item {2**32 + 1}"]),
        ("dev", DEV.replace("[2, 5]", "[2, 9]"), ["dev.csv, line 3", "item 9", "1 to 5"]),
        ("dev", DEV.replace("[2, 5]", "[0, 5]"), ["dev.csv, line 3", "item 0"]),
        ("test", TEST.replace("[5, 5]", "[5]"), ["test.csv, line 3", "has 1 items", "line 2 has 2"]),
        ("test", TEST.replace("[5, 5]", "5 5"), ["test.csv, line 3", "not a list"]),
        ("test", TEST.replace("[5, 5]", "[]"), ["test.csv, line 3", "not a list"]),
    ],
)
def test_invalid_files_are_reported_with_their_line(folder, name, text, fragments):
    (folder / f"{name}.csv").write_text(text, newline="")
    with pytest.raises(StemlabError) as error:
        read(folder)
    for fragment in fragments:
        assert fragment in str(error.value)


def test_equal_times_keep_the_order_of_the_files(folder):
    (folder / "test.csv").write_text(TEST.replace("\t30", "\t20").replace("\t31", "\t21"))
    assert read(folder).split.tolist() == [0, 0, 0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_byte_order_marks_are_ignored(folder, ends):
    expected = read(folder)
    for name, text in (("train", TRAIN), ("dev", DEV), ("test", TEST)):
        (folder / f"{name}.csv").write_text("\ufeff" + text, encoding="utf-8", newline=ends)
    for name in ("user", "item", "time", "split"):
        np.testing.assert_array_equal(getattr(read(folder), name), getattr(expected, name))


def test_rows_without_a_history_are_not_instances(folder, tmp_path, caplog):
    """User 3 occurs in test only; user 4 has one row, in train; repeated rows are two interactions."""
    (folder / "train.csv").write_text(TRAIN + "4\t5\t14\n1\t2\t12\n")
    (folder / "test.csv").write_text(TEST + "3\t1\t40\t[5, 5]\n")
    module = datamodule(folder, tmp_path / "data")
    module.prepare()
    assert module.manifest["interactions"] == {"train": 6, "valid": 2, "test": 3}
    assert module.manifest["rows"] == {"train": 3, "valid": 2, "test": 2}
    assert module.manifest["users_with_one_interaction"] == 2
    assert module.manifest["rows_without_history"] == {"valid": 0, "test": 1}
    assert "1 of 3 test rows have no earlier interaction" in caplog.text
    test = list(module.test_dataloader())
    histories = [row[: row.index(0)] if 0 in row else row for batch in test for row in batch.history_BL.tolist()]
    assert histories == [[1, 2, 2, 3], [3, 4, 1]]
    assert [row for batch in test for row in batch.candidates_BN.tolist()] == [[4, 5, 5], [5, 2, 2]]
    pairs = np.stack(module.training_pairs())
    assert sorted(zip(*pairs.tolist(), strict=True)) == [(1, 1), (1, 2), (1, 2), (2, 3), (2, 4), (4, 5)]


def test_full_ranking_needs_no_stored_negatives(folder, tmp_path):
    for name, text in (("dev", DEV), ("test", TEST)):
        (folder / f"{name}.csv").write_text(
            "".join("\t".join(line.split("\t")[:3]) + "\n" for line in text.splitlines())
        )
    module = datamodule(folder, tmp_path / "stored")
    with pytest.raises(StemlabError, match=r"no stored negatives.*valid rows.*candidates=full"):
        module.val_dataloader()
    module = datamodule(folder, tmp_path / "full", evaluation=RankingProtocol(candidates="full"))
    assert [row for batch in module.test_dataloader() for row in batch.candidates_BN.tolist()] == [[4], [5]]


def test_missing_and_ambiguous_files(folder):
    (folder / "train.a.csv").write_text(TRAIN)
    (folder / "train.b.csv").write_text(TRAIN)
    (folder / "train.csv").unlink()
    with pytest.raises(StemlabError, match=r"train\.a\.csv and train\.b\.csv"):
        find_parts(folder)
    (folder / "dev.csv").unlink()
    for name in ("a", "b"):
        (folder / f"train.{name}.csv").unlink()
    with pytest.raises(StemlabError, match=r"no train\.csv.*dataset\.raw_dir"):
        find_parts(folder)


def test_truncated_gzip(folder):
    data = gzip.compress(TRAIN.encode() * 50)
    (folder / "train.csv").unlink()
    (folder / "train.csv.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(StemlabError, match="truncated or damaged"):
        read(folder)


def test_grocery_files(real_data, tmp_path):
    module = datamodule(real_data / "grocery", tmp_path, name="grocery")
    module.prepare()
    assert module.manifest["rows"] == {"train": 121892 - 14681, "valid": 14681, "test": 14681}
    assert (module.spec.users, module.spec.items) == (14681, 8713)
    assert module.manifest["positives_among_negatives"] == {"valid": 0, "test": 0}
    assert np.bincount(module.log.user)[1:].min() == 5  # 5-core


def test_published_movielens_files(real_data, tmp_path):
    sequences = read(Path(real_data) / "ml-1m_rechorus")
    assert (sequences.users, sequences.items, len(sequences.user)) == (6040, 3706, 1_000_209)
    assert sequences.negatives["test"][:3, :3].tolist() == [[2733, 2608, 1654], [2545, 2257, 2337], [1535, 3421, 1346]]
    module = datamodule(real_data / "ml-1m_rechorus", tmp_path, name="ml1m")
    module.prepare()
    assert module.manifest["rows"] == {"train": 982_089, "valid": 6040, "test": 6040}
