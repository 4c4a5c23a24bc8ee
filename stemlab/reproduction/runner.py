"""Runs the missing runs of a reproduction in processes of their own, within a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from stemlab.config.override_text import quote_override
from stemlab.config.trial_channel import EpochReport
from stemlab.reproduction.plan import ReproductionRun, remaining_seconds
from stemlab.sweep.job_pool import JobPool, RunningJob
from stemlab.sweep.job_sources import JobSource
from stemlab.sweep.sweeper import JobRunner, PlannedJob, job_gpus

_PROGRESS_S = 30.0


class BudgetSpent(Exception):  # noqa: N818  (not an error)
    """The time of a reproduction is over."""


class TimedPool(JobPool):
    """A pool that ends at a time.

    Args:
        size: jobs at a time.
        gpus: GPUs of each job.
        deadline: ``time.monotonic()`` of the end; None: no end.
    """

    def __init__(self, size: int, gpus: Sequence[str] | None, deadline: float | None) -> None:
        super().__init__(size, gpus, own_output=True)
        self._deadline = deadline

    def events(self) -> Iterator[tuple[RunningJob, EpochReport | int]]:
        """Yield reports and ends of jobs; raises ``BudgetSpent`` at the deadline."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise BudgetSpent
        yield from super().events()


class ReproductionJobs(JobSource):
    """The runs of a reproduction, and lines about their progress."""

    def __init__(self, runs: Sequence[ReproductionRun], jobs: int) -> None:
        super().__init__()
        self._runs, self._size, self._said = runs, jobs, time.monotonic()

    def jobs(self) -> Iterable[tuple[int, list[str]]]:
        """Yield the runs in order."""
        yield from ((number, run.words) for number, run in enumerate(self._runs))

    def stops(self, number: int, report: EpochReport) -> bool:
        """Print the progress of a long run, at most every 30 seconds; never end it."""
        if time.monotonic() - self._said >= _PROGRESS_S:
            value = "undefined" if report.value is None else f"{report.value:.5f}"
            self.say(number, f"epoch {report.epoch}, objective {value}")
        return False

    def plan(self, number: int, words: list[str]) -> PlannedJob:
        """Return the command line of a run, which resumes what its directory holds."""
        run = self._runs[number]
        place = f"hydra.run.dir={quote_override(str(run.directory))}"
        return PlannedJob(number, run.directory, str(run.config["objective"]), [*words, place, "resume=auto"])

    def say(self, number: int, text: str) -> None:
        """Print a line about a run, with the estimated time of all runs that are left."""
        self._said = time.monotonic()
        left = remaining_seconds(self._runs) / self._size
        rest = f"; about {duration(left)} left" if left else ""
        print(f"[{number + 1}/{len(self._runs)}] {self._runs[number].name}: {text}{rest}", flush=True)


def run_missing(runs: Sequence[ReproductionRun], jobs: int, deadline: float | None) -> dict[str, str]:
    """Train the runs that are not finished; interrupted ones are resumed.

    Args:
        runs: composed runs.
        jobs: runs at a time.
        deadline: ``time.monotonic()`` at which running ones are interrupted; None: never.

    Returns:
        Name and reason of each failed run.
    """
    missing = [run for run in runs if not run.finished]
    source = ReproductionJobs(missing, jobs)
    pool = TimedPool(jobs, job_gpus(missing[0].config["trainer"], jobs) if missing else None, deadline)
    runner = JobRunner(source.plan, source, pool, lambda job, text: source.say(job.number, text.split(" in /")[0]))
    try:
        runner.run_all()
    except BudgetSpent:
        print("the budget is spent; running trainings were interrupted and can be resumed", flush=True)
    return {missing[number].name: reason for number, reason in source.failures.items()}


def duration(seconds: float) -> str:
    """Return ``45 s``, ``12 min`` or ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
