"""Generator of synthetic AliExpress data with known field interactions that depend on country and task.

Each value of a categorical field has a latent vector, the same in all countries. A logit is a weighted sum of products
of the vectors of a few field pairs (one field of the page, one of the item) plus main effects. ``difference`` moves a
country's weights from the pairs common to all countries to pairs of its own: at 0 the countries are equal; at 1 no pair
is shared and main effects are independent. Click and purchase never share a pair. ``pair_weights`` returns the weights.

The files have the publisher's format: user and item files for train and test, without header, numerical values in
[0, 1]. A purchase requires a click; the test files contain the last pages.
Formats and constraints: docs/methods/datasets.md#synthetic-samples.

Legend: P pages, R rows, V values of a field, L latent dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.csv
from pydantic import Field
from pydantic.dataclasses import dataclass

from stemlab.array_types import AnyArray, BoolArray, Float64Array, Int64Array
from stemlab.data.sample.preferences import probability, rotate, zipf_ids
from stemlab.data.sources.aliexpress_columns import (
    ALIEXPRESS_TASKS,
    CATEGORICALS,
    COUNTRIES,
    ITEM_CATEGORICALS,
    ITEM_FILE,
    ITEM_NUMERICALS,
    LABEL_COLUMN,
    SEARCH_COLUMN,
    USER_CATEGORICALS,
    USER_FILE,
    USER_NUMERICALS,
)
from stemlab.types import ClosedFraction, Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

Pair = tuple[str, str]
_TRUTH, _ROWS = 100, 200  # random streams of the weights and of the rows of each country
_FACTORS = 3  # per page and per item: a numerical column is one factor, rescaled above a threshold and 0 below it
_MAX_THRESHOLD = 0.6


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
class AliexpressSimulation:
    """Settings of the AliExpress generator.

    Attributes:
        rows: expected number of impressions per country, train and test together.
        seed: determines every byte of the files.
        difference: from 0 (all countries have the same weights) to 1 (independent weights).
        test_share: share of the pages, taken from the end, in the test files.
        page_size: expected number of items per page, at least 1.
        pairs: field pairs per task common to all countries, and as many specific to each country.
        values: number of values of each categorical field.
        latent_dim: length of the latent vectors.
        zipf: exponent of the popularity distribution of the values.
        click_rate: expected share of clicked impressions.
        conversion_rate: expected share of purchased impressions; less than ``click_rate``.
        click_strength: standard deviation of the click logit over impressions.
        conversion_strength: standard deviation of the logit of a purchase given a click.
        main_effect: share of the logit's variance due to the main effects of fields and numerical columns.
    """

    rows: PositiveInt = 15_000
    seed: NonNegativeInt = 0
    difference: ClosedFraction = 0.5
    test_share: Fraction = 0.2
    page_size: Annotated[float, Field(ge=1)] = 8.0
    pairs: Annotated[int, Field(ge=1, le=5)] = 2
    values: Annotated[int, Field(ge=2)] = 8
    latent_dim: PositiveInt = 2
    zipf: NonNegativeFloat = 0.3
    click_rate: Fraction = 0.25
    conversion_rate: Fraction = 0.08
    click_strength: PositiveFloat = 2.5
    conversion_strength: PositiveFloat = 2.5
    main_effect: ClosedFraction = 0.2


@dataclass(frozen=True, kw_only=True, config={"arbitrary_types_allowed": True})
class AliexpressSample:
    """Generated rows of one country and the true probabilities of their labels.

    Attributes:
        page: column name -> (P,) values of the user files.
        item: column name -> (R,) values of the item files, grouped by page.
        page_R: (R,) index of each row's page.
        click_probability: (R,) true probability of a click.
        conversion_probability: (R,) true probability of a purchase, given a click.
    """

    page: dict[str, AnyArray]
    item: dict[str, AnyArray]
    page_R: Int64Array
    click_probability: Float64Array
    conversion_probability: Float64Array


def pair_weights(simulation: AliexpressSimulation, country: str) -> dict[str, dict[Pair, float]]:
    """Return task -> (field of the page, field of the item) -> weight; the squares of a task's weights sum to 1.

    The weights of ``conversion`` apply to a purchase given a click; among all impressions the pairs of ``click``
    matter as well.
    """
    pairs = [(user, item) for user in USER_CATEGORICALS for item in ITEM_CATEGORICALS]
    order = np.random.default_rng([simulation.seed, _TRUTH]).permutation(len(pairs))
    # one block of pairs per task for all countries, then one per country and task: at most 5 * 2 * 6 of 63 pairs
    angle = simulation.difference * np.pi / 2
    shares = {len(COUNTRIES): float(np.cos(angle)), COUNTRIES.index(country): float(np.sin(angle))}
    weights: dict[str, dict[Pair, float]] = {}
    for task, name in enumerate(ALIEXPRESS_TASKS):
        weights[name] = {}
        for block, share in shares.items():
            start = (block * len(ALIEXPRESS_TASKS) + task) * simulation.pairs
            chosen = [pairs[index] for index in order[start : start + simulation.pairs]]
            weights[name] |= {pair: share / simulation.pairs**0.5 for pair in chosen if share > 1e-12}
    return weights


def write_sample(folder: Path, simulation: AliexpressSimulation, country: str) -> Path:
    """Write the four files of a country into an existing folder and return the folder."""
    made = generate(simulation, country)
    pages = len(made.page[SEARCH_COLUMN])
    first = pages - max(1, round(pages * simulation.test_share))
    for split, kept in (("train", np.arange(pages) < first), ("test", np.arange(pages) >= first)):
        _write(folder / f"{country}_user_{split}.csv", USER_FILE, made.page, kept)
        _write(folder / f"{country}_item_{split}.csv", ITEM_FILE, made.item, kept[made.page_R])
    return folder


def generate(simulation: AliexpressSimulation, country: str) -> AliexpressSample:
    """Generate a country's rows; deterministic for given settings. ``difference`` changes only the labels."""
    seeds = np.random.SeedSequence([simulation.seed, _ROWS + COUNTRIES.index(country)])
    traffic, numbers, labels = (np.random.default_rng(stream) for stream in seeds.spawn(3))
    pages = max(2, round(simulation.rows / simulation.page_size))
    page_R = np.repeat(np.arange(pages), 1 + traffic.poisson(simulation.page_size - 1, pages))
    page = {SEARCH_COLUMN: np.arange(1, pages + 1), **_values(simulation, traffic, USER_CATEGORICALS, pages)}
    item = {SEARCH_COLUMN: page[SEARCH_COLUMN][page_R], **_values(simulation, traffic, ITEM_CATEGORICALS, len(page_R))}
    page |= _numbers(simulation, numbers, USER_NUMERICALS, pages)
    item |= _numbers(simulation, numbers, ITEM_NUMERICALS, len(page_R))
    columns = item | {name: page[name][page_R] for name in (*USER_CATEGORICALS, *USER_NUMERICALS)}
    logits = {task: _logits(simulation, country, task, columns) for task in ALIEXPRESS_TASKS}
    click_R = probability(logits["click"] * simulation.click_strength, simulation.click_rate)
    rate_after_click = min(simulation.conversion_rate / simulation.click_rate, 0.99)
    conversion_R = probability(logits["conversion"] * simulation.conversion_strength, rate_after_click, click_R)
    clicked_R = labels.random(len(page_R)) < click_R
    item[LABEL_COLUMN] = clicked_R.astype(np.int64) + (clicked_R & (labels.random(len(page_R)) < conversion_R))
    return AliexpressSample(
        page=page, item=item, page_R=page_R, click_probability=click_R, conversion_probability=conversion_R
    )


def _values(
    simulation: AliexpressSimulation, rng: np.random.Generator, names: tuple[str, ...], rows: int
) -> dict[str, AnyArray]:
    return {name: zipf_ids(rng, simulation.values, rows, simulation.zipf) for name in names}


def _numbers(
    simulation: AliexpressSimulation, rng: np.random.Generator, names: tuple[str, ...], rows: int
) -> dict[str, AnyArray]:
    """Return numerical columns in [0, 1] with six digits, many of them 0: random factors rescaled above thresholds."""
    factors = rng.random((_FACTORS, rows))
    threshold = np.random.default_rng([simulation.seed, _TRUTH + 3, len(names)]).uniform(0, _MAX_THRESHOLD, len(names))
    threshold[:_FACTORS] = 0  # the first columns are the factors themselves
    scaled = ((factors[index % _FACTORS] - low) / (1 - low) for index, low in enumerate(threshold))
    return {name: np.round(number.clip(0), 6) for name, number in zip(names, scaled, strict=True)}


def _logits(simulation: AliexpressSimulation, country: str, task: str, columns: Mapping[str, AnyArray]) -> Float64Array:
    """Return each row's logit, (R,), with a variance of about 1."""
    vectors_VL = _vectors(simulation)
    pairs_R = np.zeros(len(columns[SEARCH_COLUMN]))
    for (user, item), weight in pair_weights(simulation, country)[task].items():
        match_R = np.einsum("rl,rl->r", vectors_VL[user][columns[user]], vectors_VL[item][columns[item]])
        pairs_R += weight * match_R / np.sqrt(simulation.latent_dim)
    main_R = _main_effects(simulation, country, task, columns)
    logit_R: Float64Array = np.sqrt(simulation.main_effect) * main_R + np.sqrt(1 - simulation.main_effect) * pairs_R
    return logit_R


def _vectors(simulation: AliexpressSimulation) -> dict[str, Float64Array]:
    """Return each field's (V, L) vectors, with mean 0 and variance 1 over the values, so pairs have no main effect."""
    rng = np.random.default_rng([simulation.seed, _TRUTH + 1])
    drawn = {name: rng.standard_normal((simulation.values, simulation.latent_dim)) for name in CATEGORICALS}
    return {name: (vector_VL - vector_VL.mean(0)) / vector_VL.std(0) for name, vector_VL in drawn.items()}


def _main_effects(
    simulation: AliexpressSimulation, country: str, task: str, columns: Mapping[str, AnyArray]
) -> Float64Array:
    """Return the main effects of categorical fields and factors, (R,), with a variance of about 1."""
    task_index = ALIEXPRESS_TASKS.index(task)
    streams = (len(COUNTRIES), COUNTRIES.index(country))  # common to all countries, specific to the country
    common, own = (np.random.default_rng([simulation.seed, _TRUTH + 2, task_index, stream]) for stream in streams)
    factor_columns = (*USER_NUMERICALS[:_FACTORS], *ITEM_NUMERICALS[:_FACTORS])
    total_R = np.zeros(len(columns[SEARCH_COLUMN]))
    for name in CATEGORICALS:
        effect_V = rotate(
            common.standard_normal(simulation.values), own.standard_normal(simulation.values), simulation.difference
        )
        total_R += effect_V[columns[name]]
    for name in factor_columns:
        slope = rotate(common.standard_normal(1), own.standard_normal(1), simulation.difference)
        total_R += slope * (columns[name] - 0.5) * np.sqrt(12)
    effects_R: Float64Array = total_R / np.sqrt(len(CATEGORICALS) + len(factor_columns))
    return effects_R


def _write(path: Path, header: tuple[str, ...], columns: Mapping[str, AnyArray], kept: BoolArray) -> None:
    table = pa.table({name: columns[name][kept].tolist() for name in header})
    with path.open("wb") as out:
        pyarrow.csv.write_csv(table, out, pyarrow.csv.WriteOptions(include_header=False))
