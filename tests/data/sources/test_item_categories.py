"""Item categories of each source: category ids, items without a category, invalid files."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest

from stemlab.config.instantiate import instantiate
from stemlab.data.sample.interests import InterestSimulation, generate, item_clusters
from stemlab.data.sequence.categories import ItemCategories
from stemlab.data.sources.item_categories import _ML100K_GENRES, first_genres, meta_categories
from stemlab.data.sources.rechorus import RechorusDataModule
from stemlab.errors import StemlabError
from tests.cli.sequences import ITEMS, write_folder
from tests.data.sources.test_movielens_sequence import SMALL, movielens, write
from tests.data.tiktok_rows import settings

FILMS = ["7::Seven (1995)::Crime|Thriller", "8::Caf\xe9 (1990)::Drama", "10::Ten (2000)::Drama|Crime"]


def test_category_ids_follow_numerical_then_alphabetical_order() -> None:
    made = ItemCategories.of({"a": "10", "b": "9", "d": "x"}, ["d", "b", "c", "a"])
    assert made.names == ("9", "10", "x")
    assert made.code_I.tolist() == [0, 3, 1, 0, 2]
    assert made.member_IC[1].tolist() == [False, False, True]
    assert made.member_IC.sum(axis=1).tolist() == [0, 1, 1, 0, 1]


def test_first_genres_beside_the_ratings_and_in_the_archive(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, FILMS, "movies.dat")
    data = movielens(tmp_path)
    data.prepare()
    known = dict(zip(data.item_tokens, data.item_categories.code_I[1:].tolist(), strict=True))
    assert data.item_categories.names == ("Crime", "Drama")
    assert {token: code for token, code in known.items() if code} == {"7": 1, "8": 2, "10": 2}
    packed = tmp_path / "ml-1m.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("ml-1m/movies.dat", "\n".join(FILMS).encode("latin-1"))
    assert first_genres(packed, "ratings.dat") == {"7": "Crime", "8": "Drama", "10": "Drama"}


def test_genres_of_ml100k_are_flags(tmp_path: Path) -> None:
    flags = {1: {"Comedy", "War"}, 2: set(), 3: {"Western"}}
    rows = [
        "|".join([str(film), "Title (1990)", "", "", "", *(str(int(genre in those)) for genre in _ML100K_GENRES)])
        for film, those in flags.items()
    ]
    (tmp_path / "u.item").write_text("\n".join(rows) + "\n", encoding="latin-1")
    assert first_genres(tmp_path / "u.data", "u.data") == {"1": "Comedy", "3": "Western"}


def test_synthetic_sample_has_its_planted_interests(tmp_path: Path) -> None:
    data = movielens(tmp_path, source="sample", sample=SMALL)
    data.prepare()
    truth = generate(InterestSimulation(**SMALL)).cluster
    assert np.array_equal(item_clusters(InterestSimulation(**SMALL)), truth)
    names = ["", *data.item_categories.names]
    found = [names[code] for code in data.item_categories.code_I[1:]]
    assert found == [f"interest {truth[int(token) - 1]}" for token in data.item_tokens]


def test_meta_of_a_rechorus_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write_folder(folder)
    made: RechorusDataModule = instantiate(
        settings("rechorus", raw_dir=str(folder), data_dir=str(tmp_path)), key="dataset"
    )
    made.prepare()
    assert made.item_categories is None
    assert made.sizes.categories == 0
    lines = ["item_id\ti_category\tr_buy", *(f"{item}\t{item % 3}\t[]" for item in range(1, ITEMS))]
    with gzip.open(folder / "item_meta.csv.gz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    again: RechorusDataModule = instantiate(
        settings("rechorus", raw_dir=str(folder), data_dir=str(tmp_path)), key="dataset"
    )
    again.prepare()
    assert again.item_categories.names == ("0", "1", "2")
    assert again.item_categories.code_I.tolist() == [0, *(1 + item % 3 for item in range(1, ITEMS)), 0]
    assert again.sizes.categories == 0  # without with_categories
    again.with_categories = True
    assert again.sizes.categories == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("item\tcategory\n1\t2\n", r"item_meta.csv, line 1: .*item_id and i_category"),
        ("item_id\tx\ti_category\n1\t2\t3\n4\t5\n", r"item_meta.csv, line 3: 2 columns instead of 3"),
        ("item_id\ti_category\n1\n", r"item_meta.csv, line 2: 1 columns instead of 2"),
    ],
)
def test_invalid_meta_files(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "item_meta.csv").write_text(text)
    with pytest.raises(StemlabError, match=expected):
        meta_categories(tmp_path)


def test_invalid_and_missing_films(tmp_path: Path) -> None:
    assert first_genres(tmp_path / "ratings.dat", "ratings.dat") is None
    (tmp_path / "movies.dat").write_text("1::One (1990)::Drama\n2::Two\n")
    with pytest.raises(StemlabError, match=r"movies.dat, line 2: 2 columns instead of 3"):
        first_genres(tmp_path / "ratings.dat", "ratings.dat")
