"""Importance of pairs as numbers and figures, by hand; selection of batches."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stemlab.analysis.interactions.analysis import FieldInteractions, _spread
from stemlab.analysis.interactions.findings import RunInteractions, findings
from stemlab.errors import StemlabError
from stemlab.models.multiscenario.mmfi_importance import Importance

FIELDS, PAIRS = ("a", "b", "c"), (("a", "b"), ("a", "c"), ("b", "c"))


def run(label: str = "mmfi", rows: tuple[int, ...] = (4, 2)) -> RunInteractions:
    strength = torch.tensor([[[1.0, 2.0, 3.0], [1.0, 3.0, 2.0]], [[3.0, 2.0, 1.0], [0.0, 0.0, 9.0]]]).double()
    field = torch.full((2, 2, 3), 1 / 3).double()
    importance = Importance(
        FIELDS,
        PAIRS,
        ("nl", "es"),
        ("click", "buy"),
        torch.tensor(rows).double(),
        strength / 10,
        (strength > 1.5).double(),
        torch.zeros(2, 2, 3, 5).double(),
        strength.square(),
        field,
    )
    return RunInteractions(label, importance)


def test_numbers_and_figures() -> None:
    found = findings([run()], "strength", 2)
    cells = found.numbers["runs"]["mmfi"]["cells"]
    assert cells["nl click"] == {
        "rows": 4,
        "mean_open": pytest.approx(2 / 3),
        "pairs": [["b", "c", 3.0], ["a", "c", 2.0]],
    }
    assert list(cells) == ["nl click", "nl buy", "es click", "es buy"]
    strength = found.matrices["strength"]
    assert (strength.rows, strength.columns) == (["a x b", "a x c", "b x c"], list(cells))
    assert strength.values[:, 2].tolist() == [3, 2, 1]
    assert found.matrices["attention"].values[2, 3] == pytest.approx(0.9)
    assert set(found.figures) == {"pairs_nl_click", "pairs_nl_buy", "pairs_es_click", "pairs_es_buy", "fields"}
    assert "strongest pair: a x b" in found.figures["pairs_es_click"].caption
    assert "b x c, for es buy (9)" in found.verdict
    assert found.numbers["runs"]["mmfi"]["between_scenarios"] == pytest.approx((-1 + 0) / 2)
    assert found.matrices["agreement"].values[0, 2] == pytest.approx(-1)
    square = run().square(np.array([1.0, 2.0, 3.0]))
    assert square[0, 2] == square[2, 0] == 2
    assert np.isnan(np.diag(square)).all()


def test_other_measures_and_several_runs() -> None:
    found = findings([run("one"), run("two")], "attention", 1)
    assert found.numbers["runs"]["two"]["cells"]["es buy"]["pairs"] == [["b", "c", pytest.approx(0.9)]]
    assert {"strength_1", "strength_2", "fields_2"} <= found.matrices.keys()
    assert "pairs_nl_buy_2" in found.figures


def test_scenarios_without_samples_are_left_out_with_a_note() -> None:
    found = findings([run(rows=(4, 0))], "strength", 1)
    assert list(found.numbers["runs"]["mmfi"]["cells"]) == ["nl click", "nl buy"]
    (note,) = found.notes
    assert note.startswith("mmfi:")
    assert "of es " in note
    assert found.numbers["runs"]["mmfi"]["between_scenarios"] is None


@pytest.mark.parametrize(
    ("batches", "rows", "most", "kept"),
    [(4, 400, None, [0, 1, 2, 3]), (4, 400, 500, [0, 1, 2, 3]), (4, 400, 200, [0, 2]), (4, 400, 1, [0])],
)
def test_batches_are_spread_over_the_split(batches: int, rows: int, most: int | None, kept: list[int]) -> None:
    assert sorted(_spread(batches, rows, most)) == kept


def test_other_models_are_an_error() -> None:
    net = {"_target_": "stemlab.models.multitask.stem.STEM"}
    other = SimpleNamespace(path="runs/stem", config={"model": {"name": "stem", "net": net}})
    analysis = FieldInteractions(name="interactions", split="test", rows=None, measure="strength", top=3)
    with pytest.raises(StemlabError, match=r"runs/stem: .*model=mmfi"):
        analysis.find([other])
