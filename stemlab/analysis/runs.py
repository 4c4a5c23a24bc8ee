"""Runs to analyse: found by path, network and dataset rebuilt from the checkpoint on first use."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from stemlab.analysis.collapse.tables import FieldTable, field_tables
from stemlab.config.cross_checks import effective_tasks, is_sequential
from stemlab.config.limits import run_limits
from stemlab.data.io.progress import Advance, ProgressBars
from stemlab.data.prepare.manifest import sha256_of
from stemlab.data.spec import DatasetSpec, SequenceSpec
from stemlab.errors import StemlabError
from stemlab.reporting.path_patterns import matching_paths
from stemlab.reporting.record import RECORD, read_record
from stemlab.runs.build import DataModule, build_net
from stemlab.runs.pretrained import load_pretrained
from stemlab.runs.restore import RebuiltRun

BEST = Path("checkpoints") / "best.ckpt"
LARGE = 1 << 28
"""Size of the weights, in bytes, above which they are read again on use and not kept in memory."""


class AnalysedRun:
    """A finished run.

    Args:
        path: run directory, or one of its checkpoints (``checkpoints/last.ckpt``).
        command: config of the command, with ``trainer``, ``raw_dir`` and ``data_dir``.

    Attributes:
        path: as given.
        checkpoint: the checkpoint whose weights are analysed.
        label: short name, unique among the runs of the command (``stem``, ``single_task like``).

    Raises:
        StemlabError: there is no checkpoint.
    """

    def __init__(self, path: Path, command: Mapping[str, Any]) -> None:
        self.path = path
        self.checkpoint = checkpoint_of(path)
        self._command = {"batch_size": None, **command, "ckpt": str(self.checkpoint)}
        self._rebuilt = RebuiltRun(self._command)
        if sum(weight.nbytes for weight in self._rebuilt.saved.weights.values()) > LARGE:
            self._rebuilt.saved.weights.clear()  # keep the weights of only one large run in memory
        self.label = self._name()

    def _name(self) -> str:
        name = str(self.config["model"]["name"])
        if not self.tasks or self.joint:
            return name
        return f"{name} {self.tasks[0]}"

    @property
    def config(self) -> dict[str, Any]:
        """Resolved config of the run."""
        return self._rebuilt.config

    @property
    def directory(self) -> Path | None:
        """Run directory of the checkpoint; ``None`` if the checkpoint is not in a run directory."""
        return self._rebuilt.directory

    @property
    def spec(self) -> DatasetSpec | SequenceSpec:
        """Names and sizes of the dataset, from the checkpoint."""
        return self._rebuilt.saved.spec

    @property
    def impressions(self) -> DatasetSpec:
        """Names and sizes of an impression dataset.

        Raises:
            StemlabError: the run was trained on a sequence dataset.
        """
        if not isinstance(self.spec, DatasetSpec):
            raise StemlabError(
                f"{self.path} was trained on item sequences; this analysis needs a run on labels of impressions."
            )
        return self.spec

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the prepared dataset of the training."""
        return self._rebuilt.saved.fingerprint

    @property
    def tasks(self) -> tuple[str, ...]:
        """Trained tasks; empty for sequential models."""
        return tuple(effective_tasks(self.config))

    @property
    def joint(self) -> bool:
        """Whether the run was trained on all tasks of the dataset (or is sequential), not on a single task."""
        return is_sequential(self.config) or len(self.tasks) == len(self.config["dataset"]["tasks"])

    @property
    def seed(self) -> int:
        """Random seed of the training."""
        return int(self.config["seed"])

    @property
    def epoch(self) -> int:
        """Epoch after which the checkpoint was written, from 1; 0 without training."""
        return self._rebuilt.saved.epochs

    @property
    def training(self) -> str:
        """Name of the training, shared by all of its checkpoints; used in figures."""
        return f"{self._name()}, seed {self.seed}, {(self.directory or self.checkpoint.parent).name}"

    @property
    def datamodule(self) -> DataModule:
        """Datamodule with the prepared dataset, checked against the checkpoint; prepared first if it is missing."""
        self._prepared  # noqa: B018 - once
        return self._rebuilt.datamodule

    @cached_property
    def _prepared(self) -> bool:
        self._rebuilt.prepare()
        return True

    @cached_property
    def net(self) -> nn.Module:
        """The network with the checkpoint's weights, in evaluation mode."""
        if not self._rebuilt.saved.weights:
            self._rebuilt = RebuiltRun(self._command)
            self.__dict__.pop("_prepared", None)
        self._prepared  # noqa: B018
        net = self._rebuilt.module().net.eval()
        self._rebuilt.saved.weights.clear()
        return net

    def release(self) -> None:
        """Free the network; the next use of ``net`` reads the checkpoint again."""
        self.__dict__.pop("net", None)
        gc.collect()  # module and submodules form reference cycles

    @property
    def tables(self) -> list[FieldTable]:
        """Embedding tables by field and role."""
        return field_tables(self.net, self.spec)

    def initial_tables(self) -> list[FieldTable]:
        """Return the embedding tables before training: a new network with the seed of the run."""
        from pytorch_lightning import seed_everything

        seed_everything(self.seed, workers=True, verbose=False)
        data = self.datamodule
        sizes = data.spec if isinstance(data.spec, DatasetSpec) else data.sizes
        net = build_net(self.config, sizes)
        load_pretrained(self.config, data, net)
        return field_tables(net, self.spec)

    def summary(self, advance: Advance) -> dict[str, Any]:
        """Return the entry of the run in ``results.json``.

        Args:
            advance: progress callback; receives the number of checkpoint bytes hashed.
        """
        directory, saved = self._rebuilt.directory, self._rebuilt.saved
        record = read_record(directory) if directory and (directory / RECORD).is_file() else {}
        return {
            "label": self.label,
            "run": directory.name if directory else None,
            "checkpoint": self.checkpoint.name,
            "checkpoint_sha256": sha256_of(self.checkpoint, advance),
            "epoch": self.epoch,
            "model": self.config["model"]["name"],
            "tasks": list(self.tasks),
            "seed": self.seed,
            "dataset": self.spec.name,
            "dataset_fingerprint": self.fingerprint,
            "sample": self.spec.sample,
            **({"limits": limits} if (limits := run_limits(saved.config, saved.stage1)) else {}),
            "config_hash": record.get("config_hash"),
            "code": record.get("code"),
        }


def open_runs(config: Mapping[str, Any]) -> list[AnalysedRun]:
    """Return the runs of ``run`` and ``runs``, each once, with unique labels.

    Args:
        config: config of the command.

    Raises:
        StemlabError: a path holds no run, or a run has no checkpoint.
    """
    patterns = [*([config["run"]] if config["run"] else []), *config["runs"]]
    paths = {path: None for pattern in patterns for path in find_run_paths(str(pattern))}
    runs = [AnalysedRun(path, config) for path in paths]
    _make_labels_unique(runs)
    return runs


def summarise_runs(runs: Sequence[AnalysedRun]) -> list[dict[str, Any]]:
    """Return the entries of the runs in ``results.json``; checkpoints are hashed in parallel."""
    with ProgressBars() as steps, ThreadPoolExecutor(os.cpu_count()) as pool:
        advance = steps.bytes("hashing checkpoints", sum(run.checkpoint.stat().st_size for run in runs))
        return list(pool.map(lambda run: run.summary(advance), runs))


def find_run_paths(pattern: str) -> list[Path]:
    """Return the run directories and checkpoints that match a path or glob pattern, or lie below a directory.

    Raises:
        StemlabError: nothing matches.
    """
    matches = matching_paths(pattern)
    if not matches:
        raise StemlabError(f"run={pattern}: no file or directory matches.")
    found: list[Path] = []
    for match in matches:
        below = [] if match.is_file() or _is_run(match) else sorted(path.parent for path in match.rglob(RECORD))
        found += below or [match]
    return found


def _is_run(directory: Path) -> bool:
    return (directory / RECORD).is_file() or (directory / BEST).is_file()


def checkpoint_of(path: Path) -> Path:
    """Return the checkpoint to analyse: the file itself, or the best epoch of a run directory.

    Raises:
        StemlabError: the run directory has no best checkpoint.
    """
    if not path.is_dir():
        return path.absolute()
    if (path / BEST).is_file():
        return (path / BEST).absolute()
    others = sorted(other.name for other in (path / BEST.parent).glob("*.ckpt"))
    advice = f"name one of its checkpoints: {', '.join(others)}" if others else "train the run with stemlab.train first"
    kind = "the run" if (path / RECORD).is_file() else "this is not a run directory: it"
    raise StemlabError(f"run={path}: {kind} has no {BEST}; {advice}.")


def _make_labels_unique(runs: Sequence[AnalysedRun]) -> None:
    """Add seed, then checkpoint and epoch, then a number to labels that several runs share."""
    additions: tuple[Callable[[AnalysedRun], str], ...] = (
        lambda run: f"seed {run.seed}",
        lambda run: f"{run.checkpoint.stem} (epoch {run.epoch})",
    )
    for suffix in additions:
        shared = _shared_labels(runs)
        suffixes = [{suffix(run) for run in runs if run.label == label} for label in shared]
        for label, different in zip(shared, suffixes, strict=True):
            for run in [run for run in runs if run.label == label and len(different) > 1]:
                run.label = f"{label} {suffix(run)}"
    for label in _shared_labels(runs):
        for number, run in enumerate([run for run in runs if run.label == label], start=1):
            run.label = f"{label} ({number})"


def _shared_labels(runs: Sequence[AnalysedRun]) -> list[str]:
    labels = [run.label for run in runs]
    return sorted({label for label in labels if labels.count(label) > 1})
