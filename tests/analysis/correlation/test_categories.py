"""Categories read from a file: all genres of ``movies.dat``, tables, and what the dataset's own are beside them."""

from pathlib import Path

import pytest

from stemlab.analysis.correlation.categories import from_table, item_categories, read_categories
from stemlab.data.sources.item_categories import first_genres
from stemlab.errors import StemlabError
from tests.data.sequence.toys import Toy, raw_of

FILMS = ["i1::Seven (1995)::Crime|Thriller", "i3::Caf\xe9 :: One (1990)::Drama", "i4::Ten (2000)::Drama|Crime"]


@pytest.fixture
def movies(tmp_path: Path) -> Path:
    path = tmp_path / "movies.dat"
    path.write_bytes("\r\n".join([*FILMS, ""]).encode("latin-1"))
    return path


def test_a_film_has_all_its_genres_here_and_the_first_as_its_own(movies: Path) -> None:
    genres = {"i1": ["Crime", "Thriller"], "i3": ["Drama"], "i4": ["Drama", "Crime"]}
    assert read_categories(movies) == genres
    assert first_genres(movies.with_name("ratings.dat"), "ratings.dat") == {"i1": "Crime", "i3": "Drama", "i4": "Drama"}


def test_items_have_the_categories_of_the_file(movies: Path, tmp_path: Path) -> None:
    data = Toy(raw_of([(1, 1, 0, 0), (1, 2, 1, 1), (1, 3, 2, 2)], 1, 3), tmp_path / "prepared")
    data.prepare()
    found = item_categories(data, str(movies))
    assert found.names == ("Crime", "Drama", "Thriller")
    assert found.member_IC.astype(int).tolist() == [[0, 0, 0], [1, 0, 1], [0, 0, 0], [0, 1, 0]]
    with pytest.raises(StemlabError, match="dataset toy says nothing of its items' categories"):
        item_categories(data, None)


def test_the_datasets_own_are_those_that_were_prepared(tmp_path: Path) -> None:
    raw = raw_of([(1, 1, 0, 0), (1, 2, 1, 1), (1, 3, 2, 2)], 1, 3, categories=["b", None, "a"])
    data = Toy(raw, tmp_path / "prepared")
    data.prepare()
    found = item_categories(data, None)
    assert found.names == ("a", "b")
    assert found.member_IC.astype(int).tolist() == [[0, 0], [0, 1], [0, 0], [1, 0]]


def test_bad_films_and_those_of_another_collection(movies: Path) -> None:
    with pytest.raises(StemlabError, match="knows none of the dataset's items"):
        from_table(read_categories(movies), ["x"], movies)
    movies.write_text("i1::One (1990)::Drama\ni2::Two\n")
    with pytest.raises(StemlabError, match=r"movies\.dat, line 2: 2 columns instead of 3; mend the line\."):
        read_categories(movies)
