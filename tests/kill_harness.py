"""Kill trainings at random moments, resume them with the same settings, and compare them with an uninterrupted one.

    python -m tests.kill_harness --points 20 --seed 1

Every training is a forked process, which costs no imports. A point is one training that is killed one to three times by
SIGKILL or SIGTERM, and then resumed until it ends. Weights, best checkpoint and metrics must be equal, bit for bit.
Half of the SIGKILLs are aimed at a moment at which a checkpoint is being written.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from stemlab.config.compose import compose
from stemlab.errors import Interrupted, StemlabError
from stemlab.train import train
from tests.cli.conftest import TINY
from tests.cli.sequences import SASREC, TIMIREC, write_folder
from tests.cli.test_scenarios import RUN
from tests.faster_composition import compose_faster

SHORT = ["trainer.max_epochs=3", "callbacks.early_stop.enabled=false", "logger=csv"]
FAMILIES = {
    "multitask": [*TINY, *SHORT, "model.net.net_dropout=0.3"],
    "multiscenario": [
        *RUN,
        *SHORT,
        "dataset.batch_size=128",
        "trainer.limit_train_batches=null",
        "model.net.net_dropout=0.3",
    ],
    "sequential": [*SASREC, *SHORT, "model.net.dropout=0.3"],
    "two_stages": [*TIMIREC, *SHORT],
}
"""Family -> its training."""
LIMIT_S = 120


def start(words: list[str], directory: str) -> int:
    """Start a training in a forked process and return the process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        log = os.open(f"{directory}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        runs = f"paths.runs_dir={directory}_runs"
        train(compose("train", [*words, runs, f"hydra.run.dir={directory}", "resume=auto"]))
        status = 0
    except Interrupted as error:
        status = error.status
    except StemlabError as error:
        print(f"error: {error}", file=sys.stderr)
        status = error.status
    finally:
        sys.stdout.flush()
        os._exit(status)


def finish(pid: int, seconds: float = LIMIT_S) -> int:
    """Wait for a process and return its exit status, negative for a signal; kill it after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_at(pid: int, directory: Path, delay: float, number: int, while_writing: bool) -> str:
    """Send a signal after a delay, or when the next checkpoint is written; return what the directory then holds.

    The delay begins when the training writes its record; a negative one begins at once.
    """
    if delay >= 0:
        wait_for_record(pid, directory)
    end = time.monotonic() + abs(delay)
    while time.monotonic() < end and not has_ended(pid):
        time.sleep(0.002)
    while while_writing and not has_ended(pid) and not list(directory.glob("checkpoints/*.part")):
        time.sleep(0)
    ended = has_ended(pid)
    os.kill(pid, number)  # without effect on a process that has ended and was not waited for
    return "after its end" if ended else phase(directory)


def wait_for_record(pid: int, directory: Path) -> None:
    """Wait until a training that was just started has written its first record."""
    path, begin = directory / "record.json", time.time()
    while not has_ended(pid) and not (path.exists() and path.stat().st_mtime >= begin):
        time.sleep(0.002)


def has_ended(pid: int) -> bool:
    """Return whether a child has ended; its exit status stays to be read."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def phase(directory: Path) -> str:
    """Return how far a run is, as its directory says."""
    if list(directory.glob("checkpoints/*.part")):
        return "while a checkpoint was written"
    if not (directory / "record.json").exists():
        return "before the first record"
    record = json.loads((directory / "record.json").read_text())
    if record["status"] == "finished":
        return "after its end"
    if record["dataset_fingerprint"] is None:
        return "in prepare"
    last = directory / "checkpoints/last.ckpt"
    if not last.exists():
        return "in the first epoch"
    done = torch.load(last, weights_only=True)["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    return "in evaluation" if done == record["config"]["trainer"]["max_epochs"] else f"in epoch {done + 1}"


def difference(one: Path, other: Path) -> str | None:
    """Return the first difference of two finished runs."""
    records = [json.loads((run / "record.json").read_text()) for run in (one, other)]
    for key in ("status", "metrics", "best", "epochs_run"):
        if records[0][key] != records[1][key]:
            return f"{key} of record.json"
    for name in ("last.ckpt", "best.ckpt"):
        first, second = (torch.load(run / "checkpoints" / name, weights_only=True) for run in (one, other))
        for key, value in first["state_dict"].items():
            if not torch.equal(value, second["state_dict"][key]):
                return f"{key} in {name}"
        states = [content["optimizer_states"][0]["state"] for content in (first, second)]
        for number, state in states[0].items():
            if any(not torch.equal(value, states[1][number][part]) for part, value in state.items()):
                return f"optimiser state {number} in {name}"
    return None


def run_family(family: str, points: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Return how often the kills hit each phase, and one sentence per point that did not resume exactly."""
    words, generator, phases, faults = FAMILIES[family], random.Random(seed), Counter[str](), list[str]()
    whole = folder / f"{family}_whole"
    compose("train", words)
    pid = start(words, str(whole))
    wait_for_record(pid, whole)
    begin = time.monotonic()
    assert finish(pid) == 0, (folder / f"{family}_whole.log").read_text()
    duration = time.monotonic() - begin
    for point in range(points):
        run = folder / f"{family}_{point}"
        if point == 0:
            shutil.rmtree(folder / "data", ignore_errors=True)  # a kill while data are prepared
        for _ in range(generator.randint(1, 3)):
            pid, number = start(words, str(run)), generator.choice([signal.SIGKILL, signal.SIGTERM])
            writing = number == signal.SIGKILL and generator.random() < 0.5
            delay = generator.uniform(-0.1, 0.7 if writing else 1) * duration
            where = kill_at(pid, run, delay, number, writing)
            phases[f"{signal.Signals(number).name} {where}"] += 1
            status = finish(pid)
            if status not in (0, -number, 128 + number):
                faults.append(f"{family} {point}: exit status {status} after {number} {where}")
        status = finish(start(words, str(run)))
        found = difference(whole, run) if status == 0 else f"exit status {status}"
        if found:
            faults.append(f"{family} {point}: {found} (see {run}.log)")
    return phases, faults


def main() -> int:
    """Run the harness; return 1 if a point did not resume exactly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=20, help="trainings per family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", choices=list(FAMILIES), action="append", help="default: all")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    compose_faster()
    importlib.import_module("stemlab.runs.stages")  # before the forks, so that most kills hit the training
    folder = Path(tempfile.mkdtemp(prefix="stemlab-kill-"))
    os.chdir(folder)
    write_folder(folder / "folder")
    wrong = 0
    for family in arguments.family or FAMILIES:
        phases, faults = run_family(family, arguments.points, arguments.seed, folder)
        kills, exact = sum(phases.values()), arguments.points - len(faults)
        print(f"{family}: {exact} of {arguments.points} trainings exact after {kills} kills", flush=True)
        for where, count in sorted(phases.items()):
            print(f"  {count:3} {where}")
        for fault in faults:
            print(f"  WRONG {fault}", flush=True)
        wrong += len(faults)
    if not wrong:
        shutil.rmtree(folder)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
