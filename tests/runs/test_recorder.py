"""The record has all keys, however early the run ends."""

import json
from pathlib import Path

from stemlab.config.compose import compose
from stemlab.runs.recorder import Recorder

KEYS = {
    *("schema", "command", "status", "error", "sample", "model", "dataset", "seed", "tags", "config", "config_hash"),
    *("overrides", "dataset_fingerprint", "dataset_manifest", "code", "packages", "hardware", "parameters", "time"),
    *("throughput", "memory", "best", "epochs_run", "metrics", "warnings", "stage", "stage1"),
    *("resumptions", "slurm_job", "engine", "footprint"),
}


def test_a_run_that_fails_early_writes_a_complete_record(tmp_path: Path) -> None:
    config = compose("train", ["model=ple", "seed=5", "tags=[a]", f"hydra.run.dir={tmp_path}"])
    recorder = Recorder("train", config, ["model=ple", "seed=5"], tmp_path, processes=1)
    recorder.set_error(ValueError("no data"))
    recorder.write("failed")
    record = json.loads((tmp_path / "record.json").read_text())
    assert set(record) == KEYS
    assert (record["model"], record["dataset"], record["seed"], record["tags"]) == ("ple", "tiktok", 5, ["a"])
    assert (record["status"], record["error"]) == ("failed", "ValueError: no data")
    assert record["metrics"] == {}
    assert record["best"] is None
    assert record["config"]["model"]["name"] == "ple"
    assert record["time"]["wall_s"] >= 0
