"""Signals that end a training: SIGINT (Ctrl-C), SIGTERM, and SIGUSR1 of SLURM, which requeues the job."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from types import FrameType
from typing import Any

from stemlab.errors import Interrupted
from stemlab.runs.environment import slurm_job

_REQUEUE_TIMEOUT_S = 30


class SignalGuard:
    """Context manager that turns signals into ``Interrupted``: at once, or after the current training step.

    Attributes:
        received: the first signal, or None.
        deferred: whether the signal is only noted, because the training loop saves a checkpoint and raises. A second
            signal raises at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.deferred = False
        self._raised = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> SignalGuard:
        numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if slurm_job() else [])]
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in numbers}
            self._before = {number: old for number, old in handlers.items() if old != signal.SIG_IGN}
            self.install()
        return self

    def install(self) -> None:
        """Set the handlers; Lightning sets its own for SIGTERM at the start of each loop."""
        for number in self._before:
            signal.signal(number, self._handle)

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._raised:
            return  # the run is ending: it writes its record
        first, self.received = self.received is None, self.received or number
        if first and self.deferred:
            name = signal.Signals(number).name
            os.write(2, f"\n{name}: a checkpoint is written after this step; a second signal ends at once\n".encode())
            return
        self.stop()

    def stop(self) -> None:
        """Raise ``Interrupted`` for the received signal."""
        self._raised, self.deferred = True, False
        raise Interrupted(self.received or signal.SIGINT)

    def check(self) -> None:
        """End the deferral; raise ``Interrupted`` if a signal was received."""
        self.deferred = False
        if self.received is not None:
            self.stop()


def requeue_slurm_job() -> bool:
    """Requeue this SLURM job with ``scontrol``; return whether SLURM accepted it."""
    job, scontrol = slurm_job(), shutil.which("scontrol")
    if job is None or scontrol is None or not re.fullmatch(r"\d+(_\d+)?", job):
        return False
    try:
        done = subprocess.run([scontrol, "requeue", job], capture_output=True, timeout=_REQUEUE_TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
