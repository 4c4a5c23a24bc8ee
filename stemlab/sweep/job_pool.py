"""Jobs of a sweep as processes: a fixed number at a time, each with its own GPUs, output and pipes."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from stemlab.config.gpu_locks import visible_gpus
from stemlab.config.job_process import GRACE_SECONDS, end_process_group, single_process_environment
from stemlab.config.trial_channel import GO_ON, STOP, EpochReport, trial_variables
from stemlab.errors import StemlabError

OUTPUT = "output.log"
"""File in the run directory with the output of a job that runs beside others."""
_POLL_S = 0.2


@dataclass
class RunningJob:
    """A job whose process was started.

    Attributes:
        number: number of the job in the sweep.
        directory: run directory.
        stopped: whether the sweep answered a report by STOP.
    """

    number: int
    directory: Path
    slot: int
    process: subprocess.Popen[bytes]
    reports: int
    answers: int
    stopped: bool = False
    pending: bytes = b""

    def answer(self, stop: bool) -> None:
        """Answer a report of the job, which waits for it."""
        self.stopped = self.stopped or stop
        with contextlib.suppress(OSError):  # the job has ended
            os.write(self.answers, STOP if stop else GO_ON)

    def close_answers(self) -> None:
        """Close the pipe: a job that waits for an answer goes on."""
        with contextlib.suppress(OSError):  # closed before
            os.close(self.answers)
        self.answers = -1


class JobPool:
    """Starts at most ``size`` jobs at a time and yields what they report.

    Args:
        size: number of jobs at a time.
        gpus: GPUs of each job, as values of ``CUDA_VISIBLE_DEVICES``; None if the jobs do not use GPUs.
        module: module of the command.
        own_output: whether the output of each job goes to a file in its run directory; None: if jobs run beside others.
    """

    def __init__(
        self,
        size: int,
        gpus: Sequence[str] | None = None,
        module: str = "stemlab.train",
        own_output: bool | None = None,
    ) -> None:
        self.size, self.gpus, self.module = size, gpus, module
        self._own_output = size > 1 if own_output is None else own_output
        self.running: dict[int, RunningJob] = {}
        self._selector = selectors.DefaultSelector()

    def has_room(self) -> bool:
        """Return whether another job can be started."""
        return len(self.running) < self.size

    def start(self, number: int, directory: Path, arguments: Sequence[str]) -> None:
        """Start ``python -m <module> <arguments>``, which trains in ``directory``."""
        slot = min(set(range(self.size)) - set(self.running))
        read_reports, write_reports = os.pipe()
        read_answers, write_answers = os.pipe()
        directory.mkdir(parents=True, exist_ok=True)
        with self._output(directory) as output:
            process = subprocess.Popen(
                [sys.executable, "-m", self.module, *arguments],
                env=self._environment(slot) | trial_variables(directory, write_reports, read_answers),
                pass_fds=(write_reports, read_answers),
                stdout=output,
                stderr=output if output is None else subprocess.STDOUT,
                start_new_session=True,
            )
        os.close(write_reports)
        os.close(read_answers)
        job = RunningJob(number, directory, slot, process, read_reports, write_answers)
        self.running[slot] = job
        self._selector.register(read_reports, selectors.EVENT_READ, job)

    def _output(self, directory: Path) -> contextlib.AbstractContextManager[IO[bytes] | None]:
        if not self._own_output:
            return contextlib.nullcontext()
        return (directory / OUTPUT).open("ab")

    def _environment(self, slot: int) -> dict[str, str]:
        variables = single_process_environment()
        if self.size > 1:
            variables.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.size)))
        if self.gpus is not None:
            variables["CUDA_VISIBLE_DEVICES"] = self.gpus[slot]
        return variables

    def events(self) -> Iterator[tuple[RunningJob, EpochReport | int]]:
        """Yield the reports that have arrived and the exit statuses of the jobs that have ended, after a short wait."""
        for key, _ in self._selector.select(_POLL_S):
            job: RunningJob = key.data
            text = os.read(job.reports, 1 << 16)
            if not text:  # the job closed its end
                self._selector.unregister(job.reports)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    job.process.wait(_POLL_S)
            *lines, job.pending = (job.pending + text).split(b"\n")
            for line in lines:
                yield job, EpochReport(**json.loads(line))
        for job in [job for job in self.running.values() if job.process.poll() is not None]:
            self._forget(job)
            yield job, job.process.returncode

    def _forget(self, job: RunningJob) -> None:
        if job.reports in self._selector.get_map():
            self._selector.unregister(job.reports)
        os.close(job.reports)
        job.close_answers()
        del self.running[job.slot]

    def end(self) -> None:
        """End all jobs: they save a checkpoint if they can."""
        # a shell starts commands in the background without SIGINT
        first = signal.SIGTERM if signal.getsignal(signal.SIGINT) == signal.SIG_IGN else signal.SIGINT
        for job in self.running.values():
            job.close_answers()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.process.pid, first)
        for job in list(self.running.values()):
            # a second signal would end the job without a checkpoint
            with contextlib.suppress(subprocess.TimeoutExpired):
                job.process.wait(GRACE_SECONDS)
            end_process_group(job.process)
            self._forget(job)


def last_line(directory: Path) -> str:
    """Return the last line of the output of a job that ran beside others; empty if there is none."""
    path = directory / OUTPUT
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def gpus_per_job(size: int, needed: int) -> list[str]:
    """Return the GPUs of each of ``size`` jobs, as values of ``CUDA_VISIBLE_DEVICES``.

    Args:
        size: number of jobs at a time.
        needed: GPUs per job.

    Raises:
        StemlabError: there are not enough GPUs.
    """
    visible = visible_gpus()
    if needed < 1 or size * needed > len(visible):
        raise StemlabError(
            f"sweep.jobs={size} with trainer.devices={needed} needs {size * max(1, needed)} GPUs, {len(visible)} are "
            "visible: lower one of them."
        )
    return [",".join(visible[slot * needed : (slot + 1) * needed]) for slot in range(size)]
