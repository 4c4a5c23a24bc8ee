"""Generator of synthetic TikTok data with known label probabilities, in the raw format of ICME 2019 track 1.

Each user and item has a preference vector for ``finish`` and one for ``like``; the logit of a label is the product of
the two vectors plus main effects. ``conflict`` rotates the like vectors away from the finish vectors. At 0 they are
equal, so the frequent finish labels help to learn the rare like; at 1 they are independent, so embeddings learnt from
finish are useless for like. All columns except like are the same for every value of ``conflict``.
Formats and constraints: docs/methods/datasets.md#synthetic-samples.

Legend: U users, I items, A authors, R rows, L latent dimensions.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from pydantic.dataclasses import dataclass

from stemlab.array_types import Float64Array, Int64Array
from stemlab.data.sample.preferences import PreferenceVectors, probability, zipf_ids
from stemlab.types import ClosedFraction, Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

# The raw columns in file order; -1 encodes a missing city or music.
TIKTOK_COLUMNS = (
    *("uid", "user_city", "item_id", "author_id", "item_city", "channel"),
    *("finish", "like", "music_id", "device_id", "create_time", "video_duration"),
)
_FIRST_TIME, _TIME_SPAN = 53_085_000_000, 6_000_000  # range of the real file, whose time origin is not documented
_CHANNEL_SHARES = (0.777, 0.195, 0.015, 0.012, 0.001)  # as in the first thousand rows of the real file
_MISSING_SHARES = {"user_city": 0.21, "item_city": 0.04, "music_id": 0.60}  # shares of -1, from the same rows


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
class TiktokSimulation:
    """Settings of the TikTok generator.

    The default sizes are small because 200,000 impressions suffice to learn vectors of a few hundred users and items
    (about twelve likes each), but not of thousands; the effect of ``conflict`` would then not be measurable.

    Attributes:
        rows: number of impressions.
        seed: determines every byte of the file.
        conflict: from 0 (like and finish have the same preferences) to 1 (independent preferences).
        users: number of users; their frequencies follow Zipf's law.
        items: number of items, likewise.
        authors: number of authors; half the variance of an item's vector comes from its author.
        latent_dim: length of the preference vectors.
        zipf: exponent of the popularity distribution; 0 is uniform.
        finish_rate: expected share of finished impressions.
        like_rate: expected share of liked impressions.
        finish_strength: standard deviation of the finish logit over impressions.
        like_strength: standard deviation of the like logit over impressions.
        main_effect: share of the logit's variance due to the main effects of users and items; the rest is due to pairs.
    """

    rows: PositiveInt = 200_000
    seed: NonNegativeInt = 0
    conflict: ClosedFraction = 0.8
    users: PositiveInt = 200
    items: PositiveInt = 200
    authors: PositiveInt = 40
    latent_dim: PositiveInt = 4
    zipf: NonNegativeFloat = 0.7
    finish_rate: Fraction = 0.37
    like_rate: Fraction = 0.012
    finish_strength: PositiveFloat = 3.0
    like_strength: PositiveFloat = 2.0
    main_effect: ClosedFraction = 0.4


@dataclass(frozen=True, kw_only=True, config={"arbitrary_types_allowed": True})
class TiktokSample:
    """Generated rows and the true probabilities of their labels.

    Attributes:
        columns: raw column name -> (R,) int64.
        finish_probability: (R,) true probability of finish, float64.
        like_probability: (R,) true probability of like, float64.
    """

    columns: dict[str, Int64Array]
    finish_probability: Float64Array
    like_probability: Float64Array


def write_sample(path: Path, simulation: TiktokSimulation) -> Path:
    """Write the raw file (tab-separated, no header) atomically and return its path."""
    columns = generate(simulation).columns
    table = pa.table({name: columns[name] for name in TIKTOK_COLUMNS})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    pyarrow.csv.write_csv(table, part, pyarrow.csv.WriteOptions(include_header=False, delimiter="\t"))
    os.replace(part, path)
    return path


def generate(simulation: TiktokSimulation) -> TiktokSample:
    """Generate the rows; deterministic for given settings."""
    # one random stream per purpose: a setting changes only the columns that depend on it
    traffic_rng, finish_rng, like_rng, user_rng, item_rng = (
        np.random.default_rng(s) for s in np.random.SeedSequence(simulation.seed).spawn(5)
    )
    user_R = zipf_ids(traffic_rng, simulation.users, simulation.rows, simulation.zipf)
    item_R = zipf_ids(traffic_rng, simulation.items, simulation.rows, simulation.zipf)
    author_I = item_rng.integers(simulation.authors, size=simulation.items)
    finish_vectors = _preference_vectors(finish_rng, simulation, author_I)
    like_vectors = finish_vectors.rotated_towards(
        _preference_vectors(like_rng, simulation, author_I), simulation.conflict
    )
    shown = (user_R, item_R, simulation.main_effect)
    finish_R = probability(finish_vectors.logits(*shown) * simulation.finish_strength, simulation.finish_rate)
    like_R = probability(like_vectors.logits(*shown) * simulation.like_strength, simulation.like_rate)
    columns = {
        "finish": (finish_rng.random(simulation.rows) < finish_R).astype(np.int64),
        "like": (like_rng.random(simulation.rows) < like_R).astype(np.int64),
        "channel": traffic_rng.choice(len(_CHANNEL_SHARES), size=simulation.rows, p=_CHANNEL_SHARES),
        "create_time": _FIRST_TIME + np.sort(traffic_rng.integers(_TIME_SPAN, size=simulation.rows)),
        **_describe_users(user_rng, simulation, user_R),
        **_describe_items(item_rng, simulation, item_R, author_I),
    }
    return TiktokSample(columns=columns, finish_probability=finish_R, like_probability=like_R)


def _preference_vectors(
    rng: np.random.Generator, simulation: TiktokSimulation, author_I: Int64Array
) -> PreferenceVectors:
    """Draw standard normal vectors; half the variance of an item's vector comes from its author."""
    width = 1 + simulation.latent_dim
    user = rng.standard_normal((simulation.users, width))
    author = rng.standard_normal((simulation.authors, width))
    item = (author[author_I] + rng.standard_normal((simulation.items, width))) / np.sqrt(2)
    return PreferenceVectors(user, item)


def _describe_users(
    rng: np.random.Generator, simulation: TiktokSimulation, user_R: Int64Array
) -> dict[str, Int64Array]:
    """Return raw user id, city and device of each row's user; some users share a device."""
    uid = rng.permutation(simulation.users)
    city = _blank(rng, rng.integers(365, size=simulation.users), _MISSING_SHARES["user_city"])
    device = rng.integers(max(1, 2 * simulation.users), size=simulation.users)
    return {"uid": uid[user_R], "user_city": city[user_R], "device_id": device[user_R]}


def _describe_items(
    rng: np.random.Generator, simulation: TiktokSimulation, item_R: Int64Array, author_I: Int64Array
) -> dict[str, Int64Array]:
    """Return raw item id, author, city, music (often missing) and duration in seconds of each row's item."""
    described = {
        "item_id": rng.permutation(simulation.items),
        "author_id": author_I,
        "item_city": _blank(rng, rng.integers(218, size=simulation.items), _MISSING_SHARES["item_city"]),
        "music_id": _blank(rng, rng.zipf(1.5, size=simulation.items).clip(max=70_000), _MISSING_SHARES["music_id"]),
        "video_duration": np.rint(rng.gamma(4.0, 2.5, size=simulation.items)).clip(2, 60).astype(np.int64),
    }
    return {name: values[item_R] for name, values in described.items()}


def _blank(rng: np.random.Generator, values: Int64Array, share: float) -> Int64Array:
    """Replace a random ``share`` of the values with -1."""
    return np.where(rng.random(len(values)) < share, -1, values)
