"""Generator of synthetic Tenrec data with known label probabilities, in the raw formats of its four files.

The files are QK-video, QB-video, ctr_data_1M and QK-article. Users and items have preference vectors. ``scenario_gap``
rotates the vectors of QB-video away from those of QK-video: at 0 both files have the same preferences, at 1 independent
ones. ``conflict`` does the same for like against click within a file. A third of the users and two fifths of the items
are in both files, with the same ids. Follows, likes and shares require a click; rows are grouped by user, as in the
real files.

``ctr_data_1M`` is made from its own draw of QK-video as in the released script: a user's first ten clicks (all but the
last, if there are ten or fewer) are ``hist_1`` to ``hist_10``, right-padded with 0; rows of the user with one of these
items are removed, as are users without clicks. Formats and constraints: docs/methods/datasets.md#synthetic-samples.

Legend: U users, I items, R rows, L latent dimensions, H history columns.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.csv
from pydantic import Field
from pydantic.dataclasses import dataclass

from stemlab.array_types import AnyArray, Float64Array, Int64Array
from stemlab.data.sample.preferences import PreferenceVectors, draw_labels, probability, zipf_ids
from stemlab.types import ClosedFraction, Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

HISTORY = tuple(f"hist_{index}" for index in range(1, 11))
_VIDEO_COLUMNS = (
    *("user_id", "item_id", "click", "follow", "like", "share"),
    *("video_category", "watching_times", "gender", "age"),
)
_ARTICLE_COLUMNS = (
    *("user_id", "item_id", "click", "gender", "age", "exposure_count", "click_count", "like_count", "comment_count"),
    *("read_percentage", "item_score1", "item_score2", "category_second", "category_first", "item_score3"),
    *("read", "read_time", "share", "like", "follow", "favorite"),
)
TENREC_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "ctr_data_1M": (*_VIDEO_COLUMNS, *HISTORY),
    "QK-video": _VIDEO_COLUMNS,
    "QB-video": _VIDEO_COLUMNS,
    "QK-article": _ARTICLE_COLUMNS,
}
# range of users and items that occur in each file, as fractions of all, and the file's share of ``rows``
_USERS = {"ctr_data_1M": (0.0, 0.8), "QK-video": (0.0, 0.8), "QB-video": (0.45, 1.0), "QK-article": (0.3, 0.9)}
_ITEMS = {"ctr_data_1M": (0.0, 0.7), "QK-video": (0.0, 0.7), "QB-video": (0.3, 1.0), "QK-article": (0.0, 1.0)}
_ROWS = {"ctr_data_1M": 1.0, "QK-video": 1.0, "QB-video": 0.4, "QK-article": 0.4}
_GENDERS, _AGES = (0.19, 0.58, 0.23), (0.186, 0.02, 0.492, 0.212, 0.066, 0.018, 0.0055, 0.0005)  # as in ctr_data_1M
_RATES_AFTER_CLICK = {"share": 0.02, "follow": 0.015, "favorite": 0.03, "read": 0.9}
_NO_CATEGORY = 0.0132  # share of \N


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
class TenrecSimulation:
    """Settings of the Tenrec generator.

    Attributes:
        rows: number of impressions of QK-video (ctr_data_1M has fewer, without the rows of its histories); the other
            files have 0.4 times as many.
        seed: determines every byte of the files.
        scenario_gap: from 0 (QB-video and QK-video have the same preferences) to 1 (independent preferences).
        conflict: from 0 (like and click have the same preferences) to 1 (independent preferences).
        users: number of users in all files together.
        items: number of videos in both video files together, and number of articles.
        latent_dim: length of the preference vectors.
        zipf: exponent of the popularity distribution.
        click_rate: expected share of clicked impressions.
        like_rate: expected share of liked impressions; less than ``click_rate``.
        click_strength: standard deviation of the click logit over impressions.
        like_strength: standard deviation of the logit of a like given a click.
        main_effect: share of the logit's variance due to the main effects of users and items.
    """

    rows: PositiveInt = 60_000
    seed: NonNegativeInt = 0
    scenario_gap: ClosedFraction = 0.5
    conflict: ClosedFraction = 0.5
    users: Annotated[int, Field(ge=10)] = 200
    items: Annotated[int, Field(ge=10)] = 200
    latent_dim: PositiveInt = 4
    zipf: NonNegativeFloat = 0.5
    click_rate: Fraction = 0.3
    like_rate: Fraction = 0.06
    click_strength: PositiveFloat = 3.0
    like_strength: PositiveFloat = 2.0
    main_effect: ClosedFraction = 0.4


@dataclass(frozen=True, kw_only=True, config={"arbitrary_types_allowed": True})
class TenrecSample:
    """Generated rows of one file and the true probabilities of their labels.

    Attributes:
        columns: raw column name -> (R,) values as written.
        click_probability: (R,) true probability of a click.
        like_probability: (R,) true probability of a like, given a click.
    """

    columns: dict[str, AnyArray]
    click_probability: Float64Array
    like_probability: Float64Array


def write_sample(path: Path, simulation: TenrecSimulation, file: str) -> Path:
    """Write one file with header atomically and return its path."""
    columns = generate(simulation, file).columns
    table = pa.table({name: columns[name].tolist() for name in TENREC_COLUMNS[file]})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as out:
        out.write((",".join(TENREC_COLUMNS[file]) + "\n").encode())
        options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
        pyarrow.csv.write_csv(table, out, options)
    os.replace(part, path)
    return path


def generate(simulation: TenrecSimulation, file: str) -> TenrecSample:
    """Generate the rows of one file; deterministic for given settings."""
    seeds = np.random.SeedSequence([simulation.seed, list(TENREC_COLUMNS).index(file)])
    # one random stream per purpose: a setting changes only the columns that depend on it
    traffic, click, like, rest = (np.random.default_rng(stream) for stream in seeds.spawn(4))
    user_R, item_R = _shown(simulation, file, traffic)
    click_vectors, like_vectors = _preference_vectors(simulation, file)
    shown = (user_R, item_R, simulation.main_effect)
    click_R = probability(click_vectors.logits(*shown) * simulation.click_strength, simulation.click_rate)
    like_rate = min(simulation.like_rate / simulation.click_rate, 0.99)
    like_R = probability(like_vectors.logits(*shown) * simulation.like_strength, like_rate, click_R)
    article = file == "QK-article"
    clicked_R = np.ones(len(user_R), np.int64) if article else draw_labels(click, click_R)
    labels = {"click": clicked_R, "like": clicked_R * draw_labels(like, like_R)}
    labels |= {
        name: clicked_R * draw_labels(rest, np.full(len(user_R), rate)) for name, rate in _RATES_AFTER_CLICK.items()
    }
    columns = {
        "user_id": user_R + 1,
        "item_id": item_R + 1 + (10 * simulation.items if article else 0),
        **({name: np.where(flag == 1, "1.0", "0.0") for name, flag in labels.items()} if article else labels),
        **_describe_users(simulation, user_R),
        **(_describe_articles(rest, labels["read"], item_R) if article else _describe_videos(simulation, item_R)),
        "watching_times": np.where(clicked_R == 1, 1 + rest.poisson(0.2, len(user_R)), rest.random(len(user_R)) < 0.55),
    }
    sample = TenrecSample(columns=columns, click_probability=click_R, like_probability=like_R)
    return _with_history(sample) if file == "ctr_data_1M" else sample


def _shown(simulation: TenrecSimulation, file: str, rng: np.random.Generator) -> tuple[Int64Array, Int64Array]:
    """Draw user and item of each row, grouped by user; the popularity order of items differs between files."""
    rows = max(1, round(simulation.rows * _ROWS[file]))
    users, items = _part(simulation.users, _USERS[file]), rng.permutation(_part(simulation.items, _ITEMS[file]))
    user_R = users[np.sort(zipf_ids(rng, len(users), rows, simulation.zipf))]
    return user_R, items[zipf_ids(rng, len(items), rows, simulation.zipf)]


def _part(count: int, fractions: tuple[float, float]) -> Int64Array:
    return np.arange(round(count * fractions[0]), round(count * fractions[1]))


def _preference_vectors(simulation: TenrecSimulation, file: str) -> tuple[PreferenceVectors, PreferenceVectors]:
    """Return the preference vectors of clicks and of likes in a file."""
    click, like, other_click, other_like = (
        PreferenceVectors.draw(np.random.default_rng(stream), simulation.users, simulation.items, simulation.latent_dim)
        for stream in np.random.SeedSequence([simulation.seed, len(TENREC_COLUMNS)]).spawn(4)
    )
    if file == "QK-article":  # same users, other items
        click, like = PreferenceVectors(click.user, other_click.item), PreferenceVectors(like.user, other_like.item)
    if file == "QB-video":
        click, like = (
            click.rotated_towards(other_click, simulation.scenario_gap),
            like.rotated_towards(other_like, simulation.scenario_gap),
        )
    return click, click.rotated_towards(like, simulation.conflict)


def _describe_users(simulation: TenrecSimulation, user_R: Int64Array) -> dict[str, AnyArray]:
    """Return gender and age of each row's user, the same in every file."""
    rng = np.random.default_rng([simulation.seed, 101])
    gender_U = rng.choice(len(_GENDERS), simulation.users, p=_GENDERS)
    age_U = rng.choice(len(_AGES), simulation.users, p=_AGES)
    return {"gender": gender_U[user_R], "age": age_U[user_R]}


def _describe_videos(simulation: TenrecSimulation, item_R: Int64Array) -> dict[str, AnyArray]:
    """Return the category of each row's video, the same in every file; some are missing."""
    rng = np.random.default_rng([simulation.seed, 102])
    shares = ((1 - _NO_CATEGORY) * 0.54, (1 - _NO_CATEGORY) * 0.46, _NO_CATEGORY)
    category_I = np.array(["0", "1", "\\N"])[rng.choice(3, simulation.items, p=shares)]
    category_I[0] = "\\N"  # so that small samples contain a missing value too
    return {"video_category": category_I[item_R]}


def _describe_articles(rng: np.random.Generator, read_R: Int64Array, item_R: Int64Array) -> dict[str, AnyArray]:
    """Return totals, scores and categories of each row's article, and how far it was read."""
    items = int(item_R.max()) + 1
    exposure_I = rng.integers(100, 100_000, items)
    second_I = rng.integers(0, 30, items)
    item = {
        "exposure_count": exposure_I,
        "click_count": exposure_I // 4,
        "like_count": exposure_I // 40,
        "comment_count": exposure_I // 200,
        "category_second": second_I,
        "category_first": second_I // 5,
        **{f"item_score{index}": np.round(rng.random(items), 3) for index in (1, 2, 3)},
    }
    percent_R = np.where(read_R == 1, rng.integers(20, 101, len(item_R)), rng.integers(0, 20, len(item_R)))
    row = {"read_percentage": percent_R, "read_time": percent_R * rng.integers(1, 4, len(item_R))}
    return {**{name: values[item_R] for name, values in item.items()}, **row}


def _with_history(sample: TenrecSample) -> TenrecSample:
    """Add each user's first clicks as history columns and remove the rows of these items, as in the released script."""
    user_R, item_R, click_R = (np.asarray(sample.columns[name]) for name in ("user_id", "item_id", "click"))
    users, items = int(user_R.max()) + 1, int(item_R.max()) + 1
    clicks = np.flatnonzero(click_R == 1)
    count_U = np.bincount(user_R[clicks], minlength=users)
    kept_U = np.where(count_U > len(HISTORY), len(HISTORY), np.maximum(count_U - 1, 0))
    rank = np.arange(len(clicks)) - (np.cumsum(count_U) - count_U)[user_R[clicks]]  # rows are grouped by user
    old = clicks[rank < kept_U[user_R[clicks]]]
    history_UH = np.zeros((users, len(HISTORY)), np.int64)
    history_UH[user_R[old], rank[rank < kept_U[user_R[clicks]]]] = item_R[old]
    known = np.isin(user_R * items + item_R, user_R[old] * items + item_R[old])
    kept = np.flatnonzero(~known & (count_U[user_R] > 0))
    columns = {name: np.asarray(values)[kept] for name, values in sample.columns.items()}
    columns |= {name: history_UH[user_R[kept], index] for index, name in enumerate(HISTORY)}
    return TenrecSample(
        columns=columns,
        click_probability=sample.click_probability[kept],
        like_probability=sample.like_probability[kept],
    )
