"""Pipes between a sweep and the training of a trial: the value of each epoch, and whether the trial goes on."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "STEMLAB_TRIAL"
"""Variable of a trial's process: its run directory and the file descriptors of its two pipes, as JSON."""
GO_ON, STOP = b"c", b"s"


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What a trial reports after an epoch.

    Attributes:
        epoch: number of the epoch, from 1.
        value: the objective; None if it is undefined.
        last: whether the training ends with this epoch anyway.
    """

    epoch: int
    value: float | None
    last: bool


class TrialChannel:
    """The end of the pipes in the training process; only the first rank uses it.

    Args:
        reports: file descriptor to write reports to.
        answers: file descriptor to read answers from.
    """

    def __init__(self, reports: int, answers: int) -> None:
        self._reports, self._answers = reports, answers

    def stops_after(self, report: EpochReport) -> bool:
        """Send a report and return whether the sweep ends the trial; False if the sweep has ended."""
        try:
            os.write(self._reports, (json.dumps(asdict(report)) + "\n").encode())
            return os.read(self._answers, 1) == STOP
        except OSError:
            return False


def trial_channel(directory: Path) -> TrialChannel | None:
    """Return the channel of the trial that trains in a run directory; None for a run that is no trial.

    A trial may train another run first (the first stage of TiMiRec), which has another directory.
    """
    text = os.environ.get(VARIABLE)
    if text is None:
        return None
    values = json.loads(text)
    if Path(values["directory"]).resolve() != directory.resolve():
        return None
    return TrialChannel(values["reports"], values["answers"])


def trial_variables(directory: Path, reports: int, answers: int) -> dict[str, str]:
    """Return the variables of a trial's process."""
    return {VARIABLE: json.dumps({"directory": str(directory), "reports": reports, "answers": answers})}
