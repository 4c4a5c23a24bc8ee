"""Item categories from separate files: genres of MovieLens, ``item_meta`` of ReChorus folders.

Source: docs/methods/datasets.md#item-categories.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stemlab.data.sample.interests import InterestSimulation, item_clusters
from stemlab.data.sequence.categories import read_columns
from stemlab.errors import StemlabError

MOVIES = "movies.dat"
_FILM_FILES: Mapping[str, str] = {"ratings.dat": MOVIES, "u.data": "u.item"}  # ratings file -> file of its films
_META, _ITEM, _CATEGORY = "item_meta", "item_id", "i_category"
_ML100K_GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)  # in the order of the columns of u.item (file u.genre)


def planted_interests(simulation: InterestSimulation) -> dict[str, str]:
    """Return original item id -> planted interest of the synthetic sample."""
    return {str(item): f"interest {cluster}" for item, cluster in enumerate(item_clusters(simulation), start=1)}


def first_genres(ratings: Path, name: str) -> dict[str, str] | None:
    """Return film id -> first genre, or ``None`` if the file of films is missing.

    Args:
        ratings: file of ratings or the archive that contains it.
        name: name of the file of ratings, ``ratings.dat`` or ``u.data``.

    Raises:
        StemlabError: a line of the file of films is invalid.
    """
    films = _FILM_FILES[name]
    archive = ratings.name.endswith(".zip")
    candidates = [ratings] if archive else [ratings.with_name(films), ratings.with_name(f"{films}.gz")]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        return None
    if films == MOVIES:
        return {film: genres[0] for film, genres in all_genres(path).items()}
    rows = read_columns(path, films, "|", 5 + len(_ML100K_GENRES))
    genres_of = {
        row[0]: [genre for genre, flag in zip(_ML100K_GENRES, row[5:], strict=False) if flag == "1"] for row in rows
    }
    return {film: genres[0] for film, genres in genres_of.items() if genres}


def all_genres(path: Path) -> dict[str, list[str]]:
    """Return film id -> genres of ``movies.dat``, in file order.

    Args:
        path: the file, plain or gzip, or the archive that contains it.

    Raises:
        StemlabError: a line is invalid.
    """
    return {row[0]: row[-1].split("|") for row in read_columns(path, MOVIES, "::", 3)}


def find_meta_file(folder: Path) -> Path | None:
    """Return the ``item_meta`` file of a ReChorus folder, or ``None``."""
    candidates = (folder / f"{_META}.csv", folder / f"{_META}.csv.gz")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def meta_categories(folder: Path) -> dict[str, str] | None:
    """Return item id -> category of a ReChorus folder, or ``None`` if it has no ``item_meta`` file.

    Raises:
        StemlabError: the columns ``item_id`` and ``i_category`` are missing, or a line is invalid.
    """
    path = find_meta_file(folder)
    if path is None:
        return None
    header, *rows = read_columns(path, path.name, "\t", 2)
    if _ITEM not in header or _CATEGORY not in header:
        raise StemlabError(f"{path}, line 1: no columns {_ITEM} and {_CATEGORY} (tab-separated); correct the header.")
    item, category = header.index(_ITEM), header.index(_CATEGORY)
    last = max(item, category)
    for number, row in enumerate(rows, start=2):
        if len(row) <= last:
            raise StemlabError(f"{path}, line {number}: {len(row)} columns instead of {len(header)}; correct the line.")
    return {row[item]: row[category] for row in rows if row[category]}
