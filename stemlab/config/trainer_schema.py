"""Typed models of ``conf/trainer``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stemlab.config.section import Section
from stemlab.types import PositiveInt


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
        kernels: ``auto``: kernels for CPU and GPU where measured to be faster; ``off``: the plain equations everywhere.
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
