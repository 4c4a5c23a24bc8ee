"""The study of a search: an Optuna journal file in the sweep directory, shared by all processes that run its trials."""

from __future__ import annotations

import fcntl
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from stemlab.config.trial_channel import EpochReport
from stemlab.errors import StemlabError
from stemlab.reporting.run_lock import is_locked, run_lock
from stemlab.sweep.space import SearchSpace

JOURNAL = "study.journal"
_ATTEMPTS = 2
"""A trial whose sweep was killed is started so many times; an interruption by a signal does not count."""
_DIRECTIONS = {"max": optuna.study.StudyDirection.MAXIMIZE, "min": optuna.study.StudyDirection.MINIMIZE}


@dataclass(frozen=True, slots=True)
class StartedTrial:
    """A trial that this process runs.

    Attributes:
        trial: the trial in the study.
        words: its settings, ``key=value``.
        resumed: whether another process started it before.
    """

    trial: optuna.Trial
    words: list[str]
    resumed: bool


class SearchStudy:
    """Chooses the settings of trials, compares their epochs and keeps their results.

    Args:
        directory: sweep directory.
        settings: ``sweep`` of the config.
        space: the search space.
        direction: ``max`` or ``min``.
        max_epochs: epochs of a trial that is not pruned.

    Attributes:
        limit: number of trials of the study.
    """

    def __init__(
        self, directory: Path, settings: Mapping[str, Any], space: SearchSpace, direction: str, max_epochs: int
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.directory, self.settings, self.space = directory, settings, space
        self._grid = space.combinations() if settings["sampler"] == "grid" else None
        limits = [count for count in (settings["trials"], len(self._grid) if self._grid else None) if count is not None]
        self.limit = min(limits)
        # in a container, the next process of a sweep may have the same host name and process id
        self._worker = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}"
        directory.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self.study = optuna.create_study(
                study_name="sweep",
                storage=optuna.storages.JournalStorage(JournalFileBackend(str(directory / JOURNAL))),
                direction=_DIRECTIONS[direction],
                sampler=self._sampler(0),
                pruner=make_pruner(settings, max_epochs),
                load_if_exists=True,
            )
            self._check_same_search()

    def _check_same_search(self) -> None:
        """Refuse to continue a study with other settings."""
        words = [f"sweep.sampler={self.settings['sampler']}", *self.space.description()]
        stored = self.study.user_attrs.get("search")
        if stored is None:
            self.study.set_user_attr("search", words)
        elif stored != words:
            different = sorted(set(stored) ^ set(words))
            raise StemlabError(
                f"{self.directory} holds a sweep of other settings ({', '.join(different)}): repeat its settings, or "
                "choose another STEMLAB_SWEEP_ID."
            )

    @contextmanager
    def working(self) -> Iterator[None]:
        """Mark the trials of this process as alive until the end of the context."""
        with run_lock(self.directory / ".workers" / self._worker):
            yield

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the study, so that processes choose trials one after another."""
        with (self.directory / ".study.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def next_trial(self) -> StartedTrial | None:
        """Return a trial to run: one that a process left when it ended, else a new one; None if there is none."""
        with self._locked():
            trials = self.study.get_trials(deepcopy=False)
            for left in (trial for trial in trials if trial.state == TrialState.RUNNING and self._is_left(trial)):
                started = self._adopt(left)
                if started is not None:
                    return started
            number = sum(trial.state != TrialState.WAITING for trial in trials)
            if number >= self.limit:
                return None
            self.study.sampler = self._sampler(number)
            if self._grid is not None and number == len(trials):
                self.study.enqueue_trial(self._grid[number])
            return self._started(self.study.ask(), attempts=1, resumed=False)

    def _is_left(self, trial: FrozenTrial) -> bool:
        """Return whether the process that ran a trial has ended."""
        worker = trial.user_attrs.get("worker")
        return worker is None or not is_locked(self.directory / ".workers" / worker)

    def _adopt(self, left: FrozenTrial) -> StartedTrial | None:
        """Continue a trial; None if it fails because its processes were killed too often without finishing an epoch."""
        self.study.sampler = self._sampler(left.number)
        trial = optuna.Trial(self.study, left._trial_id)
        attempts = left.user_attrs.get("attempts", 0) + (not left.user_attrs.get("interrupted", False))
        if len(left.intermediate_values) > left.user_attrs.get("epochs", 0):
            attempts = 1
        if attempts > _ATTEMPTS:
            self.failed(trial, f"its processes were ended {_ATTEMPTS} times before they finished an epoch")
            return None
        return self._started(trial, attempts, resumed=True)

    def _started(self, trial: optuna.Trial, attempts: int, resumed: bool) -> StartedTrial:
        epochs = len(self._stored(trial).intermediate_values)
        attributes = {"worker": self._worker, "attempts": attempts, "interrupted": False, "epochs": epochs}
        for key, value in attributes.items():
            trial.set_user_attr(key, value)
        return StartedTrial(trial, self.space.suggest(trial), resumed)

    def is_pruned(self, trial: optuna.Trial, report: EpochReport) -> bool:
        """Record the value of an epoch; return whether the trial ends here."""
        if report.value is None or not math.isfinite(report.value):
            return False
        if report.epoch not in self._stored(trial).intermediate_values:
            trial.report(report.value, report.epoch)
        return not report.last and trial.should_prune()

    def _stored(self, trial: optuna.Trial) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[trial.number]

    def finished(self, trial: optuna.Trial, value: float) -> None:
        """Record the objective of a trial."""
        self.study.tell(trial, value)

    def pruned(self, trial: optuna.Trial) -> None:
        """Record that a trial was ended early."""
        self.study.tell(trial, state=TrialState.PRUNED)

    def failed(self, trial: optuna.Trial, reason: str) -> None:
        """Record why a trial has no value."""
        trial.set_user_attr("error", reason)
        self.study.tell(trial, state=TrialState.FAIL)

    def interrupted(self, trial: optuna.Trial) -> None:
        """Record that a signal ended a trial, which another process may continue."""
        trial.set_user_attr("interrupted", True)

    def failures(self) -> dict[int, str]:
        """Return the failed trials of all processes: number -> reason."""
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        return {trial.number: str(trial.user_attrs.get("error", "unknown")) for trial in trials}

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Return the sampler of a trial; its seed depends on the number, so that an interrupted study goes on alike."""
        seed = self.settings["seed"] + number
        if self.settings["sampler"] != "tpe":
            return optuna.samplers.RandomSampler(seed=seed)
        several = self.settings["jobs"] > 1
        return optuna.samplers.TPESampler(
            n_startup_trials=self.settings["startup_trials"], seed=seed, constant_liar=several
        )


def make_pruner(settings: Mapping[str, Any], max_epochs: int) -> optuna.pruners.BasePruner:
    """Return the pruner of ``sweep.pruner``; epochs count from 1."""
    name, first, factor = settings["pruner"], settings["warmup_epochs"], settings["reduction_factor"]
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=settings["startup_trials"], n_warmup_steps=first)
    if name == "successive_halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=factor)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=first, max_resource=max(first, max_epochs), reduction_factor=factor
        )
    return optuna.pruners.NopPruner()
