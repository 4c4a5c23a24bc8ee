"""Generator of synthetic KuaiRand data with known label probabilities: logs, user table and video table, raw format.

Users and videos have preference vectors per tab (scenario) and task. ``scenario_gap`` rotates the vectors of all other
tabs away from those of tab 1: at 0 all tabs have the same preferences, at 1 independent ones. ``conflict`` does the
same for like against click; long view and click have the same vectors. Likes and long views require a click, and play
times agree with both. The number of followed users depends on the user's main effect on clicks, so numerical columns
are informative. Popular videos are more frequent in the standard logs; the random log shows all videos equally often.
Formats and constraints: docs/methods/datasets.md#synthetic-samples.

Legend: U users, V videos, R rows, L latent dimensions.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from pydantic.dataclasses import dataclass

from stemlab.array_types import AnyArray, Float64Array, Int64Array
from stemlab.data.sample.preferences import PreferenceVectors, draw_labels, probability, zipf_ids
from stemlab.types import ClosedFraction, Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

LOG_COLUMNS = (
    *("user_id", "video_id", "date", "hourmin", "time_ms", "is_click", "is_like", "is_follow", "is_comment"),
    *("is_forward", "is_hate", "long_view", "play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time"),
    *("is_profile_enter", "is_rand", "tab"),
)
USER_COLUMNS = (
    *("user_id", "user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author"),
    *("follow_user_num", "follow_user_num_range", "fans_user_num", "fans_user_num_range"),
    *("friend_user_num", "friend_user_num_range", "register_days", "register_days_range"),
    *(f"onehot_feat{index}" for index in range(18)),
)
VIDEO_COLUMNS = (
    *("video_id", "author_id", "video_type", "upload_dt", "upload_type", "visible_status", "video_duration"),
    *("server_width", "server_height", "music_id", "music_type", "tag"),
)
_TABS, _TAB_SHARES = (0, 1, 2, 4, 6, 8, 13), (0.24, 0.42, 0.14, 0.11, 0.08, 0.006, 0.004)
MAIN_TAB = 1
FIRST_DAY, DAYS, LATER_FROM = "2022-04-08T00:00", 31, 14  # local days; the later log starts on day 15
BUSY_SHARE = 0.2  # share of rows in the last two days, so that small files have enough validation and test rows
_UTC_OFFSET_MS = 8 * 3_600_000  # dates are in China time
_RARE_RATES = {"is_follow": 0.02, "is_comment": 0.02, "is_forward": 0.01, "is_profile_enter": 0.03}  # given a click
_HOT_SIZES = (2, 7, 50, 1471, 15, 34, 3, 118, 454, 7, 5, 5, 2, 2, 2, 2, 2, 2)
_RANGES: Mapping[str, Sequence[tuple[int, str]]] = {
    "follow_user_num": ((0, "0"), (1, "(0,10]"), (11, "(10,50]"), (51, "(50,100]"), (101, "(100,150]"), (501, "500+")),
    "fans_user_num": ((0, "0"), (1, "[1,10)"), (10, "[10,100)"), (100, "[100,1k)"), (1000, "[1k,5k)")),
    "friend_user_num": ((0, "0"), (1, "[1,5)"), (5, "[5,30)"), (30, "[30,60)"), (250, "250+")),
    "register_days": ((0, "15-30"), (31, "31-60"), (61, "61-90"), (181, "181-365"), (366, "366-730"), (731, "730+")),
}


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
class KuairandSimulation:
    """Settings of the KuaiRand generator.

    Attributes:
        rows: number of impressions of the two standard logs.
        random_rows: number of impressions of the random log.
        seed: determines every byte of the files.
        scenario_gap: from 0 (all tabs have the same preferences) to 1 (other tabs are independent of tab 1).
        conflict: from 0 (like and click have the same preferences) to 1 (independent preferences).
        users: number of users.
        videos: number of videos.
        latent_dim: length of the preference vectors.
        zipf: exponent of the popularity distribution.
        click_rate: expected share of clicked impressions.
        long_view_rate: expected share of long views; less than ``click_rate``.
        like_rate: expected share of likes; less than ``click_rate``.
        strength: standard deviation of the click logit over impressions; the other logits have two thirds of it.
        main_effect: share of the logit's variance due to the main effects of users and videos.
    """

    rows: PositiveInt = 80_000
    random_rows: PositiveInt = 6_000
    seed: NonNegativeInt = 0
    scenario_gap: ClosedFraction = 0.5
    conflict: ClosedFraction = 0.5
    users: PositiveInt = 200
    videos: PositiveInt = 200
    latent_dim: PositiveInt = 4
    zipf: NonNegativeFloat = 0.5
    click_rate: Fraction = 0.38
    long_view_rate: Fraction = 0.26
    like_rate: Fraction = 0.04
    strength: PositiveFloat = 3.0
    main_effect: ClosedFraction = 0.4


@dataclass(frozen=True, kw_only=True, config={"arbitrary_types_allowed": True})
class KuairandSample:
    """Generated rows of the standard logs or of the random log, and the true probabilities of their labels.

    Attributes:
        columns: raw column name -> (R,) values.
        truth: label -> (R,) true probability of ``is_click``, and of ``is_like`` and ``long_view`` given a click.
    """

    columns: dict[str, AnyArray]
    truth: dict[str, Float64Array]


def log_names(version: str) -> tuple[str, str, str]:
    """Return the file names of the earlier and the later standard log and of the random log."""
    return (
        f"log_standard_4_08_to_4_21_{version}.csv",
        f"log_standard_4_22_to_5_08_{version}.csv",
        f"log_random_4_22_to_5_08_{version}.csv",
    )


def side_names(version: str) -> tuple[str, str]:
    """Return the file names of the user table and the video table."""
    return f"user_features_{version}.csv", f"video_features_basic_{version}.csv"


def write_sample(folder: Path, simulation: KuairandSimulation, version: str) -> Path:
    """Write the five files into an existing folder and return the folder."""
    standard, random = generate(simulation, random=False).columns, generate(simulation, random=True).columns
    later = standard["date"] >= 20220422
    parts = ({name: values[rows] for name, values in standard.items()} for rows in (~later, later))
    for name, columns in zip(log_names(version), (*parts, random), strict=True):
        _write_log(folder / name, columns)
    for name, header, columns in zip(
        side_names(version), (USER_COLUMNS, VIDEO_COLUMNS), (users(simulation), videos(simulation)), strict=True
    ):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")  # quotes cells with a comma, like the real files
            writer.writerow(header)
            writer.writerows(zip(*(columns[column].tolist() for column in header), strict=True))
    return folder


def _write_log(path: Path, columns: Mapping[str, AnyArray]) -> None:
    table = pa.table({name: columns[name].tolist() for name in LOG_COLUMNS})
    with path.open("wb") as out:
        out.write((",".join(LOG_COLUMNS) + "\n").encode())
        pyarrow.csv.write_csv(table, out, pyarrow.csv.WriteOptions(include_header=False))


def generate(simulation: KuairandSimulation, *, random: bool) -> KuairandSample:
    """Generate the standard logs or the random log; deterministic for given settings."""
    # one random stream per purpose: a setting changes only the columns that depend on it
    seeds = np.random.SeedSequence([simulation.seed, int(random)])
    traffic, labels, rest = (np.random.default_rng(stream) for stream in seeds.spawn(3))
    rows = simulation.random_rows if random else simulation.rows
    user_R = np.sort(zipf_ids(traffic, simulation.users, rows, simulation.zipf))
    video_R = zipf_ids(traffic, simulation.videos, rows, 0.0 if random else simulation.zipf)
    tab_R = np.array(_TABS)[traffic.choice(len(_TABS), rows, p=_TAB_SHARES)]
    truth = _truth(simulation, user_R, video_R, tab_R)
    click_R = draw_labels(labels, truth["is_click"])
    columns = {
        "user_id": user_R,
        "video_id": video_R,
        **_times(traffic, user_R, DAYS - LATER_FROM if random else DAYS),
        "is_click": click_R,
        **{name: click_R * draw_labels(labels, truth[name]) for name in ("is_like", "long_view")},
        **{name: click_R * draw_labels(rest, np.full(rows, rate)) for name, rate in _RARE_RATES.items()},
        "is_hate": (1 - click_R) * draw_labels(rest, np.full(rows, 0.002)),
        "is_rand": np.full(rows, int(random)),
        "tab": tab_R,
    }
    duration_R = np.rint(videos(simulation)["length"][video_R]).astype(np.int64)
    columns |= _plays(rest, columns, duration_R)
    return KuairandSample(columns=columns, truth=truth)


def _truth(
    simulation: KuairandSimulation, user_R: Int64Array, video_R: Int64Array, tab_R: Int64Array
) -> dict[str, Float64Array]:
    logits = {name: np.empty(len(user_R)) for name in ("is_click", "is_like", "long_view")}
    for tab in _TABS:
        rows = np.flatnonzero(tab_R == tab)
        for name, vectors in _preference_vectors(simulation, tab).items():
            logits[name][rows] = (
                vectors.logits(user_R[rows], video_R[rows], simulation.main_effect) * simulation.strength
            )
    click_R = probability(logits["is_click"], simulation.click_rate)
    rates = {"is_like": simulation.like_rate, "long_view": simulation.long_view_rate}
    after_click = {
        name: probability(logits[name] / 1.5, min(rate / simulation.click_rate, 0.99), click_R)
        for name, rate in rates.items()
    }
    return {"is_click": click_R, **after_click}


def _preference_vectors(simulation: KuairandSimulation, tab: int) -> dict[str, PreferenceVectors]:
    """Return the preference vectors of clicks, likes and long views in a tab."""
    size = (simulation.users, simulation.videos, simulation.latent_dim)
    click, like = (
        PreferenceVectors.draw(np.random.default_rng([simulation.seed, MAIN_TAB, task]), *size) for task in range(2)
    )
    if tab != MAIN_TAB:
        own = [PreferenceVectors.draw(np.random.default_rng([simulation.seed, tab, task]), *size) for task in range(2)]
        click, like = (
            click.rotated_towards(own[0], simulation.scenario_gap),
            like.rotated_towards(own[1], simulation.scenario_gap),
        )
    return {"is_click": click, "is_like": click.rotated_towards(like, simulation.conflict), "long_view": click}


def _times(rng: np.random.Generator, user_R: Int64Array, days: int) -> dict[str, Int64Array]:
    """Draw times in the last ``days`` days, ascending per user."""
    day_R = np.where(
        rng.random(len(user_R)) < BUSY_SHARE,
        rng.integers(DAYS - 2, DAYS, len(user_R)),
        rng.integers(DAYS - days, DAYS - 2, len(user_R)),
    )
    start = np.datetime64(FIRST_DAY, "ms").astype(np.int64)
    local_R = start + day_R * 86_400_000 + rng.integers(0, 86_400_000, len(user_R))
    local_R = local_R[np.lexsort((local_R, user_R))]
    date_R = local_R.astype("datetime64[ms]").astype("datetime64[D]")
    month_R = date_R.astype("datetime64[M]")
    year_R = date_R.astype("datetime64[Y]").astype(np.int64) + 1970
    date_R = year_R * 10_000 + (month_R.astype(np.int64) % 12 + 1) * 100 + (date_R - month_R).astype(np.int64) + 1
    return {"date": date_R, "hourmin": local_R // 3_600_000 % 24 * 100, "time_ms": local_R - _UTC_OFFSET_MS}


def _plays(rng: np.random.Generator, columns: Mapping[str, AnyArray], duration_R: Int64Array) -> dict[str, Int64Array]:
    """Return play and stay times that agree with the labels: clicks play over 7 s, long views over 18 s or fully."""
    long_from = np.minimum(18_000, duration_R)
    low = np.where(columns["long_view"] == 1, long_from, np.where(columns["is_click"] == 1, 7_001, 0))
    high = np.where(columns["long_view"] == 1, duration_R + 1, np.where(columns["is_click"] == 1, long_from, 7_001))
    return {
        "play_time_ms": rng.integers(low, high),
        "duration_ms": duration_R,
        "profile_stay_time": columns["is_profile_enter"] * rng.integers(500, 20_000, len(duration_R)),
        "comment_stay_time": columns["is_comment"] * rng.integers(500, 20_000, len(duration_R)),
    }


def users(simulation: KuairandSimulation) -> dict[str, AnyArray]:
    """Return the columns of the user table, (U,) each; some cells are empty."""
    rng, count = np.random.default_rng([simulation.seed, 201]), simulation.users
    main_effect_U = _preference_vectors(simulation, MAIN_TAB)["is_click"].user[:, 0]
    numbers = {
        "follow_user_num": np.rint(np.exp(4 + main_effect_U)).astype(np.int64),
        "fans_user_num": np.rint(np.exp(rng.normal(3, 2, count))).astype(np.int64),
        "friend_user_num": rng.poisson(20, count),
        "register_days": rng.integers(8, 2000, count),
    }
    hot = {f"onehot_feat{index}": rng.integers(0, size, count) for index, size in enumerate(_HOT_SIZES)}
    floats = {name: hot[name].astype(np.float64).astype("U8") for name in ("onehot_feat4", *list(hot)[12:])}
    for values in floats.values():
        values[rng.random(count) < 0.03] = ""
    return {
        "user_id": np.arange(count),
        "user_active_degree": rng.choice(["full_active", "high_active", "middle_active"], count, p=[0.66, 0.26, 0.08]),
        "is_lowactive_period": np.zeros(count, np.int64),
        "is_live_streamer": np.where(rng.random(count) < 0.22, 1, -124),
        "is_video_author": (rng.random(count) < 0.8).astype(np.int64),
        **numbers,
        **{f"{name}_range": _ranges(values, _RANGES[name]) for name, values in numbers.items()},
        **hot,
        **floats,
    }


def videos(simulation: KuairandSimulation) -> dict[str, AnyArray]:
    """Return the columns of the video table, (V,) each, and ``length``: the duration in milliseconds, never missing."""
    rng, count = np.random.default_rng([simulation.seed, 202]), simulation.videos
    length_V = np.rint(rng.gamma(3.0, 12_000.0, count)).clip(8_000, 180_000)
    shown_V = length_V.astype("U12")
    shown_V[rng.random(count) < 0.03] = ""
    type_V = rng.choice(["9.0", "4.0", "8.0", ""], count, p=[0.88, 0.08, 0.01, 0.03])
    return {
        "length": length_V,
        "video_id": np.arange(count),
        "author_id": rng.integers(1, 8_000_000, max(1, count // 2))[rng.integers(0, max(1, count // 2), count)],
        "video_type": rng.choice(["NORMAL", "AD"], count, p=[0.97, 0.03]),
        "upload_dt": rng.choice(["2022-04-09", "2022-04-10", "2022-04-11"], count),
        "upload_type": rng.choice(["LongImport", "Web", "ShortImport", "Kmovie"], count, p=[0.4, 0.35, 0.13, 0.12]),
        "visible_status": np.full(count, "0.0"),
        "video_duration": shown_V,
        "server_width": rng.choice(["720.0", "1280.0"], count, p=[0.8, 0.2]),
        "server_height": rng.choice(["1280.0", "720.0"], count, p=[0.75, 0.25]),
        "music_id": rng.integers(1_000_000, 9_200_000_000, count),
        "music_type": type_V,
        "tag": rng.choice(["39", "3", "9", "20,43", "62,7", ""], count, p=[0.4, 0.2, 0.15, 0.14, 0.1, 0.01]),
    }


def _ranges(values: Int64Array, ranges: Sequence[tuple[int, str]]) -> AnyArray:
    starts, names = zip(*ranges, strict=True)
    return np.array(names)[np.searchsorted(starts, values, side="right") - 1]
