"""Float columns among integer columns, and zips inside zips."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.data.io.csv_header import HeaderCsvReader
from stemlab.data.io.csv_integers import IntegerReader
from stemlab.data.io.text_blocks import TextBlock, read_blocks
from stemlab.errors import StemlabError

COLUMNS = ("key", "x", "y")


def parse(text, rows_per_block=None, **options):
    lines = text.encode().splitlines(keepends=True)
    step = rows_per_block or len(lines)
    blocks = [TextBlock(b"".join(lines[start : start + step]), start + 1) for start in range(0, len(lines), step)]
    reader = IntegerReader("rows", COLUMNS, separator=b",", float_columns=("x", "y"), **options)
    parts = list(reader.parse(blocks))
    return {name: np.concatenate([part.columns[name] for part in parts]) for name in COLUMNS}, reader.skipped


def test_float_columns_are_float32_and_empty_cells_nan():
    columns, _ = parse("1,0.5,\n-2,1e-3,.25\n3,,-7\n")
    assert columns["key"].tolist() == [1, -2, 3]
    assert columns["key"].dtype == np.int64
    assert columns["x"].dtype == columns["y"].dtype == np.float32
    np.testing.assert_array_equal(columns["x"], np.float32([0.5, 1e-3, np.nan]))
    np.testing.assert_array_equal(columns["y"], np.float32([np.nan, 0.25, -7]))


@pytest.mark.parametrize("cell", ["abc", "nan", "inf", "-inf", "1e39", "0x1", "1_0", " 1", "1.2.3", "-"])
def test_invalid_number_raises_or_is_skipped(cell):
    text = f"1,2,3\n4,5,{cell}\n7,8,9\n"
    with pytest.raises(StemlabError, match=r"rows, line 2: column 'y' is '.*', not a number"):
        parse(text)
    columns, skipped = parse(text, on_bad_row="skip")
    assert (columns["key"].tolist(), columns["y"].tolist(), skipped) == ([1, 7], [3.0, 9.0], 1)


def test_empty_integer_is_bad_also_beside_float_columns():
    with pytest.raises(StemlabError, match="line 2: column 'key' is '', not an integer"):
        parse("1,2,3\n,5,6\n")


def test_whole_floats_do_not_change_float_columns(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("key,x,y\n1.0,.0,2.0\n3,10.0,.0\n4.0,-0.0,\n")
    reader = HeaderCsvReader(("y", "key", "x"), float_columns=("x", "y"))
    ((rows, _),) = reader.read(path, "rows.csv", lambda size: None)
    assert rows.columns["key"].tolist() == [1, 3, 4]
    assert rows.columns["x"].tolist() == [0.0, 10.0, 0.0]
    np.testing.assert_array_equal(rows.columns["y"], np.float32([2, 0, np.nan]))


CELLS = st.one_of(
    st.just(""),
    st.floats(-(2.0**99), 2.0**99, width=32).map(repr),
    st.floats(0, 1).map(lambda x: f"{x:.6f}"),
    st.integers(-(10**6), 10**6).map(str),
    st.sampled_from([".0", "-.0", "5.", "+1", "1E-4", "007"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 9), CELLS, CELLS), min_size=1, max_size=12), st.booleans())
def test_result_is_independent_of_blocks_and_parser(rows, whole_floats):
    text = "".join(f"{key},{x},{y}\n" for key, x, y in rows)
    whole, _ = parse(text, whole_floats=whole_floats)
    single, _ = parse(text, 1, whole_floats=whole_floats)
    careful, skipped = parse(text + "bad\n", whole_floats=whole_floats, on_bad_row="skip")  # line by line
    assert skipped == 1
    for name in COLUMNS:
        np.testing.assert_array_equal(whole[name], single[name])
        np.testing.assert_array_equal(whole[name], careful[name])
    expected = np.array([np.float32(x) if x else np.nan for _, x, _ in rows], dtype=np.float32)
    np.testing.assert_allclose(whole["x"], expected, rtol=2e-7, atol=1e-38)


def test_a_zip_in_a_zip_is_read(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.csv", "1\n2\n")
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/others.zip", b"PK")
        archive.writestr("folder/rows.zip", inner.getvalue())
    assert b"".join(block.data for block in read_blocks(path, "rows.csv")) == b"1\n2\n"
    with pytest.raises(StemlabError, match=r"all\.zip holds no file 'more\.csv'"):
        list(read_blocks(path, "more.csv"))
