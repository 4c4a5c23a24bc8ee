"""A synthetic MovieLens with planted interests, in the raw format of ml-1m (``ratings.dat``).

Items fall into clusters. Every user follows a few of them: those are the interests. A sequence stays with one interest
for a while and then switches, so that what comes next is told by the recent past (which interest) and by the distant
past (which interests there are at all); one vector a user cannot hold both. A share of the rows is noise.

Legend: U users, I items, C clusters, K interests a user, M most items of a cluster, T longest sequence, R rows.
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
FIRST_TIME, TIME_SPAN = 956_700_000, 86_400 * 365  # first ratings lie in the year after April 2000, as in ml-1m
LEAST_LENGTH = 5
WITHIN, BETWEEN = 90.0, 86_400.0 * 2  # mean seconds from row to row: while an interest lasts, and when it changes
LIKED, DISLIKED = (3, 4, 5), (1, 2, 3)  # ratings of rows that follow an interest, and of noise
NOISE = -1


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
class InterestSimulation:
    """The dials of the simulation.

    Attributes:
        seed: fixes every byte of the file.
        users: U.
        items: I, at least as many as clusters.
        length: mean number of rows of a user; lengths are 5 and an exponential more, and four times the mean at most.
        clusters: C, groups of items of the same size (give or take one).
        interests: K, clusters that a user follows, each as likely as the others.
        stay: probability that the next row follows the same interest as the row before (another one else).
        noise: share of rows with an item from anywhere.
        zipf: exponent of the popularity of items inside their cluster; 0 makes all equally popular.
    """

    seed: NonNegativeInt = 0
    users: PositiveInt = 2000
    items: PositiveInt = 1000
    length: Annotated[int, Field(ge=LEAST_LENGTH)] = 50
    clusters: PositiveInt = 25
    interests: PositiveInt = 3
    stay: ClosedFraction = 0.8
    noise: ClosedFraction = 0.05
    zipf: NonNegativeFloat = 0.7


@dataclass(frozen=True, kw_only=True, config={"arbitrary_types_allowed": True})
class InterestSample:
    """Rows in the order of users and, inside a user, of time; and the truth behind them.

    Attributes:
        columns: raw column name -> (R,) int64.
        interest: (R,) 0 to K - 1, which of the user's interests a row follows; -1 noise.
        followed: (U, K) clusters that user ``u + 1`` follows.
        cluster: (I,) cluster of item ``i + 1``.
    """

    columns: dict[str, Int64Array]
    interest: Int64Array
    followed: Int64Array
    cluster: Int64Array


def write_sample(path: Path, simulation: InterestSimulation) -> Path:
    """Write the simulation's ratings.dat (users together, items ascending); it appears only when it is complete."""
    columns = generate(simulation).columns
    order = np.lexsort((columns["timestamp"], columns["item_id"], columns["user_id"]))
    rows = zip(*(columns[name][order].tolist() for name in RATING_COLUMNS), strict=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text("".join("::".join(map(str, row)) + "\n" for row in rows), encoding="ascii")
    os.replace(part, path)
    return path


def generate(simulation: InterestSimulation) -> InterestSample:
    """Draw the simulation; the same simulation gives the same rows.

    Raises:
        StemlabError: fewer items than clusters, or fewer clusters than interests.
    """
    for less, more in (("clusters", "items"), ("interests", "clusters")):
        if getattr(simulation, less) > getattr(simulation, more):
            raise StemlabError(
                f"dataset.sample.{less}={getattr(simulation, less)} is more than dataset.sample.{more}="
                f"{getattr(simulation, more)}: give fewer {less} or more {more}."
            )
    # One stream a purpose: a dial moves only what depends on it.
    things, people, walk, picks, noise, clock = (
        np.random.default_rng(s) for s in np.random.SeedSequence(simulation.seed).spawn(6)
    )
    cluster_I = _clusters(things, simulation)
    followed_UK = people.random((simulation.users, simulation.clusters)).argsort(axis=1)[:, : simulation.interests]
    longer = people.exponential(simulation.length - LEAST_LENGTH, simulation.users).astype(np.int64)
    length_U = np.minimum(LEAST_LENGTH + longer, 4 * simulation.length)
    interest_UT = _walk(walk, simulation, int(length_U.max()))
    item_UT = _pick(picks, simulation, cluster_I, followed_UK, interest_UT)
    stray_UT = noise.random(item_UT.shape) < simulation.noise
    item_UT = np.where(stray_UT, noise.integers(simulation.items, size=item_UT.shape), item_UT)
    given_UT = np.arange(item_UT.shape[1]) < length_U[:, None]
    columns = {
        "user_id": np.repeat(np.arange(1, simulation.users + 1), length_U),
        "item_id": item_UT[given_UT] + 1,
        "rating": _rate(clock, stray_UT)[given_UT],
        "timestamp": _times(clock, interest_UT)[given_UT],
    }
    interest = np.where(stray_UT, NOISE, interest_UT)[given_UT]
    return InterestSample(columns=columns, interest=interest, followed=followed_UK, cluster=cluster_I)


def item_clusters(simulation: InterestSimulation) -> Int64Array:
    """Return (I,) the cluster of item ``i + 1``, from 0, without drawing the rest of the simulation."""
    things, *_ = np.random.SeedSequence(simulation.seed).spawn(6)
    return _clusters(np.random.default_rng(things), simulation)


def _clusters(rng: np.random.Generator, simulation: InterestSimulation) -> Int64Array:
    return rng.permutation(np.arange(simulation.items) % simulation.clusters)


def _walk(rng: np.random.Generator, simulation: InterestSimulation, steps: int) -> Int64Array:
    """Return (U, T) interests, 0 to K - 1: the one before, or with probability 1 - ``stay`` another one."""
    first_U1 = rng.integers(simulation.interests, size=(simulation.users, 1))
    others = max(1, simulation.interests - 1)
    moved = (rng.random((simulation.users, steps - 1)) >= simulation.stay) * rng.integers(
        1, others + 1, (simulation.users, steps - 1)
    )
    walked: Int64Array = np.concatenate([first_U1, moved], axis=1).cumsum(axis=1) % simulation.interests
    return walked


def _pick(
    rng: np.random.Generator,
    simulation: InterestSimulation,
    cluster_I: Int64Array,
    followed_UK: Int64Array,
    interest_UT: Int64Array,
) -> Int64Array:
    """Return (U, T) items from 0: the next of the user's own order of the cluster, which begins again at its end.

    The order is a draw without replacement by popularity: sorted by log weight and Gumbel noise.
    """
    size_C = np.bincount(cluster_I, minlength=simulation.clusters)
    member_CM = np.full((simulation.clusters, size_C.max()), -1)
    by_cluster = np.argsort(cluster_I, kind="stable")
    place = np.arange(simulation.items) - np.repeat(np.cumsum(size_C) - size_C, size_C)
    member_CM[cluster_I[by_cluster], place] = by_cluster
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


def _rate(rng: np.random.Generator, stray_UT: BoolArray) -> Int64Array:
    liked, disliked = (rng.choice(ratings, size=stray_UT.shape) for ratings in (LIKED, DISLIKED))
    return np.where(stray_UT, disliked, liked)


def _times(rng: np.random.Generator, interest_UT: Int64Array) -> Int64Array:
    """Return (U, T) ascending seconds: rows of one interest follow closely, and days pass before the next."""
    changed_UT = np.diff(interest_UT, axis=1, prepend=interest_UT[:, :1]) != 0
    gap_UT = 1 + rng.exponential(np.where(changed_UT, BETWEEN, WITHIN)).astype(np.int64)
    first_U1 = FIRST_TIME + rng.integers(TIME_SPAN, size=(len(interest_UT), 1))
    times: Int64Array = first_U1 + np.cumsum(gap_UT, axis=1)
    return times
