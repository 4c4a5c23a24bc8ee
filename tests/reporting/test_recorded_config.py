"""A setting that a record lacks counts as its default in conf/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stemlab.config.compose import compose
from stemlab.config.resolve import flatten
from stemlab.reporting.collect import Run
from stemlab.reporting.recorded_config import complete
from stemlab.reporting.table import build_table
from tests.reporting.records import record, sequence_record

RECORDS = Path(__file__).resolve().parents[2] / "scripts" / "records"


def recorded(folder: str, model: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(next((RECORDS / folder).glob(f"{model}_seed*.json")).read_text())["config"]
    return config


@pytest.mark.parametrize(
    ("folder", "experiment"),
    [
        ("ml1m_multitask", "ml1m_multitask/mmoe"),  # without model.family, model.net.init and others
        ("ml1m_multitask", "ml1m_multitask/ple"),
        ("ml1m_timirec", "ml1m/timirec"),
        ("grocery", "grocery/sasrec"),
    ],
)
def test_completed_config_has_the_settings_of_a_new_run(folder: str, experiment: str) -> None:
    new = flatten(compose("train", [f"experiment={experiment}"]))
    own = flatten(complete(recorded(folder, experiment.rpartition("/")[2])))
    started = ("ckpt_path", "resume", "overwrite", "allow", "sweep.", "dry_run", "save_scores")  # not of the result
    ignored = ("paths.", "logger.", "tags", *started, "dataset.raw_dir", "dataset.data_dir")
    assert {key for key in new if not key.startswith(ignored)} == set(own)


def test_recorded_values_are_kept() -> None:
    config = {
        "model": {"name": "mmoe", "loss_reduction": "mean", "net": {"num_experts": 3}},
        "dataset": {"name": "toy", "tasks": ["a"], "split": {"rule": "time"}},
        "optim": {"plateau": {"enabled": False}},
        "trainer": {"max_epochs": 3, "no_such_setting": 1},
    }
    done = complete(config)
    assert (done["model"]["loss_reduction"], done["model"]["net"]["num_experts"]) == ("mean", 3)
    assert (done["model"]["family"], done["optim"]["plateau"]["factor"]) == ("multitask", 0.1)
    assert (done["optim"]["plateau"]["enabled"], done["dataset"]) == (False, config["dataset"])
    assert done["trainer"]["max_epochs"] == 3
    assert "no_such_setting" not in done["trainer"]


def test_settings_added_or_dropped_make_no_row_of_their_own() -> None:
    old, new = record("stem", 1), record("stem", 2)
    old["config"]["trainer"] = {"no_such_setting": "x"}
    new["config"]["trainer"] = {"deterministic": True}
    new["config"]["optim"]["exclude_bias_bn"] = False
    runs = [Run(Path(f"run{number}"), made) for number, made in enumerate((old, new))]
    assert [row.seeds for row in build_table(runs, ["model"], ["auc"]).rows] == [[1, 2]]
    assert Run(Path("x"), sequence_record()).config["model"]["family"] == "sequential"
