"""The metrics of a checkpoint on a split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning import seed_everything
from rich import get_console

from stemlab.callbacks.progress import MetricBar, use_progress_bar
from stemlab.callbacks.throughput import Throughput
from stemlab.config.cross_checks import effective_tasks
from stemlab.errors import StemlabError
from stemlab.nn.kernels.dispatch import kernel_mode
from stemlab.reporting.record import RECORD, defined, read_record, write_json
from stemlab.runs.build import build_trainer
from stemlab.runs.restore import RebuiltRun
from stemlab.runs.summary import print_metrics

_METRIC_PREFIX = {"train": "train", "valid": "val", "test": "test"}


class CheckpointEvaluation:
    """Rebuild a run from its checkpoint and measure it.

    Args:
        config: of the command ``evaluate``.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.chosen, self.rebuilt = config, RebuiltRun(config)
        self.prefix = _METRIC_PREFIX[config["split"]]

    def run(self) -> dict[str, float]:
        """Return the metrics of the split by their full names."""
        seed_everything(self.rebuilt.config["seed"], workers=True, verbose=False)
        self.rebuilt.prepare()
        module, datamodule = self.rebuilt.module(), self.rebuilt.datamodule
        callbacks = [MetricBar(Throughput())] if use_progress_bar("auto") else []
        trainer = build_trainer(self.rebuilt.config, Path.cwd(), [*callbacks], [], module, steps=0)
        with kernel_mode(self.rebuilt.config["trainer"]["kernels"]):
            if self.prefix == "val":
                trainer.validate(module, datamodule=datamodule, verbose=False)
            else:
                module.test_split_name, datamodule.test_split = self.prefix, self.chosen["split"]
                trainer.test(module, datamodule=datamodule, verbose=False)
        return dict(module.metric_values)

    def report(self, metrics: Mapping[str, float]) -> None:
        """Print the metrics, say whether they are those of the run's record, and write them."""
        saved, told = self.rebuilt.saved, defined(metrics)
        print_metrics(told, self.prefix, effective_tasks(self.rebuilt.config), saved.spec, 0, saved.path)
        verdict = compare_with_record(told, self.rebuilt.directory, saved.path)
        get_console().print(verdict, highlight=False, soft_wrap=True)
        output = self.chosen["output"]
        folder = self.rebuilt.directory or saved.path.parent
        path = Path(output) if output else folder / f"{self.chosen['split']}_metrics_of_{saved.path.stem}.json"
        write_json(
            path,
            {
                "checkpoint": str(saved.path),
                "epoch": saved.epoch,
                "split": self.chosen["split"],
                "sample": saved.spec.sample,
                "dataset_fingerprint": saved.fingerprint,
                "processes": self.chosen["trainer"]["devices"],
                "metrics": told,
                "record": verdict,
            },
        )


def compare_with_record(metrics: Mapping[str, float | None], run_dir: Path | None, checkpoint: Path) -> str:
    """Return one sentence: whether the run's record has the same numbers.

    Args:
        metrics: what was measured.
        run_dir: directory of the run, or None where the checkpoint lies elsewhere.
        checkpoint: what was measured; the record tells of the best one only.
    """
    try:
        record = read_record(run_dir / RECORD) if run_dir else None
    except StemlabError:
        record = None
    if run_dir is None or record is None:
        return "no run record beside this checkpoint to compare_with_record with."
    told = record["metrics"]
    common = [name for name in metrics if name in told]
    if record["best"] is None or run_dir / record["best"]["checkpoint"] != checkpoint:
        return f"{run_dir / RECORD} tells of another checkpoint: nothing to compare_with_record."
    if not common:
        return f"{run_dir / RECORD} has no metrics of this split: nothing to compare_with_record."
    different = [name for name in common if metrics[name] != told[name]]
    if not different:
        return f"equal to the run record to the last digit ({len(common)} metrics)."
    worst = max(different, key=lambda name: _difference(metrics[name], told[name]))
    return (
        f"differs from the run record in {len(different)} of {len(common)} metrics, most in {worst}: "
        f"{metrics[worst]} here, {told[worst]} there."
    )


def _difference(one: float | None, other: float | None) -> float:
    """Return the distance of two metrics; infinite where only one is defined."""
    return float("inf") if one is None or other is None else abs(one - other)
