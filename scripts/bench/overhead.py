"""Overhead of a training step through the trainer, beyond forward pass, backward pass and optimiser.

    python scripts/bench/overhead.py [--rounds 9] [--output FILE]

A tiny network (``model=shared_bottom`` with 8 hidden units, batch 256, the SAMPLE of TikTok) trains through the trainer
with all callbacks and loggers of a command. After every epoch, a copy of the network runs the bare steps on batches
that are in memory already: loss, ``zero_grad``, backward pass, optimiser. One thread; medians over the rounds. Measured
with and without clipping, with ``trainer.loop=auto`` and ``lightning``. Writes ``results/overhead.json``.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from timing import machine, paired_ratio, row, spread

from stemlab.config.compose import compose
from stemlab.data.loader import BatchLoader
from stemlab.data.resident import RowSelection
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.runs import run as run_module
from stemlab.runs.environment import silence_lightning
from stemlab.runs.run import TrainingRun

FIRST, STEPS = 60, 500
"""Steps of an epoch before the measured ones, and number of measured steps."""
TINY = (
    *("model=shared_bottom", "model.net.bottom_hidden_units=[8]", "model.net.tower_hidden_units=[8]"),
    *("model.net.embedding_dim=8", "dataset=tiktok", "dataset.batch_size=256", "logger=csv", "test=false"),
    *("trainer.threads=1", "callbacks.early_stop.enabled=false", "callbacks.progress=false"),
)


class TakeTimes:
    """Moments at which the loader gathers a batch; ``start`` begins a new epoch."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def start(self) -> None:
        """Begin a new epoch."""
        self.wall, self.cpu = [], []

    def patch(self) -> Callable[..., Any]:
        """Return a replacement of ``BatchLoader.take`` that notes when it is called."""
        plain = BatchLoader.take

        def take(loader: BatchLoader, rows: RowSelection) -> Any:
            self.wall.append(time.perf_counter())
            self.cpu.append(time.process_time())
            return plain(loader, rows)

        return take


class BareSteps(Callback):
    """After each epoch, note the time of its steps and run bare steps with a copy of the module.

    Attributes:
        found: ``trainer`` and ``bare`` -> (wall, CPU) milliseconds per step of each epoch.
    """

    def __init__(self, times: TakeTimes) -> None:
        self.times = times
        self.found: dict[str, list[tuple[float, float]]] = {"trainer": [], "bare": []}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a new epoch."""
        self.times.start()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time of a step of the epoch, then run bare steps."""
        wall, cpu = ((t[FIRST + STEPS] - t[FIRST]) / STEPS * 1e3 for t in (self.times.wall, self.times.cpu))
        self.found["trainer"].append((wall, cpu))
        assert isinstance(pl_module, MultiTaskModule)
        self.found["bare"].append(bare(pl_module, trainer.datamodule.train_loader()))  # type: ignore[attr-defined]


def bare(module: MultiTaskModule, loader: BatchLoader) -> tuple[float, float]:
    """Return the (wall, CPU) milliseconds of a bare step."""
    batches = list(islice(loader, FIRST + STEPS))
    net = copy.deepcopy(module.net)
    trained, module.net = module.net, net
    optimizer = module.configure_optimizers()
    for number, batch in enumerate(batches):
        if number == FIRST:
            start = time.perf_counter(), time.process_time()
        loss, _ = module.losses(batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    taken = time.perf_counter() - start[0], time.process_time() - start[1]
    module.net = trained
    return taken[0] / STEPS * 1e3, taken[1] / STEPS * 1e3


def measure(folder: Path, words: tuple[str, ...], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Train with settings; return the times of each epoch but the first."""
    paths = (f"paths.data_dir={folder / 'data'}", f"paths.output_dir={tempfile.mkdtemp(dir=folder)}")
    config = compose("train", [*TINY, *words, *paths, f"trainer.max_epochs={rounds + 1}"])
    times = TakeTimes()
    plain, BatchLoader.take = BatchLoader.take, times.patch()  # type: ignore[method-assign]
    steps = BareSteps(times)
    build = run_module.build_trainer

    def with_bare_steps(config: Any, directory: Path, callbacks: list[Callback], *rest: Any) -> Trainer:
        return build(config, directory, [*callbacks, steps], *rest)

    run_module.build_trainer = with_bare_steps
    try:
        TrainingRun(config, (), None).run()
    finally:
        run_module.build_trainer, BatchLoader.take = build, plain  # type: ignore[method-assign]
    return {way: found[1:] for way, found in steps.found.items()}


def settings() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the name of each measurement, and its settings."""
    for loop in ("auto", "lightning"):
        for clipping, norm in (("clipped", "10.0"), ("not clipped", "null")):
            yield f"{loop}, {clipping}", (f"trainer.loop={loop}", f"optim.clip_norm={norm}")


def overheads(found: dict[str, list[tuple[float, float]]], clock: int) -> list[float]:
    """Return what a step through the trainer costs beyond a bare step in each round, in milliseconds."""
    return [ours[clock] - bare_step[clock] for ours, bare_step in zip(found["trainer"], found["bare"], strict=True)]


def summary(found: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Return medians and quartiles over the rounds, in milliseconds."""
    spreads: dict[str, Any] = {}
    for clock, name in enumerate(("wall", "cpu")):
        for way, steps in found.items():
            spreads[f"{way}_{name}_ms"] = round(statistics.median(step[clock] for step in steps), 4)
        rounded = {key: round(value, 4) for key, value in spread(overheads(found, clock)).items()}
        spreads[f"overhead_{name}_ms"] = rounded
    return spreads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "overhead.json")
    options = parser.parse_args()
    silence_lightning()
    with tempfile.TemporaryDirectory() as folder:
        found = {name: measure(Path(folder), words, options.rounds) for name, words in settings()}
    rows = [
        row(
            f"tiny network through the trainer, batch 256, {clipping}: CPU time beyond a bare step",
            "trainer.loop=lightning",
            paired_ratio(overheads(found[f"lightning, {clipping}"], 1), overheads(found[f"auto, {clipping}"], 1)),
        )
        for clipping in ("clipped", "not clipped")
    ]
    result = {
        **machine(1),
        "batch": 256,
        "rounds": options.rounds,
        "milliseconds": {name: summary(steps) for name, steps in found.items()},
        "rows": rows,
    }
    options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
