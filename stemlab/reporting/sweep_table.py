"""Table of the jobs of a sweep, best first, printed when the sweep ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from stemlab.config.limits import LIMITED, run_limits
from stemlab.config.own_metrics import own_directions
from stemlab.errors import StemlabError
from stemlab.metric_directions import metric_direction
from stemlab.reporting.record import RECORD, read_record
from stemlab.types import Mode

_SHOWN_JOBS = 20
_SHOWN_FAILURES = 50
_ERROR_LENGTH = 160
_OVERRIDES = Path(".hydra", "overrides.yaml")  # written by Hydra for each job
_SAMPLE = "SAMPLE"


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep.

    Attributes:
        directory: run directory.
        overrides: overrides of the job, key -> value as text.
        record: its run record; empty if it wrote none.
        error: message of the error that ended it, or the empty text.
    """

    directory: Path
    overrides: Mapping[str, str]
    record: Mapping[str, Any]
    error: str

    @property
    def number(self) -> int:
        """Number of the job, with which the name of its directory begins."""
        number = self.directory.name.partition("_")[0]
        return int(number) if number.isdecimal() else 0

    @property
    def objective(self) -> str:
        """Metric that the sweep compares."""
        return str(self._config.get("objective"))

    @property
    def _config(self) -> Mapping[str, Any]:
        return self.record.get("config") or {}

    @cached_property
    def value(self) -> float | None:
        """The objective; ``None`` if the job did not finish or the metric is undefined."""
        return self.metric(self.objective) if self.record.get("status") == "finished" else None

    @property
    def direction(self) -> Mode | None:
        """Whether larger or smaller values of the objective are better."""
        return metric_direction(self.objective, own_directions(self._config))

    @property
    def marks(self) -> str:
        """SAMPLE and LIMITED, where they apply."""
        limits = run_limits(self._config, self.record.get("stage1"))
        return f" {_SAMPLE}" * bool(self.record.get("sample")) + f" {LIMITED}" * bool(limits)

    def metric(self, name: str) -> float | None:
        """Return a metric of the record; ``None`` if it is undefined or was not measured."""
        found = (self.record.get("metrics") or {}).get(name)
        return None if found is None else float(found)


def sweep_table(directory: Path, errors: Mapping[Path, str]) -> str:
    """Return the jobs in a sweep directory, best first, then those that did not finish.

    Args:
        directory: directory of the sweep (``runs/sweeps/<time>``).
        errors: run directory -> message of the error that ended the job.

    Returns:
        Text to print; empty if the directory has no job.
    """
    jobs = _jobs(directory, errors)
    lines: list[str] = []
    for objective in dict.fromkeys(job.objective for job in jobs if job.value is not None):
        ranked = sorted((job for job in jobs if job.value is not None and job.objective == objective), key=_rank)
        lines += ["", *_ranking(directory, objective, ranked, _swept_keys(jobs))]
    pruned = [job for job in jobs if job.record.get("status") == "pruned"]
    if pruned:
        lines += ["", *_pruned_lines(jobs, pruned)]
    unfinished = [job for job in jobs if job.value is None and job not in pruned]
    if unfinished:
        lines += ["", f"{len(unfinished):,} of {len(jobs):,} jobs without result:"]
        lines += [f"  {job.directory.name}: {_reason(job)}" for job in unfinished[:_SHOWN_FAILURES]]
        lines += _more(len(unfinished), _SHOWN_FAILURES, directory)
    return "\n".join(lines)


def _pruned_lines(jobs: Sequence[SweepJob], pruned: Sequence[SweepJob]) -> list[str]:
    epochs = sum(int(job.record.get("epochs_run") or 0) for job in jobs)
    ends = ", ".join(f"{job.number} (epoch {job.record.get('epochs_run')})" for job in pruned[:_SHOWN_FAILURES])
    more = f" and {len(pruned) - _SHOWN_FAILURES:,} more" * (len(pruned) > _SHOWN_FAILURES)
    total = f"epochs trained by all jobs: {epochs:,}"
    return [f"{len(pruned):,} of {len(jobs):,} jobs were pruned: {ends}{more}", total]


def _jobs(directory: Path, errors: Mapping[Path, str]) -> list[SweepJob]:
    folders = [path for path in directory.glob("*/") if (path / RECORD).is_file() or (path / _OVERRIDES).is_file()]
    messages = {path.resolve(): message for path, message in errors.items()}
    return sorted((_job(path, messages.get(path.resolve(), "")) for path in folders), key=_order)


def _job(directory: Path, message: str) -> SweepJob:
    record: Mapping[str, Any] = {}
    try:
        record = read_record(directory)
    except StemlabError as error:
        message = message or ("" if (directory / RECORD).is_file() else "it wrote no record") or str(error)
    path = directory / _OVERRIDES
    words = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else record.get("overrides", [])
    overrides = {key: value for key, _, value in (str(word).partition("=") for word in words or [])}
    return SweepJob(directory, overrides, record, message or str(record.get("error") or ""))


def _order(job: SweepJob) -> tuple[int, str]:
    return (job.number, job.directory.name)


def _rank(job: SweepJob) -> float:
    """Return a number that is smaller for better jobs; a metric without direction is best at 1."""
    assert job.value is not None
    return abs(job.value - 1) if job.direction is None else job.value * (-1 if job.direction == "max" else 1)


def _swept_keys(jobs: Sequence[SweepJob]) -> list[str]:
    keys = dict.fromkeys(key for job in jobs for key in job.overrides if key != "resume" and key[:6] != "sweep.")
    return [key for key in keys if len({job.overrides.get(key) for job in jobs}) > 1]


def _ranking(directory: Path, objective: str, jobs: Sequence[SweepJob], keys: Sequence[str]) -> list[str]:
    test = f"test/{objective.partition('/')[2]}"
    metrics = [objective] + [test] * (test != objective and any(job.metric(test) is not None for job in jobs))
    rows = [["", "job", *_short(keys), *metrics]]
    for place, job in enumerate(jobs[:_SHOWN_JOBS], 1):
        values = [_shown(job.metric(name)) for name in metrics]
        rows.append(
            [str(place), job.directory.name + job.marks, *(job.overrides.get(key, "") for key in keys), *values]
        )
    direction = {"max": "largest", "min": "smallest", None: "closest to 1"}[jobs[0].direction]
    best = jobs[0].directory / "checkpoints" / "best.ckpt"
    return [
        f"sweep {directory}: {len(jobs):,} finished job{'s' * (len(jobs) != 1)}, best first ({direction} {objective})",
        *_aligned(rows, numbers=len(metrics)),
        *_more(len(jobs), _SHOWN_JOBS, directory),
        f"best: {best if best.is_file() else jobs[0].directory}",
    ]


def _short(keys: Sequence[str]) -> list[str]:
    """Return the last word of each key, or the whole key where two keys end alike."""
    ends = [key.rpartition(".")[2] for key in keys]
    return [end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)]


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _aligned(rows: Sequence[Sequence[str]], numbers: int) -> list[str]:
    """Return rows with aligned columns; the first and the last ``numbers`` columns are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = {0, *range(len(widths) - numbers, len(widths))}
    formats = [f"{{:{'>' if column in right else '<'}{width}}}" for column, width in enumerate(widths)]
    return ["  ".join(form.format(cell) for form, cell in zip(formats, row, strict=True)).rstrip() for row in rows]


def _more(count: int, shown: int, directory: Path) -> list[str]:
    if count <= shown:
        return []
    return [f"… and {count - shown:,} more; python -m stemlab.report runs={directory} lists all runs that finished."]


def _reason(job: SweepJob) -> str:
    if job.record.get("status") == "finished":
        return f"{job.objective} is undefined."
    status = str(job.record.get("status") or "failed")
    error = " ".join(job.error.split()).removeprefix("StemlabError: ")
    return f"{status}: {error[:_ERROR_LENGTH]}{'…' * (len(error) > _ERROR_LENGTH)}" if error else status
