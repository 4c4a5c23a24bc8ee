"""A reproduction from its plan to its record."""

from __future__ import annotations

import glob
import json
import sys
import time
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from stemlab.config.compose import compose_job, separate_hydra
from stemlab.config.conf_dir import conf_dir
from stemlab.config.reproduce_schema import PresetConfig, ReproduceConfig, budget_seconds
from stemlab.config.validate import validate
from stemlab.errors import Interrupted, StemlabError
from stemlab.reporting.collect import CollectedRuns, collect
from stemlab.reporting.record import code_version, hardware, packages, write_json
from stemlab.reporting.reference import compare_with_reference, read_reference
from stemlab.reporting.run_lock import run_lock
from stemlab.reproduction.checks import NumberCheck, Verdict, table_checks
from stemlab.reproduction.data_choice import choose_data, settings_that_change_results
from stemlab.reproduction.differences import ModelDifference, check_differences, difference_table, model_differences
from stemlab.reproduction.plan import (
    ReproductionRun,
    choose_form,
    compose_runs,
    forms,
    plan_runs,
    remaining_seconds,
)
from stemlab.reproduction.runner import duration, run_missing

RECORD_NAME = "reproduction.json"
_SHOWN_CHECKS = 8


class Reproduction:
    """A reproduction: its data, form and runs.

    Args:
        settings: settings of the command.
        preset: the preset.

    Attributes:
        runs: runs of the chosen form, composed and validated.
        verdict: what was compared so far.

    Raises:
        StemlabError: missing raw files, or an invalid setting.
    """

    def __init__(self, settings: ReproduceConfig, preset: PresetConfig) -> None:
        self.settings, self.preset, self.verdict = settings, preset, Verdict()
        self.data = choose_data(preset, settings.raw_dir, Path(settings.paths["data_dir"]))
        sample = preset.sample if self.data.sample else None
        self.study = sample.study if sample and sample.study else preset.study
        self.repeat = sample.repeat if sample and sample.repeat else preset.repeat
        groups = sample.runs if sample and sample.runs else preset.runs
        self.folder = Path(settings.output or f"{settings.paths['runs_dir']}/reproduce/{preset.name}").absolute()
        self.budget = None if settings.budget is None else budget_seconds(settings.budget)
        planned = [
            (form, plan_runs(groups, self.repeat, form, self.data, settings.settings, self.folder))
            for form in forms(preset, self.repeat, settings.seeds)
        ]
        self.form, self.runs = choose_form(planned if settings.reduce else planned[:1], self.budget, settings.jobs)
        whole = remaining_seconds(planned[0][1]) / settings.jobs
        self._whole = f"; the whole would take about {duration(whole)}" if self.form is not planned[0][0] else ""
        compose_runs(self.runs)
        changed = settings_that_change_results(settings.settings)
        self.marks = [*(["SAMPLE data"] if self.data.sample else [])]
        self.marks += [f"LIMITED: {self.form.reduced}"] if self.form.reduced else []
        self.marks += [f"other settings: {' '.join(changed)}"] if changed else []
        self.verdict.not_compared = list(self.marks)
        self._differences: list[ModelDifference] = []

    def header(self) -> str:
        """Return what is run, on which data, in which form and how long it takes."""
        missing = [run for run in self.runs if not run.finished]
        lines = [f"{self.preset.name}: {self.preset.title}", f"data: {self.data.text}"]
        if self.form.reduced:
            lines.append(f"LIMITED: {self.form.reduced}{self._whole}")
        left = f", about {duration(remaining_seconds(self.runs) / self.settings.jobs)}" if missing else ""
        limit = f" (budget {duration(self.budget)})" if self.budget else ""
        lines.append(f"{len(missing)} of {len(self.runs)} runs are missing{left}{limit}; folder {self.folder}")
        return "\n".join(lines)

    def prepare(self) -> None:
        """Prepare the datasets of the missing runs."""
        from stemlab.config.instantiate import instantiate
        from stemlab.config.raw_folder import dataset_settings

        done = set()
        for run in (run for run in self.runs if not run.finished):
            dataset = dataset_settings(run.config)
            key = json.dumps({k: v for k, v in dataset.items() if k not in ("batch_size", "seed")}, sort_keys=True)
            if key not in done:
                done.add(key)
                instantiate(dataset, key="dataset").prepare()

    def train(self, started: float) -> None:
        """Train the missing runs until the budget is spent.

        Args:
            started: ``time.monotonic()`` at the start of the command.
        """
        deadline = None if self.budget is None else started + self.budget
        try:
            with run_lock(self.folder):
                self.verdict.failures = run_missing(self.runs, self.settings.jobs, deadline)
        except KeyboardInterrupt as error:
            finished = sum(run.finished for run in self.runs)
            advice = f"; {finished} of {len(self.runs)} runs are finished: repeat the command to run the rest"
            self._find_missing()
            self.write(time.monotonic() - started, "interrupted")
            if isinstance(error, Interrupted):
                error.advice = advice
            else:
                print(f"interrupted{advice}", file=sys.stderr)
            raise
        self._find_missing()

    def _find_missing(self) -> None:
        failed = self.verdict.failures
        self.verdict.missing = [run.name for run in self.runs if not run.finished and run.name not in failed]

    @property
    def _compared(self) -> bool:
        return not (self.verdict.not_compared or self.verdict.missing or self.verdict.failures)

    @property
    def _mark(self) -> str:
        """Brackets behind the caption of a table: SAMPLE data, what is left out, missing runs; may be empty."""
        missing = len(self.verdict.missing)
        marks = "; ".join([*self.marks, *([f"{missing} runs missing"] if missing else [])])
        return f" ({marks})" if marks else ""

    def _collected(self) -> CollectedRuns:
        return collect([glob.escape(str(run.directory)) for run in self.runs if run.finished])

    def report_config(self) -> dict[str, Any] | None:
        """Return the config of ``stemlab.report`` for the finished runs; None without any."""
        if not any(run.finished for run in self.runs):
            return None
        words = [f"study={self.study}"] if self.study else []
        config = _composed("report", words)
        config["runs"] = [glob.escape(str(run.directory)) for run in self.runs if run.finished]
        config["only"], config["copies"], config["output"] = {}, None, str(self.folder / "tables")
        config["caption"] = f"{config['caption'] or self.preset.title}{self._mark}"
        config["reference"] = str(_repository_file(config["reference"])) if config["reference"] else None
        if not self._compared:
            config["reference"] = None
        if not self.study:
            config["name"] = self.preset.name
        if self.marks or self.verdict.missing:
            config["figure"] = {**config["figure"], "x": None}
        if self.verdict.missing or self.verdict.failures:  # a key that only missing runs have defines no row
            runs = self._collected().runs
            config["by"] = [key for key in config["by"] if any(run.value(key) is not None for run in runs)]
        return config

    def compare(self, config: Mapping[str, Any]) -> None:
        """Compare the tables with published numbers, unless the reproduction is reduced, incomplete or on SAMPLE data.

        Args:
            config: of ``stemlab.report``.
        """
        from stemlab.reporting.parts import metrics_of
        from stemlab.reporting.table import build_table

        runs = self._collected().runs
        if config["reference"]:
            metrics = config["metrics"] or metrics_of(runs, config["split"])
            table = build_table(runs, config["by"], metrics, config["split"], config["order"], config["scenarios"])
            reference = read_reference(Path(config["reference"]))
            self.verdict.checks += table_checks(compare_with_reference(table, reference))
        if (wanted := self.preset.differences) is not None:
            self._differences = model_differences(runs, wanted.baseline, wanted.metrics, self.repeat.key)
            if wanted.reference and self._compared:
                reference = read_reference(_repository_file(wanted.reference))
                self.verdict.checks += check_differences(self._differences, reference)

    def difference_lines(self) -> list[str]:
        """Return the table of differences from the baseline."""
        from stemlab.reporting.render import aligned

        if not self._differences or self.preset.differences is None:
            return []
        baseline = self.preset.differences.baseline
        return [
            f"Difference from {baseline}{self._mark}, n values of {self.repeat.key}, p by Holm's method",
            aligned(difference_table(self._differences, baseline)),
            "",
        ]

    def analysis_configs(self) -> Iterator[tuple[dict[str, Any], list[str]]]:
        """Yield the config of each analysis whose runs are all finished, and its conditions."""
        for step in self.preset.analyses:
            runs = [run for run in self.runs if any(fnmatch(run.name, pattern) for pattern in step.runs)]
            if not all(run.finished for run in runs) or (step.runs and not runs):
                continue
            config = _composed("analyze", step.settings)
            config["runs"] = [glob.escape(str(run.directory)) for run in runs]
            config["output"] = str(self.folder / "analyses" / str(config["analysis"]["name"]))
            config["fail_if"] = step.fail_if
            yield config, step.fail_if

    def lines(self) -> list[str]:
        """Return the comparison on a few lines."""
        checks, verdict = self.verdict.checks, self.verdict
        judged = [check for check in checks if check.within is not None]
        lines = [f"outside: {text}" for text in verdict.outside[:_SHOWN_CHECKS]]
        if judged:
            largest = max(judged, key=lambda check: abs(check.difference))
            lines.append(
                f"{sum(bool(check.within) for check in judged)} of {len(judged)} numbers are within tolerance; "
                f"largest difference: {largest.text}"
            )
        reason = self.preset.reason
        lines += [f"tolerance: {reason}"] if judged and reason else []
        lines += [f"failed: {name}: {why}" for name, why in list(verdict.failures.items())[:_SHOWN_CHECKS]]
        missing = verdict.missing
        if missing:
            more = f" and {len(missing) - _SHOWN_CHECKS} more" if len(missing) > _SHOWN_CHECKS else ""
            lines.append(f"missing: {', '.join(missing[:_SHOWN_CHECKS])}{more}; repeat the command to run them")
        return lines

    def write(self, seconds: float, status: str | None = None) -> Path:
        """Write the record of the reproduction; return its path."""
        verdict = self.verdict
        path = self.folder / RECORD_NAME
        write_json(
            path,
            {
                "schema": 1,
                "name": self.preset.name,
                "title": self.preset.title,
                "status": status or verdict.sentence,
                "exit_status": None if status else verdict.status,
                "sample": self.data.sample,
                "data": self.data.text,
                "limited": self.form.reduced or None,
                "settings": list(self.settings.settings),
                "budget_s": self.budget,
                "seconds": seconds,
                "runs": {run.name: _run_entry(run) for run in self.runs},
                "missing": verdict.missing,
                "failures": verdict.failures,
                "checks": [_check_entry(check) for check in verdict.checks],
                "conditions": verdict.conditions,
                "differences": [vars(one) for one in self._differences],
                "code": code_version(),
                "packages": packages(),
                "hardware": hardware(1),
            },
        )
        return path


def _run_entry(run: ReproductionRun) -> dict[str, Any]:
    record = run.record
    return {
        "directory": str(run.directory),
        "settings": run.words,
        "status": record.get("status", "missing"),
        "config_hash": record.get("config_hash"),
        "wall_s": (record.get("time") or {}).get("wall_s"),
    }


def _check_entry(check: NumberCheck) -> dict[str, Any]:
    return {**vars(check), "difference": check.difference, "within": check.within}


def _composed(command: str, words: list[str]) -> dict[str, Any]:
    with separate_hydra(command):
        config = compose_job(command, words)
        validate(command, config)
    return config


def _repository_file(name: str) -> Path:
    """Return a file that a config names relative to the repository; the current folder may be another one."""
    path = Path(name)
    if not path.exists() and (conf_dir().parent / name).exists():
        return conf_dir().parent / name
    if not path.exists():
        raise StemlabError(
            f"there is no file {name}: published numbers are in the repository, not in an installed wheel."
        )
    return path
