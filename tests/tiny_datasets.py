"""Every dataset of ``conf/dataset`` in a small size, for tests that go through all of them.

A dataset with a synthetic sample of its own is made smaller by its own settings (``sample.*``); the others need raw
files, which ``RAW`` writes. A new dataset with a sample is found automatically.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stemlab.data.sources.census_income import CENSUS_COLUMNS, CENSUS_NUMERICALS
from tests.cli.sequences import write_folder
from tests.conf_files import read_yaml

CONF = Path(__file__).resolve().parents[1] / "conf"
SMALLER = {"rows": 900, "users": 30, "items": 30, "videos": 30, "authors": 10, "random_rows": 300}
"""Sizes of synthetic samples, for those settings that a sample has."""


def write_movielens(folder: Path) -> None:
    rng = np.random.default_rng(0)
    users = [f"{user}::{'FM'[user % 2]}::{(1, 18, 25)[user % 3]}::{user % 5}::48{user:03d}" for user in range(1, 31)]
    movies = [f"{movie}::Film {movie} ({1950 + movie})::{('Drama', 'Action')[movie % 2]}" for movie in range(1, 31)]
    ratings = [
        f"{rng.integers(1, 31)}::{rng.integers(1, 31)}::{rng.integers(1, 6)}::{978_300_000 + place}"
        for place in range(600)
    ]
    for name, lines in (("users", users), ("movies", movies), ("ratings", ratings)):
        (folder / f"{name}.dat").write_text("\n".join(lines) + "\n", encoding="latin-1")


def write_amazon(folder: Path) -> None:
    rng = np.random.default_rng(0)
    lines = []
    for user in range(30):
        for place, item in enumerate(rng.permutation(25)[:8]):
            review = {"reviewerID": f"A{user}", "asin": f"B{item}", "unixReviewTime": int(86_400 * (10 + place))}
            lines.append(json.dumps(review))
    with gzip.open(folder / "reviews_Beauty_5.json.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def write_criteo(folder: Path) -> None:
    rng = np.random.default_rng(0)
    lines = []
    for _ in range(600):
        counts = ["" if rng.random() < 0.1 else str(rng.integers(0, 50)) for _ in range(13)]
        categories = ["" if rng.random() < 0.1 else f"{rng.integers(0, 9):08x}" for _ in range(26)]
        lines.append("\t".join([str(int(rng.random() < 0.3)), *counts, *categories]))
    (folder / "train.txt").write_text("\n".join(lines) + "\n")


def census_lines(rows: int, seed: int) -> list[str]:
    """Return lines in the format of Census-Income, with made-up cells."""
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(rows):
        cells = [("a", "b", "?")[rng.integers(0, 3)] for _ in CENSUS_COLUMNS]
        for index, name in enumerate(CENSUS_COLUMNS):
            if name in CENSUS_NUMERICALS:
                cells[index] = str(rng.integers(0, 90))
        cells[4] = ("Children", "Bachelors degree(BA AB BS)", "9th grade")[rng.integers(0, 3)]
        cells[7] = ("Never married", "Divorced")[rng.integers(0, 2)]
        lines.append(", ".join([*cells[:-1], ("- 50000.", "50000+.")[rng.integers(0, 2)]]))
    return lines


def write_census_income(folder: Path) -> None:
    for name, rows in (("data", 500), ("test", 200)):
        (folder / f"census-income.{name}").write_text("\n".join(census_lines(rows, seed=rows)) + "\n")


def write_kuairand_log(folder: Path) -> None:
    rng = np.random.default_rng(0)
    labels = ("is_click", "is_follow", "is_comment", "is_forward", "long_view", "is_profile_enter")
    lines = ["\t".join(["user_id", "video_id", "hourmin", "time_ms", "duration_ms", *labels])]
    for row in range(600):
        cells = [rng.integers(0, 20), rng.integers(0, 20), 100 * rng.integers(0, 24), row, rng.integers(1, 9_999)]
        lines.append("\t".join(map(str, [*cells, *rng.integers(0, 2, len(labels))])))
    (folder / "log.csv").write_text("\n".join(lines) + "\n")


def write_table(folder: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["user,item,price,place,click,buy"]
    for _ in range(600):
        click = int(rng.random() < 0.4)
        place = ("home", "search", "cart")[rng.integers(0, 3)]
        lines.append(f"u{rng.integers(0, 20)},i{rng.integers(0, 20)},{rng.random():.3f},{place},{click},{click & 1}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")


def write_interactions(folder: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["customer,product,date,genre"]
    for _ in range(600):
        item = rng.integers(0, 40)
        lines.append(f"u{rng.integers(0, 40)},p{item},{20240100 + rng.integers(1, 29)},g{item % 3}")
    (folder / "log.csv").write_text("\n".join(lines) + "\n")


def write_sequences(folder: Path) -> None:
    folder.rmdir()
    write_folder(folder)


RAW: Mapping[str, tuple[Callable[[Path], None], Callable[[Path], Sequence[str]]]] = {
    "ml1m_multitask": (write_movielens, lambda folder: [f"dataset.raw_dir={folder}"]),
    "beauty": (
        write_amazon,
        lambda folder: [f"dataset.raw_dir={folder}", "dataset.eval_negatives=5", "dataset.evaluation.topk=[5]"],
    ),
    "grocery": (write_sequences, lambda folder: [f"dataset.raw_dir={folder}", "dataset.evaluation.topk=[5,10]"]),
    "rechorus": (write_sequences, lambda folder: [f"dataset.raw_dir={folder}", "dataset.evaluation.topk=[5,10]"]),
    "interactions": (
        write_interactions,
        lambda folder: [
            *(f"dataset.path={folder}/log.csv", "dataset.eval_negatives=5", "dataset.evaluation.topk=[5]"),
        ],
    ),
    "census_income": (write_census_income, lambda folder: [f"dataset.raw_dir={folder}"]),
    "criteo": (write_criteo, lambda folder: [f"dataset.path={folder}/train.txt"]),
    "kuairand_log": (write_kuairand_log, lambda folder: [f"dataset.path={folder}/log.csv"]),
    "table": (
        write_table,
        lambda folder: [
            *(f"dataset.path={folder}/rows.csv", "dataset.fields=[user,item]", "dataset.numericals=[price]"),
            *("dataset.tasks=[click,buy]", "dataset.scenario=place", "dataset.scenarios=[home,search,cart]"),
        ],
    ),
}
"""Dataset -> function that writes its raw files into a folder, and the overrides that name them."""

MORE = {
    "aliexpress_nl": ("aliexpress", ("dataset.scenarios=[nl]",)),
    "tenrec_scenarios": ("tenrec", ("dataset.scenarios=[QK-video,QB-video]",)),
    "tenrec_shared": ("tenrec", ("dataset.shared_history=true",)),
    "table_without_scenarios": ("table", ("dataset.scenario=null", "dataset.scenarios=[]", "dataset.numericals=[]")),
}
"""Variants of a dataset: name -> dataset, overrides."""

NAMES = (*sorted(path.stem for path in (CONF / "dataset").glob("*.yaml") if path.stem != "own"), *MORE)


def dataset_of(name: str) -> str:
    """Return the dataset of which ``name`` is a variant."""
    return MORE[name][0] if name in MORE else name


def is_sequential(name: str) -> bool:
    """Return whether a dataset has histories instead of labels."""
    return "tasks" not in _file(name)


def overrides(name: str, folder: Path) -> list[str]:
    """Write the raw files that a dataset needs and return the overrides that select it.

    Args:
        name: one of ``NAMES``.
        folder: a folder for everything: raw files, samples, prepared data.
    """
    file, dataset = _file(name), dataset_of(name)
    result = [f"dataset={dataset}", f"paths.data_dir={folder}", "dataset.batch_size=32"]
    if "min_count" in file:
        result.append("dataset.min_count=2")
    if dataset in RAW:
        write, named = RAW[dataset]
        raw = folder / f"raw_{name}"
        raw.mkdir(parents=True)
        write(raw)
        return [*result, *named(raw), *MORE.get(name, ("", ()))[1]]
    assert "sample" in file, (
        f"conf/dataset/{dataset}.yaml has no sample: tests/tiny_datasets.py must write its raw files"
    )
    result += [f"dataset.sample.{key}={size}" for key, size in SMALLER.items() if key in file["sample"]]
    if "eval_negatives" in file:
        result += ["dataset.eval_negatives=5", "dataset.evaluation.topk=[5]"]
    return [*result, "dataset.source=sample", *MORE.get(name, ("", ()))[1]]


def _file(name: str) -> dict[str, Any]:
    return read_yaml("dataset", dataset_of(name))
