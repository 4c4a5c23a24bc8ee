"""The demonstration finds planted effects and finds none in the controls."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stemlab.analysis.demo import synthetic
from stemlab.analysis.demo.analysis import CATEGORIES, Demo, counted_correlation
from stemlab.analyze import analyze
from stemlab.config.compose import compose
from stemlab.errors import StemlabError

SETTINGS = {"rank": 2, "rate": 0.5, "rows": 6000, "seed": 0}


def demo(**settings) -> Demo:
    return Demo(name="demo", **SETTINGS | settings)


def test_low_rank_affinities_collapse_the_tables_and_full_rank_ones_do_not() -> None:
    low = demo().collapse()
    assert low.numbers["found"]
    assert low.numbers["planted"]["abundance"] < 6 < 10 < low.numbers["control"]["abundance"]
    assert low.verdict.startswith("Collapse found: ")
    full = demo(rank=16).collapse()
    assert not full.numbers["found"]
    assert full.verdict.startswith("Collapse not found: ")


def test_a_planted_conflict_is_found_and_seeds_alone_cause_none() -> None:
    numbers = demo().conflict().numbers
    assert numbers["found"]
    assert numbers["planted"]["kept_by_one_table"] <= 0.5
    assert numbers["planted"]["share"] > 0.1
    assert numbers["control"]["share"] < 0.02


def test_the_effect_of_behaviours_of_the_targets_category_decays() -> None:
    data = synthetic.histories(CATEGORIES, 8, 0.5, 30_000, seed=1)
    same_RP = data.category_RP == data.target_R[:, None]
    lift = [data.label_R[same_RP[:, p]].mean() - data.label_R[~same_RP[:, p]].mean() for p in range(8)]
    assert lift[0] > 2 * lift[2] > 4 * max(abs(lift[7]), 0.01)
    truth_CP = counted_correlation(data)
    assert truth_CP.shape == (CATEGORIES, 8)
    assert np.unravel_index(truth_CP.argmax(), truth_CP.shape) == (0, 0)


def test_synthetic_datasets_are_reproducible() -> None:
    labels = [synthetic.two_task_labels(True, 3).label_TUI for _ in range(2)]
    assert np.array_equal(*labels)
    tables = [synthetic.collapsed_table(2, 4, 0, entities=20)[1] for _ in range(2)]
    assert np.array_equal(*tables)
    state = torch.random.get_rng_state()
    synthetic.distances(synthetic.two_task_labels(False, 0, entities=10).label_TUI, 0)
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_page_is_marked_sample_and_a_missed_effect_is_an_error(tmp_path: Path) -> None:
    words = ["analysis=demo", f"output={tmp_path / 'demo'}", "analysis.rows=6000", "analysis.rank=16"]
    with pytest.raises(StemlabError, match=r": collapse\.$"):
        analyze(compose("analyze", words))
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert results["sample"]
    assert results["runs"] == []
    assert {name: part["numbers"]["found"] for name, part in results["sections"].items()} == {
        "collapse": False,
        "correlation": True,
        "conflict": True,
    }
    page = (tmp_path / "demo" / "index.html").read_text()
    assert "SAMPLE" in page
    assert page.count("data:image/png;base64,") == 4
