"""Cache of the first stages of two-stage models, keyed by a hash of all settings that determine their results.

Runs that differ only in their second stage share the first stage. It is an ordinary run in
``<runs_dir>/stages/<model>-<hash>``, trained by the first run that needs it. A finished stage is reused, an interrupted
one resumes from its last checkpoint, and concurrent runs wait on a file lock until it is finished.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

from pytorch_lightning.utilities import rank_zero_info

from stemlab.callbacks.checkpoint import BEST
from stemlab.config.instantiate import TARGET, import_target, settings_model
from stemlab.config.job_process import process_count
from stemlab.config.own_metrics import own_metric_nodes
from stemlab.data.prepare.atomic_directory import locked
from stemlab.errors import StemlabError
from stemlab.reporting.record import RECORD, read_record, write_json
from stemlab.runs.build import Config
from stemlab.runs.environment import is_first_process
from stemlab.runs.run import TrainingRun
from stemlab.runs.run_directory import newest_checkpoint

# Keys in the hash besides the settings of the network, seed, optimiser, early stopping and checkpoint selection.
_DATASET_KEYS = ("batch_size", "seed", "history_max", "num_negatives", "train_negatives", "evaluation")
_TRAINER_KEYS = (
    *("precision", "max_epochs", "max_steps", "accumulate_grad_batches", "val_check_interval"),
    *("limit_train_batches", "limit_val_batches", "compile", "kernels"),
)
_POLL_SECONDS = 0.2


class StageCache:
    """Cache entry of the first stage that a config needs; the stage may be missing, unfinished or finished.

    Args:
        config: config of the run that needs the stage.
        fingerprint: fingerprint of the prepared dataset.
        overrides: overrides of the command line, for the record of the stage.
        group: sweep of the run that needs the stage, if any.

    Attributes:
        directory: run directory of the stage.
        group: group of both stages in the loggers: the sweep, else the name of the stage.
    """

    def __init__(self, config: Config, fingerprint: str, overrides: Sequence[str], group: str | None) -> None:
        self._config, self._overrides = config, overrides
        name = f"{import_target(config['model']['net']).__name__.lower()}-{first_stage_hash(config, fingerprint)}"
        self.directory = Path(config["paths"]["runs_dir"]) / "stages" / name
        self.group = group or name

    @property
    def best(self) -> Path:
        """Checkpoint of the best epoch of the stage."""
        return self.directory / "checkpoints" / BEST

    def is_finished(self) -> bool:
        """Return whether the stage exists and is finished."""
        try:
            return bool(read_record(self.directory)["status"] == "finished" and self.best.is_file())
        except StemlabError:
            return False

    def ensure(self) -> None:
        """Train the stage unless it is finished; the other processes of this run wait for the decision of rank 0."""
        if not is_first_process():
            self._wait_or_train()
            return
        with self._locked():
            if self.is_finished():
                return
            self._remove_dangling_link()
            last = self._resumable_checkpoint()
            # processes that Lightning starts later read this decision instead of making their own
            write_json(self._decision_file, {"run": self._config["paths"]["output_dir"], "resume": last})
            try:
                self._train(last)
            finally:
                self._decision_file.unlink(missing_ok=True)

    def _wait_or_train(self) -> None:
        while not self.is_finished():
            decision = _read_json(self._decision_file)
            # a killed run leaves its file: until rank 0 replaces it, it may name a checkpoint that is not the newest
            is_own = decision.get("run") == self._config["paths"]["output_dir"]
            if is_own and decision["resume"] == self._resumable_checkpoint():
                self._train(decision["resume"])
                return
            time.sleep(_POLL_SECONDS)

    def _train(self, resume: str | None) -> None:
        rank_zero_info(f"stage pretrain: {'resuming' if resume else 'training'} in {self.directory}")
        TrainingRun(first_stage_config(self._config, self.directory, resume), self._overrides, self.group).run()

    def _resumable_checkpoint(self) -> str | None:
        checkpoint = newest_checkpoint(self.directory)
        return str(checkpoint) if checkpoint else None

    def link(self, directory: Path) -> None:
        """Add a finished run in another directory to the cache by a symbolic link, unless the entry exists."""
        if is_first_process() and directory.resolve() != self.directory.resolve():
            with self._locked():
                self._remove_dangling_link()
                if not os.path.lexists(self.directory):
                    self.directory.symlink_to(directory, target_is_directory=True)

    def _remove_dangling_link(self) -> None:
        """Remove the link if its run was deleted."""
        if self.directory.is_symlink() and not self.directory.exists():
            self.directory.unlink()

    def record_second_stage(self, first: Path, second: Path) -> None:
        """Add a second stage to the record of its first stage, if the first stage is this cache entry.

        Args:
            first: run directory of the first stage in use.
            second: run directory of the second stage.
        """
        if is_first_process() and first == self.directory and (first / RECORD).is_file():
            with self._locked():
                record = read_record(first)
                second_stages = [*record.get("stage2", []), str(second)]
                write_json(first / RECORD, {**record, "stage2": list(dict.fromkeys(second_stages))})

    def _locked(self) -> AbstractContextManager[bool]:
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        return locked(self.directory.with_name(f".{self.directory.name}.lock"), "training")

    @property
    def _decision_file(self) -> Path:
        return self.directory.with_name(f".{self.directory.name}.json")


def first_stage_hash(config: Config, fingerprint: str) -> str:
    """Return a hash (12 hexadecimal digits) of all settings that determine the results of the first stage."""
    net, callbacks = config["model"]["net"], config["callbacks"]
    settings = {
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
    watched = callbacks["checkpoint"]["monitor"].partition("/")[2].partition("@")[0]
    if watched in (own := own_metric_nodes(config)):
        settings["metric"] = own[watched]
    if callbacks.get("own"):  # they may change the training, and end it
        settings["callbacks"] = callbacks["own"]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def first_stage_config(config: Config, directory: Path, resume: str | None) -> dict[str, Any]:
    """Return the config of the first stage; it does not depend on settings of the second stage.

    Args:
        config: config of the run that needs the stage.
        directory: run directory of the stage.
        resume: checkpoint to resume from, if any.
    """
    made = copy.deepcopy(dict(config))
    net, shared = made["model"]["net"], shared_settings(config)
    for name, field in settings_model(import_target(net)).model_fields.items():
        net[name] = net[name] if name in shared else field.default
    made["model"] |= {"stage": "pretrain", "init_from": None, "allow_scratch": False}
    made["callbacks"]["checkpoint"]["save_last"] = True
    made["paths"]["output_dir"] = str(directory)
    own = {"ckpt_path": resume, "resume": "never", "resume_from": None, "overwrite": False}
    return made | own | {"test": True, "objective": made["callbacks"]["checkpoint"]["monitor"]}


def shared_settings(config: Config) -> tuple[str, ...]:
    """Return the names of the network settings that must be equal in both stages."""
    shared: tuple[str, ...] = import_target(config["model"]["net"]).EXTRACTOR_SETTINGS
    return shared


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
