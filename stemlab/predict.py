"""Score rows (multi-task models) or recommend items to users (sequential models).

``python -m stemlab.predict ckpt=… input=rows.csv output=scores.parquet``,
``python -m stemlab.predict ckpt=… output=top.parquet topk=50``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from stemlab.config.cli import command


@command("predict")
def main(config: DictConfig) -> None:
    """Write scores of rows, or recommended items of users; print a summary."""
    from stemlab.config.resolve import resolve

    predict(resolve(config))


def predict(config: Mapping[str, Any]) -> str:
    """Write the input rows with one column ``pred_<task>`` per task added, or the recommended items of users.

    Args:
        config: validated and plain (``stemlab.config.compose.compose("predict", ["ckpt=...", ...])``).

    Returns:
        A summary in one sentence: files written, out-of-vocabulary values or unknown users and items.

    Raises:
        StemlabError: the checkpoint or the input cannot be read, or an option does not apply to the model.
    """
    from stemlab.data.sequence.datamodule import SequenceDataModule
    from stemlab.inference.recommend import Recommender, refuse_options
    from stemlab.inference.score_rows import Scorer, refuse_impression_options
    from stemlab.runs.environment import silence_lightning
    from stemlab.runs.numerics import numeric_mode
    from stemlab.runs.restore import RebuiltRun

    silence_lightning()
    run = RebuiltRun(config)
    job: Scorer | Recommender
    if isinstance(run.datamodule, SequenceDataModule):
        refuse_impression_options(config)
        job = Recommender(config, run)
    else:
        refuse_options(config)
        job = Scorer(config, run)
    with numeric_mode(run.config["trainer"]):
        job.run()
    summary = job.summary()
    print(summary)
    return summary


if __name__ == "__main__":
    main()
