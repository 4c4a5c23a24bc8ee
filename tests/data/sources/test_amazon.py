"""Amazon reviews: reading, the procedure of the released code, invalid input."""

import gzip
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemlab.config.instantiate import instantiate
from stemlab.data.io import text_blocks as rawfile
from stemlab.data.sequence.leave_one_out import leave_one_out
from stemlab.data.sources.amazon import read_reviews
from stemlab.errors import StemlabError
from tests.data.tiktok_rows import settings

NAME = "reviews_Beauty_5.json.gz"


def review(user, item, time, **more):
    """Return a line of the published format, with further keys that are not read."""
    text = {"reviewerID": user, "asin": item, "reviewerName": 'J. "Ü" {x}', "helpful": [3, 4], "overall": 1.0}
    return json.dumps({**text, "unixReviewTime": time, "reviewTime": "01 30, 2014", **more})


def random_reviews(users=30, items=120, seed=0):
    """Return random reviews sorted by item, as in the real file; days repeat, so this order decides ties."""
    rng = np.random.default_rng(seed)
    names = [f"A{number:X}" for number in rng.choice(10**6, users, replace=False)]
    asins = [f"{'B' if item % 3 else ''}{item * 7919 % 1000:04d}" for item in range(items)]
    rows = [
        (name, asins[item], int(rng.integers(0, 8)) * 86_400)
        for name in names
        for item in rng.choice(items, rng.integers(5, 12), replace=False)
    ]
    return sorted(rows, key=lambda row: row[1])


def write(folder: Path, lines, name=NAME):
    raw = folder / "raw"
    raw.mkdir(exist_ok=True)
    text = b"".join(line + b"\n" for line in (line.encode() if isinstance(line, str) else line for line in lines))
    (raw / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return raw / name


def beauty(folder: Path, **changed):
    paths = {"raw_dir": str(folder / "raw"), "data_dir": str(folder)}
    return instantiate({**settings("beauty"), **paths, **changed}, key="dataset")


def read(path):
    return [column.tolist() for column in read_reviews(path, lambda size: None)]


def reference(rows, count, seed=0):
    """The released procedure step by step, in plain Python: split -> (user, item, time) rows, split -> negatives.

    The largest id drawn is counted once, before test rows are removed, as for the stored lists of Grocery.
    """
    rows = list(dict.fromkeys(rows))
    users = {name: number for number, name in enumerate(sorted({row[0] for row in rows}), start=1)}
    items = {name: number for number, name in enumerate(sorted({row[1] for row in rows}), start=1)}
    frame = [(users[user], items[item], time) for user, item, time in sorted(rows, key=lambda row: (row[2], row[0]))]
    seen, first, rest = {}, [], []
    for row in frame:
        (rest if row[0] in seen else first).append(row)
        seen.setdefault(row[0], set()).add(row[1])
    most = len({row[1] for row in rest})
    parts, negatives, random = {}, {}, np.random.RandomState(seed)
    for split in ("test", "valid"):
        last = {row[0]: position for position, row in enumerate(rest)}
        parts[split] = [row for position, row in enumerate(rest) if last[row[0]] == position]
        rest = [row for position, row in enumerate(rest) if last[row[0]] != position]
        drawn = random.randint(1, most + 1, (len(parts[split]), count))
        for line, row in zip(drawn, parts[split], strict=True):
            for column in range(count):
                while line[column] in seen[row[0]]:
                    line[column] = random.randint(1, most + 1)
        negatives[split] = drawn.tolist()
    kept = {*first, *rest}
    parts["train"] = [row for row in frame if row in kept]
    return parts, negatives, users, items


@pytest.mark.parametrize("seed", [0, 7])
def test_rows_and_negatives_equal_the_released_procedure(tmp_path, seed):
    rows = random_reviews()
    module = beauty(tmp_path, eval_negatives=50, eval_seed=seed)
    write(tmp_path, [review(*row) for row in rows])
    parts, negatives, users, items = reference(rows, 50, seed)
    assert module.prepare().name.startswith("beauty-")
    assert (module.user_tokens, module.item_tokens) == (list(users), list(items))
    assert module.manifest["interactions"] == {split: len(parts[split]) for split in ("train", "valid", "test")}
    assert module.manifest["settings"] == {"eval_negatives": 50, "eval_seed": seed}
    for split, loader in (("valid", module.val_dataloader()), ("test", module.test_dataloader())):
        candidates = np.concatenate([batch.candidates_BN.numpy() for batch in loader])
        user = np.concatenate([batch.user_B.numpy() for batch in loader])
        expected = {row[0]: [row[1], *line] for row, line in zip(parts[split], negatives[split], strict=True)}
        assert {key: line.tolist() for key, line in zip(user, candidates, strict=True)} == expected
    stored = list(zip(module.log.user, module.log.item, module.log.time, strict=True))
    every = [row for split in ("train", "valid", "test") for row in parts[split]]
    assert stored == sorted(every, key=lambda row: (row[0], row[2]))  # stable: ties as in the file


def test_published_settings():
    node = settings("beauty")
    assert (node["raw_file"], node["eval_negatives"], node["eval_seed"]) == (NAME, 1000, 0)


@pytest.mark.parametrize("name", [NAME, NAME.removesuffix(".gz")])
def test_plain_and_gzip_are_read(tmp_path, name):
    path = write(tmp_path, [review("A2", "B1", 20), review("A1", "0001", 10)], name)
    assert read(path) == [["A2", "A1"], ["B1", "0001"], [20, 10]]


def test_other_categories_by_name_or_by_path(tmp_path):
    rows = random_reviews()
    path = write(tmp_path, [review(*row) for row in rows], "reviews_Grocery_and_Gourmet_Food_5.json.gz")
    by_name = beauty(tmp_path, name="food", raw_file=path.name, eval_negatives=3)
    by_path = beauty(tmp_path, name="food", raw_dir=str(path), eval_negatives=3)
    assert by_name.prepare() == by_path.prepare()
    assert by_name.spec.users == 30


def test_missing_negatives_are_an_error_with_a_hint(tmp_path):
    write(tmp_path, [review(*row) for row in random_reviews()])
    module = beauty(tmp_path, eval_negatives=0)
    module.prepare()
    assert module.manifest["negatives"] == {}
    with pytest.raises(StemlabError, match=r"no stored negatives.*dataset\.evaluation\.candidates=full"):
        module.val_dataloader()


def test_repeated_rows_are_dropped_and_counted(tmp_path):
    rows = random_reviews()
    write(tmp_path, [review(*row) for row in (rows[3], *rows, rows[0], rows[0])])
    module = beauty(tmp_path, eval_negatives=2)
    module.prepare()
    assert module.manifest["duplicate_rows"] == 3
    assert sum(module.manifest["interactions"].values()) == len(rows)
    again = (rows[5][0], rows[5][1], rows[5][2] + 1)  # same item at another time: another interaction
    write(tmp_path, [review(*row) for row in (*rows, again)])
    other = beauty(tmp_path, eval_negatives=2)
    other.prepare()
    assert (other.manifest["duplicate_rows"], sum(other.manifest["interactions"].values())) == (0, len(rows) + 1)


GOOD = [review("A1", "B1", 10), review("A1", "B2", 20)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"reviewerID": "A1", "asin": ', "not a JSON object"),
        ("{'reviewerID': 'A1', 'asin': 'B3', 'unixReviewTime': 5}", "not a JSON object"),
        ("[1, 2]", "not a JSON object"),
        ("", "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
        (review("A1", "B3", 5) + review("A1", "B4", 5), "not a JSON object"),
        ('{"reviewerID": "A1", "unixReviewTime": 5}', "key 'asin' is missing"),
        ('{"user_id": "A1", "asin": "B3", "unixReviewTime": 5}', "key 'reviewerID' is missing"),
        (review("A1", "B3", "5"), "'unixReviewTime' is \"5\", not an integer"),
        (review("A1", "B3", None), "'unixReviewTime' is null, not an integer"),
        (review("A1", "B3", 5.5), "'unixReviewTime' is 5.5, not an integer"),
        (review("A1", "B3", True), "'unixReviewTime' is true, not an integer"),
        (review("A1", "B3", 1 << 63), "'unixReviewTime' is 9223372036854775808, not an integer"),
        (review("", "B3", 5), "'reviewerID' is \"\", not an id"),
        (review("A1", 33, 5), "'asin' is 33, not an id"),
        (review("A1", None, 5), "'asin' is null, not an id"),
        (review("A1", "B\n3", 5), r"""'asin' is "B\n3", not an id"""),
        (b'{"reviewerID": "A\xff", "asin": "B3", "unixReviewTime": 5}', r"""'reviewerID' is "A\udcff", not an id"""),
    ],
)
def test_invalid_lines_are_reported(tmp_path, line, expected):
    path = write(tmp_path, [*GOOD, line, review("A1", "B5", 30)])
    with pytest.raises(StemlabError) as raised:
        beauty(tmp_path).prepare()
    assert str(raised.value).startswith(f"{path}, line 3: ")
    assert expected in str(raised.value)
    assert "download the file again" in str(raised.value)
    assert [found.name for found in (tmp_path / "prepared").iterdir() if found.is_dir()] == []


def test_line_number_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(rawfile, "BLOCK_BYTES", 500)
    lines = [review("A1", f"B{number}", number) for number in range(40)]
    assert read(write(tmp_path, lines))[2] == list(range(40))
    lines[31] = "x"
    with pytest.raises(StemlabError, match=r"5\.json\.gz, line 32: "):
        read(write(tmp_path, lines))


@pytest.mark.parametrize(
    "line",
    [
        review("Ä 1", "B3", 5),  # ids with other characters than in the published files
        '{"asin": "B0", "asin": "B3", "reviewerID": "Ä 1", "unixReviewTime": 5, "overall": NaN}',  # last key is used
        '\ufeff{"reviewerID": "Ä 1", "asin": "B3", "unixReviewTime": 5}\r',
    ],
)
def test_lines_that_need_the_line_parser(tmp_path, line):
    assert read(write(tmp_path, [line, *GOOD])) == [["Ä 1", "A1", "A1"], ["B3", "B1", "B2"], [5, 10, 20]]


def test_invalid_utf8_matters_in_ids_only(tmp_path):
    line = b'{"reviewerID": "A9", "asin": "B3", "reviewText": "\xff", "unixReviewTime": 5}'
    assert read(write(tmp_path, [line, *GOOD]))[0] == ["A9", "A1", "A1"]
    assert read(write(tmp_path, [line, review("Ä", "B", 1)]))[0] == ["A9", "Ä"]


@given(
    st.lists(st.tuples(st.text("AB0-_é ", min_size=1), st.text("B019", min_size=1), st.integers(0, 2**62)), min_size=1)
)
def test_what_is_written_is_read(tmp_path_factory, rows):
    path = write(tmp_path_factory.mktemp("reviews"), [review(*row) for row in rows])
    assert list(zip(*read(path), strict=True)) == rows


def test_truncated_damaged_and_empty_files(tmp_path):
    path = write(tmp_path, [review(*row) for row in random_reviews()])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StemlabError, match=r"Beauty_5\.json\.gz is truncated or damaged .*again"):
        beauty(tmp_path).prepare()
    path.write_bytes(whole[:-8] + zlib.crc32(b"other").to_bytes(4, "little") + whole[-4:])
    with pytest.raises(StemlabError, match=r"Beauty_5\.json\.gz is truncated or damaged .*CRC.*again"):
        beauty(tmp_path).prepare()
    for empty in (b"", gzip.compress(b"")):
        path.write_bytes(empty)
        with pytest.raises(StemlabError, match=r"Beauty_5\.json\.gz is empty.*again"):
            beauty(tmp_path).prepare()
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(StemlabError, match=r"Beauty_5\.json\.gz is not gzip"):
        beauty(tmp_path).prepare()


def test_missing_file_message_names_the_source(tmp_path):
    with pytest.raises(StemlabError, match=rf"{NAME}.*jmcauley\.ucsd\.edu/data/amazon.*5-core.*dataset\.raw_dir"):
        beauty(tmp_path).prepare()


def test_users_with_few_reviews(tmp_path):
    rows = [("0", "B1", 1), ("1", "B1", 1), ("1", "B2", 2), *random_reviews()]
    path = write(tmp_path, [review(*row) for row in rows])
    sequences = leave_one_out(*read_reviews(path, lambda size: None), eval_negatives=1)
    assert sequences.user_tokens[:2] == ["0", "1"]
    assert [sequences.split[sequences.user == user].tolist() for user in (1, 2)] == [[0], [0, 2]]
