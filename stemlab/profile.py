"""``python -m stemlab.profile model=stem dataset=tiktok``: show where the time of a training step goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from stemlab.config.cli import command
from stemlab.errors import StemlabError


def _check(config: Mapping[str, Any]) -> None:
    from stemlab.config.job_process import process_count

    if process_count(config["trainer"]) != 1:
        raise StemlabError("stemlab.profile measures one process: set trainer=cpu or trainer=gpu with devices=1.")
    if config["model"].get("init_from") is not None:
        raise StemlabError("stemlab.profile trains from initial weights: leave out model.init_from.")


@command("profile", check=_check)
def main(config: DictConfig) -> None:
    """Profile the training steps of a config, print and write the results."""
    from stemlab.config.resolve import resolve

    profile_training(resolve(config))


def profile_training(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Profile the first training steps of a config; with ``model.stage=both``, of each stage.

    Args:
        config: validated and plain (``stemlab.config.compose.compose("profile", ["model=stem", ...])``).

    Returns:
        Content of ``profile.json`` of each profile. The files are in ``config['paths']['output_dir']``, or in one
        folder per stage.

    Raises:
        StemlabError: the data cannot be prepared, or the model has too few training steps.
    """
    from stemlab.profiling.measure import measure
    from stemlab.profiling.output import print_profile, write_profile
    from stemlab.runs.allocator import keep_freed_memory
    from stemlab.runs.environment import silence_lightning

    _check(config)
    silence_lightning()
    keep_freed_memory()
    directory, profiles = Path(config["paths"]["output_dir"]), []
    both = config["model"].get("stage") == "both"
    for stage in ("pretrain", "finetune") if both else (None,):
        folder = directory / stage if stage else directory
        model = {**config["model"], "stage": stage} if stage else config["model"]
        folder.mkdir(parents=True, exist_ok=True)
        found = measure({**config, "model": model}, folder)
        write_profile(folder, found)
        print_profile(found, folder)
        profiles.append(found)
    return profiles


if __name__ == "__main__":
    main()
