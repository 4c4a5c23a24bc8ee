"""``python -m stemlab.train model=stem dataset=tiktok``: train, test the best epoch, write a record."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from stemlab.config.cli import command, fail
from stemlab.config.override_text import typed_text
from stemlab.config.resume_words import names_a_run, typed_words, words_of_the_command
from stemlab.config.sweep_resume import SWEEP_ID, names_a_sweep, resumed_sweep_words
from stemlab.errors import Interrupted, StemlabError

if TYPE_CHECKING:
    from stemlab.config.compose import KeyOrigins


def _check_directory(config: dict[str, Any]) -> None:
    from stemlab.runs.run_directory import check_run_directory

    if config["resume_from"]:
        from stemlab.runs.resume_from import resumed_config

        config = resumed_config(config, typed_words())
    if said := check_run_directory(config):
        print(said, flush=True)
        sys.exit(0)


def _summarise_sweep(directory: Path, errors: Mapping[Path, str]) -> str:
    from stemlab.reporting.sweep_table import sweep_table

    return sweep_table(directory, errors)


def _print_dry_run(config: dict[str, Any], origins: KeyOrigins, swept: bool) -> None:
    from stemlab.runs.dry_run import print_dry_run

    print_dry_run(config, origins, swept)


@command("train", check=_check_directory, after_sweep=_summarise_sweep, preview=_print_dry_run)
def run_command(config: DictConfig) -> float:
    """Train the config of the command line; return the objective to the sweeper.

    Raises:
        StemlabError: as ``train``; or ``resume_from`` in a sweep, or processes without a common run directory.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from stemlab.config.job_process import needs_own_processes, run_job_in_subprocess
    from stemlab.config.resolve import resolve
    from stemlab.runs.environment import check_launcher

    plain, job = resolve(config), HydraConfig.get()
    in_sweep = job.mode == RunMode.MULTIRUN or SWEEP_ID in os.environ
    if plain["resume_from"]:
        if job.mode == RunMode.MULTIRUN:
            raise StemlabError("resume_from resumes one run: leave out -m and sweep.")
        return train(plain, typed_words(), None)
    check_launcher(typed_text(job.overrides.hydra), plain["trainer"]["num_nodes"])
    if needs_own_processes(plain["trainer"]):
        return run_job_in_subprocess(plain["objective"], trainer=plain["trainer"])
    return train(plain, list(job.overrides.task), os.environ.get(SWEEP_ID) if in_sweep else None)


def main() -> None:
    """Run the command; beside ``resume_from``, Hydra composes only the settings that concern the command.

    ``sweep.resume`` repeats the command of an earlier sweep.
    """
    if names_a_sweep(sys.argv[1:]):
        try:
            sys.argv[1:] = resumed_sweep_words(sys.argv[1:])
        except StemlabError as error:
            fail(str(error))
    if names_a_run(sys.argv[1:]):
        sys.argv[1:] = words_of_the_command(sys.argv[1:])
    run_command()


def train(
    config: Mapping[str, Any],
    overrides: Sequence[str] = (),
    sweep_id: str | None = None,
    unexpressed: Sequence[str] = (),
) -> float:
    """Run one training in ``config['paths']['output_dir']``.

    Args:
        config: validated, plain and resolved (``stemlab.config.compose.compose("train", [...])``).
        overrides: overrides of the command line, for the record; beside ``resume_from`` they change its settings.
        sweep_id: sweep of the run, if any.
        unexpressed: keys of settings in the config that no override can express, for the record.

    Returns:
        ``config['objective']`` of the best epoch; NaN if undefined.

    Raises:
        StemlabError: the data cannot be prepared, the run cannot be resumed, or the loss is not finite.
        Interrupted: a signal ended the training.
    """
    from stemlab.runs.stages import training_run

    if config["resume_from"] and not config["ckpt_path"]:
        from stemlab.runs.resume_from import resumed_config

        config = resumed_config(config, overrides)
    try:
        run = training_run(config, overrides, sweep_id)
        run.recorder.set_unexpressed(unexpressed)
        return run.run()
    except Interrupted as error:
        _advise(error, config, () if unexpressed else overrides)
        raise


def _advise(error: Interrupted, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Add to an interruption how the training resumes; requeue the job after SIGUSR1 of SLURM."""
    from stemlab.runs.environment import is_first_process
    from stemlab.runs.run_directory import resume_command
    from stemlab.runs.signals import requeue_slurm_job

    error.advice = f"; to resume: {resume_command(config, overrides)}"
    if error.number != signal.SIGUSR1:
        return
    if not is_first_process():  # the first process requeues the job
        error.status, error.advice = 0, ""
    elif requeue_slurm_job():
        error.status, error.advice = 0, "; SLURM starts the job again, and the training resumes"
    else:
        error.advice = f"; SLURM did not requeue the job (scontrol failed){error.advice}"


if __name__ == "__main__":
    main()
