"""``python -m stemlab.analyze analysis=collapse run=…``: analyse the embeddings of runs; write numbers and a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig

from stemlab.config.cli import command


@command("analyze")
def main(config: DictConfig) -> None:
    """Analyse runs, write the results, print the findings."""
    from stemlab.config.resolve import resolve

    analyze(resolve(config))


def analyze(config: Mapping[str, Any]) -> Path:
    """Analyse runs.

    Args:
        config: validated and plain (``stemlab.config.compose.compose("analyze", ["run=...", ...])``).

    Returns:
        The folder of the results: ``index.html``, ``results.json``, CSV, PNG and SVG files.

    Raises:
        StemlabError: there is no run to analyse, no requested analysis applies to the runs, ``analysis=demo`` did not
            find an effect of its synthetic data, or a path of ``fail_if`` is not a number of the results.
        ThresholdError: a condition of ``fail_if`` holds; all results are written.
    """
    import torch

    from stemlab.analysis.base import Analysis
    from stemlab.analysis.output import RESULTS, output_folder, write_results
    from stemlab.analysis.runs import open_runs
    from stemlab.analysis.train_missing import train_missing_runs, training_requested
    from stemlab.config.instantiate import instantiate
    from stemlab.config.thresholds import check_conditions, check_sections, parse_conditions
    from stemlab.errors import StemlabError
    from stemlab.runs.environment import silence_lightning
    from stemlab.runs.numerics import numeric_mode

    silence_lightning()
    if config["trainer"]["threads"]:
        torch.set_num_threads(config["trainer"]["threads"])
    analysis = cast(Analysis, instantiate(config["analysis"], key="analysis"))
    conditions = parse_conditions(config["fail_if"])
    check_sections(conditions, analysis.section_names)
    if training_requested(config):
        output_folder(config, analysis.name, [])  # refuses a folder with other files before hours of training
        config = {**config, "runs": [*config["runs"], *map(str, train_missing_runs(config))]}
    runs = open_runs(config)
    if not runs and analysis.needs_runs:
        raise StemlabError(f"analysis={analysis.name} needs a run: set run=<run directory>.")
    folder = output_folder(config, analysis.name, [] if config["models"] else runs)
    with numeric_mode(config["trainer"]):
        sections = analysis.sections(runs)
    write_results(folder, config, analysis.name, runs, sections)
    for name, findings in sections.found.items():
        print(f"{name}: {findings.verdict}")
    for name, why in sections.refused.items():
        print(f"{name} left out: {why}")
    print(f"wrote {folder / 'index.html'}")
    if sections.failed:
        raise StemlabError(sections.failed)
    check_conditions(conditions, json.loads((folder / RESULTS).read_text(encoding="utf-8")))
    return folder


if __name__ == "__main__":
    main()
