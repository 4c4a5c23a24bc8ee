"""Settings of the preparation and their checks."""

import json
from dataclasses import fields, replace

import pytest

from stemlab.data.prepare.negative_downsampling import DownsamplingRule
from stemlab.data.prepare.preparation_settings import NumericalColumn, PreparationSettings
from stemlab.data.prepare.split import SplitRule
from stemlab.data.spec import Field, Label, ValueList
from stemlab.errors import StemlabError
from tests.data.mixed_rows import preparation, prepare_mixed, random_rows


def test_settings_are_all_settings_as_plain_json():
    settings = PreparationSettings(
        name="t", fields=("a",), tasks=("x",), group=None, min_count=10, split=SplitRule(), time="t"
    )
    plain = settings.settings()
    lists = (Field("g", 0, "list", values=ValueList(3)),)
    used = replace(settings, labels=(Label("x", "regression"),), weight="w", lists=lists, quantiles={"a": 3}).settings()
    assert set(used) == {field.name for field in fields(PreparationSettings)}
    later = {"labels", "weight", "lists", "quantiles"}
    assert set(plain) == set(used) - later  # fingerprints without them stay as they were
    assert set(plain["split"]) == {field.name for field in fields(SplitRule)}
    assert json.loads(json.dumps(plain))["fields"] == ["a"]


@pytest.mark.parametrize(
    "changed",
    [
        {"numericals": (NumericalColumn(name="price"),)},
        {"scenarios": ("nl", "fr", "es")},
        {"shared": {"hist_1": "item"}},
        {"padding": {}},
        {"split": SplitRule(rule="given", carve="random")},
        {"sampling": DownsamplingRule(label="buy", negatives=2, seed=0)},
        {"split_column": "time"},
    ],
)
def test_whatever_determines_the_content_is_in_the_settings(changed):
    assert json.dumps(preparation(**changed).settings()) != json.dumps(preparation().settings())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shared": {"hist_1": "itme"}}, r"'hist_1' cannot share the vocabulary of 'itme'.*mean 'item'"),
        ({"shared": {"hist_1": "item", "hist_2": "hist_1"}}, "'hist_2' cannot share the vocabulary of 'hist_1'"),
        ({"shared": {"user": "item"}}, "'user' cannot share the vocabulary of 'item'"),
        ({"numericals": (NumericalColumn(name="item"),)}, "column 'item' is named twice"),
    ],
)
def test_inconsistent_settings_are_rejected(tmp_path, changed, message):
    with pytest.raises(StemlabError, match=message):
        prepare_mixed(tmp_path, random_rows(30), **changed)
