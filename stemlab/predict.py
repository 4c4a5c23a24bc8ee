"""``python -m stemlab.predict ckpt=… input=rows.csv output=scores.parquet``: score raw rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from stemlab.config.cli import command


@command("predict")
def main(config: DictConfig) -> None:
    """Score the rows of a file and say how many ids were unknown."""
    from stemlab.config.resolve import resolve

    predict(resolve(config))


def predict(config: Mapping[str, Any]) -> str:
    """Write the input's rows with one column ``pred_<task>`` a task added.

    Args:
        config: validated and plain (``stemlab.config.compose.compose("predict", ["ckpt=...", ...])``).

    Returns:
        One sentence: rows scored, ids that were out-of-vocabulary.
    """
    from stemlab.lightning.environment import hush
    from stemlab.lightning.score import Scorer

    hush()
    scorer = Scorer(config)
    scorer.run()
    sentence = scorer.summary()
    print(sentence)
    return sentence


if __name__ == "__main__":
    main()
