"""``python -m stemlab.evaluate ckpt=…``: the metrics of a checkpoint, rebuilt from the checkpoint alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from stemlab.config.cli import command


@command("evaluate")
def main(config: DictConfig) -> None:
    """Measure a checkpoint, print and write its metrics, compare them with the run's record."""
    from stemlab.config.resolve import resolve

    evaluate(resolve(config))


def evaluate(config: Mapping[str, Any]) -> dict[str, float]:
    """Measure a checkpoint.

    Args:
        config: validated and plain (``stemlab.config.compose.compose("evaluate", ["ckpt=...", ...])``).

    Returns:
        Metrics by their full names (``test/auc/like``), NaN where undefined.
    """
    from stemlab.inference.evaluate import CheckpointEvaluation
    from stemlab.runs.environment import is_first_process, silence_lightning

    silence_lightning()
    measurement = CheckpointEvaluation(config)
    metrics = measurement.run()
    if is_first_process():
        measurement.report(metrics)
    return metrics


if __name__ == "__main__":
    main()
