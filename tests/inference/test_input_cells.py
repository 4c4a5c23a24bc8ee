"""Bad cells and unknown scenarios of rows to score: located, skipped, replaced, counted; formats of the input."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pyarrow as pa
import pytest

from stemlab.data.cell_rules import CellRules
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.spec import DatasetSpec
from stemlab.errors import StemlabError
from stemlab.inference.input_cells import InputCells
from stemlab.inference.score_rows import counts_file, refuse_impression_options
from tests.inference.scored_tables import ScoringCase, predictions


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ScoringCase:
    return ScoringCase(tmp_path_factory.mktemp("scored"))


@pytest.fixture(scope="module")
def clean(case: ScoringCase) -> np.ndarray:
    """Scores of the unchanged rows."""
    return predictions(case.score(case.write("clean.csv"))[0])


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.inter"])
def test_other_formats_give_the_same_scores(case: ScoringCase, clean: np.ndarray, name: str) -> None:
    scored, _ = case.score(case.write(name))
    assert np.array_equal(predictions(scored), clean)
    assert scored["item_id"].astype(str).tolist() == case.rows["item_id"].head(20).astype(str).tolist()
    assert not counts_file(case.folder / "scores.parquet").exists()


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"age": {7: "old"}}, ["line 9", "'age'", "'old'", "number", "on_bad_cell"]),
        ({"age": {3: "inf", 5: "x"}}, ["line 5", "'age'"]),
        ({"page": {4: "cart"}}, ["line 6", "'page'", "'cart'", "home, search", "unknown_scenario"]),
        ({"page": {4: None}}, ["line 6", "'page'", "empty"]),
        ({"genre_weights": {2: "0.5|x|1|1|1|1"}}, ["line 4", "'genres'", "weights"]),
    ],
)
def test_a_bad_cell_is_named_by_line_and_column(
    case: ScoringCase, changed: dict[str, dict[int, str]], parts: list[str]
) -> None:
    with pytest.raises(StemlabError) as error:
        case.score(case.write("bad.csv", **changed))
    assert all(part in str(error.value) for part in ("bad.csv", *parts)), str(error.value)


BAD = {"age": {7: "old", 8: "inf"}, "page": {4: "cart"}, "genre_weights": {2: "0.5|x|1|1|1|1"}}


@pytest.mark.parametrize("name", ["bad.csv", "bad.jsonl"])
def test_skipped_rows_have_no_score_and_are_counted(case: ScoringCase, clean: np.ndarray, name: str) -> None:
    path = case.write(name, **BAD)
    if name.endswith("jsonl"):  # a JSON column has one type
        path = case.write(name, **{column: cells for column, cells in BAD.items() if column != "age"})
    scored, summary = case.score(path, on_bad_cell="skip")
    skipped = [2, 4, 7, 8] if name == "bad.csv" else [2, 4]
    kept = np.setdiff1d(np.arange(20), skipped)
    assert len(scored) == 20
    assert np.isnan(predictions(scored)[skipped]).all()
    np.testing.assert_allclose(predictions(scored)[kept], clean[kept], rtol=1e-6)
    assert scored["user_id"].tolist() == case.rows["user_id"].head(20).tolist()
    assert f"{len(skipped)} rows have no score" in summary
    counts = case.counts()
    assert counts["rows_without_score"] == len(skipped)
    assert counts["rows_scored"] == 20 - len(skipped)
    assert counts["bad_cells"]["page"] == counts["bad_cells"]["genres"] == 1
    assert counts["bad_cells"].get("age", 0) == (2 if name == "bad.csv" else 0)


def test_default_reads_bad_cells_as_missing(case: ScoringCase) -> None:
    bad = {"age": {7: "old", 8: "inf"}, "genre_weights": {2: "0.5|x|1|1|1|1"}}
    empty = {"age": {7: None, 8: None}, "genre_weights": {2: None}, "genres": {2: None}}
    scored, summary = case.score(case.write("bad.csv", **bad), on_bad_cell="default")
    wanted, _ = case.score(case.write("empty.csv", **empty))
    assert np.array_equal(predictions(scored), predictions(wanted))
    assert scored.loc[7, "age"] == "old"  # the input columns are kept
    assert "3 bad cells were read as missing values: age 2, genres 1" in summary
    assert case.counts()["bad_cells"] == {"age": 2, "genres": 1}
    with pytest.raises(StemlabError, match="unknown_scenario"):  # a scenario has no missing value
        case.score(case.write("bad.csv", page={4: "cart"}), on_bad_cell="default")


def test_unknown_scenarios_are_scored_as_the_fallback(case: ScoringCase) -> None:
    scored, summary = case.score(case.write("bad.csv", page={4: "cart", 5: None, 6: "cart"}), unknown_scenario="search")
    wanted, _ = case.score(case.write("good.csv", page={4: "search", 5: "search", 6: "search"}))
    assert np.array_equal(predictions(scored), predictions(wanted))
    assert scored.loc[4, "page"] == "cart"
    assert "3 rows of unknown scenarios (cart, empty) were scored as search" in summary
    counts = case.counts()
    assert counts["unknown_scenarios"] == {"cart": 2, "": 1}
    assert (counts["unknown_scenario"], counts["rows_of_unknown_scenarios"]) == ("search", 3)
    with pytest.raises(StemlabError, match=r"unknown_scenario=mobil.*search"):
        case.score(case.write("bad.csv"), unknown_scenario="mobil")


@pytest.mark.parametrize(("name", "line"), [("ragged.csv", "1,2\n"), ("ragged.jsonl", '{"age": \n')])
def test_malformed_lines_are_left_out_if_bad_cells_are_skipped(
    case: ScoringCase, clean: np.ndarray, name: str, line: str
) -> None:
    path = case.write(name)
    with path.open("a") as file:
        file.write(line)
    with pytest.raises(StemlabError, match=f"{name}, line {22 if name.endswith('csv') else 21}"):
        case.score(path)
    scored, summary = case.score(path, on_bad_cell="skip")
    assert np.array_equal(predictions(scored), clean)
    assert "1 lines that cannot be parsed" in summary
    assert case.counts()["malformed_lines"] == 1


def test_rows_that_cannot_be_scored_at_all(case: ScoringCase) -> None:
    scored, _ = case.score(case.write("bad.csv", age=dict.fromkeys(range(20), "x")), on_bad_cell="skip")
    assert np.isnan(predictions(scored).astype(float)).all()
    assert case.counts()["rows_without_score"] == 20


def test_sequential_models_refuse_the_options() -> None:
    options = {"ckpt": "a.ckpt", "on_bad_cell": "error", "unknown_scenario": None}
    refuse_impression_options(options)
    for key, value in (("on_bad_cell", "skip"), ("unknown_scenario", "home")):
        with pytest.raises(StemlabError, match=f"{key}={value} .*on_unknown"):
            refuse_impression_options({**options, key: value})


def test_json_keys_with_values_of_different_types_raise(case: ScoringCase, tmp_path: Path) -> None:
    (tmp_path / "mixed.jsonl").write_text('{"age": 1}\n{"age": "x"}\n')
    with pytest.raises(StemlabError, match=r"mixed\.jsonl.*different types"):
        case.score(tmp_path / "mixed.jsonl")


def test_a_scenario_that_is_made_from_another_column() -> None:
    rules = CellRules(scenario_from=("tab", "tab"))
    names = {"scenario_column": "scenario"}
    data = SimpleNamespace(
        cell_rules=lambda: rules, manifest=names, bad_lists=lambda table: (), bad_sources=lambda table: ()
    )
    spec = SimpleNamespace(scenarios=("tab0", "tab4"), numericals=(), field_sizes={})
    table = pa.table({"tab": [4, 7, 0, None]})
    lines = np.arange(1, 5)
    cells = InputCells(cast(ImpressionDataModule, data), cast(DatasetSpec, spec), "skip", "tab4")
    cleaned, kept = cells.clean(table, "rows.csv", lines, "row")
    assert cleaned["tab"].to_pylist() == ["4", "4", "0", "4"]
    assert kept.all()
    assert cells.counts.unknown_scenarios == {"7": 1, "": 1}
    cells = InputCells(cast(ImpressionDataModule, data), cast(DatasetSpec, spec), "skip", None)
    assert cells.clean(table, "rows.csv", lines, "row")[1].tolist() == [True, False, True, False]
    named = pa.table({"scenario": ["tab0", "tab7", "1", "2"]})
    assert cells.clean(named, "rows.csv", lines, "row")[1].tolist() == [True, False, True, False]  # a name or an id
