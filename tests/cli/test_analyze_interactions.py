"""``stemlab.analyze analysis=interactions``: weights of field pairs in a run of MMFI."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stemlab.analyze import analyze
from stemlab.config.compose import compose
from tests.cli.commands import Workspace

ALIEXPRESS = ["dataset=aliexpress", "dataset.scenarios=[nl,es]", "dataset.sample.rows=400"]
FAST = ["dataset.eval_batch_size=64", "optim.lr=0.01", "trainer.max_epochs=1", "trainer.limit_train_batches=3"]
RUN = ["model=mmfi", "model.net.embedding_dim=4", *ALIEXPRESS, *FAST, "dataset.batch_size=128"]


def test_field_pairs_of_every_scenario_and_task(
    run_training: Callable[..., float], workspace: Workspace, tmp_path: Path
) -> None:
    run_training("mmfi", *RUN)
    run = f"run={workspace.directory / 'mmfi'}"
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
    overrides = [
        "analysis=interactions",
        run,
        f"output={tmp_path / 'few'}",
        "analysis.rows=64",
        "analysis.measure=open",
    ]
    few = json.loads((analyze(compose("analyze", overrides)) / "results.json").read_text())["sections"]["interactions"]
    assert sum(cell["rows"] for cell in few["numbers"]["runs"]["mmfi"]["cells"].values()) <= 2 * 64


def test_transfer_reports_gate_weights_of_every_task(run_training: Callable[..., float], workspace: Workspace) -> None:
    single = ["model=single_task", "model.task=click", *ALIEXPRESS, *FAST, "dataset.batch_size=128"]
    run_training("gates/click", *single)
    run_training("gates/mmfi", *RUN)
    runs = f"runs=[{workspace.directory / 'gates/click'},{workspace.directory / 'gates/mmfi'}]"
    overrides = [
        "analysis=transfer",
        runs,
        f"output={workspace.directory / 'gates/found'}",
        "analysis.entity=categorical_1",
    ]
    folder = analyze(
        compose("analyze", [*overrides, "analysis.buckets=2", "analysis.resamples=5", "analysis.rows=300"])
    )
    section = json.loads((folder / "results.json").read_text())["sections"]["transfer"]
    inside = section["numbers"]["interiors"]["mmfi"]
    assert len(inside["gates"]) == len(inside["experts_in_use"]) == 2  # of pairs, of fields
    for number, layer in enumerate(inside["gates"], start=1):
        assert list(layer) == ["click", "conversion"]
        for task, groups in layer.items():
            assert list(groups) == ["task:click", "task:conversion", "shared"]
            assert sum(groups.values()) == pytest.approx(1, abs=1e-6)
            assert [name for name, share in groups.items() if share > 0] == [f"task:{task}", "shared"]
        with (folder / f"gates_1_layer{number}.csv").open() as file:
            rows = {row["gate"]: row for row in csv.DictReader(file)}
        assert float(rows["click"]["shared"]) == layer["click"]["shared"]
    assert not [note for note in section["notes"] if "no gates" in note]
