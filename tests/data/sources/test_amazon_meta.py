"""Item categories of Amazon: category names, choice of the file, invalid input."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from stemlab.data.io import text_blocks as rawfile
from stemlab.data.prepare.manifest import read_manifest
from stemlab.data.sources.amazon_meta import find_meta, read_leaves
from stemlab.errors import StemlabError
from tests.data.sources.test_amazon import NAME, beauty, random_reviews, review, write

META = "meta_Beauty.json.gz"
ROWS = [("A1", "B1", 10), ("A1", "B2", 20), ("A2", "B3", 10), ("A2", "B1", 20), ("A2", "0004", 30), ("A1", "B3", 30)]
PLAIN = NAME.removesuffix(".gz")


def meta(item, *paths, **more):
    return {"asin": item, "title": 'Bob\'s "best" Caf\xe9', "categories": [list(path) for path in paths], **more}


LINES = [
    repr(meta("B1", ["Beauty", "Hair", "Combs"])),
    json.dumps(meta("B2", ["Beauty", "Skin"], ["Health", "Men's Care"])),  # the last path is used
    repr(meta("B9", ["Beauty", "of no reviewed item"])),
    repr({"categories": [["Beauty", "Hair", "Combs"]], "price": 3.5, "asin": "B3"}),
]
LEAVES = {"B1": "Combs", "B2": "Men's Care", "B3": "Combs"}


def read(path: Path, items=("B1", "B2", "B3", "0004")) -> dict[str, str]:
    return read_leaves(path, items, lambda size: None)


def prepared(folder: Path, **changed):
    module = beauty(folder, eval_negatives=0, **changed)
    module.prepare()
    return module


@pytest.mark.parametrize("name", [META, META.removesuffix(".gz")])
def test_the_category_is_the_leaf_of_the_last_path(tmp_path, name):
    write(tmp_path, LINES, name)
    write(tmp_path, [review(*row) for row in ROWS])
    module = prepared(tmp_path)
    assert read(tmp_path / "raw" / name) == LEAVES
    assert module.item_tokens == ["0004", "B1", "B2", "B3"]
    assert module.item_categories.names == ("Combs", "Men's Care")
    assert module.item_categories.code_I.tolist() == [
        0,
        0,
        1,
        2,
        1,
    ]  # padding, no category, B1, B2
    assert (module.manifest["categories"], module.manifest["items_without_category"]) == (2, 1)
    assert [raw["name"] for raw in module.manifest["raw"]] == [NAME, name]


def test_categories_stay_when_the_raw_files_are_gone(tmp_path):
    files = [write(tmp_path, LINES, META), write(tmp_path, [review(*row) for row in ROWS])]
    directory = prepared(tmp_path).directory
    for file in files:
        file.unlink()
    again = beauty(tmp_path)
    again.adopt(directory)
    assert again.item_categories.names == ("Combs", "Men's Care")
    assert again.sizes.categories == 0  # without with_categories
    again.with_categories = True
    assert again.sizes.categories == 2


def test_without_metadata_the_fingerprint_has_no_metadata(tmp_path):
    write(tmp_path, [review(*row) for row in random_reviews()], PLAIN)
    before = beauty(tmp_path, eval_negatives=3)
    assert before.prepare().name == "beauty-988d15506bd1"  # fingerprint of the reviews alone
    assert before.item_categories is None
    assert not {"categories", "items_without_category"} & set(before.manifest)
    items = sorted({row[1] for row in random_reviews()})
    write(tmp_path, [repr(meta(item, [f"path {position % 5}"])) for position, item in enumerate(items)], META)
    after = beauty(tmp_path, eval_negatives=3)
    assert after.prepare() != before.directory
    assert after.item_categories.code_I.tolist() == [0, *(1 + position % 5 for position in range(len(items)))]
    assert set(read_manifest(after.directory)["files"]) - set(before.manifest["files"]) == {"categories.parquet"}
    for name in ("log.arrow", "users.arrow", "train.arrow", "valid.arrow", "test.arrow"):
        assert (after.directory / name).read_bytes() == (before.directory / name).read_bytes()
    write(tmp_path, [repr(meta(items[0], ["another"]))], META)
    assert beauty(tmp_path, eval_negatives=3).prepare() not in (before.directory, after.directory)


@pytest.mark.parametrize(
    ("reviews", "name"),
    [
        ("reviews_Toys_and_Games_5.json.gz", "meta_Toys_and_Games.json.gz"),
        ("reviews_Toys_and_Games_5.json", "meta_Toys_and_Games.json"),
        ("reviews_Books.json.gz", "meta_Books.json"),
    ],
)
def test_file_name_is_derived_from_the_review_file(tmp_path, reviews, name):
    assert find_meta(tmp_path / reviews, None) is None
    (tmp_path / name).touch()
    (tmp_path / "meta_Other.json").touch()
    assert find_meta(tmp_path / reviews, None) == tmp_path / name
    assert find_meta(tmp_path / reviews, "meta_Other.json.gz") == tmp_path / "meta_Other.json"
    assert find_meta(tmp_path / reviews, str(tmp_path / "meta_Other.json")) == tmp_path / "meta_Other.json"
    assert find_meta(tmp_path / "mine.json", None) is None


def test_named_file_is_read_and_a_missing_one_is_an_error(tmp_path):
    write(tmp_path, [review(*row) for row in ROWS])
    write(tmp_path, LINES, "mine.json")
    assert prepared(tmp_path, meta_file="mine.json").item_categories.names == ("Combs", "Men's Care")
    assert prepared(tmp_path).item_categories is None
    with pytest.raises(StemlabError, match=r"^dataset\.meta_file.*raw/yours\.json\.gz.*dataset\.meta_file=null"):
        beauty(tmp_path, name="other", meta_file="yours.json.gz").prepare()
    assert not list((tmp_path / "prepared").glob("other*"))


@pytest.mark.parametrize(
    ("line", "leaf"),
    [
        ("{'asin': 'B2', 'title': 'x'}", None),
        ("{'asin': 'B2', 'categories': None}", None),
        ("{'asin': 'B2', 'categories': []}", None),
        ("{'asin': 'B2', 'categories': [['Hair'], []]}", None),
        ("{'asin': 'B2', 'categories': [['Hair', '']]}", None),
        ("{u'asin': u'B2', u'categories': [[u'Hair', u'Caf\\xe9']]}", "Caf\xe9"),
        ("{'asin': 'B2', 'categories': [['Hair & \"Nails\"', 'Bob\\'s']]}\r", "Bob's"),
        ('\ufeff{"asin": "B2", "ok": true, "price": null, "categories": [["\\u00e9"]]}', "\xe9"),
        (b"{'asin': 'B2', 'title': '\xff', 'categories': [['Hair']]}", "Hair"),
        ('{"asin": "B2", "categories": [["Hair \\ud83d"]]}', "Hair ?"),
    ],
)
def test_forms_of_a_line(tmp_path, line, leaf):
    path = write(tmp_path, [LINES[0], line], META)
    assert read(path) == {"B1": "Combs", **({"B2": leaf} if leaf else {})}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "neither a JSON object"),
        ("{'asin': 'B2', 'categories': [['Ha", "neither a JSON object"),
        ("{'asin': 'B2', 'categories': [[str(1)]]}", "neither a JSON object"),
        ("__import__('os').abort()", "neither a JSON object"),
        ("{{}: 1}", "neither a JSON object"),
        ("['B2']", "neither a JSON object"),
        ("[" * 100_000, "neither a JSON object"),
        ("{'categories': [['Hair']]}", "key 'asin' is missing"),
        ("{'asin': 4, 'categories': [['Hair']]}", "'asin' is 4, not an id"),
        ("{'asin': 'B2', 'categories': 'Hair'}", "'categories' is 'Hair', not a list of paths"),
        ("{'asin': 'B2', 'categories': ['Hair']}", "'categories' is ['Hair'], not a list of paths"),
        ("{'asin': 'B2', 'categories': [[1]]}", "'categories' is [[1]], not a list of paths"),
    ],
)
def test_invalid_lines_are_reported(tmp_path, line, expected):
    path = write(tmp_path, [*LINES[:2], line, LINES[3]], META)
    write(tmp_path, [review(*row) for row in ROWS])
    with pytest.raises(StemlabError) as raised:
        prepared(tmp_path)
    assert str(raised.value).startswith(f"{path}, line 3: ")
    assert expected in str(raised.value)
    assert "download the file again" in str(raised.value)
    assert [found.name for found in (tmp_path / "prepared").iterdir() if found.is_dir()] == []


def test_blocks_and_lines_of_other_items(tmp_path, monkeypatch):
    monkeypatch.setattr(rawfile, "BLOCK_BYTES", 300)
    lines = [repr(meta(f"B{number}", ["a", f"leaf {number}"])) for number in range(40)]
    lines[20] = "{'asin': 'B20', not read, as its item was never reviewed"
    path, consumed = write(tmp_path, lines, META), []
    found = read_leaves(path, ["B5", "B39"], consumed.append)
    assert found == {"B5": "leaf 5", "B39": "leaf 39"}
    assert sum(consumed) == path.stat().st_size
    with pytest.raises(StemlabError, match=r"meta_Beauty\.json\.gz, line 21: "):
        read_leaves(path, ["B20"], consumed.append)


def test_a_file_of_other_items_and_a_truncated_one(tmp_path):
    path = write(tmp_path, LINES, META)
    with pytest.raises(StemlabError, match=r"meta_Beauty\.json\.gz has no category"):
        read(path, ["C1", "C2"])
    text = "\n".join(repr(meta(f"B{number}", [f"{np.pi * number}"])) for number in range(500))
    path.write_bytes(gzip.compress(text.encode())[:-200])
    with pytest.raises(StemlabError, match=r"meta_Beauty\.json\.gz is truncated or damaged .*again"):
        read(path)
