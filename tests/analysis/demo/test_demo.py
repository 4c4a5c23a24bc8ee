"""What the demonstration plants is found, and is not found where it is not planted."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stemlab.analysis.demo import worlds
from stemlab.analysis.demo.analysis import CATEGORIES, Demo, counted
from stemlab.analyze import analyze
from stemlab.config.compose import compose
from stemlab.errors import StemlabError

SETTINGS = {"rank": 2, "rate": 0.5, "rows": 6000, "seed": 0}


def demo(**settings) -> Demo:
    return Demo(name="demo", **SETTINGS | settings)


def test_a_low_rank_collapses_the_tables_and_a_full_one_does_not() -> None:
    told = demo().collapse()
    assert told.numbers["found"]
    assert told.numbers["planted"]["abundance"] < 6 < 10 < told.numbers["control"]["abundance"]
    assert told.verdict.startswith("Collapse found: ")
    full = demo(rank=16).collapse()
    assert not full.numbers["found"]
    assert full.verdict.startswith("Collapse not found: ")


def test_a_conflict_is_planted_and_seeds_alone_make_none() -> None:
    numbers = demo().conflict().numbers
    assert numbers["found"]
    assert numbers["planted"]["kept_by_one_table"] <= 0.5
    assert numbers["planted"]["share"] > 0.1
    assert numbers["control"]["share"] < 0.02


def test_the_label_depends_on_the_targets_category_less_with_age() -> None:
    world = worlds.histories(CATEGORIES, 8, 0.5, 30_000, seed=1)
    same_RP = world.category_RP == world.target_R[:, None]
    lift = [world.label_R[same_RP[:, p]].mean() - world.label_R[~same_RP[:, p]].mean() for p in range(8)]
    assert lift[0] > 2 * lift[2] > 4 * max(abs(lift[7]), 0.01)
    truth_CP = counted(world)
    assert truth_CP.shape == (CATEGORIES, 8)
    assert np.unravel_index(truth_CP.argmax(), truth_CP.shape) == (0, 0)


def test_every_world_is_the_same_again() -> None:
    for one, other in ((worlds.tastes(True, 3), worlds.tastes(True, 3)),):
        assert np.array_equal(one.label_TUI, other.label_TUI)
    tables = [worlds.collapsed_table(2, 4, 0, entities=20)[1] for _ in range(2)]
    assert np.array_equal(*tables)
    state = torch.random.get_rng_state()
    worlds.distances(worlds.tastes(False, 0, entities=10).label_TUI, 0)
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_page_is_marked_and_a_miss_leaves_with_a_sentence(tmp_path: Path) -> None:
    words = ["analysis=demo", f"output={tmp_path / 'demo'}", "analysis.rows=6000", "analysis.rank=16"]
    with pytest.raises(StemlabError, match=r"^the demo did not find what it planted: collapse\.$"):
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
