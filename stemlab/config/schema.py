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
from stemlab.config.predict_schema import PredictConfig
from stemlab.config.section import Monitor, Section
from stemlab.config.sweep_settings import LauncherConfig, SweepConfig
from stemlab.config.trainer_schema import TrainerConfig
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


class LoggerConfig(Section):
    """``conf/logger``: where the metrics of each epoch are logged; the run record is always written.

    Attributes:
        name: name of the option.
        csv: write ``metrics.csv`` in the run directory.
        wandb: log to Weights & Biases: ``auto`` if the user is logged in, ``on`` also offline.
        tensorboard: write TensorBoard files in the run directory.
        wandb_project: project of the W&B run.
        wandb_entity: user or team of the W&B run; ``None`` is the user's default.
        wandb_artifacts: log the best checkpoint as an artifact of the W&B run.
        mlflow: log to MLflow.
        mlflow_uri: folder of MLflow's file store, or URI of a tracking server.
        mlflow_experiment: experiment of the MLflow run.
    """

    name: str
    csv: bool
    wandb: Literal["auto", "on", "off"]
    tensorboard: bool
    wandb_project: str
    wandb_entity: str | None
    wandb_artifacts: bool
    mlflow: bool
    mlflow_uri: str
    mlflow_experiment: str


class OwnMetricsConfig(Section):
    """``metrics`` of ``conf/train.yaml``.

    Attributes:
        own: name -> class (``_target_``) and settings of a metric of the user (docs/own/metric.md).
    """

    own: dict[str, dict[str, Any]] = Field(default_factory=dict)


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
    save_scores: bool
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
    metrics: OwnMetricsConfig = Field(default_factory=lambda: OwnMetricsConfig())


class EvaluateConfig(Section):
    """Top level of ``conf/evaluate.yaml``."""

    ckpt: str
    split: Literal["train", "valid", "test"]
    allow: list[str]
    raw_dir: str | None
    data_dir: str | None
    batch_size: PositiveInt | None
    output: str | None
    save_scores: bool
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
    verify: bool
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
