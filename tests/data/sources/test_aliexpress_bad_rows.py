"""Invalid rows of AliExpress files are reported with file, line and column, or skipped and counted."""

import pytest

from stemlab.errors import StemlabError
from tests.data.aliexpress_rows import aliexpress, read_lines, write_country, write_lines, write_processed


@pytest.fixture
def processed(tmp_path):
    """A country in MTReclib's format, and the lines of its training file."""
    return write_processed(tmp_path)


def put(cell, at):
    """Return a function that replaces a cell of a line."""
    return lambda line: [*line[:at], cell, *line[at:][1:]]


@pytest.mark.parametrize(
    ("side", "change", "expected"),
    [
        ("item", put("much", 5), "column 'numerical_28' is 'much', not a number"),
        ("user", put("1.5", 2), r"column 'categorical_2' is '1\.5', not an integer"),
        ("item", lambda line: line[:-1], "48 columns instead of 49"),
        ("user", lambda line: [*line, "0"], "34 columns instead of 33"),
        ("item", put("3", 48), "column 'label' is '3', not 0 to 2"),
        ("item", put("77777", 0), r"search id 77777 has no row in nl_user_train\.csv"),
        ("user", put("1", 0), "search id 1 .*line 1"),
    ],
)
def test_invalid_raw_row_is_reported_and_no_file_is_left(tmp_path, side, change, expected):
    path = write_country(tmp_path) / f"nl_{side}_train.csv"
    lines = read_lines(path)
    write_lines(path, [*lines[:2], change(lines[2]), *lines[3:]])
    with pytest.raises(StemlabError, match=rf"nl_{side}_train\.csv, line 3: {expected}.*dataset\.on_bad_row=skip"):
        aliexpress(tmp_path).prepare()
    left = {entry.name for entry in (tmp_path / "prepared").iterdir()}
    assert not [name for name in left if name.startswith((".build", "aliexpress", ".join"))]


def test_invalid_raw_rows_may_be_skipped(tmp_path):
    raw = write_country(tmp_path)
    items, users = (read_lines(raw / f"nl_{side}_train.csv") for side in ("item", "user"))
    of_first = sum(line[0] == "1" for line in items)
    bad = [["9999", *items[0][1:]], ["8888", *items[0][1:]], [*items[1][:5], "x", *items[1][6:]]]
    write_lines(raw / "nl_item_train.csv", [*bad, *items])
    write_lines(raw / "nl_user_train.csv", [*users[1:], users[5]])  # page 1 is missing, another one is repeated
    module = aliexpress(tmp_path, on_bad_row="skip")
    module.prepare()
    counts = module.manifest["rows"]
    assert counts["train"] + counts["valid"] == len(items) - of_first
    assert module.manifest["skipped_rows"] == 3 + of_first + 1
    assert module.manifest["source"]["pages_without_items"] == 0


@pytest.mark.parametrize(
    ("line", "change", "expected"),
    [
        (3, lambda line: [*line[:-2], "0", "1"], "line 4: 'conversion' is 1.*'click' is 0"),
        (3, put("2", 80), "line 4: column 'click' is '2', not 0 or 1"),
        (3, put("?", 20), r"line 4: column 'numerical_4' is '\?', not a number"),
        (3, lambda line: line[:-1], "line 4: 81 columns instead of 82"),
        (0, put("category_7", 7), "line 1: .*'categorical_7'"),
    ],
)
def test_invalid_processed_row_is_reported(tmp_path, processed, line, change, expected):
    processed[line] = change(processed[line])
    write_lines(tmp_path / "raw" / "train.csv", processed)
    with pytest.raises(StemlabError, match=rf"train\.csv, {expected}"):
        aliexpress(tmp_path).prepare()


def test_conversions_without_click_may_be_skipped(tmp_path, processed):
    for line in (3, 5):
        processed[line] = [*processed[line][:-2], "0", "1"]
    write_lines(tmp_path / "raw" / "train.csv", processed)
    module = aliexpress(tmp_path, on_bad_row="skip")
    module.prepare()
    assert module.manifest["skipped_rows"] == 2
    assert module.manifest["rows"]["train"] + module.manifest["rows"]["valid"] == len(processed) - 3
