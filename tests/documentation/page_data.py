"""Small data that the commands of the pages read."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tests.documentation.code_blocks import page_files

ROWS = 900


def table_columns(seed: int = 0) -> dict[str, Sequence[object]]:
    """Return the columns of a click log that README.md and docs/ name."""
    rng = np.random.default_rng(seed)

    def ids(letter: str, count: int) -> list[str]:
        return [f"{letter}{value}" for value in rng.integers(0, count, ROWS)]

    def lists(letter: str) -> list[str]:
        return ["|".join(f"{letter}{value}" for value in rng.integers(0, 9, 3)) for _ in range(ROWS)]

    click = (rng.random(ROWS) < 0.4).astype(int)
    return {
        **{"user": ids("u", 20), "item": ids("i", 20), "user_id": ids("u", 20), "item_id": ids("i", 20)},
        **{"category": ids("c", 5), "genres": lists("g"), "tags": lists("t"), "genre_weights": ["1|0.5|0.2"] * ROWS},
        **{"hist_items": lists("i"), "hist_categories": lists("c"), "hist_times": ["1|2|3"] * ROWS},
        **{"age": rng.integers(18, 70, ROWS), "price": rng.random(ROWS).round(3), "surface": ids("s", 3)},
        "place": [("home", "cart", "fr")[value] for value in rng.integers(0, 3, ROWS)],
        **{"sample_weight": rng.random(ROWS).round(2), "watch_time": rng.exponential(5, ROWS).round(2)},
        **{"click": click, "buy": click * rng.integers(0, 2, ROWS)},
    }


def write_log(path: Path, names: Sequence[str] = ()) -> None:
    """Write columns of the click log as CSV or Parquet; all columns by default."""
    frame = pd.DataFrame(table_columns())
    frame = frame[list(names)] if names else frame
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)


def write_ratings(path: Path) -> None:
    """Write ratings with a header."""
    rng = np.random.default_rng(0)
    columns = {"user_id": rng.integers(0, 40, ROWS), "movie_id": rng.integers(0, 40, ROWS)}
    columns |= {"rating": rng.integers(1, 6, ROWS), "timestamp": 978_300_000 + np.arange(ROWS)}
    pd.DataFrame(columns).drop_duplicates(["user_id", "movie_id"]).to_csv(path, index=False)


def write_recbole(path: Path) -> None:
    """Write the ratings as an interaction file of RecBole."""
    write_ratings(path)
    header = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    pd.read_csv(path).to_csv(path, sep="\t", index=False, header=header)


SIMPLE = ("user", "item", "price", "place", "click", "buy")
FILES: dict[str, dict[str, Callable[[Path], None]]] = {
    "README.md": {"clicks.csv": lambda path: write_log(path, ("user", "item", "click", "buy"))},
    "docs/index.md": {"clicks.csv": write_log},
    "docs/inputs.md": {"clicks.csv": write_log},
    "docs/objectives.md": {
        "log.csv": lambda path: write_log(path, ("user", "item", "sample_weight", "watch_time", "click", "buy"))
    },
    "docs/vectors.md": {
        "clicks.csv": write_log,
        "clicks.yaml": lambda path: path.write_text(page_files("docs/inputs.md")[path.name]),
        "vectors.npy": lambda path: np.save(path, np.random.default_rng(0).normal(size=(15, 24)).astype("float32")),
        "ids.npy": lambda path: np.save(path, np.array([f"i{item}" for item in range(15)])),
    },
    "docs/python.md": {"clicks.parquet": write_log},
    "docs/commands.md": {"rows.csv": lambda path: write_log(path, SIMPLE)},
    "docs/prediction.md": {"rows.csv": lambda path: write_log(path, SIMPLE)},
    "docs/export.md": {"rows.csv": lambda path: write_log(path, SIMPLE)},
    "docs/interactions.md": {"ratings.csv": write_ratings},
    "docs/table.md": {"rows.csv": lambda path: write_log(path, SIMPLE)},
    "docs/migrating.md": {"mylog.inter": write_recbole, "train.csv": write_log, "test.csv": write_log},
}
"""Page -> name of a file that its commands read -> function that writes it."""

BEFORE: dict[str, tuple[str, ...]] = {
    "docs/prediction.md": ("hydra.run.dir=runs/first",),
    "docs/export.md": ("hydra.run.dir=runs/first",),
    "docs/running.md": (),
    "docs/dashboards.md": (),
    "docs/reports.md": (),
}
"""Pages whose commands need a finished run -> overrides of that run; with rows.csv it is trained on that table."""

TABLE = (
    *(
        "model=mmoe",
        "dataset=table",
        "dataset.path=rows.csv",
        "dataset.fields=[user,item]",
        "dataset.numericals=[price]",
    ),
    *("dataset.tasks=[click,buy]", "dataset.scenario=place", "dataset.scenarios=[home,cart,fr]"),
    "dataset.min_count=2",
)
