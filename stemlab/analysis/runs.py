"""The runs that are analysed: found by directory, rebuilt from their checkpoints when something is asked of them."""

from __future__ import annotations

import gc
import glob
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from stemlab.analysis.collapse.tables import FieldTable, field_tables
from stemlab.config.cross_checks import effective_tasks, is_sequential
from stemlab.data.io.progress import Advance, ProgressBars
from stemlab.data.prepare.manifest import sha256_of
from stemlab.data.spec import DatasetSpec, SequenceSpec
from stemlab.errors import StemlabError
from stemlab.reporting.record import RECORD, read_record
from stemlab.runs.build import DataModule, build_net
from stemlab.runs.restore import RebuiltRun

BEST = Path("checkpoints") / "best.ckpt"
LARGE = 1 << 28
"""Bytes of weights above which they are read twice rather than kept."""


class AnalysedRun:
    """A finished run.

    Args:
        place: run directory, or one of its checkpoints (``checkpoints/last.ckpt``).
        chosen: config of the command: ``trainer``, ``raw_dir``, ``data_dir``.

    Attributes:
        place: as named.
        checkpoint: the checkpoint whose weights are analysed.
        label: short name among the runs of the command (``stem``, ``single_task like``).

    Raises:
        StemlabError: there is no checkpoint.
    """

    def __init__(self, place: Path, chosen: Mapping[str, Any]) -> None:
        self.place = place
        self.checkpoint = checkpoint_of(place)
        self._chosen = {"batch_size": None, **chosen, "ckpt": str(self.checkpoint)}
        self._rebuilt = RebuiltRun(self._chosen)
        if sum(weight.nbytes for weight in self._rebuilt.saved.weights.values()) > LARGE:
            self._rebuilt.saved.weights.clear()  # of several large runs only one is in memory
        self.label = self._name()

    def _name(self) -> str:
        name = str(self.config["model"]["name"])
        if not self.tasks or self.joint:
            return name
        return f"{name} {self.tasks[0]}"

    @property
    def config(self) -> dict[str, Any]:
        """The run's own config."""
        return self._rebuilt.config

    @property
    def directory(self) -> Path | None:
        """The run directory around the checkpoint, if it still lies in one."""
        return self._rebuilt.directory

    @property
    def spec(self) -> DatasetSpec | SequenceSpec:
        """Names and sizes of its dataset, as the checkpoint tells."""
        return self._rebuilt.saved.spec

    @property
    def impressions(self) -> DatasetSpec:
        """Names and sizes of a dataset of impressions.

        Raises:
            StemlabError: the run learnt sequences.
        """
        if not isinstance(self.spec, DatasetSpec):
            raise StemlabError(f"{self.place} learnt sequences of items; this needs labels of impressions.")
        return self.spec

    @property
    def fingerprint(self) -> str:
        """Of the prepared dataset it was trained on."""
        return self._rebuilt.saved.fingerprint

    @property
    def tasks(self) -> tuple[str, ...]:
        """Labels it was trained on; none for sequential models."""
        return tuple(effective_tasks(self.config))

    @property
    def joint(self) -> bool:
        """Whether it was trained on all of several labels (or is sequential), not on one of them."""
        return is_sequential(self.config) or len(self.tasks) == len(self.config["dataset"]["tasks"])

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return int(self.config["seed"])

    @property
    def epoch(self) -> int:
        """Epochs after which the checkpoint was written, from 1 on."""
        return self._rebuilt.saved.epoch + 1

    @property
    def training(self) -> str:
        """What all checkpoints of one training share, for figures."""
        return f"{self._name()}, seed {self.seed}, {(self.directory or self.checkpoint.parent).name}"

    @property
    def datamodule(self) -> DataModule:
        """The prepared dataset (found or made, and checked against the checkpoint)."""
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
            self._rebuilt = RebuiltRun(self._chosen)
            self.__dict__.pop("_prepared", None)
        self._prepared  # noqa: B018
        net = self._rebuilt.module().net.eval()
        self._rebuilt.saved.weights.clear()
        return net

    def release(self) -> None:
        """Forget the network; it is read again when it is needed again."""
        self.__dict__.pop("net", None)
        gc.collect()  # a module and its parts know each other

    @property
    def tables(self) -> list[FieldTable]:
        """The embedding tables by field and role."""
        return field_tables(self.net, self.spec)

    def initial_tables(self) -> list[FieldTable]:
        """Tables as the training began: the same network, freshly made with the run's seed."""
        from pytorch_lightning import seed_everything

        seed_everything(self.seed, workers=True, verbose=False)
        data = self.datamodule
        sizes = data.spec if isinstance(data.spec, DatasetSpec) else data.sizes
        return field_tables(build_net(self.config, sizes), self.spec)

    def described(self, advance: Advance) -> dict[str, Any]:
        """Return what the results say about the run, telling ``advance`` the checkpoint's bytes as they are read."""
        directory = self._rebuilt.directory
        record = read_record(directory) if directory and (directory / RECORD).is_file() else {}
        return {
            "label": self.label,
            "run": directory.name if directory else None,
            "checkpoint": self.checkpoint.name,
            "checkpoint_sha256": sha256_of(self.checkpoint, advance),
            "epoch": self._rebuilt.saved.epoch,
            "model": self.config["model"]["name"],
            "tasks": list(self.tasks),
            "seed": self.seed,
            "dataset": self.spec.name,
            "dataset_fingerprint": self.fingerprint,
            "sample": self.spec.sample,
            "config_hash": record.get("config_hash"),
            "code": record.get("code"),
        }


def open_runs(config: Mapping[str, Any]) -> list[AnalysedRun]:
    """Return the runs of ``run`` and ``runs``, each once, with labels that tell them apart.

    Args:
        config: of the command.

    Raises:
        StemlabError: a place where there is no run, or a run without a checkpoint.
    """
    places = [*([config["run"]] if config["run"] else []), *config["runs"]]
    found = {path: None for place in places for path in run_places(str(place))}
    runs = [AnalysedRun(path, config) for path in found]
    _tell_apart(runs)
    return runs


def describe(runs: Sequence[AnalysedRun]) -> list[dict[str, Any]]:
    """Return what the results say about each run; several checkpoints are read at once."""
    with ProgressBars() as steps, ThreadPoolExecutor(os.cpu_count()) as pool:
        advance = steps.bytes("hashing checkpoints", sum(run.checkpoint.stat().st_size for run in runs))
        return list(pool.map(lambda run: run.described(advance), runs))


def run_places(place: str) -> list[Path]:
    """Return the run directories and checkpoints at a place: itself, a pattern, or all runs below a directory."""
    matches = sorted(Path(match) for match in glob.glob(place, recursive=True))
    if not matches:
        raise StemlabError(f"run={place}: there is nothing at this place.")
    found: list[Path] = []
    for match in matches:
        below = [] if match.is_file() or _is_run(match) else sorted(path.parent for path in match.rglob(RECORD))
        found += below or [match]
    return found


def _is_run(directory: Path) -> bool:
    return (directory / RECORD).is_file() or (directory / BEST).is_file()


def checkpoint_of(place: Path) -> Path:
    """Return the checkpoint that stands for a run: the named file, or the best epoch of a run directory.

    Raises:
        StemlabError: there is none.
    """
    if not place.is_dir():
        return place.absolute()
    if (place / BEST).is_file():
        return (place / BEST).absolute()
    others = sorted(path.name for path in (place / BEST.parent).glob("*.ckpt"))
    told = f"name one of its checkpoints: {', '.join(others)}" if others else "train it first with stemlab.train"
    kind = "the run" if (place / RECORD).is_file() else "no run directory:"
    raise StemlabError(f"run={place}: {kind} has no {BEST}; {told}.")


def _tell_apart(runs: Sequence[AnalysedRun]) -> None:
    """Add seeds, then checkpoints with their epochs, then numbers to labels that several runs would share."""
    additions: tuple[Callable[[AnalysedRun], str], ...] = (
        lambda run: f"seed {run.seed}",
        lambda run: f"{run.checkpoint.stem} (epoch {run.epoch})",
    )
    for added in additions:
        shared = _shared(runs)
        told = [{added(run) for run in runs if run.label == label} for label in shared]
        for label, words in zip(shared, told, strict=True):
            for run in [run for run in runs if run.label == label and len(words) > 1]:
                run.label = f"{label} {added(run)}"
    for label in _shared(runs):
        for number, run in enumerate([run for run in runs if run.label == label], start=1):
            run.label = f"{label} ({number})"


def _shared(runs: Sequence[AnalysedRun]) -> list[str]:
    labels = [run.label for run in runs]
    return sorted({label for label in labels if labels.count(label) > 1})
