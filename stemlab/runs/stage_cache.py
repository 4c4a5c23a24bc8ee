"""The first stage of a two-stage model, named by what determines its numbers.

Runs that differ in the second stage alone share it. It lives in ``<runs_dir>/stages/<model>-<hash>`` as a run like any
other and is trained by the first run that needs it: a finished one is taken as it is, an interrupted one goes on from
its last checkpoint, and who comes while it is trained waits.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

from pytorch_lightning.utilities import rank_zero_info

from stemlab.callbacks.checkpoint import BEST, LAST
from stemlab.config.instantiate import TARGET, import_target, settings_model
from stemlab.config.job_process import process_count
from stemlab.data.prepare.atomic_directory import locked
from stemlab.errors import StemlabError
from stemlab.reporting.record import RECORD, read_record, write_json
from stemlab.runs.checkpoint_io import read_checkpoint
from stemlab.runs.environment import is_first_process
from stemlab.runs.run import TrainingRun

Config = Mapping[str, Any]

# What counts beside the network's own settings, the seed, the optimiser and the rules for stopping and keeping.
_DATASET_KEYS = ("batch_size", "seed", "history_max", "num_negatives", "train_negatives", "evaluation")
_TRAINER_KEYS = ("precision", "max_epochs", "limit_train_batches", "limit_val_batches", "compile", "kernels")
_POLL_SECONDS = 0.2


class StageCache:
    """The first stage that a config asks for, wherever it is up to now.

    Args:
        config: of the run that needs it.
        fingerprint: of the prepared dataset.
        overrides: what was typed, for its record.
        group: the sweep of the run that needs it, if any.

    Attributes:
        directory: its run directory.
        group: under which loggers show both stages: the sweep, or else the stage's own name.
    """

    def __init__(self, config: Config, fingerprint: str, overrides: Sequence[str], group: str | None) -> None:
        self._config, self._overrides = config, overrides
        name = f"{import_target(config['model']['net']).__name__.lower()}-{first_stage_hash(config, fingerprint)}"
        self.directory = Path(config["paths"]["runs_dir"]) / "stages" / name
        self.group = group or name

    @property
    def best(self) -> Path:
        """Checkpoint of its best epoch."""
        return self.directory / "checkpoints" / BEST

    def is_finished(self) -> bool:
        """Return whether it is there, whole."""
        try:
            return bool(read_record(self.directory)["status"] == "finished" and self.best.is_file())
        except StemlabError:
            return False

    def ensure(self) -> None:
        """Train it unless it is finished; other processes of this run follow the first one."""
        if not is_first_process():
            self._wait_or_train()
            return
        with self._locked():
            if self.is_finished():
                return
            self._remove_dangling_link()
            last = self._resumable_checkpoint()
            # the other processes, which Lightning starts later, must not decide anew
            write_json(self._decision_file, {"run": self._config["paths"]["output_dir"], "resume": last})
            try:
                self._train(last)
            finally:
                self._decision_file.unlink(missing_ok=True)

    def _wait_or_train(self) -> None:
        while True:
            decision = _read_json(self._decision_file)
            if decision.get("run") == self._config["paths"]["output_dir"]:
                self._train(decision["resume"])
                return
            if self.is_finished():
                return
            time.sleep(_POLL_SECONDS)

    def _train(self, resume: str | None) -> None:
        rank_zero_info(f"stage pretrain {'goes on' if resume else 'is trained'} in {self.directory}")
        if resume and is_first_process():
            _rename_old_curves(self.directory, resume)
        TrainingRun(first_stage_config(self._config, self.directory, resume), self._overrides, self.group).run()

    def _resumable_checkpoint(self) -> str | None:
        last = self.directory / "checkpoints" / LAST
        return str(last) if last.is_file() and self.best.is_file() else None

    def link(self, directory: Path) -> None:
        """Let second stages find a finished run made elsewhere, unless there is one (or a part of one) already."""
        if is_first_process() and directory.resolve() != self.directory.resolve():
            with self._locked():
                self._remove_dangling_link()
                if not os.path.lexists(self.directory):
                    self.directory.symlink_to(directory, target_is_directory=True)

    def _remove_dangling_link(self) -> None:
        """Take away a link to a run that was deleted."""
        if self.directory.is_symlink() and not self.directory.exists():
            self.directory.unlink()

    def record_second_stage(self, first: Path, second: Path) -> None:
        """Add a second stage to the record of this first one (not to one that was given by path)."""
        if is_first_process() and first == self.directory and (first / RECORD).is_file():
            with self._locked():
                record = read_record(first)
                told = [*record.get("stage2", []), str(second)]
                write_json(first / RECORD, {**record, "stage2": list(dict.fromkeys(told))})

    def _locked(self) -> AbstractContextManager[bool]:
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        return locked(self.directory.with_name(f".{self.directory.name}.lock"), "training")

    @property
    def _decision_file(self) -> Path:
        return self.directory.with_name(f".{self.directory.name}.json")


def first_stage_hash(config: Config, fingerprint: str) -> str:
    """Return 12 hexadecimal digits that are equal for first stages with equal numbers."""
    net, callbacks = config["model"]["net"], config["callbacks"]
    known = {
        "fingerprint": fingerprint,
        "seed": config["seed"],
        "net": {key: net[key] for key in (TARGET, *shared_settings(config))},
        "optim": config["optim"],
        "early_stop": callbacks["early_stop"],
        "checkpoint": {key: callbacks["checkpoint"][key] for key in ("monitor", "mode")},
        "dataset": {key: config["dataset"][key] for key in _DATASET_KEYS},
        "trainer": {key: config["trainer"][key] for key in _TRAINER_KEYS},
        "processes": process_count(config["trainer"]),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]


def first_stage_config(config: Config, directory: Path, resume: str | None) -> dict[str, Any]:
    """Return the config of the first stage: nothing in it depends on the second one.

    Args:
        config: of the run that needs it.
        directory: its run directory.
        resume: checkpoint to go on from.
    """
    made = copy.deepcopy(dict(config))
    net, shared = made["model"]["net"], shared_settings(config)
    for name, field in settings_model(import_target(net)).model_fields.items():
        net[name] = net[name] if name in shared else field.default
    made["model"] |= {"stage": "pretrain", "init_from": None, "allow_scratch": False}
    made["callbacks"]["checkpoint"]["save_last"] = True
    made["paths"]["output_dir"] = str(directory)
    return made | {"ckpt_path": resume, "test": True, "objective": made["callbacks"]["checkpoint"]["monitor"]}


def shared_settings(config: Config) -> tuple[str, ...]:
    """Settings of the network that both stages must have alike."""
    shared: tuple[str, ...] = import_target(config["model"]["net"]).EXTRACTOR_SETTINGS
    return shared


def _rename_old_curves(directory: Path, resume: str) -> None:
    """The CSV logger begins its file anew: the curves up to the interruption stay under another name."""
    curves = directory / "metrics.csv"
    if curves.is_file():
        curves.replace(directory / f"metrics_until_epoch_{read_checkpoint(resume).epoch + 1}.csv")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
