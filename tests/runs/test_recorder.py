"""A record is filled while the run goes on, and is whole whenever it ends."""

import json
from pathlib import Path

from stemlab.config.compose import compose
from stemlab.runs.recorder import Recorder

KEYS = {
    *("schema", "command", "status", "error", "sample", "model", "dataset", "seed", "tags", "config", "config_hash"),
    *("overrides", "dataset_fingerprint", "dataset_manifest", "code", "packages", "hardware", "parameters", "time"),
    *("throughput", "memory", "best", "epochs_run", "metrics", "warnings", "stage", "stage1"),
}


def test_a_run_that_fails_early_still_leaves_a_whole_record(tmp_path: Path) -> None:
    config = compose("train", ["model=ple", "seed=5", "tags=[a]", f"hydra.run.dir={tmp_path}"])
    recorder = Recorder("train", config, ["model=ple", "seed=5"], tmp_path, processes=1)
    recorder.set_error(ValueError("no data"))
    recorder.write("failed")
    told = json.loads((tmp_path / "record.json").read_text())
    assert set(told) == KEYS
    assert (told["model"], told["dataset"], told["seed"], told["tags"]) == ("ple", "tiktok", 5, ["a"])
    assert (told["status"], told["error"]) == ("failed", "ValueError: no data")
    assert told["metrics"] == {}
    assert told["best"] is None
    assert told["config"]["model"]["name"] == "ple"
    assert told["time"]["wall_s"] >= 0
