"""Categories of items beside the interactions: genres of MovieLens, ``item_meta`` of ReChorus folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stemlab.data.sample.interests import InterestSimulation, item_clusters
from stemlab.data.sequence.categories import read_columns
from stemlab.errors import StemlabError

MOVIES = "movies.dat"
ITEM_FILES: Mapping[str, str] = {"ratings.dat": MOVIES, "u.data": "u.item"}
"""File of MovieLens ratings -> the file of its films."""

META, ITEM, CATEGORY = "item_meta", "item_id", "i_category"
_FLAGS = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
"""Genres of ml-100k in the order of its columns (its u.genre)."""


def planted_interests(simulation: InterestSimulation) -> dict[str, str]:
    """Return the planted interest of every item of the synthetic sample."""
    return {str(item): f"interest {cluster}" for item, cluster in enumerate(item_clusters(simulation), start=1)}


def first_genres(ratings: Path, name: str) -> dict[str, str] | None:
    """Return the first genre of every film, or ``None`` where the file of films is missing.

    Args:
        ratings: file of the ratings or the archive that holds it.
        name: of that file, ``ratings.dat`` or ``u.data``.

    Raises:
        StemlabError: a line of the file of films that is none.
    """
    films = ITEM_FILES[name]
    archive = ratings.name.endswith(".zip")
    places = [ratings] if archive else [ratings.with_name(films), ratings.with_name(f"{films}.gz")]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return None
    if films == MOVIES:
        return {film: genres[0] for film, genres in all_genres(path).items()}
    rows = read_columns(path, films, "|", 5 + len(_FLAGS))
    flagged = {row[0]: [genre for genre, flag in zip(_FLAGS, row[5:], strict=False) if flag == "1"] for row in rows}
    return {film: genres[0] for film, genres in flagged.items() if genres}


def all_genres(path: Path) -> dict[str, list[str]]:
    """Return the genres of every film of ``movies.dat``, in the order of the file.

    Args:
        path: plain, gzip, or the archive that holds it.

    Raises:
        StemlabError: a line that is no film.
    """
    return {row[0]: row[-1].split("|") for row in read_columns(path, MOVIES, "::", 3)}


def meta_categories(folder: Path) -> dict[str, str] | None:
    """Return the category of every item of a ReChorus folder, or ``None`` where it has no ``item_meta``.

    Raises:
        StemlabError: the file has not the columns ``item_id`` and ``i_category``, or a damaged line.
    """
    places = (folder / f"{META}.csv", folder / f"{META}.csv.gz")
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return None
    header, *rows = read_columns(path, path.name, "\t", 2)
    if ITEM not in header or CATEGORY not in header:
        raise StemlabError(f"{path}, line 1: no columns {ITEM} and {CATEGORY} (tab-separated); mend the header.")
    item, category = header.index(ITEM), header.index(CATEGORY)
    most = max(item, category)
    for number, row in enumerate(rows, start=2):
        if len(row) <= most:
            raise StemlabError(f"{path}, line {number}: {len(row)} columns instead of {len(header)}; mend the line.")
    return {row[item]: row[category] for row in rows if row[category]}
