"""MovieLens-100K as a table with two tasks, like dataset=ml1m_multitask: like (rating >= 4) and love (rating 5).

The age group of the user can be the scenario.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

COLUMNS = ["user_id", "item_id", "gender", "age", "age_group", "occupation", "zip3", "genre", "year", "like", "love"]
_GENRES = 5  # first of the 19 columns of 0 and 1 in u.item


def write_ml100k(raw: Path, path: Path) -> None:
    """Write the table from u.data, u.user and u.item of the official archive, if it does not exist.

    The genre is the first one that is set; the year is the one in brackets at the end of the title (0: none).
    """
    if path.is_file():
        return
    users = {user: rest for user, *rest in _rows(raw / "u.user")}
    items = {}
    for item, title, *rest in _rows(raw / "u.item"):
        year = re.search(r"\((\d{4})\)\s*$", title)
        flags = rest[_GENRES - 2 :]
        items[item] = (flags.index("1") if "1" in flags else 0, year[1] if year else 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for line in (raw / "u.data").read_text().splitlines():
            user, item, rating, _ = line.split("\t")
            age, gender, occupation, zip_code = users[user]
            labels = (int(int(rating) >= 4), int(rating == "5"))
            group = _age_group(int(age))
            writer.writerow([user, item, gender, age, group, occupation, zip_code[:3], *items[item], *labels])
    part.replace(path)


def _age_group(years: int) -> str:
    return "under_25" if years < 25 else "25_to_34" if years < 35 else "35_and_over"


def _rows(path: Path) -> list[list[str]]:
    return [line.split("|") for line in path.read_text(encoding="latin-1").splitlines()]
