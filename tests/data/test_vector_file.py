"""Files of vectors, read in the order of a vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stemlab.data import vector_file
from stemlab.data.vector_file import AlignedVectors, VectorFile, read_vectors, vector_width
from stemlab.errors import StemlabError

NAMES = ["7", "b", "9", "a", "x"]
VECTORS = np.arange(15, dtype=np.float32).reshape(5, 3)
TOKENS = pa.array(["a", "9", "lost", "b"])


def source(path: Path, ids: str | None = "item", column: str | None = None) -> VectorFile:
    return VectorFile("model.pretrained.item_id", path, ids, column)


def as_npy(folder: Path, names: Any = NAMES, vectors: Any = VECTORS) -> VectorFile:
    np.save(folder / "ids.npy", np.array(names))
    np.save(folder / "vectors.npy", vectors)
    return source(folder / "vectors.npy", str(folder / "ids.npy"))


def as_parquet(folder: Path, names: Any = NAMES, vectors: Any = VECTORS, kind: Any = None) -> VectorFile:
    kind = kind or pa.list_(pa.float32())
    values = pa.array(vectors.tolist() if isinstance(vectors, np.ndarray) else vectors, kind)
    pq.write_table(pa.table({"item": names, "vector": values}), folder / "vectors.parquet")
    return source(folder / "vectors.parquet")


def check(found: AlignedVectors) -> None:
    assert found.ids_R.tolist() == [4, 2, 1]  # b, 9, a
    np.testing.assert_array_equal(found.rows_RP, VECTORS[[1, 2, 3]])
    assert (found.size, found.others, found.rows_RP.dtype) == (4, 2, np.float32)


@pytest.mark.parametrize("block", [2, 100])
def test_vectors_are_found_by_the_token_of_their_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(vector_file, "_BLOCK_ROWS", block)
    kinds = (pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float16(), 3))
    (tmp_path / "ids.txt").write_text("".join(f"{name}\n" for name in NAMES))
    for given in (
        as_npy(tmp_path),
        as_npy(tmp_path, vectors=VECTORS.astype(np.float64)),
        source(tmp_path / "vectors.npy", str(tmp_path / "ids.txt")),
        *(as_parquet(tmp_path, kind=kind) for kind in kinds),
    ):
        assert vector_width(given) == 3
        check(read_vectors(given, TOKENS, 3))
    integers = as_npy(tmp_path, [7, 1, 9, 2, 3])
    assert read_vectors(integers, TOKENS, 3).ids_R.tolist() == [2]


NAN = VECTORS.copy()
NAN[3, 1] = np.nan
RAGGED = [[1.0, 2.0, 3.0], [1.0], [1.0, 2.0, 3.0], None, [1.0, 2.0, 3.0]]


@pytest.mark.parametrize("block", [1, 100])
@pytest.mark.parametrize(
    ("make", "names", "vectors", "words"),
    [
        (as_npy, ["7", "b", "9", "b", "x"], VECTORS, "rows 2 and 4.*'b'"),
        (as_parquet, ["7", "b", "b", "b", "x"], VECTORS, "rows 2 and [34].*'b'"),
        (as_npy, NAMES, NAN, "row 4 .*not finite"),
        (as_parquet, NAMES, NAN, "row 4 .*not finite"),
        (as_parquet, NAMES, RAGGED, "row 2 has a vector of 1 numbers"),
        (as_parquet, ["7", "r", "9", "a", "x"], RAGGED, "row 4 has no vector"),
        (as_npy, NAMES[:4], VECTORS, "5 rows.*4 ids"),
        (as_npy, NAMES, VECTORS[:, :2], "2 numbers, not 3"),
        (as_npy, NAMES, VECTORS.astype(np.int64), "int64.*not floats"),
        (as_npy, NAMES, VECTORS[0], r"shape \(3,\)"),
        (as_npy, [0.5] * 5, VECTORS, "float64.*not integers or text"),
        (as_npy, ["u", "v", "w", "y", "z"], VECTORS, "none of its ids.*'u'.*'a'"),
        (as_npy, np.array([{}], dtype=object), VECTORS, "cannot be read"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, names: Any, vectors: Any, words: str, block: int
) -> None:
    monkeypatch.setattr(vector_file, "_BLOCK_ROWS", block)
    given = make(tmp_path, names, vectors)
    with pytest.raises(StemlabError, match=f"^model.pretrained.item_id: .*vectors.*{words}") as raised:
        read_vectors(given, TOKENS, 3)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("ids", "column", "words"),
    [("thing", None, "'thing'"), (None, None, "ids is not set"), ("item", "item", "not lists of floats")],
)
def test_columns_that_do_not_fit_are_refused(tmp_path: Path, ids: str | None, column: str | None, words: str) -> None:
    path = as_parquet(tmp_path).path
    with pytest.raises(StemlabError, match=words):
        vector_width(source(path, ids, column))
    (tmp_path / "none.parquet").write_bytes(b"PAR1")
    with pytest.raises(StemlabError, match="cannot be read"):
        vector_width(source(tmp_path / "none.parquet"))
    pq.write_table(pa.table({"item": NAMES, "year": [1, 2, 3, 4, 5]}), tmp_path / "years.parquet")
    with pytest.raises(StemlabError, match=r"none of its columns.*item, year"):
        vector_width(source(tmp_path / "years.parquet"))


@pytest.mark.parametrize("ruined", ["vectors.npy", "ids.npy"])
def test_files_that_are_no_arrays_are_refused(tmp_path: Path, ruined: str) -> None:
    given = as_npy(tmp_path)
    for content in (b"", b"no array"):
        (tmp_path / ruined).write_bytes(content)
        with pytest.raises(StemlabError, match=f"{ruined}.* cannot be read") as raised:
            read_vectors(given, TOKENS, 3)
        assert "allow_pickle" not in str(raised.value)
    with (tmp_path / ruined).open("wb") as file:
        np.savez(file, array=VECTORS)
    with pytest.raises(StemlabError, match=f"{ruined} is an archive"):
        read_vectors(given, TOKENS, 3)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StemlabError, match="no rows"):
        read_vectors(as_npy(tmp_path, np.array([], dtype="U1"), VECTORS[:0]), TOKENS, 3)


def test_integer_ids_of_any_byte_order_are_read(tmp_path: Path) -> None:
    for order in "<>":
        given = as_npy(tmp_path, np.array([7, 1, 9, 2, 3], dtype=f"{order}i8"))
        assert read_vectors(given, TOKENS, 3).ids_R.tolist() == [2]
