"""Where the jobs of a sweep come from and their results go: every combination of values, or the trials of a study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

from stemlab.config.trial_channel import EpochReport
from stemlab.sweep.study import SearchStudy, StartedTrial


class JobSource:
    """Gives the jobs of a sweep and takes their results.

    Attributes:
        failures: number of each failed job -> reason.
    """

    def __init__(self) -> None:
        self.failures: dict[int, str] = {}

    def jobs(self) -> Iterable[tuple[int, list[str]]]:
        """Yield number and settings of each job, one at a time."""
        return ()

    def active(self) -> AbstractContextManager[None]:
        """Return the context in which jobs run."""
        return nullcontext()

    def stops(self, number: int, report: EpochReport) -> bool:
        """Return whether the job ends after an epoch."""
        return False

    def finished(self, number: int, value: float) -> None:
        """Take the objective of a job, nan if it is undefined."""

    def pruned(self, number: int) -> None:
        """Take note of a job that ended early."""

    def interrupted(self, number: int) -> None:
        """Take note of a job that was interrupted with the sweep."""

    def failed(self, number: int, reason: str) -> None:
        """Take note of a job without result."""
        self.failures[number] = reason


class GridJobs(JobSource):
    """Every combination of the values, without a study."""

    def __init__(self, combinations: Sequence[list[str]]) -> None:
        super().__init__()
        self._combinations = combinations

    def jobs(self) -> Iterable[tuple[int, list[str]]]:
        """Yield the combinations in order."""
        yield from enumerate(self._combinations)


class StudyTrials(JobSource):
    """The trials of a study."""

    def __init__(self, study: SearchStudy) -> None:
        super().__init__()
        self.study = study
        self._running: dict[int, StartedTrial] = {}

    def jobs(self) -> Iterable[tuple[int, list[str]]]:
        """Yield trials until the study has all of them."""
        while (started := self.study.next_trial()) is not None:
            self._running[started.trial.number] = started
            yield started.trial.number, [*started.words, "resume=auto"]
        self.failures = self.study.failures()

    def active(self) -> AbstractContextManager[None]:
        """Return the context in which other processes see that the trials run."""
        return self.study.working()

    def stops(self, number: int, report: EpochReport) -> bool:
        """Return whether the pruner ends the trial."""
        return self.study.is_pruned(self._running[number].trial, report)

    def finished(self, number: int, value: float) -> None:
        """Record the objective in the study."""
        self.study.finished(self._running.pop(number).trial, value)

    def pruned(self, number: int) -> None:
        """Record the end in the study."""
        self.study.pruned(self._running.pop(number).trial)

    def interrupted(self, number: int) -> None:
        """Let the next process continue the trial."""
        self.study.interrupted(self._running.pop(number).trial)

    def failed(self, number: int, reason: str) -> None:
        """Record the failure in the study."""
        super().failed(number, reason)
        self.study.failed(self._running.pop(number).trial, reason)
