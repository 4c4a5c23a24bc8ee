"""Compute the metrics of a checkpoint on a split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning import seed_everything

from stemlab.callbacks.progress import MetricBar, use_progress_bar
from stemlab.callbacks.throughput import Throughput
from stemlab.config.cross_checks import effective_tasks
from stemlab.config.limits import batch_limits, run_limits, training_limits
from stemlab.data.io.output_file import require_writable
from stemlab.errors import StemlabError
from stemlab.reporting.record import RECORD, defined, read_record, write_json
from stemlab.reporting.scores import scores_name
from stemlab.runs.build import build_trainer
from stemlab.runs.environment import is_first_process
from stemlab.runs.numerics import numeric_mode
from stemlab.runs.restore import RebuiltRun
from stemlab.runs.score_file import ScoreFile
from stemlab.runs.selected_epochs import metrics_of_tasks
from stemlab.runs.summary import print_metrics, print_unwrapped

_METRIC_PREFIX = {"train": "train", "valid": "val", "test": "test"}


class CheckpointEvaluation:
    """Rebuild a run from its checkpoint and evaluate it.

    Args:
        config: config of the command ``evaluate``.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.chosen, self.rebuilt = config, RebuiltRun(config)
        self.prefix = _METRIC_PREFIX[config["split"]]

    def run(self) -> dict[str, float]:
        """Return full metric name -> value for the split, NaN where undefined.

        Raises:
            StemlabError: the results could not be written, or the data cannot be prepared.
        """
        if is_first_process():
            require_writable(self._output, "set output to another file")
        seed_everything(self.rebuilt.config["seed"], workers=True, verbose=False)
        self.rebuilt.prepare()
        module, datamodule = self.rebuilt.module(), self.rebuilt.datamodule
        callbacks = [MetricBar(Throughput())] if use_progress_bar("auto") else []
        trainer = build_trainer(self.rebuilt.config, Path.cwd(), [*callbacks], [], module, steps=0)
        if self.chosen["save_scores"]:
            scores = self._folder / scores_name(self.chosen["split"], self.rebuilt.saved.path.stem)
            require_writable(scores, "save_scores=true needs a run directory that can be written")
            module.before_metrics = ScoreFile(scores, datamodule, self.chosen["split"])
        with numeric_mode(self.rebuilt.config["trainer"]):
            if self.prefix == "val":
                trainer.validate(module, datamodule=datamodule, verbose=False)
            else:
                module.test_split_name, datamodule.test_split = self.prefix, self.chosen["split"]
                trainer.test(module, datamodule=datamodule, verbose=False)
        return dict(module.metric_values)

    def report(self, metrics: Mapping[str, float]) -> None:
        """Print the metrics and their comparison with the record of the run; write both to a JSON file."""
        saved, values = self.rebuilt.saved, defined(metrics)
        tasks, limits = effective_tasks(self.rebuilt.config), self._limits()
        print_metrics(values, self.prefix, tasks, saved.spec, 0, saved.path, limits)
        comparison = compare_with_record(values, self.rebuilt.directory, saved.path, batch_limits(self.rebuilt.config))
        print_unwrapped(comparison)
        write_json(
            self._output,
            {
                "checkpoint": str(saved.path),
                "epoch": saved.epochs,
                "split": self.chosen["split"],
                "sample": saved.spec.sample,
                "limits": limits,
                "dataset_fingerprint": saved.fingerprint,
                "processes": self.chosen["trainer"]["devices"],
                "metrics": values,
                "record": comparison,
            },
        )

    @property
    def _output(self) -> Path:
        """The JSON file of the metrics."""
        name = f"{self.chosen['split']}_metrics_of_{self.rebuilt.saved.path.stem}.json"
        return Path(self.chosen["output"]) if self.chosen["output"] else self._folder / name

    @property
    def _folder(self) -> Path:
        """The run directory, or the folder of a checkpoint that is elsewhere."""
        return self.rebuilt.directory or self.rebuilt.saved.path.parent

    def _limits(self) -> dict[str, int]:
        """Return the limits of the training and of this evaluation."""
        saved = self.rebuilt.saved
        return {
            **run_limits({}, saved.stage1),
            **training_limits(saved.config),
            **batch_limits(self.rebuilt.config),
        }


def compare_with_record(
    metrics: Mapping[str, float | None],
    run_dir: Path | None,
    checkpoint: Path,
    limits: Mapping[str, int] | None = None,
) -> str:
    """Return one sentence: whether the record of the run has the same metric values.

    Args:
        metrics: full metric name -> value of the evaluated checkpoint.
        run_dir: run directory; None if the checkpoint is elsewhere.
        checkpoint: the evaluated checkpoint; the record holds the metrics of the best checkpoint only (of
            a task, with a best epoch per task).
        limits: limits of this evaluation; metrics over different batches are not compared.
    """
    try:
        record = read_record(run_dir / RECORD) if run_dir else None
    except StemlabError:
        record = None
    if run_dir is None or record is None:
        return "not compared: there is no run record for this checkpoint."
    recorded = _metrics_of_checkpoint(record, run_dir, checkpoint)
    if recorded is None:
        return f"not compared: {run_dir / RECORD} has the metrics of another checkpoint."
    common = [name for name in metrics if name in recorded]
    if not common:
        return f"not compared: {run_dir / RECORD} has no metrics of this split."
    key = f"limit_{common[0].split('/')[0]}_batches"
    theirs, ours = batch_limits(record["config"]).get(key), (limits or {}).get(key)
    if theirs != ours:
        counts = [f"{count} batches" if count else "all batches" for count in (theirs, ours)]
        return (
            f"not compared: {run_dir / RECORD} has the metrics of {counts[0]} (trainer.{key}), this evaluation those "
            f"of {counts[1]}."
        )
    different = [name for name in common if metrics[name] != recorded[name]]
    if not different:
        return f"equal to the run record, bit for bit ({len(common)} metrics)."
    worst = max(different, key=lambda name: _difference(metrics[name], recorded[name]))
    return (
        f"differs from the run record in {len(different)} of {len(common)} metrics, most in {worst}: "
        f"{metrics[worst]} evaluated, {recorded[worst]} recorded."
    )


def _metrics_of_checkpoint(
    record: Mapping[str, Any], run_dir: Path, checkpoint: Path
) -> Mapping[str, float | None] | None:
    """Return the recorded metrics of a checkpoint; None if the record has none."""
    best = record["best"] or {}
    if "tasks" in best:
        own = [task for task, of_task in best["tasks"].items() if run_dir / of_task["checkpoint"] == checkpoint]
        return metrics_of_tasks(record["metrics"], own) if own else None
    same = bool(best) and run_dir / best["checkpoint"] == checkpoint
    return record["metrics"] if same else None


def _difference(one: float | None, other: float | None) -> float:
    """Return the absolute difference of two values; infinite if one is undefined."""
    return float("inf") if one is None or other is None else abs(one - other)
