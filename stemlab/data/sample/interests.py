"""Generator of synthetic MovieLens ratings with planted interests, in the raw format of ml-1m (``ratings.dat``).

Items are divided into clusters; a user's interests are a few of them. A sequence stays with one interest for some rows
and then switches to another one. The next item therefore depends on the recent history (current interest) and on the
whole history (set of interests), which a single user vector cannot represent. A share of the rows is noise.
Marking of samples: docs/methods/datasets.md#synthetic-samples.

Legend: U users, I items, C clusters, K interests per user, M size of the largest cluster, T longest sequence, R rows.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from stemlab.array_types import BoolArray, Int64Array
from stemlab.errors import StemlabError
from stemlab.types import ClosedFraction, NonNegativeFloat, NonNegativeInt, PositiveInt

RATING_COLUMNS = ("user_id", "item_id", "rating", "timestamp")
FIRST_TIME, TIME_SPAN = 956_700_000, 86_400 * 365  # first ratings are in the year after April 2000, as in ml-1m
MIN_LENGTH = 5
WITHIN, BETWEEN = 90.0, 86_400.0 * 2  # mean seconds from row to row: while an interest lasts, and when it changes
LIKED, DISLIKED = (3, 4, 5), (1, 2, 3)  # ratings of rows that follow an interest, and of noise
NOISE = -1


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
class InterestSimulation:
    """Settings of the MovieLens generator.

    Attributes:
        seed: determines every byte of the file.
        users: U.
        items: I, at least the number of clusters.
        length: mean number of rows per user; the length is 5 plus an exponential variable, at most 4 times the mean.
        clusters: C, groups of items whose sizes differ by at most one.
        interests: K, number of clusters per user, drawn uniformly.
        stay: probability that a row has the same interest as the row before; otherwise another one is drawn.
        noise: share of rows whose item is drawn uniformly from all items.
        zipf: exponent of the popularity distribution within a cluster; 0 is uniform.
    """

    seed: NonNegativeInt = 0
    users: PositiveInt = 2000
    items: PositiveInt = 1000
    length: Annotated[int, Field(ge=MIN_LENGTH)] = 50
    clusters: PositiveInt = 25
    interests: PositiveInt = 3
    stay: ClosedFraction = 0.8
    noise: ClosedFraction = 0.05
    zipf: NonNegativeFloat = 0.7


@dataclass(frozen=True, kw_only=True, config={"arbitrary_types_allowed": True})
class InterestSample:
    """Generated rows, sorted by user and time, and the interests behind them.

    Attributes:
        columns: raw column name -> (R,) int64.
        interest: (R,) index of the user's interest behind each row, 0 to K - 1; -1 for noise.
        followed: (U, K) clusters of user ``u + 1``.
        cluster: (I,) cluster of item ``i + 1``.
    """

    columns: dict[str, Int64Array]
    interest: Int64Array
    followed: Int64Array
    cluster: Int64Array


def write_sample(path: Path, simulation: InterestSimulation) -> Path:
    """Write ``ratings.dat`` atomically, sorted by user, item and time, and return its path."""
    columns = generate(simulation).columns
    order = np.lexsort((columns["timestamp"], columns["item_id"], columns["user_id"]))
    rows = zip(*(columns[name][order].tolist() for name in RATING_COLUMNS), strict=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text("".join("::".join(map(str, row)) + "\n" for row in rows), encoding="ascii")
    os.replace(part, path)
    return path


def generate(simulation: InterestSimulation) -> InterestSample:
    """Generate the rows; deterministic for given settings.

    Raises:
        StemlabError: there are fewer items than clusters, or fewer clusters than interests.
    """
    for less, more in (("clusters", "items"), ("interests", "clusters")):
        if getattr(simulation, less) > getattr(simulation, more):
            raise StemlabError(
                f"dataset.sample.{less}={getattr(simulation, less)} is greater than dataset.sample.{more}="
                f"{getattr(simulation, more)}: set fewer {less} or more {more}."
            )
    # one random stream per purpose: a setting changes only the values that depend on it
    item_rng, user_rng, interest_rng, pick_rng, noise_rng, time_rng = (
        np.random.default_rng(s) for s in np.random.SeedSequence(simulation.seed).spawn(6)
    )
    cluster_I = _clusters(item_rng, simulation)
    followed_UK = user_rng.random((simulation.users, simulation.clusters)).argsort(axis=1)[:, : simulation.interests]
    extra_U = user_rng.exponential(simulation.length - MIN_LENGTH, simulation.users).astype(np.int64)
    length_U = np.minimum(MIN_LENGTH + extra_U, 4 * simulation.length)
    interest_UT = _interests(interest_rng, simulation, int(length_U.max()))
    item_UT = _pick(pick_rng, simulation, cluster_I, followed_UK, interest_UT)
    noise_UT = noise_rng.random(item_UT.shape) < simulation.noise
    item_UT = np.where(noise_UT, noise_rng.integers(simulation.items, size=item_UT.shape), item_UT)
    given_UT = np.arange(item_UT.shape[1]) < length_U[:, None]
    columns = {
        "user_id": np.repeat(np.arange(1, simulation.users + 1), length_U),
        "item_id": item_UT[given_UT] + 1,
        "rating": _rate(time_rng, noise_UT)[given_UT],
        "timestamp": _times(time_rng, interest_UT)[given_UT],
    }
    interest = np.where(noise_UT, NOISE, interest_UT)[given_UT]
    return InterestSample(columns=columns, interest=interest, followed=followed_UK, cluster=cluster_I)


def item_clusters(simulation: InterestSimulation) -> Int64Array:
    """Return the cluster of item ``i + 1``, (I,), from 0, without generating the rows."""
    item_seed, *_ = np.random.SeedSequence(simulation.seed).spawn(6)
    return _clusters(np.random.default_rng(item_seed), simulation)


def _clusters(rng: np.random.Generator, simulation: InterestSimulation) -> Int64Array:
    return rng.permutation(np.arange(simulation.items) % simulation.clusters)


def _interests(rng: np.random.Generator, simulation: InterestSimulation, steps: int) -> Int64Array:
    """Draw (U, T) interests, 0 to K - 1: the previous one with probability ``stay``, otherwise another one."""
    first_U1 = rng.integers(simulation.interests, size=(simulation.users, 1))
    others = max(1, simulation.interests - 1)
    moved = (rng.random((simulation.users, steps - 1)) >= simulation.stay) * rng.integers(
        1, others + 1, (simulation.users, steps - 1)
    )
    interest_UT: Int64Array = np.concatenate([first_U1, moved], axis=1).cumsum(axis=1) % simulation.interests
    return interest_UT


def _pick(
    rng: np.random.Generator,
    simulation: InterestSimulation,
    cluster_I: Int64Array,
    followed_UK: Int64Array,
    interest_UT: Int64Array,
) -> Int64Array:
    """Return (U, T) items from 0: each user cycles through its own order of every cluster.

    The order is a draw without replacement by popularity (sorted by log weight plus Gumbel noise).
    """
    size_C = np.bincount(cluster_I, minlength=simulation.clusters)
    member_CM = np.full((simulation.clusters, size_C.max()), -1)
    by_cluster = np.argsort(cluster_I, kind="stable")
    index = np.arange(simulation.items) - np.repeat(np.cumsum(size_C) - size_C, size_C)
    member_CM[cluster_I[by_cluster], index] = by_cluster
    weight_M = -simulation.zipf * np.log(np.arange(1, member_CM.shape[1] + 1))
    key_UKM = weight_M + rng.gumbel(size=(*followed_UK.shape, member_CM.shape[1]))
    key_UKM[member_CM[followed_UK] < 0] = -np.inf
    order_UKM = np.take_along_axis(member_CM[followed_UK], np.argsort(-key_UKM, axis=2), axis=2)
    turn_UT = np.zeros_like(interest_UT)
    for interest in range(simulation.interests):
        now_UT = interest_UT == interest
        turn_UT += (np.cumsum(now_UT, axis=1) - 1) * now_UT
    user_U1 = np.arange(simulation.users)[:, None]
    turn_UT %= size_C[followed_UK[user_U1, interest_UT]]
    picked: Int64Array = order_UKM[user_U1, interest_UT, turn_UT]
    return picked


def _rate(rng: np.random.Generator, noise_UT: BoolArray) -> Int64Array:
    liked, disliked = (rng.choice(ratings, size=noise_UT.shape) for ratings in (LIKED, DISLIKED))
    return np.where(noise_UT, disliked, liked)


def _times(rng: np.random.Generator, interest_UT: Int64Array) -> Int64Array:
    """Return (U, T) ascending seconds: short gaps within an interest, gaps of days when the interest changes."""
    changed_UT = np.diff(interest_UT, axis=1, prepend=interest_UT[:, :1]) != 0
    gap_UT = 1 + rng.exponential(np.where(changed_UT, BETWEEN, WITHIN)).astype(np.int64)
    first_U1 = FIRST_TIME + rng.integers(TIME_SPAN, size=(len(interest_UT), 1))
    times: Int64Array = first_U1 + np.cumsum(gap_UT, axis=1)
    return times
