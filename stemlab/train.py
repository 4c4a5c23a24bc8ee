"""``python -m stemlab.train model=stem dataset=tiktok``: train, test the best epoch, write a record."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from stemlab.config.cli import SWEEP_ID, command


def _check_directory(config: dict[str, Any]) -> None:
    from stemlab.runs.run_directory import check_run_directory

    check_run_directory(config)


def _summarise_sweep(directory: Path, errors: Mapping[Path, str]) -> str:
    from stemlab.reporting.sweep_table import sweep_table

    return sweep_table(directory, errors)


@command("train", check=_check_directory, after_sweep=_summarise_sweep)
def main(config: DictConfig) -> float:
    """Train the config of the command line; return the objective to the sweeper."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from stemlab.config.job_process import needs_own_processes, run_job_in_subprocess
    from stemlab.config.resolve import resolve
    from stemlab.runs.environment import check_launcher

    plain, job = resolve(config), HydraConfig.get()
    check_launcher(job.overrides.hydra)
    if needs_own_processes(plain["trainer"]):
        return run_job_in_subprocess(plain["objective"])
    in_sweep = job.mode == RunMode.MULTIRUN or SWEEP_ID in os.environ
    return train(plain, list(job.overrides.task), os.environ.get(SWEEP_ID) if in_sweep else None)


def train(config: Mapping[str, Any], overrides: Sequence[str] = (), sweep_id: str | None = None) -> float:
    """Run one training in ``config['paths']['output_dir']``.

    Args:
        config: validated, plain and resolved (``stemlab.config.compose.compose("train", [...])``).
        overrides: overrides of the command line, for the record.
        sweep_id: sweep of the run, if any.

    Returns:
        ``config['objective']`` of the best epoch; NaN if undefined.

    Raises:
        StemlabError: the data cannot be prepared, the run cannot be resumed, or the loss is not finite.
    """
    from stemlab.runs.stages import training_run

    return training_run(config, overrides, sweep_id).run()


if __name__ == "__main__":
    main()
