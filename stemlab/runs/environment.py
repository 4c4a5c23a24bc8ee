"""The process around a run."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence

from pytorch_lightning.utilities import rank_zero_only

from stemlab.errors import StemlabError

# Advice of Lightning's that does not hold here: batches are sliced from memory-mapped columns (no workers needed),
# metrics are merged exactly before they are logged, and the sampler is stemlab's own.
IGNORED_WARNINGS = (
    r".*does not have many workers.*",
    r".*It is recommended to use `self.log\(.*sync_dist=True.*",
    r".*recommended to use a single device.*",
    r".*Experiment logs directory .* exists and is not empty.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*The number of training batches .* is smaller than the logging interval.*",
    r".*found [0-9]+ module\(s\) in eval mode.*",
    r".*isinstance\(treespec, LeafSpec\).*",
)
FILTERED_LOGGERS = (
    *("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.rank_zero"),
    *("pytorch_lightning.accelerators.cuda", "lightning_fabric.utilities.distributed"),
    "pytorch_lightning.trainer.connectors.checkpoint_connector",
)
IGNORED_LOG_PREFIXES = (
    *(
        "GPU available",
        "TPU available",
        "HPU available",
        "LOCAL_RANK",
        "Initializing distributed",
        "-----",
        "distributed_",
    ),
    *("`weights_only` was not set", "Restoring states", "Restored all states", "Loaded model weights"),
    *("`Trainer.fit` stopped", "Using bfloat16", "💡", "All distributed processes registered"),
)


def is_first_process() -> bool:
    """Return whether this is global rank 0, the one that writes files."""
    rank: int = getattr(rank_zero_only, "rank", 0)
    return rank == 0


def check_launcher(hydra_overrides: Sequence[str]) -> None:
    """Refuse processes started from outside that would each choose a run directory of their own, by the clock.

    Args:
        hydra_overrides: words of the command line that begin with ``hydra.``.
    """
    outside = "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1
    if outside and not any(word.lstrip("+").startswith("hydra.run.dir=") for word in hydra_overrides):
        raise StemlabError(
            "torchrun and SLURM start every process alone: give them one directory, hydra.run.dir=runs/<name>."
        )


def silence_lightning() -> None:
    """Leave out of the terminal what Lightning says about devices and what does not apply here."""
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    for name in FILTERED_LOGGERS:
        logging.getLogger(name).addFilter(_is_kept)


def _is_kept(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(IGNORED_LOG_PREFIXES)
