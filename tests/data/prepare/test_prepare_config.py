"""What a recipe says of itself, and what it refuses."""

import json

import pytest

from stemlab.data.prepare.negative_downsampling import DownsamplingRule
from stemlab.data.prepare.pipeline import NumericalColumn, PrepareConfig
from stemlab.data.prepare.split import SplitRule
from stemlab.errors import StemlabError
from tests.data.mixed_rows import prepare_config, prepare_mixed, random_rows


def test_recipes_of_earlier_versions_keep_their_fingerprint():
    plain = PrepareConfig(
        name="t", fields=("a",), tasks=("x",), group=None, min_count=10, split=SplitRule(), time="t"
    ).settings()
    assert json.loads(json.dumps(plain)) == {
        "name": "t",
        "fields": ["a"],
        "tasks": ["x"],
        "group": None,
        "min_count": 10,
        "split": {"rule": "random", "test_size": 0.1, "valid_size": 0.1, "seed": 42},
        "time": "t",
    }


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
    assert json.dumps(prepare_config(**changed).settings()) != json.dumps(prepare_config().settings())


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"shared": {"hist_1": "itme"}}, r"'hist_1' cannot share the vocabulary of 'itme'.*mean 'item'"),
        ({"shared": {"hist_1": "item", "hist_2": "hist_1"}}, "'hist_2' cannot share the vocabulary of 'hist_1'"),
        ({"shared": {"user": "item"}}, "'user' cannot share the vocabulary of 'item'"),
        ({"numericals": (NumericalColumn(name="item"),)}, "column 'item' is named twice"),
    ],
)
def test_recipes_that_do_not_fit(tmp_path, changed, told):
    with pytest.raises(StemlabError, match=told):
        prepare_mixed(tmp_path, random_rows(30), **changed)
