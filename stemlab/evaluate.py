"""``python -m stemlab.evaluate ckpt=…``: compute the metrics of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from stemlab.config.cli import command


@command("evaluate")
def main(config: DictConfig) -> None:
    """Evaluate a checkpoint, print and write its metrics, compare them with the record of the run."""
    from stemlab.config.resolve import resolve

    evaluate(resolve(config))


def evaluate(config: Mapping[str, Any]) -> dict[str, float]:
    """Evaluate a checkpoint; config and network are rebuilt from the checkpoint alone.

    Args:
        config: validated and plain (``stemlab.config.compose.compose("evaluate", ["ckpt=...", ...])``).

    Returns:
        Full metric name (``test/auc/like``) -> value, NaN where undefined.

    Raises:
        StemlabError: the checkpoint cannot be read, or the dataset differs from that of the training.
    """
    from stemlab.inference.evaluate import CheckpointEvaluation
    from stemlab.runs.environment import is_first_process, silence_lightning

    silence_lightning()
    evaluation = CheckpointEvaluation(config)
    metrics = evaluation.run()
    if is_first_process():
        evaluation.report(metrics)
    return metrics


if __name__ == "__main__":
    main()
