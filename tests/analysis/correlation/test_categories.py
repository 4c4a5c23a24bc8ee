"""Categories from files (all genres of ``movies.dat``, tables) and from the dataset."""

from pathlib import Path

import pytest

from stemlab.analysis.correlation.categories import from_table, item_categories, read_category_file
from stemlab.data.sources.item_categories import first_genres
from stemlab.errors import StemlabError
from tests.data.sequence.toys import Toy, raw_of

FILMS = ["i1::Seven (1995)::Crime|Thriller", "i3::Caf\xe9 :: One (1990)::Drama", "i4::Ten (2000)::Drama|Crime"]


@pytest.fixture
def movies(tmp_path: Path) -> Path:
    path = tmp_path / "movies.dat"
    path.write_bytes("\r\n".join([*FILMS, ""]).encode("latin-1"))
    return path


def test_a_film_has_all_genres_in_the_file_and_the_first_in_the_dataset(movies: Path) -> None:
    genres = {"i1": ["Crime", "Thriller"], "i3": ["Drama"], "i4": ["Drama", "Crime"]}
    assert read_category_file(movies) == genres
    assert first_genres(movies.with_name("ratings.dat"), "ratings.dat") == {"i1": "Crime", "i3": "Drama", "i4": "Drama"}


def test_items_have_the_categories_of_the_file(movies: Path, tmp_path: Path) -> None:
    data = Toy(raw_of([(1, 1, 0, 0), (1, 2, 1, 1), (1, 3, 2, 2)], 1, 3), tmp_path / "prepared")
    data.prepare()
    found = item_categories(data, str(movies))
    assert found.names == ("Crime", "Drama", "Thriller")
    assert found.member_IC.astype(int).tolist() == [[0, 0, 0], [1, 0, 1], [0, 0, 0], [0, 1, 0]]
    with pytest.raises(StemlabError, match=r"toy .*analysis.categories"):
        item_categories(data, None)


def test_categories_of_the_dataset_are_the_prepared_ones(tmp_path: Path) -> None:
    raw = raw_of([(1, 1, 0, 0), (1, 2, 1, 1), (1, 3, 2, 2)], 1, 3, categories=["b", None, "a"])
    data = Toy(raw, tmp_path / "prepared")
    data.prepare()
    found = item_categories(data, None)
    assert found.names == ("a", "b")
    assert found.member_IC.astype(int).tolist() == [[0, 0], [0, 1], [0, 0], [1, 0]]


def test_invalid_files_and_files_of_another_dataset_are_errors(movies: Path) -> None:
    with pytest.raises(StemlabError, match="another dataset"):
        from_table(read_category_file(movies), ["x"], movies)
    movies.write_text("i1::One (1990)::Drama\ni2::Two\n")
    with pytest.raises(StemlabError, match=r"movies\.dat, line 2"):
        read_category_file(movies)
