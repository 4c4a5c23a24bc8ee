"""Typed models of config groups without ``_target_``: settings, types and limits.

The group ``optim`` is typed in ``stemlab.optim``. Nodes with a ``_target_`` (dataset, model.net) are checked against
their constructors (``stemlab.config.instantiate``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from stemlab.config.callback_schema import CallbacksConfig, RankingCallbacksConfig
from stemlab.config.export_schema import ExportConfig
from stemlab.config.model_schema import STAGE_KEYS, ModelConfig, MultiTaskConfig, SequentialConfig, StagedConfig
from stemlab.config.section import Monitor, Section
from stemlab.config.sweep_settings import LauncherConfig, SweepConfig
from stemlab.types import PositiveInt

Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _not_empty(path: str) -> str:
    if not path:
        raise ValueError("the path of a folder")
    return path


Folder = Annotated[str, AfterValidator(_not_empty)]


class PathsConfig(Section):
    """``conf/paths``; made absolute when the config is resolved."""

    root_dir: Folder
    data_dir: Folder
    runs_dir: Folder
    output_dir: Folder


class TrainerConfig(Section):
    """``conf/trainer``: processes, precision and length of a training.

    Attributes:
        name: name of the option, for messages.
        log_every_n_steps: steps between two values of a logged curve.
        devices: number of processes, -1 for all GPUs, or a list of GPU indices.
        num_nodes: number of machines; several are started by torchrun or SLURM.
        precision: ``32-true``: float32 everywhere; ``tf32``: float32 whose products a GPU computes in TF32;
            ``bf16-mixed``: autocast to bfloat16.
        threads: intra-op threads per process; ``None`` is torch's default.
        max_steps: number of optimiser steps after which the training ends; ``None``: ``max_epochs`` alone ends it.
        accumulate_grad_batches: batches whose gradients make one step.
        val_check_interval: steps between two validations, besides those at the end of every epoch.
        limit_train_batches: batches per epoch, for a quick test; ``None`` is all.
        limit_val_batches: batches of the validation split, for a quick test; ``None`` is all.
        limit_test_batches: batches of the test split, for a quick test; ``None`` is all.
        capture: ``auto``: training steps are captured as CUDA graphs where possible; ``off``: never.
        loop: ``auto``: steps leave out the hooks that nothing uses (``stemlab.lightning.step_loop``), with the same
            results; ``lightning``: Lightning's loop executes every step.
        kernels: ``auto``: CPU kernels where they were measured to be faster; ``off``: the plain equations everywhere.
        embedding: ``replicated``: every process has all embedding tables; ``row_sharded``, ``column_sharded``: each has
            a part of their rows or columns; ``auto``: tables with more rows than a process looks up per step are
            divided by rows.
    """

    name: str
    accelerator: Literal["cpu", "gpu"]
    devices: PositiveInt | Literal[-1] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    num_nodes: PositiveInt
    process_group_backend: Literal["gloo", "nccl"] | None
    precision: Literal["32-true", "tf32", "bf16-mixed"]
    max_epochs: PositiveInt
    max_steps: PositiveInt | None
    accumulate_grad_batches: PositiveInt
    val_check_interval: PositiveInt | None
    log_every_n_steps: PositiveInt
    threads: Annotated[PositiveInt, Field(le=4096)] | None
    deterministic: bool | Literal["warn"]
    limit_train_batches: PositiveInt | None
    limit_val_batches: PositiveInt | None
    limit_test_batches: PositiveInt | None
    compile: bool
    capture: Literal["auto", "off"]
    loop: Literal["auto", "lightning"]
    kernels: Literal["auto", "off"]
    embedding: Literal["replicated", "row_sharded", "column_sharded", "auto"]


class SavedTrainerConfig(TrainerConfig):
    """``conf/trainer/saved.yaml``, for commands that load a checkpoint: ``None`` keeps the value of its run."""

    accelerator: Literal["cpu", "gpu"] | None  # type: ignore[assignment]
    precision: Literal["32-true", "tf32", "bf16-mixed"] | None  # type: ignore[assignment]
    kernels: Literal["auto", "off"] | None  # type: ignore[assignment]


class LoggerConfig(Section):
    """``conf/logger``: where the metrics of each epoch are logged; the run record is always written.

    Attributes:
        name: name of the option.
        csv: write ``metrics.csv`` in the run directory.
        wandb: log to Weights & Biases: ``auto`` if the user is logged in, ``on`` also offline.
        tensorboard: write TensorBoard files in the run directory.
        wandb_project: project of the W&B run.
        wandb_entity: user or team of the W&B run; ``None`` is the user's default.
    """

    name: str
    csv: bool
    wandb: Literal["auto", "on", "off"]
    tensorboard: bool
    wandb_project: str
    wandb_entity: str | None


class TrainConfig(Section):
    """Top level of ``conf/train.yaml``; each group has its own model."""

    seed: Seed
    tags: list[str]
    resume: Literal["never", "auto", "must"]
    overwrite: bool
    resume_from: str | None
    dry_run: bool | Literal["calibrate"]
    allow: list[str]
    ckpt_path: str | None
    test: bool
    objective: Monitor
    model: dict[str, Any]
    dataset: dict[str, Any]
    optim: dict[str, Any]
    trainer: dict[str, Any]
    callbacks: dict[str, Any]
    logger: dict[str, Any]
    paths: dict[str, Any]
    sweep: dict[str, Any]
    launcher: dict[str, Any] | None = None


class EvaluateConfig(Section):
    """Top level of ``conf/evaluate.yaml``."""

    ckpt: str
    split: Literal["train", "valid", "test"]
    allow: list[str]
    raw_dir: str | None
    data_dir: str | None
    batch_size: PositiveInt | None
    output: str | None
    trainer: dict[str, Any]
    paths: dict[str, Any]


class PredictConfig(Section):
    """Top level of ``conf/predict.yaml``.

    Attributes:
        input: ``None`` is all users of the dataset (sequential models).
        on_unknown: ``error`` or ``skip`` for users and items that are not in the dataset.
    """

    ckpt: str
    input: str | None
    output: str
    allow: list[str]
    raw_dir: str | None
    data_dir: str | None
    batch_size: PositiveInt | None
    topk: PositiveInt
    exclude_seen: bool
    on_unknown: Literal["error", "skip"]
    vectors: str | None
    interests: str | None
    item_vectors: str | None
    escape_csv: bool
    index: Literal["none", "exact", "hnsw"]
    index_path: str | None
    trainer: dict[str, Any]
    paths: dict[str, Any]


class ProfileConfig(Section):
    """Top level of ``conf/profile.yaml``, which documents the keys; each group has its own model."""

    seed: Seed
    warmup_steps: PositiveInt
    steps: PositiveInt
    traced_steps: PositiveInt
    model: dict[str, Any]
    dataset: dict[str, Any]
    optim: dict[str, Any]
    trainer: dict[str, Any]
    callbacks: dict[str, Any]
    logger: dict[str, Any]
    paths: dict[str, Any]


class PrepareConfig(Section):
    """Top level of ``conf/prepare.yaml``."""

    seed: Seed
    dataset: dict[str, Any]
    paths: dict[str, Any]


SECTIONS: dict[str, type[Section]] = {
    "paths": PathsConfig,
    "trainer": TrainerConfig,
    "callbacks": CallbacksConfig,
    "logger": LoggerConfig,
    "model": ModelConfig,
    "sweep": SweepConfig,
    "launcher": LauncherConfig,
}


def section_model(name: str, values: Mapping[str, Any]) -> type[Section]:
    """Return the model of a group; variants of a group are recognised by a key that only one of them has."""
    if name == "callbacks" and "window" in (values.get("early_stop") or {}):
        return RankingCallbacksConfig
    if name == "model" and values.get("family") == "sequential":
        return StagedConfig if all(key in values for key in STAGE_KEYS) else SequentialConfig
    return MultiTaskConfig if name == "model" else SECTIONS[name]


COMMAND_MODELS: dict[str, type[Section]] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "export": ExportConfig,
    "prepare": PrepareConfig,
    "profile": ProfileConfig,
}
CHECKPOINT_COMMANDS = ("evaluate", "predict", "export")
"""Commands that read the config of a run from its checkpoint."""
