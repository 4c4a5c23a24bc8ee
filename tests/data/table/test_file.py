"""Table files: separators, quotes, empty lines, byte order marks, compression, damage."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.data.table import file
from stemlab.data.table.file import open_table
from stemlab.errors import StemlabError


def rows_of(table, *columns):
    """Return (line, cells) of all rows, and the malformed lines."""
    rows, malformed = [], []
    for piece in table.chunks(columns or table.names, lambda size: None):
        cells = zip(*(piece.columns[name].to_pylist() for name in columns or table.names), strict=True)
        rows += list(zip(piece.lines.tolist(), cells, strict=True))
        malformed += piece.malformed
    return rows, malformed


def write(folder, data, name="rows.csv"):
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
def test_separator_is_detected(tmp_path, separator):
    path = write(tmp_path, "a,b,c\n1,x y,3\n4,5,6".replace(",", separator))
    assert rows_of(open_table(path), "c", "a") == ([(2, ("3", "1")), (3, ("6", "4"))], [])


def test_files_written_by_spreadsheet_programs(tmp_path):
    path = write(tmp_path, b'\xef\xbb\xbfa,"b, c"\r\n1,"x, ""y"""\r\n\r\n2,\r\n\r\n')
    table = open_table(path)
    assert table.names == ("a", "b, c")
    assert rows_of(table) == ([(2, ("1", 'x, "y"')), (4, ("2", ""))], [])


def test_without_a_header_and_compressed(tmp_path):
    path = write(tmp_path, gzip.compress(b"1\t\t3\n\t5\t6\n"), "train.txt.gz")
    table = open_table(path, separator="\t", names=["a", "b", "c"])
    assert rows_of(table) == ([(1, ("1", "", "3")), (2, ("", "5", "6"))], [])


CELL = st.text('ab,"; é', max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.tuples(CELL, CELL), st.just(None)), min_size=1, max_size=12), st.integers(4, 60))
def test_cells_are_independent_of_the_block_size(tmp_path_factory, lines, block):
    def quoted(cell):
        return '"' + cell.replace('"', '""') + '"'

    text = "\n".join("" if cells is None else ",".join(map(quoted, cells)) for cells in lines)
    path = write(tmp_path_factory.mktemp("cut"), f"left,right\n{text}\n")
    expected = [(place + 2, cells) for place, cells in enumerate(lines) if cells is not None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "TABLE_BLOCK_BYTES", block)
        if not expected:
            with pytest.raises(StemlabError, match="has a header and no rows"):
                rows_of(open_table(path))
        else:
            assert rows_of(open_table(path)) == (expected, [])


def test_lines_with_a_wrong_number_of_cells_are_reported(tmp_path):
    path = write(tmp_path, "a,b\n1,2\n3\n\n4,5,6\n7,8\n")
    rows, malformed = rows_of(open_table(path))
    assert [line for line, _ in rows] == [2, 6]
    assert malformed == [(3, "1 columns instead of 2"), (5, "3 columns instead of 2")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"a,b\n", "is empty: it has a header and no rows"),
        (b"\n1,2\n", "line 1 is empty: it must name the columns"),
        (b"a,b,a\n1,2,3\n", "has two columns 'a': rename one, or, if line 1 is not a header, give the names"),
        (b'a,b\n1,2\n"x\ny",2\n3,4\n', "rows.csv, line 3: a quote is not closed"),
        (b"a,b\n1,2\n\xff\xfe,3\n", "rows.csv, line 3 is not UTF-8"),
        (b"\x89PNG\r\n\x1a\n", "line 1 is not UTF-8"),
        (b"PAR1 and nothing else", "not a complete Parquet file"),
    ],
)
def test_unreadable_files_raise(tmp_path, data, message):
    with pytest.raises(StemlabError, match=message):
        rows_of(open_table(write(tmp_path, data)))


def test_missing_file_raises(tmp_path):
    with pytest.raises(StemlabError, match=r"rows\.csv does not exist"):
        open_table(tmp_path / "rows.csv")
    with pytest.raises(StemlabError, match="is a folder: give the file in it"):
        open_table(tmp_path)


def test_parquet_keeps_types_and_counts_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(file, "PARQUET_ROWS", 2)
    path = tmp_path / "rows.pq"
    pq.write_table(pa.table({"a": [1, None, 3], "b": ["x", "y", "z"], "c": [[1], [2], [3]]}), path)
    consumed = []
    table = open_table(path)
    chunks = list(table.chunks(["b", "a"], consumed.append))
    assert [piece.lines.tolist() for piece in chunks] == [[1, 2], [3]]
    assert [piece.columns["a"].to_pylist() for piece in chunks] == [[1, None], [3]]
    assert sum(consumed) == path.stat().st_size
    with pytest.raises(StemlabError, match=r"column 'c' holds list<.*>"):
        list(table.chunks(["c"], consumed.append))


def test_an_empty_parquet_file(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), path)
    with pytest.raises(StemlabError, match="has columns and no rows"):
        open_table(path)


@pytest.mark.parametrize(("text", "line"), [("a,b\r1,2\r", 1), ('a,"b\rc"\n1,2\n', 1), ("a,b\n1,2\n3,4\r5,6\n", 3)])
def test_bare_carriage_return_is_reported_with_its_line(tmp_path, text, line):
    path = tmp_path / "rows.csv"
    path.write_text(text, newline="")
    with pytest.raises(StemlabError, match=rf"rows\.csv, line {line} .*carriage return"):
        list(open_table(path).chunks(["a"], lambda size: None))
