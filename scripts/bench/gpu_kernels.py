"""Batched against plain forms in whole captured training steps on one GPU, and a capture of every network.

    python scripts/bench/gpu_kernels.py                  # about one minute
    python scripts/bench/gpu_kernels.py --only "stem;mmfi"
    python scripts/bench/gpu_kernels.py --device cpu     # no capture: checks the script itself
    python scripts/bench/gpu_kernels.py --profile "stem;mmfi" # only: the GPU kernels of a step, by time

A step is forward, loss, backward, clipping and Adam on one batch that stays on the device. For each network of
conf/model it prints the difference of the scores from those of the CPU, and the time of a step: eager, captured in a
CUDA graph, and captured with ``trainer.kernels=off`` (plain loops over experts, gates and towers); or why the capture
fails. Writes ``results/gpu_kernels.json`` (see ``--output``).
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from mmfi_step import make_batch as make_mmfi_batch
from mmfi_step import make_net as make_mmfi
from omegaconf import OmegaConf
from sequence_step import SIZES
from sequence_step import make_batch as make_sequence_batch
from step import BATCH, FIELDS, TABLES, TASKS, make_batch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from stemlab.data.batch import ImpressionBatch, SequenceBatch
from stemlab.data.spec import ImpressionSizes, SequenceSizes
from stemlab.nn.kernels.dispatch import KernelMode, kernel_mode
from stemlab.nn.loss import task_losses

MODELS = Path(__file__).resolve().parents[2] / "conf" / "model"
SCENARIOS = ("nl", "es", "fr", "us")
LARGE = "stem, batch 65536"
COMPARED = (
    "stem",
    LARGE,
    "ple",
    "mmoe",
    "timirec",
    "timirec pretrain",
    "mmfi",
    "star",
    "sar_net",
    "hinet",
    "pepnet",
    "m2m",
)
BF16 = ("stem", LARGE, "ple", "mmoe")
WARMUP, ROUNDS = 3, 30
Batch = ImpressionBatch | SequenceBatch
Step = Callable[[], None]


def names() -> list[str]:
    """Return the names of all networks that are trained, the two stages of TiMiRec apart."""
    files = sorted(path.stem for path in MODELS.glob("[!_]*.yaml"))
    return [*(name for name in files if name != "pop"), "timirec pretrain", LARGE]


def build(name: str) -> tuple[nn.Module, Batch]:
    """Return a network with the settings of conf/model and a batch, on the CPU."""
    torch.manual_seed(0)
    if name == LARGE:
        net, batch = build("stem")
        assert isinstance(batch, ImpressionBatch)
        assert batch.labels_BT is not None
        return net, ImpressionBatch(batch.ids_BF.repeat(16, 1), batch.labels_BT.repeat(16, 1))
    if name == "mmfi":
        return make_mmfi(published=False), make_mmfi_batch()[0]
    file, _, stage = name.partition(" ")
    loaded: Any = OmegaConf.to_container(OmegaConf.load(MODELS / f"{file}.yaml"))
    settings: dict[str, Any] = loaded["net"]
    module, _, cls = settings.pop("_target_").rpartition(".")
    make = getattr(importlib.import_module(module), cls)
    if ".sequential." in module:
        return build_sequential(make, settings | ({"stage": stage} if stage else {}))
    if "personal_fields" in settings:
        settings["personal_fields"] = list(FIELDS[:3])
    scenarios = SCENARIOS if ".multiscenario." in module else ()
    rows = TABLES["sample"]
    sizes = ImpressionSizes(dict(zip(FIELDS, rows, strict=True)), {}, scenarios)
    tasks = TASKS[:1] if name == "single_task" else TASKS
    ids_BF, labels_BT = make_batch(rows)
    scenario_B = torch.randint(len(SCENARIOS), (BATCH,), dtype=torch.int32) if scenarios else None
    labels = labels_BT[:, : len(tasks)].to(torch.int8)
    return make(sizes, tasks, **settings), ImpressionBatch(ids_BF.int(), labels, scenario_B=scenario_B)


def build_sequential(make: Any, settings: dict[str, Any]) -> tuple[nn.Module, Batch]:
    net = make(SequenceSizes(SIZES.users, SIZES.items, SIZES.history_max, categories=18), **settings)
    net.observe(torch.randint(1, SIZES.users, (300_000,)), torch.randint(1, SIZES.items, (300_000,)))
    net.set_categories(torch.arange(SIZES.items + 1) % 19)
    batch = make_sequence_batch()
    batch.time_BL = torch.randint(1, 900, batch.history_BL.shape).cumsum(1) * (batch.history_BL > 0)
    batch.unit_B = torch.randint(20, 200, (len(batch),))
    return net, batch


def loss_of(net: Any, batch: Batch) -> Tensor:
    """Return the training loss."""
    if isinstance(batch, SequenceBatch):
        return torch.stack(list(net.losses(net(batch, "train")).values())).sum()
    assert batch.labels_BT is not None
    if hasattr(net, "meta_output"):
        output, labels_BT = net.meta_output(batch, batch.labels_BT, lambda x, y: task_losses(x, y).sum())
    else:
        output, labels_BT = net(batch), batch.labels_BT
    loss = task_losses(output.logit_BT, labels_BT).sum()
    return loss if output.penalty is None else loss + output.penalty


@torch.no_grad()
def scores(net: Any, batch: Batch) -> Tensor:
    """Return the scores of evaluation."""
    found: Tensor = net.eval()(batch).score_BN if isinstance(batch, SequenceBatch) else net.eval()(batch).logit_BT
    return found.float().cpu()


def make_step(net: nn.Module, batch: Batch, half: bool) -> Step:
    net.train()
    adam = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True, capturable=next(net.parameters()).is_cuda)

    def step() -> None:
        adam.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16) if half else nullcontext():
            loss = loss_of(net, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 10.0, foreach=True)
        adam.step()

    return step


def captured(step: Step) -> Step:
    """Return a replay of the step."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMUP):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        step()
    return graph.replay


def milliseconds(step: Step, device: str) -> float:
    for _ in range(WARMUP):
        step()
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    for _ in range(ROUNDS if device == "cuda" else 1):
        step()
    wait()
    return (time.perf_counter() - started) / (ROUNDS if device == "cuda" else 1) * 1e3


def measure(name: str, device: str) -> dict[str, Any]:
    """Return difference from the CPU, milliseconds per form, or the error of the capture."""
    net, batch = build(name)
    expected = None if name == LARGE else scores(net, batch)
    net, moved = net.to(device), batch.to(device)
    found: dict[str, Any] = {"batch": len(batch)}
    if expected is not None:
        found["difference"] = float((scores(net, moved) - expected).abs().max())
    for half in (False, True) if name in BF16 and device == "cuda" else (False,):
        for mode in ("auto", "off") if name in COMPARED else ("auto",):
            label = f"{'bf16' if half else 'float32'}{', kernels off' if mode == 'off' else ''}"
            found |= timed(copy.deepcopy(net), moved, (half, mode), label, device)
    if device == "cuda":
        torch.cuda.empty_cache()
    return found


def timed(net: nn.Module, batch: Batch, form: tuple[bool, str], label: str, device: str) -> dict[str, Any]:
    half, mode = form
    chosen: KernelMode = "off" if mode == "off" else "auto"
    with kernel_mode(chosen):
        step = make_step(net, batch, half)
        found: dict[str, Any] = {f"eager {label}": milliseconds(step, device)} if mode == "auto" else {}
        if device != "cuda":
            return found
        try:
            found[f"captured {label}"] = milliseconds(captured(step), device)
        except Exception as error:
            found[f"error {label}"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
            repair()
    finite = all(bool(parameter.isfinite().all()) for parameter in net.parameters())
    return found if finite else found | {f"error {label}, weights": "not finite"}


def show_kernels(name: str) -> None:
    """Print the GPU kernels of eager steps by their total time."""
    net, batch = build(name)
    step = make_step(net.cuda(), batch.to("cuda"), half=name in BF16)
    for _ in range(WARMUP):
        step()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for _ in range(5):
            step()
        torch.cuda.synchronize()
    kernels = [event for event in profiler.key_averages() if event.device_type == torch.autograd.DeviceType.CUDA]
    kernels.sort(key=lambda event: -event.self_device_time_total)
    total = sum(event.self_device_time_total for event in kernels) / 5
    print(f"{name}: {sum(event.count for event in kernels) / 5:.0f} kernels, {total / 1e3:.2f} ms per step")
    for event in kernels[:20]:
        print(f"  {event.self_device_time_total / 5:8.1f} us {event.count / 5:6.1f} x {event.key[:110]}")


def repair() -> None:
    """Leave the state of an interrupted capture."""
    with suppress(RuntimeError):
        torch.cuda.synchronize()
    generator = torch.cuda.default_generators[0]
    with suppress(RuntimeError, AttributeError):
        generator.graphsafe_set_state(generator.clone_state())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="networks, separated by semicolons")
    parser.add_argument("--profile", help="networks, separated by semicolons")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "gpu_kernels.json")
    arguments = parser.parse_args()
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    if arguments.profile:
        for name in arguments.profile.split(";"):
            show_kernels(name)
        return
    result: dict[str, Any] = {"torch": torch.__version__, "device": arguments.device}
    if arguments.device == "cuda":
        result["device"] = torch.cuda.get_device_name()
    for name in arguments.only.split(";") if arguments.only else names():
        started = time.perf_counter()
        try:
            result[name] = measure(name, arguments.device)
        except Exception as error:
            result[name] = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"}
            if arguments.device == "cuda":
                repair()
        shown = {key: round(value, 4) if isinstance(value, float) else value for key, value in result[name].items()}
        print(f"{name}: {shown} ({time.perf_counter() - started:.1f} s)", flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
