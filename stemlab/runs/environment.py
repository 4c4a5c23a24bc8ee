"""Process-level set-up of a run: rank, launcher check, log filters."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence

from pytorch_lightning.utilities import rank_zero_only

from stemlab.errors import StemlabError

# Warnings of Lightning that do not apply: batches are sliced from memory-mapped columns (no workers needed), metrics
# are merged exactly before they are logged, and stemlab has its own sampler.
IGNORED_WARNINGS = (
    r".*does not have many workers.*",
    r".*It is recommended to use `self.log\(.*sync_dist=True.*",
    r".*recommended to use a single device.*",
    r".*Experiment logs directory .* exists and is not empty.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*The number of training batches .* is smaller than the logging interval.*",
    r".*found [0-9]+ module\(s\) in eval mode.*",
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*`srun` command is available on your system but is not used.*",
)
FILTERED_LOGGERS = (
    *("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.rank_zero"),
    *("pytorch_lightning.accelerators.cuda", "lightning_fabric.utilities.distributed"),
    "pytorch_lightning.trainer.connectors.checkpoint_connector",
)
IGNORED_LOG_PREFIXES = (
    *("GPU available", "TPU available", "HPU available", "LOCAL_RANK", "Initializing distributed", "-----"),
    *("distributed_", "All distributed processes registered", "Using bfloat16", "`Trainer.fit` stopped", "💡"),
    "You are using a CUDA device",
    *("`weights_only` was not set", "Restoring states", "Restored all states", "Loaded model weights"),
    "\nDetected KeyboardInterrupt",
)


def is_first_process() -> bool:
    """Return whether this process is global rank 0, which writes the files."""
    rank: int = getattr(rank_zero_only, "rank", 0)
    return rank == 0


def slurm_job() -> str | None:
    """Return the id of the SLURM job, ``123`` or ``123_4`` in a job array; it is the same after a requeue."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def check_launcher(hydra_overrides: Sequence[str], nodes: int = 1) -> None:
    """Check that processes started by torchrun or SLURM share one run directory.

    Without ``hydra.run.dir`` each process would choose its own directory from the current time. On several machines it
    must be an absolute path, because their working directories may differ.

    Args:
        hydra_overrides: overrides of the command line that begin with ``hydra.``.
        nodes: number of machines.

    Raises:
        StemlabError: ``hydra.run.dir`` is not set or not absolute, or nothing has started the other machines.
    """
    outside = "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1
    if outside and not any(word.lstrip("+").startswith("hydra.run.dir=") for word in hydra_overrides):
        raise StemlabError(
            "torchrun and SLURM start each process separately: set a common directory, hydra.run.dir=runs/<name>."
        )
    if nodes == 1:
        return
    if not outside:
        raise StemlabError(
            f"trainer.num_nodes={nodes} needs torchrun or srun, which start the processes of each machine: see "
            "scripts/launch, or set trainer.num_nodes=1."
        )
    directory = next(w.partition("=")[2] for w in hydra_overrides if w.lstrip("+").startswith("hydra.run.dir="))
    if not os.path.isabs(directory.strip("'\"")):
        raise StemlabError(
            f"hydra.run.dir={directory} must be an absolute path on a file system that all {nodes} machines share, "
            "because their working directories may differ."
        )


def silence_lightning() -> None:
    """Filter Lightning's messages about devices and its warnings that do not apply to stemlab."""
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    for name in FILTERED_LOGGERS:
        logging.getLogger(name).addFilter(_is_kept)


def _is_kept(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(IGNORED_LOG_PREFIXES)
