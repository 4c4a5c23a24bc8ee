"""Runs of two-stage models (TiMiRec): the second stage loads the extractor of the first one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from pytorch_lightning import seed_everything
from pytorch_lightning.utilities import rank_zero_info

from stemlab.callbacks.checkpoint import BEST
from stemlab.config.cross_checks import effective_stage
from stemlab.config.instantiate import TARGET
from stemlab.config.limits import training_limits
from stemlab.config.resolve import config_hash
from stemlab.errors import StemlabError
from stemlab.models.sequential.timirec import TiMiRec
from stemlab.runs.build import Config, DataModule, Module, build_module
from stemlab.runs.checkpoint_io import SavedRun, read_checkpoint
from stemlab.runs.resume import config_differences
from stemlab.runs.run import TrainingRun
from stemlab.runs.stage_cache import StageCache, shared_settings


def training_run(config: Config, overrides: Sequence[str], sweep_id: str | None) -> TrainingRun:
    """Return the run of a config; its class depends on the stage.

    Args:
        config: validated, plain and resolved config.
        overrides: overrides of the command line.
        sweep_id: the sweep of the run, if any.
    """
    classes = {"pretrain": PretrainRun, "finetune": FinetuneRun, None: TrainingRun}
    return classes[effective_stage(config)](config, overrides, sweep_id)


class PretrainRun(TrainingRun):
    """First stage started by the user; added to the stage cache when finished."""

    def run(self) -> float:
        """Run the training and return the objective; NaN where it is undefined."""
        value = super().run()
        if self.recorder.record["status"] == "pruned":
            return value
        record = self.start.finished or self.recorder.record
        StageCache(self.config, record["dataset_fingerprint"], self.overrides, self.group).link(self.directory)
        return value


class FinetuneRun(TrainingRun):
    """Second stage: loads the extractor of a first stage, which is found, trained or read, before training."""

    def _initial_module(self, datamodule: DataModule, resumed: SavedRun | None) -> Module:
        fingerprint = datamodule.manifest["fingerprint"]
        first = StageCache(self.config, fingerprint, self.overrides, self.group)
        self.group = first.group
        saved = None if resumed else self._find_first_stage(first)
        link = resumed.stage1 if resumed else _stage1_link(saved)
        seed_everything(self.config["seed"], workers=True, verbose=False)
        module = build_module(self.config, datamodule, link)
        if saved is not None:
            check_first_stage(saved, self.config, fingerprint)
            cast(TiMiRec, module.net).import_extractor(saved.weights)
        if link:
            self.recorder.set_stage1(link)
            first.record_second_stage(Path(link["directory"]), self.directory)
        return module

    def _find_first_stage(self, first: StageCache) -> SavedRun | None:
        """Return the checkpoint of the first stage, or None to start from initial weights."""
        model = self.config["model"]
        if model["init_from"] is not None:
            return read_first_stage(model["init_from"])
        if model["stage"] == "both":
            first.ensure()
        elif not first.is_finished():
            if model["allow_scratch"]:
                rank_zero_info(f"there is no finished first stage {first.directory}: starting from initial weights")
                return None
            raise StemlabError(
                f"there is no finished first stage {first.directory}: model.stage=both trains it, model.init_from=... "
                "reads another run or checkpoint, model.allow_scratch=true starts from initial weights."
            )
        rank_zero_info(f"stage finetune starts from {first.best}")
        return read_checkpoint(first.best)


def read_first_stage(init_from: str) -> SavedRun:
    """Return the first stage in ``model.init_from``, a run directory or a checkpoint.

    Raises:
        StemlabError: there is no checkpoint, or it cannot be read.
    """
    path = Path(init_from).absolute()
    try:
        return read_checkpoint(path / "checkpoints" / BEST if path.is_dir() else path)
    except StemlabError as error:
        raise StemlabError(f"model.init_from={init_from}: {error}") from None


def check_first_stage(saved: SavedRun, config: Config, fingerprint: str) -> None:
    """Check that a first stage has the same network class, shapes and data as the second stage.

    Raises:
        StemlabError: they differ; the message names the first differing key.
    """
    for name, theirs, ours in _differences(saved, config):
        raise StemlabError(f"stage 2 cannot start from {saved.path}: it has {name}={theirs}, this run has {ours}.")
    if saved.fingerprint != fingerprint:
        raise StemlabError(
            f"stage 2 cannot start from {saved.path}: it was trained on prepared dataset {saved.fingerprint[:12]}, "
            f"this config gives {fingerprint[:12]} (other raw files or settings)."
        )


def _differences(saved: SavedRun, config: Config) -> Iterator[tuple[str, Any, Any]]:
    old, new = saved.config["model"]["net"], config["model"]["net"]
    yield from config_differences(old[TARGET], new[TARGET], f"model.net.{TARGET}")
    yield from config_differences(effective_stage(saved.config), "pretrain", "model.stage")
    for key in shared_settings(config):
        yield from config_differences(old.get(key), new[key], f"model.net.{key}")
    key = "history_max"
    yield from config_differences(saved.config["dataset"].get(key), config["dataset"][key], f"dataset.{key}")


def _stage1_link(saved: SavedRun | None) -> dict[str, Any]:
    """Return the entry about the first stage in the record and checkpoints of the second one."""
    if saved is None:
        return {}
    folder = saved.path.parent
    return {
        "directory": str(folder.parent if folder.name == "checkpoints" else folder),
        "checkpoint": str(saved.path),
        "epoch": saved.epochs,
        "config_hash": config_hash(saved.config),
        "dataset_fingerprint": saved.fingerprint,
        "limits": training_limits(saved.config),
    }
