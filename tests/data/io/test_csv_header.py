"""HeaderCsvReader: chosen columns of files with a header line."""

import gzip
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.data.io import text_blocks as rawfile
from stemlab.data.io.csv_header import HeaderCsvReader
from stemlab.errors import StemlabError

RANGES = {"user": (0, (1 << 63) - 1), "like": (0, 1)}


def read(path, columns=("like", "user"), **options):
    reader = HeaderCsvReader(columns, **{"ranges": RANGES, "missing": ("\\N", ""), **options})
    seen = []
    rows = [rows for rows, _ in reader.read(path, "rows.csv", seen.append)]
    assert sum(seen) == path.stat().st_size
    whole = {name: np.concatenate([part.columns[name] for part in rows]).tolist() for name in rows[0].columns}
    return whole, np.concatenate([part.lines for part in rows]).tolist(), reader.skipped


def write(folder, text, name="rows.csv"):
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_chosen_columns_by_name_ignore_the_other_columns(tmp_path):
    path = write(tmp_path, 'user,words,like\n7,"x y 0x1,1\n8,1.5e3,0\n')
    assert read(path) == ({"like": [1, 0], "user": [7, 8]}, [2, 3], 0)


def test_column_order_byte_order_mark_and_line_ends(tmp_path):
    path = write(tmp_path, "\ufefflike,user\r\n1,7\r\n0,8\r\n")
    assert read(path) == ({"like": [1, 0], "user": [7, 8]}, [2, 3], 0)


def test_missing_values_and_whole_floats(tmp_path):
    path = write(tmp_path, "user,like,tag\n7.0,1.0,\\N\n8,0,\n9,1,3.0\n10,1,30")
    columns, _, _ = read(path, ("user", "like", "tag"))
    assert columns == {"user": [7, 8, 9, 10], "like": [1, 0, 1, 1], "tag": [-1, -1, 3, 30]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("\\N,1", r"column 'user' is '\\\\N', not 0 or more"),
        ("7,\\N", r"column 'like' is '\\\\N', not 0 or 1"),
        ("7,2", "column 'like' is '2', not 0 or 1"),
        ("7.5,1", r"column 'user' is '7\.5', not an integer"),
        ("7,1,1", "3 columns instead of 2"),
        ("", "1 columns instead of 2"),
    ],
)
def test_bad_row_raises_or_is_skipped(tmp_path, line, message):
    path = write(tmp_path, f"user,like\n1,1\n{line}\n3,0\n")
    with pytest.raises(StemlabError, match=rf"rows\.csv, line 3: {message}"):
        read(path)
    assert read(path, on_bad_row="skip") == ({"like": [1, 0], "user": [1, 3]}, [2, 4], 1)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("uesr,like", r"line 1: no column 'user' \(it has: uesr, like\)\. Did you mean 'uesr'\?"),
        ("user,like,user", "line 1: column 'user' is named twice"),
    ],
)
def test_wrong_header_raises(tmp_path, header, message):
    with pytest.raises(StemlabError, match=message):
        read(write(tmp_path, f"{header}\n1,1,1\n"))


def test_compressed_files_and_files_without_rows(tmp_path):
    text = "user,like\n" + "".join(f"{i},{i % 2}\n" for i in range(50))
    plain = read(write(tmp_path, text))
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(text.encode()))
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        archive.writestr("deep/rows.csv", text)
    assert read(tmp_path / "rows.csv.gz") == read(tmp_path / "rows.zip") == plain
    reader = HeaderCsvReader(("user",))
    assert list(reader.read(write(tmp_path, "user,like\n", "none.csv"), "none.csv", lambda size: None)) == []


@settings(max_examples=40, deadline=None)
@given(
    cells=st.lists(st.tuples(st.sampled_from(["0", "1", "1.0", "\\N", "", "12", "-3", "4.0"]), st.integers(0, 1))),
    size=st.integers(4, 90),
)
def test_result_is_independent_of_the_block_size(tmp_path_factory, cells, size):
    rows = [("5", 1), *cells]
    path = write(tmp_path_factory.mktemp("blocks"), "tag,like\n" + "".join(f"{tag},{like}\n" for tag, like in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rawfile, "BLOCK_BYTES", size)
        columns, lines, skipped = read(path, ("tag", "like"))
    tags = [-1 if tag in ("\\N", "") else int(float(tag)) for tag, _ in rows]
    assert columns == {"tag": tags, "like": [like for _, like in rows]}
    assert lines == list(range(2, len(rows) + 2))
    assert skipped == 0


@pytest.mark.parametrize(
    ("text", "line"), [("a,b\r1,2\r", "line 1 .*carriage return"), ("a,b\n1,2\n3\r4,5\n", "line 3: .*carriage return")]
)
def test_bare_carriage_return_is_reported_with_its_line(tmp_path, text, line):
    path = tmp_path / "rows.csv"
    path.write_text(text, newline="")
    with pytest.raises(StemlabError, match=rf"rows\.csv, {line}"):
        list(HeaderCsvReader(["a", "b"]).read(path, path.name, lambda size: None))
