"""A synthetic TikTok with a known truth, in the exact raw format of ICME 2019 track 1.

Every user and every item has one preference vector for ``finish`` and one for ``like``; a label is drawn from the
logistic of their match. ``conflict`` turns the like vectors away from the finish vectors: at 0 they are the same, so
what is learnt from the frequent finish serves the rare like; at 1 they are drawn independently, so one shared vector
per user and item, shaped by finish, says nothing about like. Who saw what, when, and whether it was finished stays the
same along the dial: only the like column moves.

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

# The raw columns in file order; -1 stands for a missing city or music.
TIKTOK_COLUMNS = (
    *("uid", "user_city", "item_id", "author_id", "item_city", "channel"),
    *("finish", "like", "music_id", "device_id", "create_time", "video_duration"),
)
_FIRST_TIME, _TIME_SPAN = 53_085_000_000, 6_000_000  # the real file's clock has no stated origin; its rows lie here
_CHANNEL_SHARES = (0.777, 0.195, 0.015, 0.012, 0.001)  # as in the first thousand rows of the real file
_MISSING_SHARES = {"user_city": 0.21, "item_city": 0.04, "music_id": 0.60}  # shares of -1, from the same rows


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
class TiktokSimulation:
    """The dials of the simulation.

    The defaults are a small town: 200,000 impressions teach a vector of a few hundred users and items (about twelve
    likes each) but would not teach those of thousands, and then nobody could tell what conflict does.

    Attributes:
        rows: impressions in the file.
        seed: fixes every byte of the file.
        conflict: 0, like wants what finish wants, to 1, the two are unrelated.
        users: distinct users; how often each appears follows Zipf's law.
        items: distinct items, likewise.
        authors: distinct authors; an item's preferences are half its author's.
        latent_dim: length of the preference vectors.
        zipf: exponent of the popularity law; 0 shows everybody equally often.
        finish_rate: expected share of finished impressions.
        like_rate: expected share of liked impressions.
        finish_strength: standard deviation of the finish logit over impressions: how much there is to learn.
        like_strength: the same for like.
        main_effect: share of the logit's variance that users and items have on their own (the rest is their match).
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
    """Rows and the probabilities that their labels were drawn from.

    Attributes:
        columns: raw column name -> (R,) int64.
        finish_probability: (R,) true probability of finish, float64.
        like_probability: (R,) true probability of like, float64.
    """

    columns: dict[str, Int64Array]
    finish_probability: Float64Array
    like_probability: Float64Array


def write_sample(path: Path, simulation: TiktokSimulation) -> Path:
    """Write the simulation's raw file (tab-separated, no header); the file appears only when it is complete."""
    columns = generate(simulation).columns
    table = pa.table({name: columns[name] for name in TIKTOK_COLUMNS})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    pyarrow.csv.write_csv(table, part, pyarrow.csv.WriteOptions(include_header=False, delimiter="\t"))
    os.replace(part, path)
    return path


def generate(simulation: TiktokSimulation) -> TiktokSample:
    """Draw the simulation; the same simulation gives the same rows."""
    # One stream a purpose: a dial moves only the columns that depend on it.
    traffic, finish, like, people, things = (
        np.random.default_rng(s) for s in np.random.SeedSequence(simulation.seed).spawn(5)
    )
    user_R = zipf_ids(traffic, simulation.users, simulation.rows, simulation.zipf)
    item_R = zipf_ids(traffic, simulation.items, simulation.rows, simulation.zipf)
    author_I = things.integers(simulation.authors, size=simulation.items)
    finish_vectors = _preference_vectors(finish, simulation, author_I)
    like_vectors = finish_vectors.turned(_preference_vectors(like, simulation, author_I), simulation.conflict)
    shown = (user_R, item_R, simulation.main_effect)
    finish_R = probability(finish_vectors.logits(*shown) * simulation.finish_strength, simulation.finish_rate)
    like_R = probability(like_vectors.logits(*shown) * simulation.like_strength, simulation.like_rate)
    columns = {
        "finish": (finish.random(simulation.rows) < finish_R).astype(np.int64),
        "like": (like.random(simulation.rows) < like_R).astype(np.int64),
        "channel": traffic.choice(len(_CHANNEL_SHARES), size=simulation.rows, p=_CHANNEL_SHARES),
        "create_time": _FIRST_TIME + np.sort(traffic.integers(_TIME_SPAN, size=simulation.rows)),
        **_describe_users(people, simulation, user_R),
        **_describe_items(things, simulation, item_R, author_I),
    }
    return TiktokSample(columns=columns, finish_probability=finish_R, like_probability=like_R)


def _preference_vectors(
    rng: np.random.Generator, simulation: TiktokSimulation, author_I: Int64Array
) -> PreferenceVectors:
    """Return unit normal preferences; an item's are half its author's."""
    width = 1 + simulation.latent_dim
    user = rng.standard_normal((simulation.users, width))
    author = rng.standard_normal((simulation.authors, width))
    item = (author[author_I] + rng.standard_normal((simulation.items, width))) / np.sqrt(2)
    return PreferenceVectors(user, item)


def _describe_users(
    rng: np.random.Generator, simulation: TiktokSimulation, user_R: Int64Array
) -> dict[str, Int64Array]:
    """Give every user a public id, a home city and a device (a few share one)."""
    uid = rng.permutation(simulation.users)
    city = _blank(rng, rng.integers(365, size=simulation.users), _MISSING_SHARES["user_city"])
    device = rng.integers(max(1, 2 * simulation.users), size=simulation.users)
    return {"uid": uid[user_R], "user_city": city[user_R], "device_id": device[user_R]}


def _describe_items(
    rng: np.random.Generator, simulation: TiktokSimulation, item_R: Int64Array, author_I: Int64Array
) -> dict[str, Int64Array]:
    """Give every item a public id, its author, a city, music (often none) and a length in seconds."""
    described = {
        "item_id": rng.permutation(simulation.items),
        "author_id": author_I,
        "item_city": _blank(rng, rng.integers(218, size=simulation.items), _MISSING_SHARES["item_city"]),
        "music_id": _blank(rng, rng.zipf(1.5, size=simulation.items).clip(max=70_000), _MISSING_SHARES["music_id"]),
        "video_duration": np.rint(rng.gamma(4.0, 2.5, size=simulation.items)).clip(2, 60).astype(np.int64),
    }
    return {name: values[item_R] for name, values in described.items()}


def _blank(rng: np.random.Generator, values: Int64Array, share: float) -> Int64Array:
    """Replace a random ``share`` of the values by -1."""
    return np.where(rng.random(len(values)) < share, -1, values)
