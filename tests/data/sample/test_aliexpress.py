"""Synthetic AliExpress: the raw format, and the effect of the weighted field pairs."""

import csv
import hashlib
from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from stemlab.data.sample.aliexpress import AliexpressSimulation, generate, pair_weights, write_sample
from stemlab.data.sources.aliexpress_columns import (
    ALIEXPRESS_TASKS,
    COUNTRIES,
    ITEM_CATEGORICALS,
    ITEM_FILE,
    USER_CATEGORICALS,
    USER_FILE,
)

SMALL = AliexpressSimulation(rows=300)
WIDE = AliexpressSimulation(rows=40_000, main_effect=0.0)


def test_files_have_the_raw_format(tmp_path):
    write_sample(tmp_path, SMALL, "es")
    assert {path.name for path in tmp_path.iterdir()} == {
        f"es_{side}_{split}.csv" for side in ("user", "item") for split in ("train", "test")
    }
    pages, rows = {}, {}
    for split in ("train", "test"):
        for side, columns, kept in (("user", USER_FILE, pages), ("item", ITEM_FILE, rows)):
            with (tmp_path / f"es_{side}_{split}.csv").open(newline="") as file:
                kept[split] = list(csv.reader(file))
            for line in kept[split]:
                assert len(line) == len(columns)
                cells = dict(zip(columns, line, strict=True))
                assert all(0 <= float(value) <= 1 for name, value in cells.items() if name.startswith("numerical"))
                assert all(value.isdigit() for name, value in cells.items() if name.startswith("categorical"))
                assert cells.get("label", "0") in {"0", "1", "2"}
        assert {line[0] for line in pages[split]} == {line[0] for line in rows[split]}
    last = max(int(line[0]) for line in pages["train"])
    assert all(int(line[0]) > last for line in pages["test"])  # later pages
    assert len(pages["test"]) == round(0.2 * (len(pages["train"]) + len(pages["test"])))


def test_same_settings_give_the_same_bytes(tmp_path):
    texts = []
    for name, simulation in (("a", SMALL), ("b", SMALL), ("c", AliexpressSimulation(rows=300, seed=1))):
        (tmp_path / name).mkdir()
        texts.append((write_sample(tmp_path / name, simulation, "nl") / "nl_item_train.csv").read_bytes())
    assert texts[0] == texts[1] != texts[2]
    # If this changes, all results measured on the sample change.
    assert hashlib.sha256(texts[0]).hexdigest()[:16] == "ec01b874c0bcf3e7"


def test_numerical_columns_depend_on_three_factors_per_page_and_item():
    made = generate(SMALL, "fr")
    for columns, first in ((made.page, 1), (made.item, 24)):
        factor, column = columns[f"numerical_{first}"], columns[f"numerical_{first + 3}"]
        shown = column > 0
        assert 0.3 < shown.mean() < 1
        assert (factor[~shown].max() if (~shown).any() else 0) <= factor[shown].min() + 1e-6  # 0 below a threshold
        np.testing.assert_allclose(np.corrcoef(factor[shown], column[shown])[0, 1], 1, atol=1e-9)
        assert abs(np.corrcoef(factor, columns[f"numerical_{first + 1}"])[0, 1]) < 0.3


def test_rates_equal_the_settings_and_purchases_follow_clicks():
    made = generate(AliexpressSimulation(rows=20_000), "us")
    label = made.item["label"]
    assert (label >= 1).mean() == pytest.approx(0.25, abs=0.01)
    assert (label == 2).mean() == pytest.approx(0.08, abs=0.01)
    assert len(label) == pytest.approx(20_000, rel=0.03)
    assert roc_auc_score(label >= 1, made.click_probability) > 0.85
    clicked = label >= 1
    assert roc_auc_score(label[clicked] == 2, made.conversion_probability[clicked]) > 0.85


def test_difference_selects_the_pairs():
    alike, unrelated = AliexpressSimulation(difference=0), AliexpressSimulation(difference=1)
    for task in ALIEXPRESS_TASKS:
        assert len({tuple(pair_weights(alike, country)[task].items()) for country in COUNTRIES}) == 1
        own = [set(pair_weights(unrelated, country)[task]) for country in COUNTRIES]
        assert all(not a & b for a, b in combinations(own, 2))
        assert all(len(pairs) == 2 for pairs in own)
    for simulation in (alike, unrelated, AliexpressSimulation(difference=0.4, pairs=5)):
        for country in COUNTRIES:
            click, bought = (pair_weights(simulation, country)[task] for task in ALIEXPRESS_TASKS)
            assert not set(click) & set(bought)
            for weights in (click, bought):
                assert sum(weight**2 for weight in weights.values()) == pytest.approx(1)
                assert all(user in USER_CATEGORICALS and item in ITEM_CATEGORICALS for user, item in weights)


def explained(columns, pair, logit):
    """Return the share of the logit's variance explained by two fields jointly beyond each field alone."""
    first, second = (columns[name] for name in pair)
    table = np.zeros((WIDE.values, WIDE.values))
    count = np.zeros_like(table)
    np.add.at(table, (first, second), logit)
    np.add.at(count, (first, second), 1)
    mean = table / np.maximum(count, 1)
    mean -= mean.mean(0) + mean.mean(1, keepdims=True) - mean.mean()
    return (mean[first, second] ** 2).mean() / logit.var()


@pytest.mark.parametrize("country", ["nl", "fr"])
def test_pairs_with_weights_explain_the_logits(country):
    made = generate(WIDE, country)
    columns = made.item | {name: made.page[name][made.page_R] for name in USER_CATEGORICALS}
    for task, probability in (("click", made.click_probability), ("conversion", made.conversion_probability)):
        logit = np.log(probability / (1 - probability))
        shares = {
            (user, item): explained(columns, (user, item), logit)
            for user in USER_CATEGORICALS
            for item in ITEM_CATEGORICALS
        }
        weights = pair_weights(WIDE, country)[task]
        assert set(sorted(shares, key=shares.get)[-len(weights) :]) == set(weights)
        assert sum(shares[pair] for pair in weights) > 0.7
        assert max(share for pair, share in shares.items() if pair not in weights) < 0.02


def logits(country, **settings):
    made = generate(AliexpressSimulation(rows=4000, **settings), country)
    return made, np.log(made.click_probability / (1 - made.click_probability))


def test_difference_changes_labels_only_and_0_makes_countries_equal():
    (alike, _), (other, _) = logits("es", difference=0.0), logits("es", difference=1.0)
    for name in ("search_id", "categorical_10", "numerical_24"):
        np.testing.assert_array_equal(alike.item[name], other.item[name])
    assert (alike.item["label"] != other.item["label"]).any()
    for difference, low, high in ((0.0, 0.999, 1.0), (1.0, -0.4, 0.4)):
        tables = [mean_logits(country, difference) for country in ("nl", "us")]
        assert low <= np.corrcoef(*tables)[0, 1] <= high


def mean_logits(country, difference):
    """Return the mean click logit at ``difference`` 0 by the values of the first pair with weight."""
    settings = {"difference": difference, "main_effect": 0.0, "pairs": 1, "rows": 20_000}
    simulation = AliexpressSimulation(**settings)
    made = generate(simulation, country)
    ((user, item),) = pair_weights(AliexpressSimulation(pairs=1, difference=0.0), country)["click"]
    logit = np.log(made.click_probability / (1 - made.click_probability))
    values = made.page[user][made.page_R] * simulation.values + made.item[item]
    return np.bincount(values, logit) / np.bincount(values)
