"""One profile: a short training with a probe, evaluated to plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
from pytorch_lightning import Callback, seed_everything
from torch import nn
from torch.profiler import profile

from stemlab.callbacks.progress import MetricBar
from stemlab.config.cross_checks import effective_stage
from stemlab.data.io.output_file import write_errors
from stemlab.errors import StemlabError
from stemlab.profiling.flops import product_peak, step_flops
from stemlab.profiling.step_clock import mean_parts, typical
from stemlab.profiling.step_probe import TIMED, TRACED, StepProbe
from stemlab.profiling.trace import Event, Work, allocated_bytes, gpu_seconds, kernels, operators, read_trace
from stemlab.reporting.record import code_version, hardware, packages, peak_memory
from stemlab.runs.build import build_datamodule, build_module, build_trainer, check_batch_norm
from stemlab.runs.engine import TrainingEngine
from stemlab.runs.interruption import interruptions
from stemlab.runs.loggers import build_loggers, finish_loggers
from stemlab.runs.numerics import numeric_mode
from stemlab.runs.run import needs_training
from stemlab.runs.run_callbacks import build_callbacks
from stemlab.runs.signals import SignalGuard

TRACE = "trace.json.gz"
_MOST_EPOCHS = 1000
_LISTED = 15
"""Operators and kernels in ``profile.json``; the trace has all of them."""


class _Counts(Callback):
    """Counts the operations of a step at the end of the training, while the module is on its device."""

    def __init__(self, probe: StepProbe) -> None:
        self._probe = probe
        self.flops: dict[str, int] = {}

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Count the first batch of the training."""
        if self._probe.finished:
            self.flops = step_flops(pl_module, self._probe.first_batch)


def measure(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Train a few steps and return where their time goes; the trace is written to ``folder``.

    Args:
        config: validated, plain config of ``stemlab.profile`` with one stage; the weights are initial ones.
        folder: existing folder of the results.

    Returns:
        Content of ``profile.json``; times in seconds per training step.

    Raises:
        StemlabError: the model is not trained in steps, or there are too few of them.
    """
    guard = SignalGuard()
    with guard, numeric_mode(config["trainer"]):
        datamodule = build_datamodule(config)
        datamodule.prepare()
        seed_everything(config["seed"], workers=True, verbose=False)
        # a training has an objective, which is checked against the metrics; here it has no effect
        training = {**config, "objective": config["callbacks"]["checkpoint"]["monitor"]}
        module = build_module(training, datamodule)
        if not needs_training(module):
            raise StemlabError(f"model={config['model']['name']} has no training steps: it only counts interactions.")
        samples = int(datamodule.manifest["rows"]["train"])
        check_batch_norm(module.net, config["trainer"], samples, datamodule.batch_size)
        engine = TrainingEngine(config, module, datamodule)
        probe = StepProbe(config["warmup_steps"], config["steps"], config["traced_steps"])
        counts, run_callbacks = _Counts(probe), build_callbacks(training, folder)
        # what acts within a step; validation, early stopping and checkpoints belong to the end of an epoch
        bars = [callback for callback in run_callbacks.others if isinstance(callback, MetricBar)]
        loggers = build_loggers(config, folder, datamodule.spec.sample, None)
        unlimited = {"max_epochs": _MOST_EPOCHS, "max_steps": None, "val_check_interval": None}
        within = {**config, "trainer": {**config["trainer"], "limit_val_batches": 0, **unlimited}}
        callbacks: list[Callback] = [probe, run_callbacks.throughput, *bars, counts]
        trainer = build_trainer(within, folder, callbacks, loggers, module, config["steps"])
        try:
            with interruptions(trainer, guard), probe.measuring(trainer):
                trainer.fit(module, datamodule=datamodule)
        finally:
            finish_loggers(loggers, failed=not probe.finished)
        if not probe.finished:
            raise StemlabError(_too_few_steps(config, probe))
        assert probe.trace is not None
        events = _write_trace(probe.trace, folder / TRACE)
        peak = product_peak(trainer.strategy.root_device, config["trainer"]["precision"])
    result = _header(config, datamodule.spec.sample, engine.summary(), engine.record(trainer))
    result |= _step(probe, datamodule.batch_size)
    result |= _traced(probe, events)
    rate = sum(counts.flops.values()) / result["step"]["mean_s"]
    result["flops"] = {**counts.flops, "per_s": rate, "peak": asdict(peak), "utilisation": rate / peak.flops_per_s}
    result["parameters"] = parameters_by_part(module.net)
    result["memory"] |= _held_bytes(module.net, trainer.optimizers[0])
    return result


def _too_few_steps(config: Mapping[str, Any], probe: StepProbe) -> str:
    wanted = config["warmup_steps"] + config["steps"] + config["traced_steps"]
    done = sum(batch.steps for batch in probe.clock.batches)
    return (
        f"{_MOST_EPOCHS} epochs have only {done} steps, the profile needs {wanted}: lower steps, warmup_steps or "
        "traced_steps, or dataset.batch_size."
    )


def _header(
    config: Mapping[str, Any], sample: bool, execution: str | None, engine: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "schema": 1,
        "model": config["model"]["name"],
        "stage": effective_stage(config),
        "dataset": config["dataset"]["name"],
        "sample": sample,
        "precision": config["trainer"]["precision"],
        "batch_size": config["dataset"]["batch_size"],
        "execution": execution or f"on the CPU, trainer.loop={engine['loop']}",
        "engine": dict(engine),
        "hardware": hardware(processes=1),
        "code": code_version(),
        "packages": packages(),
        "config": dict(config),
    }


def _step(probe: StepProbe, batch_size: int) -> dict[str, Any]:
    """Return the times of the timed steps; the parts add up to the mean, which excludes outliers."""
    batches = probe.steps(TIMED)
    parts = mean_parts(typical(batches))
    each = [batch.nanoseconds / batch.steps / 1e9 for batch in batches]
    mean = sum(parts.values())
    times = {
        "steps": sum(batch.steps for batch in batches),
        "mean_s": mean,
        "median_s": median(each),
        "fastest_s": min(each),
        "slowest_s": max(each),
        "samples_per_s": batch_size / mean,
    }
    shares = {name: {"seconds": seconds, "share": seconds / mean} for name, seconds in parts.items()}
    return {"step": times, "parts": shares}


def _write_trace(trace: profile, path: Path) -> list[Event]:
    """Write the trace and return its events; nothing is left of a trace that cannot be written.

    The profiler compresses the file if the name ends in ``.gz``, so that a part has its final name. It writes a
    temporary file first, without an error if that is not complete.
    """
    try:
        with write_errors(path):
            trace.export_chrome_trace(str(path))
        return read_trace(path)
    except StemlabError:
        path.unlink(missing_ok=True)
        raise


def _traced(probe: StepProbe, events: list[Event]) -> dict[str, Any]:
    """Return operators, kernels and memory of the traced steps."""
    batches = probe.steps(TRACED)
    steps = sum(batch.steps for batch in batches)
    busy, span = gpu_seconds(events)
    gpu = {"busy_s": busy / steps, "idle_s": (span - busy) / steps, "busy_share": busy / span} if span else None
    memory: dict[str, Any] = {"step_peak_bytes": allocated_bytes(events)}
    memory["peak_rss_bytes"] = peak_memory()["peak_rss_bytes"]
    if probe.memory_peak is not None and probe.memory_before is not None:
        memory["step_peak_bytes"] = probe.memory_peak - probe.memory_before
        memory["peak_gpu_bytes"] = probe.memory_peak
    return {
        "traced": {
            "steps": steps,
            "step_s": sum(batch.nanoseconds for batch in batches) / steps / 1e9,
            "operators": _per_step(operators(events), steps),
            "kernels": _per_step(kernels(events), steps),
            "gpu": gpu,
        },
        "memory": memory,
    }


def _per_step(works: list[Work], steps: int) -> list[dict[str, Any]]:
    total = sum(work.seconds for work in works)
    return [
        {
            "name": work.name,
            "seconds": work.seconds / steps,
            "share": work.seconds / total if total else 0.0,
            "calls": work.calls / steps,
        }
        for work in works[:_LISTED]
    ]


def parameters_by_part(net: nn.Module) -> dict[str, int]:
    """Return the number of trainable parameters of the embedding tables, then of each direct part of a network."""
    counted: set[int] = set()

    def count(module: nn.Module) -> int:
        fresh = [p for p in module.parameters() if p.requires_grad and id(p) not in counted]
        counted.update(map(id, fresh))
        return sum(p.numel() for p in fresh)

    tables = sum(count(part) for part in net.modules() if isinstance(part, nn.Embedding))
    parts = {"embedding tables": tables, **{name: count(part) for name, part in net.named_children()}}
    parts["other"] = count(net)
    return {name: number for name, number in parts.items() if number}


def _held_bytes(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, int]:
    """Return the memory that is held between steps: weights and state of the optimiser."""
    state = [value for entry in optimizer.state.values() for value in entry.values() if isinstance(value, torch.Tensor)]
    return {
        "weights_bytes": sum(p.numel() * p.element_size() for p in net.parameters()),
        "optimiser_bytes": sum(value.numel() * value.element_size() for value in state),
    }
