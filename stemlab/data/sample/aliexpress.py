"""A synthetic AliExpress with a known truth: pairs of fields that matter, other ones in every country and task.

Every value of a categorical field has a latent vector, the same in every country, and the match of two fields in a row
is the product of their values' vectors. A logit is a weighted sum of the matches of a few pairs of one field of the
page and one of the item, and of main effects. ``difference`` turns a country's weights from the pairs that all
countries have towards pairs of its own: at 0 the countries are alike, at 1 a pair that matters in one matters in no
other, and main effects are unrelated too. Click and purchase never share a pair. ``pair_weights`` tells the truth.

Files are the publisher's: users' and items' files for train and test, without header, numbers in [0, 1]. A purchase
follows a click; the test files hold the later pages.

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
from stemlab.data.sample.preferences import probability, turn, zipf_ids
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
_TRUTH, _ROWS = 100, 200  # streams of random numbers: what matters, and what a country's files hold
_FACTORS = 3  # of a page or an item: each number tells one of them, from a threshold on (below it is 0)
_HIGHEST = 0.6  # threshold


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
class AliexpressSimulation:
    """The dials of the simulation.

    Attributes:
        rows: expected impressions of each country, train and test.
        seed: fixes every byte of the files.
        difference: 0, the countries are alike, to 1, their vectors are unrelated.
        test_share: share of the pages, the last ones, in the test files.
        page_size: expected items of a page, at least one.
        pairs: pairs of fields that matter to a task in every country, and as many of each country's own.
        values: distinct values of each categorical field.
        latent_dim: length of the values' vectors.
        zipf: exponent of the popularity law of values.
        click_rate: expected share of clicked impressions.
        conversion_rate: expected share of bought ones; less than ``click_rate``.
        click_strength: standard deviation of the click logit over impressions.
        conversion_strength: the same for purchases, given a click.
        main_effect: share of the logit's variance that fields and numbers have on their own.
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
    """Rows of one country and the probabilities that their labels were drawn from.

    Attributes:
        page: column name -> (P,) values of the users' files.
        item: column name -> (R,) values of the items' files, page after page.
        page_R: (R,) place of each row's page.
        click_probability: (R,) true probability of a click.
        conversion_probability: (R,) true probability of a purchase, given a click.
    """

    page: dict[str, AnyArray]
    item: dict[str, AnyArray]
    page_R: Int64Array
    click_probability: Float64Array
    conversion_probability: Float64Array


def pair_weights(simulation: AliexpressSimulation, country: str) -> dict[str, dict[Pair, float]]:
    """Return task -> the pairs that matter, (field of the page, field of the item) -> weight; squares add up to 1.

    Those of ``conversion`` matter to a purchase given a click; among all impressions those of ``click`` do as well.
    """
    every = [(user, item) for user in USER_CATEGORICALS for item in ITEM_CATEGORICALS]
    order = np.random.default_rng([simulation.seed, _TRUTH]).permutation(len(every))
    # a block of pairs a task for all countries, then one a country and task: 5 * 2 * 6 of 63 pairs at the most
    angle = simulation.difference * np.pi / 2
    shares = {len(COUNTRIES): float(np.cos(angle)), COUNTRIES.index(country): float(np.sin(angle))}
    weights: dict[str, dict[Pair, float]] = {}
    for task, name in enumerate(ALIEXPRESS_TASKS):
        weights[name] = {}
        for block, share in shares.items():
            start = (block * len(ALIEXPRESS_TASKS) + task) * simulation.pairs
            chosen = [every[place] for place in order[start : start + simulation.pairs]]
            weights[name] |= {pair: share / simulation.pairs**0.5 for pair in chosen if share > 1e-12}
    return weights


def write_sample(folder: Path, simulation: AliexpressSimulation, country: str) -> Path:
    """Write the four files of a country into an existing folder and return it."""
    made = generate(simulation, country)
    pages = len(made.page[SEARCH_COLUMN])
    first = pages - max(1, round(pages * simulation.test_share))
    for split, kept in (("train", np.arange(pages) < first), ("test", np.arange(pages) >= first)):
        _write(folder / f"{country}_user_{split}.csv", USER_FILE, made.page, kept)
        _write(folder / f"{country}_item_{split}.csv", ITEM_FILE, made.item, kept[made.page_R])
    return folder


def generate(simulation: AliexpressSimulation, country: str) -> AliexpressSample:
    """Draw a country's rows; the same simulation gives the same rows, and ``difference`` moves only labels."""
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
    bought = min(simulation.conversion_rate / simulation.click_rate, 0.99)
    conversion_R = probability(logits["conversion"] * simulation.conversion_strength, bought, click_R)
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
    """Draw factors in [0, 1] and return what the numbers tell of them, in [0, 1] with six digits, many of them 0."""
    factors = rng.random((_FACTORS, rows))
    threshold = np.random.default_rng([simulation.seed, _TRUTH + 3, len(names)]).uniform(0, _HIGHEST, len(names))
    threshold[:_FACTORS] = 0  # the first ones tell them whole
    told = ((factors[place % _FACTORS] - low) / (1 - low) for place, low in enumerate(threshold))
    return {name: np.round(number.clip(0), 6) for name, number in zip(names, told, strict=True)}


def _logits(simulation: AliexpressSimulation, country: str, task: str, columns: Mapping[str, AnyArray]) -> Float64Array:
    """Return each row's logit, (R,), of about unit variance."""
    vectors_VL = _vectors(simulation)
    pairs_R = np.zeros(len(columns[SEARCH_COLUMN]))
    for (user, item), weight in pair_weights(simulation, country)[task].items():
        match_R = np.einsum("rl,rl->r", vectors_VL[user][columns[user]], vectors_VL[item][columns[item]])
        pairs_R += weight * match_R / np.sqrt(simulation.latent_dim)
    main_R = _main_effects(simulation, country, task, columns)
    logit_R: Float64Array = np.sqrt(simulation.main_effect) * main_R + np.sqrt(1 - simulation.main_effect) * pairs_R
    return logit_R


def _vectors(simulation: AliexpressSimulation) -> dict[str, Float64Array]:
    """Return each field's (V, L) vectors, of mean 0 and variance 1 over its values: a match is no main effect."""
    rng = np.random.default_rng([simulation.seed, _TRUTH + 1])
    drawn = {name: rng.standard_normal((simulation.values, simulation.latent_dim)) for name in CATEGORICALS}
    return {name: (vector_VL - vector_VL.mean(0)) / vector_VL.std(0) for name, vector_VL in drawn.items()}


def _main_effects(
    simulation: AliexpressSimulation, country: str, task: str, columns: Mapping[str, AnyArray]
) -> Float64Array:
    """Return what categories and factors (the first numbers) do on their own, (R,), of about unit variance."""
    of_task = ALIEXPRESS_TASKS.index(task)
    streams = (len(COUNTRIES), COUNTRIES.index(country))  # of all countries, and the country's own
    common, own = (np.random.default_rng([simulation.seed, _TRUTH + 2, of_task, stream]) for stream in streams)
    told = (*USER_NUMERICALS[:_FACTORS], *ITEM_NUMERICALS[:_FACTORS])
    total_R = np.zeros(len(columns[SEARCH_COLUMN]))
    for name in CATEGORICALS:
        effect_V = turn(
            common.standard_normal(simulation.values), own.standard_normal(simulation.values), simulation.difference
        )
        total_R += effect_V[columns[name]]
    for name in told:
        slope = turn(common.standard_normal(1), own.standard_normal(1), simulation.difference)
        total_R += slope * (columns[name] - 0.5) * np.sqrt(12)
    effects_R: Float64Array = total_R / np.sqrt(len(CATEGORICALS) + len(told))
    return effects_R


def _write(path: Path, header: tuple[str, ...], columns: Mapping[str, AnyArray], kept: BoolArray) -> None:
    table = pa.table({name: columns[name][kept].tolist() for name in header})
    with path.open("wb") as out:
        pyarrow.csv.write_csv(table, out, pyarrow.csv.WriteOptions(include_header=False))
