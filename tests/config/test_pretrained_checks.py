"""Settings of pretrained vectors that are refused before data is read."""

from __future__ import annotations

import numpy as np
import pytest

from stemlab.config.instantiate import validate_as
from stemlab.config.pretrained_checks import PretrainedVectors, check_pretrained
from stemlab.config.validation_messages import unknown_origin
from stemlab.errors import StemlabError

GOOD = {"file": "vectors.npy", "ids": "ids.npy", "width": 6}


def check(name, resume="never", **setting):
    described = {"fields": ["user", "item"], "shared": {"user": "item"}, "multivalued": {"tags": {"max_length": 2}}}
    validate_as(PretrainedVectors, setting, key=f"model.pretrained.{name}")
    dataset = {"name": "table", **described}
    check_pretrained({"model": {"pretrained": {name: setting}}, "dataset": dataset, "resume": resume}, unknown_origin)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    np.save(tmp_path / "ids.npy", np.array(["a", "b"]))
    np.save(tmp_path / "vectors.npy", np.ones((2, 6)))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": None}, "width is not set.*width=6"),
        ({"width": 4}, "width=4.*have 6"),
        ({"width": 0}, "width"),
        ({"ids": None}, "ids is not set"),
        ({"file": "vectors.csv"}, r"vectors.csv.*\.npy or \.parquet"),
        ({"column": "v"}, "column.*parquet"),
        ({"file": "ids.npy"}, "U1.*not floats"),
        ({"file": "none.npy"}, r"none\.npy.* cannot be read"),
        ({"freeze": True}, "freeze.*frozen"),
        ({"unknown": True}, "Known settings: column, file, frozen"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change, words):
    with pytest.raises(StemlabError, match=words) as raised:
        check("item", **GOOD | change)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["itm", "user"])
def test_only_fields_with_a_table_of_their_own_have_vectors(name):
    with pytest.raises(StemlabError, match=f"{name}.*item, tags"):
        check(name, **GOOD)
    check("tags", **GOOD)


def test_a_resumed_run_needs_no_file():
    check("item", resume="auto", **GOOD | {"file": "none.npy"})
