"""Training and evaluation on one GPU, as ``stemlab.train`` does them, data loading included.

    python scripts/bench/gpu.py                     # all parts, less than six minutes on an H100
    python scripts/bench/gpu.py --parts stem,parity # some of them

Parts: ``stem`` (published size), ``timirec`` (data of the size of ML-1M, both stages), ``mmfi`` (data of the size of
AliExpress), ``evaluation``, ``parity`` (captured and eager steps), ``resume``. The data are synthetic samples; the
training rows of STEM and MMFI are repeated to make epochs longer. A speed is that of the fastest epoch: the first one
includes warm-up and graph capture. Writes ``results/gpu.json`` (``--output`` for another) after each measurement.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from stemlab.config.compose import compose
from stemlab.data.prepare.manifest import read_manifest, write_manifest
from stemlab.data.store import ColumnStore, StoreWriter
from stemlab.runs.build import build_datamodule
from stemlab.train import train

RESULTS = Path(__file__).resolve().parent / "results"
TIKTOK = [
    "dataset=tiktok",
    "dataset.source=sample",
    "dataset.sample.rows=300000",
    "dataset.sample.users=8000",
    "dataset.sample.items=9000",
    "dataset.sample.authors=5000",
    "dataset.min_count=1",
]
ML1M = [
    "dataset=ml1m",
    "dataset.source=sample",
    "dataset.sample.users=6040",
    "dataset.sample.items=3706",
    "dataset.sample.length=165",
    "dataset.eval_negatives=100",
]
ALIEXPRESS = ["dataset=aliexpress", "dataset.source=sample", "dataset.sample.rows=5000"]
TARGETS = {  # on one H100: samples per second, or seconds
    "STEM, batch 4096, bf16": 1.5e6,
    "STEM, batch 65536, bf16": 3.0e6,
    "STEM, batch 4096, float32": 0.6e6,
    "TiMiRec pretrain, epoch": 4.0,
    "TiMiRec finetune, epoch": 6.0,
    "MMFI, batch 2048": 0.5e6,
    "STEM evaluation of 1,000,000 samples": 2.0,
}
EAGER = ["trainer.capture=off", "dataset.residence=host"]


class Bench:
    """Runs trainings below one folder and collects the results.

    Args:
        folder: run directories.
        data_dir: prepared datasets.
        output: JSON file, written after each measurement.
    """

    def __init__(self, folder: Path, data_dir: Path, output: Path) -> None:
        self.folder, self.data_dir, self.output = folder, data_dir, output
        self.rows: list[dict[str, Any]] = []
        self.started, self._runs = time.monotonic(), 0

    def train(self, *overrides: str) -> tuple[dict[str, Any], Path]:
        """Train on the GPU; return the record and the run directory."""
        self._runs += 1
        run_dir = self.folder / f"run{self._runs}"
        common = ["trainer=gpu", "logger=csv", "test=false"]
        places = [f"paths.data_dir={self.data_dir}", f"paths.output_dir={run_dir}"]
        config = compose("train", [*overrides, *_known(common, overrides), *places])
        run_dir.mkdir(parents=True)
        try:
            train(config, list(overrides))
        finally:
            gc.collect()
            torch.cuda.empty_cache()
        return json.loads((run_dir / "record.json").read_text()), run_dir

    def add(self, what: str, value: float, unit: str, **more: Any) -> None:
        """Print and store a measurement."""
        row = {"what": what, "value": value, "unit": unit, "target": TARGETS.get(what), **more}
        self.rows.append(row)
        target = "" if row["target"] is None else f"  (target {row['target']:,.6g})"
        print(
            f"[{time.monotonic() - self.started:5.0f} s] {what}: {value:,.6g} {unit}{target}  {more or ''}", flush=True
        )
        self.output.write_text(json.dumps({"device": torch.cuda.get_device_name(), "rows": self.rows}, indent=2) + "\n")

    def speed(self, what: str, *overrides: str) -> None:
        """Measure the samples per second of the fastest epoch."""
        record, _ = self.train(*overrides)
        rates = record["throughput"]["train_samples_per_s_by_epoch"]
        self.add(what, max(rates), "samples/s", epochs=[round(rate) for rate in rates], engine=record["engine"])


def _known(common: list[str], overrides: tuple[str, ...]) -> list[str]:
    """Return the common overrides whose key is not given already."""
    given = {override.partition("=")[0] for override in overrides}
    return [override for override in common if override.partition("=")[0] not in given]


def repeat_training_rows(data_dir: Path, overrides: list[str], times: int) -> None:
    """Prepare a dataset and store each training row ``times`` times; no effect if that was done before."""
    data = build_datamodule(compose("train", [*overrides, f"paths.data_dir={data_dir}", "paths.output_dir=unused"]))
    directory = data.prepare()
    store, manifest = ColumnStore(directory / "train.arrow"), read_manifest(directory)
    rows = manifest["rows"]["train"]
    if len(store) != rows or manifest.get("repeated"):
        return
    larger = directory / "larger.arrow"
    names = {"numericals": store.numericals, "scenario": store.scenario is not None}
    with StoreWriter(
        larger, rows * times, store.fields, store.tasks, grouped=store.group is not None, **names
    ) as writer:
        for _ in range(times):
            writer.append(store.ids, store.labels, store.group, store.dense, store.scenario)
    larger.replace(directory / "train.arrow")
    manifest["rows"]["train"], manifest["repeated"] = rows * times, times
    write_manifest(directory, {key: value for key, value in manifest.items() if key != "checksum"})


def stem(bench: Bench) -> None:
    """STEM at the published size."""
    repeat_training_rows(bench.data_dir, TIKTOK, 30)
    short = ["trainer.limit_val_batches=1"]
    base = ["model=stem", *TIKTOK, *short]
    bench.speed("STEM, batch 4096, bf16", *base, "trainer.precision=bf16-mixed", "trainer.max_epochs=2")
    bench.speed("STEM, batch 4096, float32", *base, "trainer.max_epochs=2")
    large = ["dataset.batch_size=65536", "trainer.precision=bf16-mixed", "trainer.max_epochs=2"]
    bench.speed("STEM, batch 65536, bf16", *base, *large)
    eager = [*EAGER, "trainer.limit_train_batches=100", "trainer.max_epochs=2"]
    bench.speed("STEM, batch 4096, bf16, eager", *base, *eager, "trainer.precision=bf16-mixed")
    bench.speed(
        "STEM, batch 4096, bf16, data on the host",
        *base,
        "dataset.residence=host",
        "trainer.precision=bf16-mixed",
        "trainer.max_epochs=1",
    )
    bench.speed("STEM, batch 65536, bf16, compiled", *base, *large, "trainer.compile=true")


def timirec(bench: Bench) -> None:
    """TiMiRec at the published size on ML-1M: seconds per epoch of both stages."""
    base = ["model=timirec", *ML1M, "trainer.limit_val_batches=1", "trainer.max_epochs=2"]
    net = ["model.net.projection_layers=2", "model.net.temperature=0.5"]
    for stage, more in (("pretrain", []), ("finetune", ["model.allow_scratch=true"])):
        record, _ = bench.train(*base, *net, f"model.stage={stage}", *more)
        samples = record["dataset_manifest"]["rows"]["train"]
        seconds = [samples / rate for rate in record["throughput"]["train_samples_per_s_by_epoch"]]
        bench.add(
            f"TiMiRec {stage}, epoch", min(seconds), "s", samples=samples, epochs=seconds, engine=record["engine"]
        )


def mmfi(bench: Bench) -> None:
    """MMFI with four scenarios and two tasks."""
    repeat_training_rows(bench.data_dir, ALIEXPRESS, 60)
    bench.speed("MMFI, batch 2048", "model=mmfi", *ALIEXPRESS, "trainer.limit_val_batches=1", "trainer.max_epochs=2")


def evaluation(bench: Bench) -> None:
    """Evaluation of a million samples: forward, AUC and gAUC of both tasks."""
    from stemlab.runs.build import build_module, build_trainer

    config = compose(
        "train",
        [
            "model=stem",
            *TIKTOK,
            "trainer=gpu",
            "trainer.precision=bf16-mixed",
            "dataset.eval_batch_size=65536",
            f"paths.data_dir={bench.data_dir}",
            f"paths.output_dir={bench.folder / 'evaluation'}",
        ],
    )
    data = build_datamodule(config)
    data.prepare()
    data.test_split = "train"  # the largest split; limited to a million samples
    batches = 1_000_000 // 65536 + 1
    module = build_module(config, data)
    config["trainer"]["limit_test_batches"] = batches
    trainer = build_trainer(config, bench.folder / "evaluation", [], [], module, 0)
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        trainer.test(module, datamodule=data, verbose=False)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    bench.add("STEM evaluation of 1,000,000 samples", min(seconds), "s", samples=batches * 65536, runs=seconds)


def parity(bench: Bench) -> None:
    """Losses of 50 steps, captured and eager; final metrics with dropout."""
    models = [
        ("STEM", ["model=stem", *TIKTOK]),
        ("STEM, bf16", ["model=stem", *TIKTOK, "trainer.precision=bf16-mixed"]),
        ("MMoE, batch norm", ["model=mmoe", "model.net.batch_norm=true", *TIKTOK]),
        ("TiMiRec pretrain", ["model=timirec", "model.stage=pretrain", *ML1M]),
        ("MMFI", ["model=mmfi", *ALIEXPRESS]),
    ]
    for name, overrides in models:
        short = [*overrides, "trainer.limit_train_batches=50", "trainer.limit_val_batches=1", "trainer.max_epochs=1"]
        found = [_losses(bench.train(*short, *way, "trainer.log_every_n_steps=5")[1]) for way in ([], EAGER)]
        worst = max(abs(a - b) / abs(b) for a, b in zip(*found, strict=True))
        what = f"captured against eager, {name}: largest relative difference of losses"
        bench.add(what, worst, "", points=len(found[0]))
    dropout = [
        "model=stem",
        "model.net.net_dropout=0.2",
        *TIKTOK,
        "trainer.max_epochs=2",
        "trainer.limit_train_batches=300",
    ]
    auc = [bench.train(*dropout, *way)[0]["metrics"]["val/auc"] for way in ([], EAGER, [*EAGER, "seed=7"])]
    bench.add("captured against eager with dropout: difference of validation AUC", abs(auc[0] - auc[1]), "", auc=auc)


def _losses(run_dir: Path) -> list[float]:
    """Return the training losses of metrics.csv."""
    path = next(run_dir.rglob("metrics.csv"))
    with path.open() as file:
        rows = [row.get("train/loss") or row.get("train/loss_step") for row in csv.DictReader(file)]
    return [float(value) for value in rows if value]


def resume(bench: Bench) -> None:
    """Two epochs at once against one epoch, then the second one from its checkpoint."""
    base = ["model=stem", *TIKTOK, "trainer.limit_train_batches=200"]
    _, whole = bench.train(*base, "trainer.max_epochs=2")
    _, first = bench.train(*base, "trainer.max_epochs=1")
    last = first / "checkpoints" / "last.ckpt"
    _, second = bench.train(*base, "trainer.max_epochs=2", f"ckpt_path={last}")
    weights = [
        torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]
        for run in (whole, second)
    ]
    worst = max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0])
    bench.add("resumed against uninterrupted, captured: largest difference of a weight", worst, "")


PARTS: dict[str, Callable[[Bench], None]] = {
    "stem": stem,
    "timirec": timirec,
    "mmfi": mmfi,
    "evaluation": evaluation,
    "parity": parity,
    "resume": resume,
}


def main() -> None:
    """Run the chosen parts; a part that fails is reported, and the next one runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--data-dir", type=Path, help="prepared datasets of an earlier call")
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu.json")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this benchmark needs a GPU, and PyTorch finds none")
    folder = Path(tempfile.mkdtemp(prefix="stemlab-gpu-"))
    bench = Bench(folder, arguments.data_dir or folder / "data", arguments.output)
    failed = False
    try:
        for name in arguments.parts.split(","):
            try:
                PARTS[name](bench)
            except Exception:
                failed = True
                traceback.print_exc()
    finally:
        shutil.rmtree(folder)
    sys.exit(failed)


if __name__ == "__main__":
    main()
