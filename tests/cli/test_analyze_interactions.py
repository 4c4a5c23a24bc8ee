"""``stemlab.analyze analysis=interactions``: what a run of MMFI weighs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stemlab.analyze import analyze
from stemlab.config.compose import compose
from tests.cli.conftest import Workplace

pytestmark = [pytest.mark.slow]

WORLD = ["dataset=aliexpress", "dataset.scenarios=[nl,es]", "dataset.sample.rows=400"]
FAST = ["dataset.eval_batch_size=64", "optim.lr=0.01", "trainer.max_epochs=1", "trainer.limit_train_batches=3"]
RUN = ["model=mmfi", "model.net.embedding_dim=4", *WORLD, *FAST, "dataset.batch_size=128"]


def test_pairs_of_every_scenario_and_task(here: Callable[..., float], workplace: Workplace, tmp_path: Path) -> None:
    here("mmfi", *RUN)
    run = f"run={workplace.directory / 'mmfi'}"
    folder = analyze(compose("analyze", ["analysis=interactions", run, f"output={tmp_path / 'found'}"]))
    numbers = json.loads((folder / "results.json").read_text())["sections"]["interactions"]["numbers"]
    cells = numbers["runs"]["mmfi"]["cells"]
    assert list(cells) == ["nl click", "nl conversion", "es click", "es conversion"]
    assert all(len(cell["pairs"]) == 5 and cell["pairs"][0][2] >= cell["pairs"][4][2] > 0 for cell in cells.values())
    with (folder / "strength.csv").open() as file:
        rows = {row["pair"]: row for row in csv.DictReader(file)}
    assert len(rows) == 153
    first, second, value = cells["es click"]["pairs"][0]
    assert float(rows[f"{first} x {second}"]["es click"]) == value
    for name in ("pairs_nl_click", "pairs_es_conversion", "fields"):
        assert (folder / f"{name}.png").is_file()
    words = ["analysis=interactions", run, f"output={tmp_path / 'few'}", "analysis.rows=64", "analysis.measure=open"]
    few = json.loads((analyze(compose("analyze", words)) / "results.json").read_text())["sections"]["interactions"]
    assert sum(cell["rows"] for cell in few["numbers"]["runs"]["mmfi"]["cells"].values()) <= 2 * 64
