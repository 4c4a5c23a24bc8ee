"""``dry_run=true``: what a training would need, computed from its config and the manifest of its prepared dataset."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from stemlab.config.compose import KeyOrigins
from stemlab.config.cross_checks import effective_stage
from stemlab.config.job_process import process_count
from stemlab.config.setting_origins import chosen_settings
from stemlab.data.batch_order import training_steps
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.prepare.atomic_directory import existing_directories_only
from stemlab.data.spec import DatasetSpec, SequenceSizes
from stemlab.errors import StemlabError
from stemlab.models import parameter_counts
from stemlab.runs.build import DataModule, build_datamodule, build_module, build_net, require_gpu
from stemlab.runs.environment import silence_lightning
from stemlab.runs.footprint import Footprint, format_bytes, training_footprint
from stemlab.runs.random_batches import activation_bytes, random_batch
from stemlab.runs.step_plan import steps_per_epoch, total_steps
from stemlab.runs.table_lookups import row_gradient_bytes
from stemlab.runs.table_plan import plan_tables

_WARM_UP_STEPS, _MAX_STEPS, _MAX_SECONDS = 2, 20, 5.0


@dataclass(frozen=True, slots=True)
class TrainingEstimate:
    """What a training would need.

    Attributes:
        samples: training samples of each epoch, over all ranks.
        steps: training steps per epoch.
        parameters: numbers of trainable parameters, ``dense`` and ``embedding``.
        footprint: memory and communication of each rank.
        activations: estimated bytes of the activations of each rank; 0 for a network that is not trained.
        step_s: measured seconds per training step of one process without communication; None if it was not measured.
    """

    samples: int
    steps: int
    parameters: Mapping[str, int]
    footprint: Footprint
    activations: int
    step_s: float | None


def print_dry_run(config: Mapping[str, Any], origins: KeyOrigins, swept: bool) -> None:
    """Print the estimate of a training; in a sweep, one line.

    Args:
        config: validated, plain config.
        origins: arguments of the job.
        swept: whether the training is a job of a sweep.

    Raises:
        StemlabError: the dataset is not prepared.
    """
    if config["resume_from"]:
        raise StemlabError("dry_run shows a new training: leave out resume_from.")
    silence_lightning()
    estimate = estimate_training(config)
    if swept:
        words = " ".join(origins.overrides)
        cost = f"{format_bytes(estimate.footprint.total + estimate.activations)} per rank"
        print(f"{_parameters(estimate)}; {cost}; {_steps(config, estimate)}; {_time(config, estimate)}: {words}")
        return
    name = f"{config['model']['name']} on {config['dataset']['name']}"
    print("\n".join([f"dry run of {name}: nothing is trained or written", *_lines(config, estimate), "", "settings:"]))
    chosen = chosen_settings(origins)
    width = max((len(f"{key}={value}") for key, (value, _) in chosen.items()), default=0)
    for key, (value, place) in chosen.items():
        word = f"{key}={value}" if value else key
        print(f"  {word:<{min(width, 70)}}  {place}")
    print("  every other setting is the default of its file in conf/ (--help lists them)", flush=True)


def estimate_training(config: Mapping[str, Any]) -> TrainingEstimate:
    """Return what a training would need; no rows are read, but a calibration of a sequential model reads its pairs.

    Raises:
        StemlabError: the dataset is not prepared.
    """
    data = build_datamodule(config)
    with existing_directories_only():
        data.adopt(data.build(), verify=False)
        sizes = data.spec if isinstance(data, ImpressionDataModule) else data.sizes
    with torch.device("meta"):
        net = build_net(config, sizes)
    parameters = parameter_counts(net)
    trained = any(parameter.requires_grad for parameter in net.parameters())
    samples, ranks = _samples(data), max(1, process_count(config["trainer"]))
    steps = training_steps(samples // ranks, config["dataset"]["batch_size"]) if trained else 0
    limit = config["trainer"]["limit_train_batches"]
    return TrainingEstimate(
        samples=samples,
        steps=steps_per_epoch(config["trainer"], min(steps, limit) if limit else steps),
        parameters=parameters,
        footprint=training_footprint(config, parameters, plan_tables(config, net), row_gradient_bytes(config, net)),
        activations=activation_bytes(config, sizes) if trained else 0,
        step_s=_seconds_per_step(config, data, sizes) if trained and config["dry_run"] == "calibrate" else None,
    )


def _samples(data: DataModule) -> int:
    counts = data.manifest.get("interactions") if getattr(data, "first_interactions", False) else None
    return int((counts or data.manifest["rows"])["train"])


def _seconds_per_step(config: Mapping[str, Any], data: DataModule, sizes: DatasetSpec | SequenceSizes) -> float:
    """Return the mean duration of training steps on random samples in this process."""
    require_gpu(config["trainer"])
    if config["trainer"]["threads"]:
        torch.set_num_threads(config["trainer"]["threads"])
    device = torch.device("cuda" if config["trainer"]["accelerator"] == "gpu" else "cpu")
    module = build_module(config, data).to(device)
    optimizer = module.configure_optimizers()
    batch: Any = random_batch(sizes, config["dataset"]["batch_size"], int(config["dataset"].get("num_negatives", 1)))
    batch = batch.to(device)
    start, steps = time.perf_counter(), -_WARM_UP_STEPS
    while steps < 1 or (steps < _MAX_STEPS and time.perf_counter() - start < _MAX_SECONDS):
        if steps == 0:
            start = time.perf_counter()
        optimizer.zero_grad()
        loss: Any = module.losses(batch)[0]
        loss.backward()
        module.clip(optimizer)
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        steps += 1
    return (time.perf_counter() - start) / steps


def _lines(config: Mapping[str, Any], estimate: TrainingEstimate) -> list[str]:
    found = estimate.footprint
    whole = format_bytes(found.total + estimate.activations)
    memory = {
        "weights": found.weights,
        "gradients": found.gradients,
        "optimiser states": found.optimizer,
        "activations": estimate.activations,
    }
    parts = ", ".join(f"{name} {format_bytes(count)}" for name, count in memory.items())
    reduced = f"{format_bytes(found.reduced)} per rank ({format_bytes(found.sent)} sent in a ring)"
    rows = {
        "samples": f"{estimate.samples:,} per epoch",
        "parameters": _parameters(estimate),
        "memory per rank": f"about {whole}: {parts} (estimated; activations of the plain network)",
        "reduced per step": reduced if found.ranks > 1 else "nothing (one process)",
        **({"exchanged per step": f"at most {format_bytes(found.exchanged)} per rank"} if found.exchanged else {}),
        "steps": _steps(config, estimate),
        "time": _time(config, estimate),
    }
    if effective_stage(config) == "finetune" and config["model"]["stage"] == "both":
        rows["stages"] = "these numbers are of the second stage; the first one is trained before it if it is missing"
    return [f"  {name:<19}{text}" for name, text in rows.items()]


def _parameters(estimate: TrainingEstimate) -> str:
    return f"dense {estimate.parameters['dense']:,}  embedding {estimate.parameters['embedding']:,}"


def _steps(config: Mapping[str, Any], estimate: TrainingEstimate) -> str:
    epochs, most = config["trainer"]["max_epochs"], config["trainer"]["max_steps"]
    limit = f" and {most:,} steps" if most else ""
    return (
        f"{estimate.steps:,} steps per epoch, at most {epochs} epochs{limit}" if estimate.steps else "nothing to train"
    )


def _time(config: Mapping[str, Any], estimate: TrainingEstimate) -> str:
    if estimate.step_s is None:
        return "not measured (dry_run=calibrate)" if estimate.steps else "none"
    step = estimate.step_s * config["trainer"]["accumulate_grad_batches"]
    epoch, total = step * estimate.steps, step * total_steps(config["trainer"], estimate.steps)
    ranks = " without communication" if estimate.footprint.ranks > 1 else ""
    return (
        f"{1000 * estimate.step_s:.3g} ms per step{ranks}, {epoch:.3g} s per epoch, at most {total / 60:.3g} min "
        "(without evaluation)"
    )
