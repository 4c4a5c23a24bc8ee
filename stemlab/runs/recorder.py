"""Fill and write the record of a run while it goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from stemlab.callbacks.checkpoint import BestCheckpoint
from stemlab.callbacks.throughput import Throughput
from stemlab.config.cross_checks import effective_stage
from stemlab.config.resolve import config_hash
from stemlab.reporting.record import RECORD, SCHEMA, code_version, defined, hardware, packages, peak_memory, write_json
from stemlab.runs.environment import is_first_process

Status = Literal["finished", "failed", "interrupted"]


class Recorder:
    """The record of one run; what is not known yet is ``None``.

    Args:
        command: the command's name.
        config: resolved config.
        overrides: what was typed.
        directory: run directory; the record is written there by the first process only.
        processes: number of processes of the run.
    """

    def __init__(
        self, command: str, config: Mapping[str, Any], overrides: Sequence[str], directory: Path, processes: int
    ) -> None:
        self.directory, self.processes = directory, processes
        self._begin, self._fit_begin = time.monotonic(), time.monotonic()
        self.record: dict[str, Any] = {
            "schema": SCHEMA,
            "command": command,
            "status": None,
            "error": None,
            "sample": None,
            "model": config["model"]["name"],
            "stage": effective_stage(config),
            "stage1": None,
            "dataset": config["dataset"]["name"],
            "seed": config["seed"],
            "tags": list(config["tags"]),
            "config": dict(config),
            "config_hash": config_hash(config),
            "overrides": list(overrides),
            "dataset_fingerprint": None,
            "dataset_manifest": None,
            "code": code_version() if is_first_process() else None,
            "packages": packages(),
            "hardware": None,
            "parameters": None,
            "time": {"started": datetime.now(UTC).isoformat(timespec="seconds"), "wall_s": None, "fit_s": None},
            "throughput": {"train_samples_per_s": None, "eval_samples_per_s": None},
            "memory": None,
            "best": None,
            "epochs_run": 0,
            "metrics": {},
            "warnings": [],
        }

    @property
    def metrics(self) -> dict[str, float | None]:
        """Metrics of the best epoch, None where undefined."""
        found: dict[str, float | None] = self.record["metrics"]
        return found

    def set_dataset(self, manifest: Mapping[str, Any], sample: bool, parameters: Mapping[str, int]) -> None:
        """Note what is trained on what; the training begins."""
        self.record["sample"] = sample
        self.record["dataset_fingerprint"] = manifest["fingerprint"]
        self.record["dataset_manifest"] = dict(manifest)
        self.record["parameters"] = dict(parameters)
        self._fit_begin = time.monotonic()

    def set_stage1(self, stage1: Mapping[str, Any]) -> None:
        """Note the first stage that this second one begins with."""
        self.record["stage1"] = dict(stage1)

    def set_fit(self, epochs: int, checkpoint: BestCheckpoint, throughput: Throughput) -> None:
        """Note how the training went."""
        best = checkpoint.improvement
        self.record["time"]["fit_s"] = round(time.monotonic() - self._fit_begin, 3)
        self.record["epochs_run"] = epochs
        self.record["best"] = {
            "epoch": best.epoch,
            "monitor": checkpoint.monitor,
            "value": best.best,
            "checkpoint": str(checkpoint.best_path.relative_to(self.directory)),
        }
        self.record["throughput"]["train_samples_per_s"] = throughput.train.rate()

    def set_paper_selection(self, summary: Mapping[str, Any]) -> None:
        """Note what the published selection on the test split found; the key exists only where it was asked for."""
        self.record["paper_selection"] = dict(summary)

    def set_metrics(self, metrics: Mapping[str, float], warnings: Sequence[str], throughput: Throughput) -> None:
        """Note the metrics of the best epoch."""
        self.record["metrics"] = defined(metrics)
        self.record["warnings"] = list(warnings)
        self.record["throughput"]["eval_samples_per_s"] = throughput.evaluation.rate()

    def set_error(self, error: BaseException) -> None:
        """Note why the run failed."""
        self.record["error"] = f"{type(error).__name__}: {error}"

    def write(self, status: Status) -> None:
        """Write the record, on the first process."""
        if not is_first_process():
            return
        self.record["status"] = status
        self.record["time"]["wall_s"] = round(time.monotonic() - self._begin, 3)
        self.record["hardware"] = hardware(self.processes)
        self.record["memory"] = peak_memory()
        write_json(self.directory / RECORD, self.record)
