"""Run the jobs of a sweep in processes of their own: a grid, or the trials of a study."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from stemlab.config.job_process import (
    interrupted_by_slurm,
    job_arguments,
    processes_per_node,
    read_objective,
    usr1_left_to_jobs,
)
from stemlab.config.override_text import typed_text
from stemlab.config.own_metrics import own_directions
from stemlab.config.startup import resume_collection
from stemlab.config.sweep_resume import COMMAND, SWEEP_ID, with_command
from stemlab.config.sweep_settings import is_search
from stemlab.config.trial_channel import EpochReport
from stemlab.data.io.output_file import write_text_file
from stemlab.errors import Interrupted, StemlabError
from stemlab.metric_directions import metric_direction
from stemlab.reporting.record import RECORD, read_record
from stemlab.reporting.run_lock import is_locked, run_lock
from stemlab.sweep.job_pool import JobPool, RunningJob, gpus_per_job, last_line
from stemlab.sweep.job_sources import GridJobs, JobSource, StudyTrials
from stemlab.sweep.space import SearchSpace
from stemlab.sweep.study import SearchStudy

_LOCK_WAIT_S = 60.0
_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
_AFTER_USR1 = (0, 128 + signal.SIGUSR1)
"""Exit statuses of a run that requeued its SLURM job, and of one that could not."""


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job that is ready to start: its number, run directory, objective and command line."""

    number: int
    directory: Path
    objective: str
    arguments: list[str]


def runs_in_processes(config: DictConfig) -> bool:
    """Return whether this module runs a sweep: a search, or several jobs at a time."""
    settings = config.get("sweep")
    return settings is not None and (settings.sampler is not None or settings.jobs > 1)


@contextmanager
def grid_lock(config: DictConfig) -> Iterator[None]:
    """Hold the lock of the directory of a grid; several processes may share the trials of a study.

    Raises:
        StemlabError: another process runs the grid.
    """
    settings = config.get("sweep")
    first = all(os.environ.get(name, "0") == "0" for name in _RANK_VARIABLES)
    if settings is None or settings.sampler is not None or not first:
        yield
        return
    with run_lock(Path(str(config.hydra.sweep.dir)), "sweep", SWEEP_ID):
        yield


def check_results(config: DictConfig, results: Sequence[Sequence[Any]]) -> None:
    """Check the jobs of a launcher that runs them in other processes, where their errors are printed.

    Raises:
        StemlabError: jobs have no result.
    """
    if str(config.hydra.launcher._target_).endswith("BasicLauncher"):
        return  # the errors are known in this process
    values = [job.return_value for batch in results for job in batch]
    if lost := sum(not isinstance(value, float) or value != value for value in values):
        raise StemlabError(f"{lost} of {len(values)} jobs of the sweep have no result; the table names them.")


def write_command(config: DictConfig) -> None:
    """Write the command line of a sweep into its directory; a second grid there is added to the first one."""
    directory = Path(str(config.hydra.sweep.dir))
    settings = config.get("sweep")
    if settings is not None and settings.sampler is not None and (directory / COMMAND).exists():
        return  # a study refuses other settings
    folders = [str(source.path) for source in config.hydra.runtime.config_sources if source.provider == "command-line"]
    command = {
        "arguments": [word for folder in folders for word in ("--config-dir", folder)],
        "overrides": [*typed_text(config.hydra.overrides.hydra), *typed_text(config.hydra.overrides.task)],
    }
    content = with_command(directory, command, os.environ.get(SWEEP_ID))
    if content is not None:
        directory.mkdir(parents=True, exist_ok=True)
        write_text_file(directory / COMMAND, json.dumps(content, indent=2) + "\n")


def run_sweep(config: DictConfig, loader: Any, words: Sequence[str]) -> None:
    """Run all jobs of a sweep.

    Args:
        config: config of the sweep, composed by Hydra without its swept settings.
        loader: Hydra's config loader.
        words: settings of the sweep's files, then those of the command line.

    Raises:
        StemlabError: jobs failed; the others have run.
    """
    resume_collection()
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(list(words))
    settings: dict[str, Any] = OmegaConf.to_container(config.sweep, resolve=True)  # type: ignore[assignment]
    source: JobSource
    if is_search({"sweep": settings}):
        directory = Path(str(config.hydra.sweep.dir))
        direction = metric_direction(str(config.objective), own_directions(config))
        assert direction is not None  # checked
        space = SearchSpace(overrides)
        source = StudyTrials(SearchStudy(directory, settings, space, direction, int(config.trainer.max_epochs)))
    else:
        source = GridJobs(BasicSweeper.split_arguments(overrides, None)[0])
    size = settings["jobs"]
    JobRunner(_HydraPlanner(config, loader), source, JobPool(size, job_gpus(config.trainer, size))).run()


def job_gpus(trainer: Mapping[str, Any], size: int) -> list[str] | None:
    """Return the GPUs of each of ``size`` jobs; None if one job runs at a time, or jobs do not use GPUs.

    Raises:
        StemlabError: there are not enough GPUs.
    """
    on_gpus = trainer["accelerator"] == "gpu" and size > 1
    return gpus_per_job(size, processes_per_node(trainer)) if on_gpus else None


class _HydraPlanner:
    """Composes the jobs of a sweep.

    Args:
        config: config of the sweep.
        loader: Hydra's config loader.
    """

    def __init__(self, config: DictConfig, loader: Any) -> None:
        self.config, self.loader = config, loader

    def __call__(self, number: int, words: list[str]) -> PlannedJob:
        config = self.loader.load_sweep_config(self.config, words)
        with open_dict(config), read_write(config):
            config.hydra.job.id = number
            config.hydra.job.num = number
        HydraConfig.instance().set_config(config)
        directory = (Path(str(config.hydra.sweep.dir)) / str(config.hydra.sweep.subdir)).absolute()
        with open_dict(config.hydra.runtime), read_write(config.hydra.runtime):
            config.hydra.runtime.output_dir = str(directory)
        return PlannedJob(number, directory, str(config.objective), job_arguments(config.hydra))


def say_job(job: PlannedJob, text: str) -> None:
    """Print a line about a job."""
    print(f"job {job.number} {text}", flush=True)


class JobRunner:
    """Keeps the processes of a sweep busy until its source has no more jobs.

    Args:
        plan: returns the job of a number and its settings.
        source: gives the jobs.
        pool: runs them.
        say: prints what happens to a job.
    """

    def __init__(
        self,
        plan: Callable[[int, list[str]], PlannedJob],
        source: JobSource,
        pool: JobPool,
        say: Callable[[PlannedJob, str], None] = say_job,
    ) -> None:
        self.source, self.pool = source, pool
        self._plan, self._say = plan, say
        self._planned: dict[int, PlannedJob] = {}
        self._ends = False

    def run(self) -> None:
        """Run all jobs.

        Raises:
            StemlabError: jobs failed; raised after the last one has ended.
            Interrupted: SIGUSR1 of SLURM ended jobs, which go on when the sweep is started again.
        """
        self.run_all()
        if failures := self.source.failures:
            number, reason = next(iter(failures.items()))
            raise StemlabError(
                f"{len(failures)} job{'s' * (len(failures) > 1)} of the sweep failed; job {number}: {reason}"
            )

    def run_all(self) -> None:
        """Run all jobs; the source has the reasons of failed ones."""
        with self.source.active(), usr1_left_to_jobs():
            jobs = iter(self.source.jobs())
            try:
                self._run(jobs)
            except BaseException:
                running = [job.number for job in self.pool.running.values()]
                self.pool.end()
                for number in running:
                    self.source.interrupted(number)
                raise

    def _run(self, jobs: Any) -> None:
        more = True
        while more or self.pool.running:
            more = more and not self._ends
            while more and self.pool.has_room():
                found = next(jobs, None)
                more = found is not None
                if found is not None:
                    self._start(self._plan(*found))
            for job, event in self.pool.events():
                if isinstance(event, EpochReport):
                    job.answer(self.source.stops(job.number, event))
                else:
                    self._end(job, event)
        if self._ends:
            raise Interrupted(signal.SIGUSR1)

    def _start(self, job: PlannedJob) -> None:
        """Start a job, unless its run has ended before."""
        self._planned[job.number] = job
        _wait_for_lock(job.directory)
        status = read_record(job.directory)["status"] if (job.directory / RECORD).is_file() else None
        if status == "finished":
            self._finish(job)
        elif status == "pruned":
            self._say(job, "was pruned before")
            self.source.pruned(job.number)
        else:
            self._say(job, f"starts in {job.directory}" if status is None else f"continues in {job.directory}")
            self.pool.start(job.number, job.directory, job.arguments)

    def _finish(self, job: PlannedJob) -> None:
        try:
            value = read_objective(job.directory, job.objective)
        except StemlabError as error:
            self._fail(job, str(error))
            return
        if value != value:
            self._fail(job, f"{job.objective} is undefined")
            return
        self._say(job, f"finished, {job.objective} {value:.5f}")
        self.source.finished(job.number, value)

    def _end(self, running: RunningJob, status: int) -> None:
        job = self._planned.pop(running.number)
        if status in _AFTER_USR1 and interrupted_by_slurm(job.directory):
            self._say(job, "was interrupted by SIGUSR1")
            self.source.interrupted(job.number)
            self._ends = True
        elif status != 0:
            self._fail(job, self._reason(job, status))
        elif running.stopped:
            self._say(job, "pruned")
            self.source.pruned(job.number)
        else:
            self._finish(job)

    def _reason(self, job: PlannedJob, status: int) -> str:
        record = read_record(job.directory) if (job.directory / RECORD).is_file() else {}
        text = str(record.get("error") or "") or last_line(job.directory)
        return text.removeprefix("StemlabError: ").removeprefix("error: ") or f"exit status {status}"

    def _fail(self, job: PlannedJob, reason: str) -> None:
        self._say(job, f"failed: {reason}")
        self.source.failed(job.number, reason)


def _wait_for_lock(directory: Path) -> None:
    """Wait until the processes of a sweep that was killed have ended; they notice it within seconds."""
    deadline = time.monotonic() + _LOCK_WAIT_S
    while is_locked(directory) and time.monotonic() < deadline:
        time.sleep(0.2)
