"""Every reader of a text file leaves out a byte-order mark, and refuses UTF-16 and bare carriage returns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stemlab.analysis.correlation.categories import read_category_file
from stemlab.data.io.csv_header import HeaderCsvReader
from stemlab.data.io.csv_integers import IntegerReader
from stemlab.data.io.text_blocks import read_blocks
from stemlab.data.sources.item_categories import all_genres, meta_categories
from stemlab.data.sources.movielens import read_movies, read_users
from stemlab.data.sources.rechorus_files import read_part
from stemlab.data.table.file import open_table
from stemlab.data.table.side_table import read_side_table
from stemlab.errors import StemlabError
from stemlab.inference.table_io import TableReader


def nothing(size: int) -> None:
    """Ignore the number of bytes read."""


def integers(path: Path) -> list[Any]:
    reader = IntegerReader(path, ("user", "item"), separator=b"::")
    return [item for rows in reader.parse(read_blocks(path, path.name)) for item in rows.columns["item"].tolist()]


def header(path: Path) -> list[Any]:
    rows_of = HeaderCsvReader(("user", "item")).read(path, path.name, nothing)
    return [item for rows, _ in rows_of for item in rows.columns["item"].tolist()]


def own_table(path: Path) -> list[Any]:
    table = open_table(path)
    return [item for chunk in table.chunks(table.names, nothing) for item in chunk.columns["item"].to_pylist()]


def predicted(path: Path, names: tuple[str, ...] = ()) -> list[Any]:
    return [row for chunk in TableReader(path, names).chunks() for row in chunk.to_pylist()]


def side(path: Path) -> list[Any]:
    table = read_side_table(path, "item", ["brand"], [], nothing)
    return [table.keys.tolist(), table.columns["brand"].tolist()]


FILMS = "1::One (1990)::Drama|Crime\n2::Two (2000)::Crime\n"
READERS: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    "users": ("users.dat", "1::F::1::10::48067\n2::M::56::16::70072\n", lambda path: read_users(path).columns),
    "movies": ("movies.dat", FILMS, lambda path: read_movies(path).tokens),
    "genres": ("movies.dat", FILMS, all_genres),
    "item_meta": ("item_meta.csv", "item_id\ti_category\n1\ta\n2\tb\n", lambda path: meta_categories(path.parent)),
    "integers": ("ratings.dat", "1::5\n2::6\n", integers),
    "header": ("rows.csv", "user,item\n1,5\n2,6\n", header),
    "rechorus": (
        "train.csv",
        "user_id\titem_id\ttime\n1\t2\t3\n1\t3\t4\n",
        lambda path: read_part(path, evaluated=False, advance=nothing).columns["item_id"].tolist(),
    ),
    "table": ("rows.csv", "user,item\na,x\nb,y\n", own_table),
    "side table": ("items.csv", "item,brand\n1,x\n2,y\n", side),
    "categories": ("categories.csv", "item,category\n1,a|b\n007,c\n", read_category_file),
    "predict csv": ("rows.csv", "user,item\na,x\nb,y\n", predicted),
    "predict tsv": ("rows.tsv", "user\titem\na\tx\nb\ty\n", predicted),
    "predict txt": ("rows.txt", "a\tx\nb\ty\n", lambda path: predicted(path, ("user", "item"))),
}
CASES = pytest.mark.parametrize("reader", READERS)


def plain(values: Any) -> Any:
    """Return arrays as lists, so that results can be compared."""
    if isinstance(values, dict):
        return {name: plain(value) for name, value in values.items()}
    return values.tolist() if hasattr(values, "tolist") else values


@CASES
@pytest.mark.parametrize("form", ["mark", "windows", "no end"])
def test_marks_and_line_ends_change_nothing(reader: str, form: str, tmp_path: Path) -> None:
    name, text, read = READERS[reader]
    path = tmp_path / name
    path.write_bytes(text.encode())
    expected = plain(read(path))
    if form == "mark":
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    else:
        path.write_bytes(text.replace("\n", "\r\n").encode() if form == "windows" else text.rstrip("\n").encode())
    assert plain(read(path)) == expected


@CASES
@pytest.mark.parametrize("form", ["utf-16", "mac", "inside a line", "in the first line"])
def test_other_texts_are_refused(reader: str, form: str, tmp_path: Path) -> None:
    name, text, read = READERS[reader]
    path = tmp_path / name
    lines = text.splitlines(keepends=True)
    forms = {
        "mac": text.replace("\n", "\r"),
        "inside a line": "".join([*lines[:-1], f"{lines[-1][:1]}\r{lines[-1][1:]}"]),
        "in the first line": f"{text[:2]}\r{text[2:]}",
    }
    path.write_bytes(text.encode("utf-16") if form == "utf-16" else forms[form].encode())
    with pytest.raises(StemlabError, match=r"UTF-16" if form == "utf-16" else rf"{name}, line \d.*carriage return"):
        plain(read(path))
