"""User tables: invalid cells, rows and descriptions are reported with file, line and column."""

import pytest

from stemlab.errors import StemlabError
from tests.data.table.rows import frame, save, table


@pytest.fixture
def saved(tmp_path):
    return save(frame(), tmp_path / "rows.csv")


def spoil(tmp_path, line, name, cell):
    """Write rows with one changed cell; lines count from 1 and include the header."""
    rows = frame().astype(object)
    rows.loc[line - 2, name] = cell
    return save(rows, tmp_path / "rows.csv")


@pytest.mark.parametrize(
    ("column", "cell", "changed", "expected"),
    [
        ("click", "2", {}, "column 'click' is '2'.*dataset.on_bad_row=skip"),
        ("buy", "", {}, "column 'buy' is empty"),
        ("price", "12,5", {}, "column 'price' is '12,5'"),
        ("age", "n/a", {}, "column 'age' is 'n/a'"),
        (
            "ts",
            "soon",
            {"time": "ts", "split": {"rule": "time"}},
            "column 'ts' is 'soon'.*ISO",
        ),
        (
            *("country", "us", {"scenario": "country", "scenarios": ["es", "fr", "nl"]}),
            r"column 'country' is 'us'.*dataset.scenarios.*es, fr, nl",
        ),
    ],
)
def test_invalid_cell_is_reported_with_its_line(tmp_path, column, cell, changed, expected):
    path = spoil(tmp_path, 57, column, cell)
    with pytest.raises(StemlabError, match=rf"rows\.csv, line 57: {expected}"):
        table(tmp_path, path, **changed).prepare()
    assert not [p for p in (tmp_path / "prepared").iterdir() if p.is_dir()]
    module = table(tmp_path, path, on_bad_row="skip", **changed)
    module.prepare()
    assert module.manifest["skipped_rows"] == 1
    assert sum(module.manifest["rows"].values()) == 399


def test_invalid_row_of_a_parquet_file(tmp_path):
    rows = frame()
    rows.loc[33, "click"] = 7
    with pytest.raises(StemlabError, match=r"rows\.parquet, row 34: column 'click' is '7'"):
        table(tmp_path, save(rows, tmp_path / "rows.parquet")).prepare()
    rows = frame().astype({"click": float})
    rows.loc[33, "click"] = None  # a null in a column of floats
    with pytest.raises(StemlabError, match=r"rows\.parquet, row 34: column 'click' is empty"):
        table(tmp_path, save(rows, tmp_path / "rows.parquet")).prepare()
    rows = frame()
    rows.loc[33, "price"] = 1e300
    with pytest.raises(StemlabError, match=r"row 34: column 'price' is '1000.*float32"):
        table(tmp_path, save(rows, tmp_path / "rows.parquet")).prepare()


def test_listed_scenarios_are_quoted_where_the_command_line_needs_it(tmp_path):
    rows = frame().assign(surface=["home", "search, web"] * 200)
    with pytest.raises(StemlabError, match=r"dataset.scenarios.*\[home, 'search, web'\]"):
        table(tmp_path, save(rows, tmp_path / "rows.csv"), scenario="surface").prepare()


def test_a_line_with_another_number_of_cells(tmp_path, saved):
    lines = saved.read_text().splitlines()
    saved.write_text("\n".join([*lines[:9], "1,2,3", *lines[9:]]))
    with pytest.raises(StemlabError, match=r"rows\.csv, line 10: 3 columns instead of 11"):
        table(tmp_path, saved).prepare()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"fields": ["usr_id"]},
            r"dataset.fields.*'usr_id'.*rows\.csv.*Did you mean 'user_id'",
        ),
        ({"group": "uid"}, "dataset.group.*'uid'"),
        ({"fields": ["user_id", "click"]}, "'click'.*dataset.tasks.*dataset.fields.*label"),
        ({"numericals": ["buy"]}, "'buy'.*dataset.tasks.*dataset.numericals.*label"),
        ({"scenario": "click", "scenarios": ["0", "1"]}, "'click'.*dataset.tasks.*dataset.scenario"),
        ({"numericals": ["age", "user_id"]}, "'user_id'.*dataset.fields.*dataset.numericals"),
        ({"tasks": ["click", "click"]}, "dataset.tasks.*'click' twice"),
        ({"tasks": None, "config": "my.yaml"}, r"dataset.tasks.*my.yaml"),
        ({"fields": ["a/b"]}, "dataset.fields.*'a/b'"),
        ({"shared": {"page": "itemid"}}, "dataset.shared.*'itemid'.*Did you mean 'item_id'"),
        ({"split": {"rule": "time"}}, "dataset.split.rule=time needs dataset.time"),
        ({"split": {"rule": "given"}}, "dataset.split.rule=given needs dataset.split_column"),
        ({"scenario": "country"}, r"dataset.scenario=country.*dataset.scenarios.*\[es, fr, nl\]"),
        ({"scenario": "row"}, "dataset.scenario=row.*more than 100.*dataset.fields"),
        ({"scenarios": ["a"]}, "dataset.scenarios.*dataset.scenario is not"),
        ({"scenario": "country", "scenarios": [*range(101)]}, "dataset.scenarios has 101 .*100"),
        (
            {"scenario": "country", "scenarios": ["es", "fr", "nl", "us"]},
            r"rows\.csv.*'us'.*'country'.*dataset.scenarios",
        ),
        ({"path": None}, "dataset.path is not set"),
        ({"separator": "::"}, "dataset.separator='::'"),
    ],
)
def test_invalid_description_is_reported(tmp_path, saved, changed, expected):
    with pytest.raises(StemlabError, match=expected):
        table(tmp_path, saved, **changed).prepare()


def test_a_constant_label(tmp_path):
    path = save(frame().assign(buy=0), tmp_path / "rows.csv")
    with pytest.raises(StemlabError, match=r"rows\.csv.*'buy' is 0 in all 400 rows"):
        table(tmp_path, path).prepare()
