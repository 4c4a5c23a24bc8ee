"""Device and progress bar of prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from stemlab.config.job_process import process_count
from stemlab.errors import StemlabError
from stemlab.runs.build import require_gpu


def inference_device(trainer: Mapping[str, Any]) -> torch.device:
    """Return the device of a trainer config; set the number of threads.

    Raises:
        StemlabError: the trainer has several processes, or needs a GPU that is not available.
    """
    if process_count(trainer) > 1:
        raise StemlabError("predict runs in one process: set trainer=cpu or trainer=gpu, and trainer.devices=1.")
    require_gpu(trainer)
    if trainer["threads"]:
        torch.set_num_threads(trainer["threads"])
    return torch.device("cuda" if trainer["accelerator"] == "gpu" else "cpu")


def progress_bar(unit: str) -> Progress:
    """Return a progress bar, shown on terminals only; its tasks have a field ``done``, a count in ``unit``."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(30), TextColumn(f"{{task.fields[done]:,}} {unit}"))
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal, transient=True)
