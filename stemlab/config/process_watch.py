"""End the processes of a run together: a process whose parent is gone, and a run that has lost a rank.

Without this, a rank whose peer is gone waits for it for 30 minutes or, while the ranks start, for ever.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PARENT = "STEMLAB_PARENT_PID"
"""Variable of a process that ends with its parent: the process id of the parent."""
REPORTS = "STEMLAB_RANK_REPORTS"
"""Variable of the ranks that rank 0 starts: folder in which each writes the reason of its end."""
POLL_S = 0.5
GRACE_S = 15.0
"""Time that a process has to end by itself before it is ended."""
SAVING_S = 25.0
"""The same, if the ranks were interrupted by SIGINT or SIGTERM."""
OTHER_ENDED = "another process of this run has ended"
"""Beginning of the message of a process that noticed the end of another one."""
LOST_RANK_HOOKS: list[Callable[[str], None]] = []
"""Functions that ``RankWatch`` calls with its message before it ends this process."""


def local_rank() -> int:
    """Return the rank of this process on its machine; 0 for a single process."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def child_environment(environment: dict[str, str]) -> dict[str, str]:
    """Return the variables for a child that ends when this process ends."""
    return {**environment, PARENT: str(os.getpid())}


def watch_parent() -> None:
    """Start a thread that ends this process when its parent ends; does nothing unless the parent asked for it.

    A further rank exits at once. Another process gets SIGTERM, so that it can save, and exits after ``GRACE_S``.
    """
    parent = os.environ.pop(PARENT, None)  # removed: children of this process have another parent
    if parent is not None:
        threading.Thread(target=_end_with, args=(int(parent),), name="parent-watch", daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_S)
    if rank := local_rank():
        _print_error(f"rank 0 (process {parent}) has ended, so rank {rank} ends, too.")
        os._exit(2)
    _print_error(f"the process that started this job ({parent}) has ended, so the job ends, too.")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(128 + signal.SIGTERM)


def report_reason(message: str) -> None:
    """Tell rank 0 why this rank ends; does nothing in rank 0 and in a single process."""
    folder, rank = os.environ.get(REPORTS), local_rank()
    if folder and rank:
        with contextlib.suppress(OSError):  # the exit status remains
            (Path(folder) / str(rank)).write_text(" ".join(message.split()), encoding="utf-8")


class RankWatch(threading.Thread):
    """Watches the ranks that rank 0 started and ends the run when one of them is lost.

    Rank 0 usually fails by itself, because the connection is closed. If it has not ended after ``GRACE_S`` (it may wait
    in a library), this thread calls ``LOST_RANK_HOOKS`` and exits the process with status 2.

    Args:
        processes: processes of ranks 1, 2, ... of this machine.
        reports: folder for ``report_reason``.
    """

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]], reports: Path) -> None:
        super().__init__(name="rank-watch", daemon=True)
        self.processes, self.reports = list(processes), reports
        self._stopped = threading.Event()

    def run(self) -> None:
        """Poll until a rank is lost or ``stop`` is called."""
        while not self._stopped.wait(POLL_S):
            message = self.lost()
            if message is not None:
                if not self._stopped.wait(SAVING_S if self._is_interrupted() else GRACE_S):
                    self._end_run(message)
                return

    def _is_interrupted(self) -> bool:
        """Return whether a rank was ended by an interruption, of which rank 0 may be saving the state."""
        signals = (signal.SIGINT, signal.SIGTERM)
        return any(process.poll() in {-number, 128 + number} for process in self.processes for number in signals)

    def stop(self) -> None:
        """Do not end this process any more: its error has been recorded."""
        self._stopped.set()

    def lost(self, wait_s: float = 0.0) -> str | None:
        """Return a sentence that names the lost rank and the reason, or ``None`` if no rank is lost.

        Args:
            wait_s: time to wait for a rank that is about to end.
        """
        deadline = time.monotonic() + wait_s
        while True:
            ended = [(rank, status) for rank, p in enumerate(self.processes, 1) if (status := p.poll())]
            if ended or time.monotonic() >= deadline:
                break
            time.sleep(0.05)
        # a rank that only noticed the loss of another one is not the cause
        reasons = sorted(((rank, self._reason(rank, status)) for rank, status in ended), key=_is_consequence)
        return f"rank {reasons[0][0]} of this run {reasons[0][1]}" if reasons else None

    def _reason(self, rank: int, status: int) -> str:
        try:
            report = (self.reports / str(rank)).read_text(encoding="utf-8")
        except OSError:
            report = ""
        if status < 0:
            hint = ", which the system sends if memory runs out" if -status == signal.SIGKILL else ""
            return f"was ended by signal {-status} ({signal.Signals(-status).name}{hint})."
        return f"has ended with exit status {status}: {report or 'its error message is above.'}"

    def end_ranks(self, wait_s: float) -> None:
        """End all ranks that still run after a time."""
        deadline = time.monotonic() + wait_s
        for signal_number, pause in ((None, 0.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0)):
            running = [process for process in self.processes if process.poll() is None]
            for process in running:
                if signal_number is not None:
                    process.send_signal(signal_number)
            deadline = max(deadline, time.monotonic() + pause)
            while any(process.poll() is None for process in running) and time.monotonic() < deadline:
                time.sleep(0.05)

    def _end_run(self, message: str) -> None:
        for hook in LOST_RANK_HOOKS:
            try:
                hook(message)
            except Exception as error:  # the message below is more important
                _print_error(str(error))
        _print_error(message)
        self.end_ranks(0.0)
        os._exit(2)


def _is_consequence(reason: tuple[int, str]) -> bool:
    return OTHER_ENDED in reason[1]


def _print_error(message: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
        print(f"error: {message}", file=sys.stderr, flush=True)
