"""Limits of buckets at quantiles of training rows."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.data.prepare.quantile_buckets import fit_buckets, key_values, ordered_keys, quantile_edges, rounded_limits
from stemlab.data.prepare.split import SPLITS
from stemlab.data.store import ColumnStore
from stemlab.errors import StemlabError
from tests.data.table.test_derived_columns import data

NUMBERS = st.one_of(st.floats(allow_nan=False), st.integers(-3, 3).map(float))
QUANTILES = "dataset.derived={{age_q: {{buckets: age, quantiles: {}}}}}"


@settings(deadline=None, max_examples=60)
@given(st.lists(NUMBERS, min_size=1, max_size=40), st.integers(2, 12), st.integers(1, 5))
def test_limits_equal_those_of_numpy(numbers: list[float], buckets: int, parts: int) -> None:
    values = np.array(numbers)
    np.testing.assert_array_equal(key_values(ordered_keys(values)), values)
    keys = ordered_keys(np.append(values, np.nan))
    assert np.array_equal(np.argsort(keys[:-1], kind="stable"), np.argsort(values, kind="stable"))
    finite = values[np.isfinite(values)]
    if not len(finite):
        with pytest.raises(StemlabError, match=r"age_q.*no training row"):
            quantile_edges("age_q", lambda: iter([keys]), buckets)
        return
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = np.unique(np.quantile(finite, np.arange(1, buckets) / buckets))
        found = quantile_edges("age_q", lambda: iter(np.array_split(keys, parts)), buckets)
    np.testing.assert_array_equal(found, wanted)


def test_a_missing_number_and_a_rare_bucket_are_out_of_vocabulary() -> None:
    keys = ordered_keys(np.array([1.0, 1.0, 1.0, 2.0, np.nan, np.inf]))
    vocabulary, encoder, edges = fit_buckets("x", lambda: iter([keys]), 2, 3)
    assert edges == (1.0,)
    assert vocabulary.tokens.to_pylist() == [">= 1"]  # with the infinite number; no number is below 1
    assert encoder(keys).tolist() == [1, 1, 1, 1, 2, 1]
    assert encoder(ordered_keys(np.array([0.5]))).tolist() == [2]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8, unique=True))
def test_rounded_limits_keep_order_and_differ(limits: list[float]) -> None:
    rounded = rounded_limits(sorted(limits))
    with np.errstate(over="ignore"):
        distance = np.diff(sorted(limits)).min() if len(limits) > 1 else abs(limits[0])
    assert np.abs(np.subtract(rounded, sorted(limits))).max() <= distance / 1000
    assert rounded == sorted(set(rounded))


def test_names_of_buckets_have_no_rounding_errors() -> None:
    keys = ordered_keys(np.array([0.1, 0.1, 0.2, 0.1 + 0.2, 0.4, 2 / 3]))
    vocabulary, encoder, edges = fit_buckets("x", lambda: iter([keys]), 3, 1)
    assert any(len(repr(edge)) > 10 for edge in edges)
    assert set(vocabulary.tokens.to_pylist()) == {"< 0.1667", "0.1667 to 0.3333", ">= 0.3333"}
    assert sorted(encoder(keys).tolist()) == [1, 1, 2, 2, 3, 3]
    assert rounded_limits([1712345678.0, 1712345999.0]) == [1712345678.0, 1712345999.0]
    assert rounded_limits([0.30000000000000004, 0.6000000000000001]) == [0.3, 0.6]


def rows(folder, count=300):
    rng = np.random.default_rng(0)
    ages = rng.integers(10, 80, count).astype(float) + rng.choice([0.0, 0.25], count)
    cells = ["" if n % 9 == 0 else f"{age:g}" for n, age in enumerate(ages)]
    text = "\n".join(f"u{n % 7},feed,{cell},1,{n % 2}" for n, cell in enumerate(cells))
    (folder / "rows.csv").write_text(f"user,surface,age,price,click\n{text}\n")
    return np.array([float(cell or "nan") for cell in cells])


def small(folder, derived):
    words = ["dataset.fields=[user,age_q]", "dataset.numericals=[]", "dataset.min_count=2"]
    return data(folder, derived, *words)


def test_limits_are_those_of_training_rows_and_give_the_dataset_of_these_edges(tmp_path):
    ages = rows(tmp_path)
    made = small(tmp_path, QUANTILES.format(6))
    directory = made.prepare()
    edges = json.loads((directory / "manifest.json").read_text())["quantile_edges"]["age_q"]
    typed = small(tmp_path, f"dataset.derived={{age_q: {{buckets: age, edges: {edges}}}}}")
    other = typed.prepare()
    assert other != directory
    for split in SPLITS:
        ids, wanted = (ColumnStore(one / f"{split}.arrow").ids for one in (directory, other))
        np.testing.assert_array_equal(ids, wanted)
    train = ColumnStore(directory / "train.arrow").ids[:, 1]
    known = np.bincount(train)[1:-1]
    assert len(known) == 6
    assert known.max() <= 1.3 * known.min()
    assert edges != np.quantile(ages[~np.isnan(ages)], np.arange(1, 6) / 6).tolist()  # not those of all rows
    scored = pa.table({"user": ["u1", "u1", "u1"], "surface": ["feed"] * 3, "age": ["5", "44.25", ""]})
    ids = made.encode(scored).ids_BF.tolist()
    assert ids == typed.encode(scored).ids_BF.tolist()
    assert ids[2][1] == 7  # missing: out-of-vocabulary


def test_derived_columns_that_are_not_read_are_not_computed(tmp_path):
    rows(tmp_path, 60)
    other = "other: {buckets: price, quantiles: 4}, pair: {cross: [surface, price]}"
    made = small(tmp_path, f"dataset.derived={{age_q: {{buckets: age, edges: [30]}}, {other}}}")
    made.prepare()
    assert "quantile_edges" not in made.manifest
    scored = pa.table({"user": ["u1"], "age": ["5"]})
    assert made.encode(scored).ids_BF.shape == (1, 2)
    assert [rule["name"] for rule in made.cell_rules().derived] == ["age_q"]


@pytest.mark.parametrize(
    ("derived", "more", "words"),
    [
        ("{age_q: {buckets: age, quantiles: 1}}", [], "quantiles"),
        ("{age_q: {buckets: age, quantiles: 4, edges: [1]}}", [], "either edges"),
        ("{age_q: {log1p: age, quantiles: 4}}", [], "either edges"),
        ("{age_q: {buckets: age, quantiles: 4}}", ["dataset.numericals=[age_q]"], "numericals.*'age_q'.*fields only"),
        ("{age_q: {buckets: age, quantiles: 4}}", ["dataset.group=age_q"], "group.*'age_q'.*fields only"),
        ("{age_q: {buckets: age, quantiles: 4}}", ["dataset.shared={age_q: user}"], "shared.*'age_q'.*fields only"),
    ],
)
def test_wrong_rules_are_refused(tmp_path, derived, more, words):
    rows(tmp_path, 30)
    fields = ["dataset.fields=[user,age_q]"] if "numericals" not in str(more) else ["dataset.fields=[user]"]
    with pytest.raises(StemlabError, match=words):
        data(tmp_path, f"dataset.derived={derived}", *fields, "dataset.numericals=[]", *more)
