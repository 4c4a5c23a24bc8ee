"""The encoder of exported models reads cells as the datasets do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.inference.export.encode import EncodingError, ImpressionEncoder, SequenceEncoder
from stemlab.inference.export.made_up_rows import impression_rows, sequence_rows
from stemlab.inference.export.networks import IMPRESSION_INPUTS
from stemlab.inference.export.rules import impression_rules, sequence_rules
from stemlab.runs.build import build_datamodule
from tests import tiny_datasets
from tests.data.table.list_rows import click_log
from tests.inference.small_checkpoints import list_overrides

IMPRESSIONS = [name for name in tiny_datasets.NAMES if not tiny_datasets.is_sequential(name)]
QUICK = ("kuairand", "tenrec_shared", "tiktok")
CELLS = st.one_of(
    st.none(),
    st.integers(-3, 30),
    st.sampled_from([0.0, 1.0, 7.0, 2.5, float("nan")]),
    st.sampled_from(["", " ", "1", "2.0", "07", "1.5", "\\N", "?", "NA", "null", " a ", "a", "b", "-1", "u1", "i2"]),
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    made: dict[str, Any] = {}

    def prepare(name: str) -> Any:
        if name not in made:
            home = tmp_path_factory.mktemp("encoder")
            data = build_datamodule(compose("train", ["model=mmoe", *tiny_datasets.overrides(name, home)]))
            data.prepare()
            made[name] = data
        return made[name]

    return prepare


def encoder_of(data: Any) -> ImpressionEncoder:
    rules = impression_rules(data, data.spec)
    given = {"ids": True, "values": bool(data.spec.numericals), "scenario": rules["scenario"] is not None}
    given |= {"lists": bool(data.spec.lists), "list_weights": any(field.values.weighted for field in data.spec.lists)}
    return ImpressionEncoder(json.loads(json.dumps({**rules, "inputs": [name for name, has in given.items() if has]})))


def outcome(encode: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray] | None:
    """Return the inputs, or ``None`` for rows that are refused."""
    try:
        return encode()
    except (StemlabError, EncodingError):
        return None


def reference(data: Any, table: pa.Table, names: list[str]) -> dict[str, np.ndarray]:
    batch = data.encode(table)
    return {name: getattr(batch, IMPRESSION_INPUTS[name]).numpy() for name in names}


def assert_same(data: Any, table: pa.Table, rows: Any) -> None:
    encoder = encoder_of(data)
    wanted = outcome(lambda: reference(data, table, encoder.rules["inputs"]))
    found = outcome(lambda: encoder(rows))
    assert (found is None) == (wanted is None), rows
    for name, values in (wanted or {}).items():
        assert found is not None
        np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-6, err_msg=name)
        assert found[name].dtype == values.dtype


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in IMPRESSIONS]
)
def test_every_dataset(name: str, prepared: Callable[[str], Any]) -> None:
    data = prepared(name)
    columns = impression_rows(impression_rules(data, data.spec), data.spec.scenarios)
    table = pa.table({column: pa.array(cells, pa.string()) for column, cells in columns.items()})
    assert_same(data, table, columns)


@pytest.mark.parametrize("name", ["table", "tenrec", "census_income"])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(CELLS, min_size=2, max_size=6), kind=st.sampled_from(["text", "typed"]), seed=st.integers(0, 99))
def test_any_cells(name: str, cells: list[Any], kind: str, seed: int, prepared: Callable[[str], Any]) -> None:
    """One column has arbitrary cells: as text, or as numbers with missing values."""
    data = prepared(name)
    rules = impression_rules(data, data.spec)
    columns = impression_rows(rules, data.spec.scenarios, count=len(cells))
    names = [part["name"] for part in (*rules["fields"], *rules["numericals"])]
    changed = names[seed % len(names)]
    if kind == "text":
        cells = [None if cell is None else cell if isinstance(cell, str) else repr(cell) for cell in cells]
    else:
        cells = [None if isinstance(cell, str) else cell for cell in cells]
    array = pa.array(cells, pa.string() if kind == "text" else None)
    arrays = {column: pa.array(values, pa.string()) for column, values in columns.items()}
    columns[changed] = array.to_pylist() if array.type != pa.null() else [None] * len(cells)
    arrays[changed] = array if array.type != pa.null() else pa.array(columns[changed], pa.string())
    assert_same(data, pa.table(arrays), columns)


def test_frames_and_dictionaries_are_equal(prepared: Callable[[str], Any]) -> None:
    data = prepared("tiktok")
    encoder = encoder_of(data)
    columns = {field["name"]: [1, 2, None] for field in encoder.rules["fields"]}
    frame = pd.DataFrame(columns)  # floats with NaN
    wanted = encoder(columns)["ids"]
    for rows in (frame, frame.astype("Int64"), frame.to_dict("records"), frame.astype(object)):
        assert np.array_equal(encoder(rows)["ids"], wanted)
    with pytest.raises(EncodingError, match="uid"):
        encoder(frame.drop(columns="uid"))
    with pytest.raises(EncodingError, match=r"row 2 .*uid"):
        encoder([dict(frame.iloc[0]), {}])
    with pytest.raises(EncodingError, match=r"uid.*2\.5"):
        encoder(frame.assign(uid=2.5))
    with pytest.raises(EncodingError, match="uid"):
        encoder(frame.assign(uid=np.float32(2**25)).astype({"uid": "float32"}))


def test_lists_of_values(tmp_path: Path) -> None:
    """Multi-valued fields and sequences, as Python lists and as text."""
    data = build_datamodule(compose("train", ["model=mmoe", *list_overrides(tmp_path)]))
    data.prepare()
    columns = impression_rows(impression_rules(data, data.spec), data.spec.scenarios, count=40)
    assert_same(data, pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()}), columns)
    rows = click_log(200).tail(40).to_dict("list")
    assert_same(data, pa.table(rows), rows)
    text = {name: [separated(cell) for cell in cells] for name, cells in rows.items()}
    assert_same(data, pa.table({name: pa.array(cells) for name, cells in text.items()}), text)
    assert encoder_of(data)(rows)["lists"].any(axis=0).sum() == 23  # all columns but the age of the newest item
    encoder, bad = encoder_of(data), {name: cells[-1:] for name, cells in rows.items()}
    for changed, hint in (
        ({"hist_times": [[1]], "hist_items": [[1, 2]], "hist_categories": [["a", "b"]]}, "hist_times.* 1 values"),
        ({"hist_times": [[2, 1]], "hist_items": [[1, 2]], "hist_categories": [["a", "b"]]}, "hist_times.*oldest"),
        ({"genres": [["g1"]], "genre_weights": [[-1]]}, "genre_weights.*-1"),
    ):
        with pytest.raises(StemlabError):
            data.encode(pa.table(bad | changed))
        with pytest.raises(EncodingError, match=hint):
            encoder(bad | changed)


def separated(cell: Any) -> Any:
    return "|".join(map(str, cell)) if isinstance(cell, list) else cell


def test_scenarios_by_name_number_or_tab(prepared: Callable[[str], Any]) -> None:
    data = prepared("table")
    encoder, rows = encoder_of(data), {"user": ["u1"] * 3, "item": ["i1"] * 3, "price": [1, 2, 3]}
    assert encoder({**rows, "place": ["cart", "home", "1"]})["scenario"].tolist() == [2, 0, 1]
    with pytest.raises(EncodingError, match=r"place.*shop.*home"):
        encoder({**rows, "place": ["shop", "home", "1"]})


def test_sequences(prepared: Callable[[str], Any]) -> None:
    data = build_datamodule(compose("train", ["model=bprmf", *sequence_overrides(prepared)]))
    data.prepare()
    rules = {**sequence_rules(data, False), "history_width": None}
    rules["inputs"] = ["user", "history", "length", "candidates", "time", "unit"]
    encoder, (first, *_) = SequenceEncoder(rules), rules["items"]
    got = encoder([{"user": "nobody", "items": [first, first, first], "times": [30, 10, 40], "candidates": [first]}])
    assert {name: values.tolist() for name, values in got.items()} == {
        **{"user": [0], "history": [[1, 1, 1]], "length": [3], "candidates": [[1]]},
        **{"time": [[10, 30, 40]], "unit": [10]},
    }
    every = list(range(1, len(encoder.items) + 1))
    assert encoder([{"items": [first], "times": [1]}])["candidates"].tolist() == [every]
    padded = SequenceEncoder({**rules, "history_width": 20})([{"items": [first] * 30, "times": list(range(30))}])
    assert padded["history"].shape == (1, 20)
    assert padded["time"][0, -1] == 29


def sequence_overrides(prepared: Callable[[str], Any]) -> list[str]:
    folder = Path(prepared("tiktok").directory).parents[1] / "sequences"
    folder.mkdir(exist_ok=True)
    return tiny_datasets.overrides("grocery", folder)


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ({"items": ["?"], "times": [1]}, "row 1.*'\\?'.*skip"),
        ({"items": ["A"], "times": [1, 2]}, "1 items and 2 times"),
        ({"items": ["A"]}, "no times"),
        ({"items": [], "times": []}, "no known item"),
        ({"items": ["A"], "times": [1], "candidates": ["?"]}, "candidate '\\?'"),
    ],
)
def test_bad_histories(row: dict[str, Any], hint: str) -> None:
    rules = {
        **{"items": ["A", "B"], "users": [], "history_max": 3, "history_width": None, "largest_gap": 9},
        **{"inputs": ["history", "length", "candidates", "time"], "user_required": False},
    }
    with pytest.raises(EncodingError, match=hint):
        SequenceEncoder(rules)([row])
    if row["items"] == ["?"]:
        with pytest.raises(EncodingError, match="no known item"):
            SequenceEncoder(rules, "skip")([row])


def test_made_up_rows_have_missing_and_unseen_values(prepared: Callable[[str], Any]) -> None:
    data = prepared("table")
    rows = impression_rows(impression_rules(data, data.spec), data.spec.scenarios)
    assert None in rows["user"]
    assert None in rows["price"]
    assert set(rows["place"]) == set(data.spec.scenarios)
    rules = {"items": ["A", "B"], "users": ["u"], "history_max": 4}
    assert {len(row["items"]) for row in sequence_rows(rules)} == {1, 2, 3, 4, 5}
