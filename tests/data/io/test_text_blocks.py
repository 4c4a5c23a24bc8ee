"""Blocks of raw files, and their lines parsed into integers."""

import gzip
import io
import tarfile
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.data.io.csv_integers import IntegerReader
from stemlab.data.io.text_blocks import read_blocks
from stemlab.errors import StemlabError

COLUMNS = ("uid", "item", "like")
RANGES = {"like": (0, 1)}


def parse(path, block_bytes=None, **options):
    seen = [0]
    reader = IntegerReader(path, options.pop("columns", COLUMNS), **{"ranges": RANGES, **options})
    blocks = read_blocks(path, "rows.txt", lambda size: seen.append(size), block_bytes)
    rows = list(reader.parse(blocks))
    assert sum(seen) == path.stat().st_size
    columns = {name: np.concatenate([r.columns[name] for r in rows]).tolist() for name in reader.columns}
    return columns, np.concatenate([r.lines for r in rows]).tolist(), reader.skipped


def pack(folder, text, form):
    path = folder / f"rows{form}"
    if form == ".txt":
        path.write_bytes(text)
    elif form == ".txt.gz":
        path.write_bytes(gzip.compress(text))
    elif form == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("d/readme.md", b"words")
            archive.writestr("d/rows.txt", text)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for name, data in (("d/readme.md", b"words"), ("d/rows.txt", text)):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return path


def numbered(rows):
    return "".join(f"{i}\t{-i}\t{i % 2}\n" for i in range(rows)).encode()


FORMS = (".txt", ".txt.gz", ".tgz", ".tar.gz")


@pytest.mark.parametrize("form", [*FORMS, ".zip"])
@pytest.mark.parametrize("block_bytes", [None, 11, 4096])
def test_every_compression_gives_the_same_rows(tmp_path, form, block_bytes):
    columns, lines, skipped = parse(pack(tmp_path, numbered(500), form), block_bytes)
    assert columns == {"uid": list(range(500)), "item": [-i for i in range(500)], "like": [i % 2 for i in range(500)]}
    assert (lines, skipped) == (list(range(1, 501)), 0)


@pytest.mark.parametrize("form", FORMS[1:])
def test_truncated_archive_raises_with_the_last_complete_line(tmp_path, form):
    path = pack(tmp_path, numbered(100_000), form)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(StemlabError, match=r"rows.* is truncated or damaged after line 100000 "):
        parse(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for on_bad_row in ("error", "skip"):  # never skipped
        with pytest.raises(StemlabError, match=r"rows.* is truncated or damaged (after line \d+|at its beginning)"):
            parse(path, on_bad_row=on_bad_row)


def test_truncation_error_gives_the_last_complete_line(tmp_path):
    text = numbered(100_000)
    path = pack(tmp_path, text, ".txt.gz")
    cut = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(cut)
    import zlib

    whole = zlib.decompressobj(31).decompress(cut).count(b"\n")
    with pytest.raises(StemlabError, match=f"after line {whole} "):
        parse(path)


@pytest.mark.parametrize("form", FORMS[1:])
def test_flipped_bit_raises(tmp_path, form):
    path = pack(tmp_path, numbered(1000), form)
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # one bit of the checksum
    path.write_bytes(data)
    with pytest.raises(StemlabError, match=r"is truncated or damaged after line 1000 .*CRC"):
        parse(path)


def test_wrong_archives(tmp_path):
    path = tmp_path / "rows.tgz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("other.txt"))
    with pytest.raises(StemlabError, match=r"rows\.tgz holds no file 'rows\.txt'"):
        parse(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(StemlabError, match=r"rows\.tgz is not gzip data, though its name says so"):
        parse(path)


def test_damaged_zip_raises(tmp_path):
    path = pack(tmp_path, numbered(1000), ".zip")
    whole = path.read_bytes()
    middle = whole.index(b"rows.txt") + len(b"rows.txt") + 400
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 8]) + whole[middle + 1 :])
    with pytest.raises(StemlabError, match=r"rows\.zip is truncated or damaged"):
        parse(path)
    path.write_bytes(whole[:-40])  # removes the central directory
    with pytest.raises(StemlabError, match=r"rows\.zip is truncated or damaged at its beginning"):
        parse(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(StemlabError, match=r"rows\.zip is not zip data, though its name says so"):
        parse(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.txt", "")
    with pytest.raises(StemlabError, match=r"rows\.zip holds no file 'rows\.txt'"):
        parse(path)
    path.write_bytes(
        whole.replace(b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01").replace(
            b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"
        )
    )
    with pytest.raises(StemlabError, match=r"rows\.zip: d/rows\.txt is encrypted; unpack it"):
        parse(path)


@pytest.mark.parametrize("form", [*FORMS, ".zip"])
def test_an_empty_file_is_an_error_even_when_skipping(tmp_path, form):
    with pytest.raises(StemlabError, match="is empty: it has no line of data"):
        parse(pack(tmp_path, b"", form), on_bad_row="skip")
    (tmp_path / "nothing.txt.gz").write_bytes(b"")
    with pytest.raises(StemlabError, match=r"nothing\.txt\.gz is empty"):
        parse(tmp_path / "nothing.txt.gz")


def test_very_long_line_raises(tmp_path):
    (tmp_path / "rows.txt").write_bytes(b"1\t2\t1\n" + b"9" * 20_000_000)
    with pytest.raises(StemlabError, match="line 2 has more than 4,194,304 bytes"):
        parse(tmp_path / "rows.txt")


BAD = [
    ("1\t2", "2 columns instead of 3"),
    ("1\t2\t0\t4", "4 columns instead of 3"),
    ("", "1 columns instead of 3"),
    ("1\tx\t0", "column 'item' is 'x', not an integer"),
    ("1\t\t0", "column 'item' is '', not an integer"),
    ("1.5\t2\t0", "column 'uid' is '1.5', not an integer"),
    ("1 \t2\t0", "column 'uid' is '1 ', not an integer"),
    ("1\t0x1A\t0", "column 'item' is '0x1A', not an integer"),
    ("1\t1-2\t0", "column 'item' is '1-2', not an integer"),
    ("1\t2\t2", "column 'like' is '2', not 0 or 1"),
    ("1\t2\t-1", "column 'like' is '-1', not 0 or 1"),
    ("9223372036854775808\t2\t1", "column 'uid' is '9223372036854775808', not an integer"),
]


@pytest.mark.parametrize(("line", "problem"), BAD)
@pytest.mark.parametrize("block_bytes", [8, None])
def test_bad_rows_raise_or_are_skipped(tmp_path, line, problem, block_bytes):
    path = tmp_path / "rows.txt"
    path.write_text(f"1\t2\t0\n3\t4\t1\n{line}\n5\t-6\t0")
    with pytest.raises(StemlabError, match=rf"rows\.txt, line 3: {problem}.*dataset\.on_bad_row=skip"):
        parse(path, block_bytes)
    columns, lines, skipped = parse(path, block_bytes, on_bad_row="skip")
    assert columns == {"uid": [1, 3, 5], "item": [2, 4, -6], "like": [0, 1, 0]}
    assert (lines, skipped) == ([1, 2, 4], 1)


def test_windows_line_ends_and_two_byte_separators(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_bytes(b"1::2::0\r\n3::4::1\r\n")
    assert parse(path, separator=b"::")[0] == {"uid": [1, 3], "item": [2, 4], "like": [0, 1]}
    for line in (b"1:2::0", b"1\t2\t0", b"1:::2::0"):
        path.write_bytes(b"1::2::0\n" + line)
        with pytest.raises(StemlabError, match="line 2: "):
            parse(path, separator=b"::")


CELL = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.sampled_from(["", "-", "007", "-0", "+1", "0x1f", "0X1F", "1e3", "9" * 25, "0" * 25 + "1", "--1"]),
    st.sampled_from([" 1", "\t1", "1\v", "\x001", "NA", '"1"']),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.lists(CELL, min_size=1, max_size=3), min_size=1, max_size=12), st.integers(1, 60))
def test_rows_are_independent_of_the_block_size(tmp_path_factory, rows, block_bytes):
    path = tmp_path_factory.mktemp("cut") / "rows.txt"
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    options = {"columns": ("a", "b"), "ranges": {}, "on_bad_row": "skip"}
    cut = parse(path, block_bytes, **options)
    slow = IntegerReader(path, ("a", "b"), on_bad_row="skip")._parse_lines(path.read_bytes(), 1)
    assert cut[1] == slow.lines.tolist()
    assert cut[0] == {name: values.tolist() for name, values in slow.columns.items()}
    assert cut[2] == len(rows) - len(slow)


@pytest.mark.parametrize("block", [1, 5, 1 << 20])
@pytest.mark.parametrize("text", ["\ufeffa\nb\n", "\ufeffa\nb", "\ufeffab"])
def test_byte_order_mark_is_left_out(tmp_path, text, block):
    path = tmp_path / "a.txt"
    path.write_text(text, encoding="utf-8")
    blocks = list(read_blocks(path, path.name, block_bytes=block))
    assert b"".join(part.data for part in blocks) == text[1:].encode()
    assert blocks[0].first_line == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf16_is_refused(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_text("\ufeffa\nb\n" if encoding == "utf-16-be" else "a\nb\n", encoding=encoding)
    with pytest.raises(StemlabError, match=r"a\.txt is UTF-16.*iconv"):
        list(read_blocks(path, path.name))


def test_only_a_byte_order_mark_is_an_empty_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf")
    with pytest.raises(StemlabError, match="is empty"):
        list(read_blocks(path, path.name))
