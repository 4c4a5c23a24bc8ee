"""Fill and write the record of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from stemlab.callbacks.checkpoint import BestCheckpoint, TaskCheckpoints
from stemlab.callbacks.throughput import Throughput
from stemlab.config.cross_checks import effective_stage
from stemlab.config.own_errors import own_error
from stemlab.config.resolve import config_hash
from stemlab.reporting.record import RECORD, SCHEMA, code_version, defined, hardware, packages, peak_memory, write_json
from stemlab.runs.environment import is_first_process, slurm_job
from stemlab.runs.footprint import Footprint
from stemlab.runs.score_file import ScoreFile

Status = Literal["running", "finished", "failed", "interrupted", "pruned"]


class Recorder:
    """Record of one run, written to ``record.json`` at its start and at its end; unknown values are ``None``.

    Args:
        command: name of the command.
        config: resolved config.
        overrides: overrides of the command line.
        directory: run directory; only rank 0 writes the record there.
        processes: number of processes of the run.
    """

    def __init__(
        self, command: str, config: Mapping[str, Any], overrides: Sequence[str], directory: Path, processes: int
    ) -> None:
        self.directory, self.processes = directory, processes
        self._started, self._fit_started = time.monotonic(), time.monotonic()
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
            "resumptions": [],
            "slurm_job": slurm_job(),
            "dataset_fingerprint": None,
            "dataset_manifest": None,
            "code": code_version() if is_first_process() else None,
            "packages": packages(),
            "hardware": None,
            "parameters": None,
            "footprint": None,
            "engine": None,
            "time": {"started": datetime.now(UTC).isoformat(timespec="seconds"), "wall_s": None, "fit_s": None},
            "throughput": {"train_samples_per_s": None, "train_samples_per_s_by_epoch": [], "eval_samples_per_s": None},
            "memory": None,
            "best": None,
            "epochs_run": 0,
            "metrics": {},
            "warnings": [],
        }

    @property
    def metrics(self) -> dict[str, float | None]:
        """Metrics of the best epoch, None where undefined."""
        metrics: dict[str, float | None] = self.record["metrics"]
        return metrics

    def set_unexpressed(self, keys: Sequence[str]) -> None:
        """Record the keys of settings that ``overrides`` lacks; the key exists only if there are some."""
        if keys:
            self.record["settings_without_override"] = list(keys)

    def set_dataset(self, manifest: Mapping[str, Any], sample: bool, parameters: Mapping[str, int]) -> None:
        """Record dataset and parameter counts; start the clock of the training."""
        self.record["sample"] = sample
        self.record["dataset_fingerprint"] = manifest["fingerprint"]
        self.record["dataset_manifest"] = dict(manifest)
        self.record["parameters"] = dict(parameters)
        self._fit_started = time.monotonic()

    def set_pretrained(self, report: Mapping[str, Mapping[str, Any]]) -> None:
        """Record the pretrained vectors that were read, per field; the key exists only if there are some."""
        self.record["pretrained"] = {name: dict(one) for name, one in report.items()}

    def set_footprint(self, footprint: Footprint, embedding: str) -> None:
        """Record memory and communication, and how the embedding tables are distributed over the processes."""
        self.record["footprint"] = {"embedding": embedding, **footprint.record()}

    def set_resumption(self, resumption: Mapping[str, Any]) -> None:
        """Add the checkpoint from which this run resumes (path, epoch, step, changed settings) to the earlier ones."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.record["resumptions"] = [*self.record["resumptions"], {"time": now, **resumption}]

    def set_engine(self, engine: Mapping[str, Any]) -> None:
        """Record how the training steps were executed: whether captured, by which loop, where the columns were."""
        self.record["engine"] = dict(engine)

    def set_stage1(self, stage1: Mapping[str, Any]) -> None:
        """Record the first stage whose extractor this second stage uses."""
        self.record["stage1"] = dict(stage1)

    def set_fit(self, epochs: int, checkpoint: BestCheckpoint, throughput: Throughput) -> None:
        """Record duration, epochs, best epoch (of each task, if selected so) and throughput of the training."""
        best = checkpoint.improvement
        self.record["time"]["fit_s"] = round(time.monotonic() - self._fit_started, 3)
        self.record["epochs_run"] = epochs
        self.record["best"] = {
            "epoch": best.epoch + 1,
            "monitor": checkpoint.monitor,
            "value": best.best,
            "step": checkpoint.step,
            "checkpoint": str(checkpoint.best_path.relative_to(self.directory)),
        }
        if isinstance(checkpoint, TaskCheckpoints):
            self.record["best"]["tasks"] = {
                task: self._best_of(task, checkpoint) for task in checkpoint.selection.tasks
            }
        self.record["throughput"]["train_samples_per_s"] = throughput.train.rate()
        self.record["throughput"]["train_samples_per_s_by_epoch"] = throughput.epoch_rates

    def _best_of(self, task: str, checkpoint: TaskCheckpoints) -> dict[str, Any]:
        selection = checkpoint.selection
        return {
            "epoch": selection.best[task].epoch + 1,
            "monitor": selection.metric_of(task),
            "value": selection.best[task].best,
            "step": selection.step[task],
            "checkpoint": str(checkpoint.path_of(task).relative_to(self.directory)),
        }

    def set_paper_selection(self, summary: Mapping[str, Any]) -> None:
        """Record the result of the selection on the test split; the key exists only if it is enabled."""
        self.record["paper_selection"] = dict(summary)

    def set_metrics(self, metrics: Mapping[str, float], warnings: Sequence[str], throughput: Throughput) -> None:
        """Record the metrics of the best epoch."""
        self.record["metrics"] = defined(metrics)
        self.record["warnings"] = list(warnings)
        self.record["throughput"]["eval_samples_per_s"] = throughput.evaluation.rate()

    def set_scores(self, file: ScoreFile | None) -> None:
        """Record the file of the test scores and the fingerprint of its samples; the key exists only if it is saved."""
        if file is not None and file.scores is not None:
            fingerprint = file.scores.fingerprint
            self.record["scores"] = {"file": file.path.name, "samples": len(file.scores), "fingerprint": fingerprint}

    def set_error(self, error: BaseException) -> None:
        """Record the exception that ended the run, with its place in the user's code, if it has one."""
        self.record["error"] = own_error(error) or f"{type(error).__name__}: {error}"

    def write(self, status: Status) -> None:
        """Write the record to the run directory, on rank 0 only."""
        if not is_first_process():
            return
        self.record["status"] = status
        self.record["time"]["wall_s"] = round(time.monotonic() - self._started, 3)
        self.record["hardware"] = hardware(self.processes)
        self.record["memory"] = peak_memory()
        write_json(self.directory / RECORD, self.record)
