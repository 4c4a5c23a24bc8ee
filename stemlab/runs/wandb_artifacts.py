"""Artifacts of a W&B run: prepared data -> first stage -> best checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_warn

RUN_ID = Path("wandb") / "run_id.txt"
"""File of a run directory with the id of its W&B run; a resumed run continues that run."""


def saved_run_id(run_dir: Path) -> str | None:
    """Return the id of the W&B run of a run directory, or None if it has none."""
    file = run_dir / RUN_ID
    return file.read_text(encoding="utf-8").strip() or None if file.is_file() else None


def save_run_id(run_dir: Path, run_id: str) -> None:
    """Write the id of the W&B run into the run directory."""
    file = run_dir / RUN_ID
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(run_id + "\n", encoding="utf-8")


def data_artifact(record: Mapping[str, Any]) -> Any:
    """Return the artifact of the prepared data: no files, but their fingerprint; equal data is one version."""
    import wandb

    name = record["config"]["dataset"]["name"]
    metadata = {"dataset": name, "fingerprint": record["dataset_fingerprint"], "sample": record["sample"]}
    artifact = wandb.Artifact(f"data-{name}", type="dataset", metadata=metadata)
    with artifact.new_file("fingerprint.txt") as file:
        file.write(f"{record['dataset_fingerprint']}\n")
    return artifact


def checkpoint_artifact(record: Mapping[str, Any], checkpoint: Path, run_id: str) -> Any:
    """Return the artifact of the best checkpoint; its metadata names its inputs and the metrics of the run."""
    import wandb

    metadata = {
        "dataset_fingerprint": record["dataset_fingerprint"],
        "config_hash": record["config_hash"],
        "stage1": (record["stage1"] or {}).get("config_hash"),
        "metrics": {name: value for name, value in record["metrics"].items() if value is not None},
    }
    artifact = wandb.Artifact(f"checkpoint-{run_id}", type="model", metadata=metadata)
    artifact.add_file(str(checkpoint), name="best.ckpt", policy="immutable")
    return artifact


def log_artifacts(run: Any, record: Mapping[str, Any], checkpoint: Path) -> None:
    """Log the best checkpoint as an artifact, with the prepared data and the first stage as inputs.

    W&B records inputs of online runs only; the metadata of the artifact names them in both cases.

    Args:
        run: W&B run of this process.
        record: record of the run, with its metrics.
        checkpoint: file of the best checkpoint.
    """
    import wandb

    if not run.offline:
        first = saved_run_id(Path(record["stage1"]["directory"])) if record["stage1"] else None
        try:
            run.use_artifact(data_artifact(record))
            if first is not None:
                run.use_artifact(f"checkpoint-{first}:best")
        except (wandb.errors.Error, ValueError) as error:
            rank_zero_warn(f"W&B did not record the inputs of this run ({error}).")
    run.log_artifact(checkpoint_artifact(record, checkpoint, run.id), aliases=["best"])
