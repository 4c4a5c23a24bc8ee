"""``python -m stemlab.export ckpt=… output=…``: write a model that runs without stemlab (docs/export.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from stemlab.config.cli import command


@command("export")
def main(config: DictConfig) -> None:
    """Export a checkpoint; print a summary."""
    from stemlab.config.resolve import resolve

    export(resolve(config))


def export(config: Mapping[str, Any]) -> str:
    """Write the network of a checkpoint, the encoder of raw rows and a model card into a directory.

    Args:
        config: validated and plain (``stemlab.config.compose.compose("export", ["ckpt=...", "output=..."])``).

    Returns:
        A summary in one sentence: directory, inputs, and the largest difference from the scores of the checkpoint.

    Raises:
        StemlabError: the checkpoint cannot be read or exported, the output has files, or a package is missing.
    """
    from stemlab.inference.export.job import Exporter
    from stemlab.runs.environment import silence_lightning
    from stemlab.runs.numerics import numeric_mode
    from stemlab.runs.restore import RebuiltRun

    silence_lightning()
    run = RebuiltRun(config)
    exporter = Exporter(config, run)
    with numeric_mode(run.config["trainer"]):
        exported = exporter.run()
    facts = exported.facts
    mark = "[SAMPLE model] " if run.saved.spec.sample else ""
    inputs = ", ".join(part["name"] for part in facts["inputs"])
    summary = (
        f"{mark}{facts['model']} written to {exported.directory} ({facts['format']}; inputs {inputs}); scores differ "
        f"from those of the checkpoint by at most {facts['check']['largest_difference']:.2g}."
    )
    print(summary)
    return summary


if __name__ == "__main__":
    main()
