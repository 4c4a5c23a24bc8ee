"""Costs of a run from its record: parameters, speed, memory, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from stemlab.reporting.collect import Run

Cost = Literal["samples/s", "dense", "embedding", "parameters", "memory", "fit", "best"]
COST_HEADS: Mapping[str, str] = {
    "samples/s": "samples/s",
    "dense": "dense parameters",
    "embedding": "embedding parameters",
    "parameters": "parameters",
    "memory": "peak memory (MB)",
    "fit": "training (s)",
    "best": "to best epoch (s)",
}
"""Cost -> heading of its column."""
COST_WORDS: Mapping[str, str] = {
    "samples/s": "samples/s",
    **dict.fromkeys(("dense", "embedding", "parameters"), "parameters"),
    "memory": "memory",
    **dict.fromkeys(("fit", "best"), "times"),
}
"""Cost -> its name in a sentence."""
COSTS: Sequence[str] = get_args(Cost)
USUAL_COSTS = ("samples/s", "dense", "embedding")
_KEYS = {
    "samples/s": "throughput.train_samples_per_s",
    "dense": "parameters.dense",
    "embedding": "parameters.embedding",
    "fit": "time.fit_s",
}
_MEGABYTE = 1e6


def cost_of(run: Run, cost: str) -> float | None:
    """Return a cost of a run; ``None`` if its record lacks it.

    ``memory`` is the peak memory of the GPU if one was used, else the peak resident memory of the first process.
    ``best`` is the training time times the share of epochs until the best one; unknown for a resumed run, whose
    training time is that of its last part, as is ``fit``.
    """
    if cost == "parameters":
        parts = [run.value("parameters.dense"), run.value("parameters.embedding")]
        return None if None in parts else float(sum(parts))
    if cost == "memory":
        found = run.value("memory.peak_gpu_bytes") or run.value("memory.peak_rss_bytes")
        return None if found is None else float(found) / _MEGABYTE
    if cost in ("fit", "best") and run.record.get("resumptions"):
        return None
    if cost == "best":
        seconds, epoch, epochs = run.value("time.fit_s"), run.value("best.epoch"), run.value("epochs_run")
        return float(seconds) * epoch / epochs if seconds is not None and epoch is not None and epochs else None
    value = run.value(_KEYS[cost])
    return None if value is None else float(value)
