"""Sweeps of the command train whose jobs are processes, with a pool that writes records instead of training."""

import json
import os
import signal
from typing import ClassVar

import pytest

from stemlab.config.trial_channel import EpochReport
from stemlab.reporting.run_lock import run_lock
from stemlab.sweep import sweeper
from tests.cli.commands import Workspace
from tests.reporting.records import record

LR = "optim.lr=tag(log,interval(1e-4,1e-2))"


class FakeJob:
    def __init__(self, number):
        self.number, self.stopped = number, False

    def answer(self, stop):
        self.stopped = stop


class FakePool:
    """Runs a job when its events are read: reports two epochs, then writes the record.

    Job 1 ends as ``ends`` says, job 2 has no objective, job 3 has bad epochs, the others are better with their number.
    """

    started: ClassVar[list[tuple[int, list[str]]]] = []
    ends: ClassVar[dict[int, str]] = {}

    def __init__(self, size, gpus=None):
        self.size, self.running = size, {}

    def has_room(self):
        return len(self.running) < self.size

    def start(self, number, directory, arguments):
        self.started.append((number, arguments))
        self.running[number] = FakeJob(number)
        self.running[number].directory = directory

    def end(self):
        assert not self.running

    def events(self):
        for job in list(self.running.values()):
            for epoch in (1, 2):
                if not job.stopped:
                    yield job, EpochReport(epoch, 0.1 if job.number == 3 else 0.5 + job.number / 100, last=False)
            del self.running[job.number]
            status = self.ends.get(job.number, "pruned" if job.stopped else "finished")
            value = None if job.number == 2 else 0.5 + job.number / 100
            job.directory.mkdir(parents=True, exist_ok=True)
            made = record(status=status, error="the loss is nan" if status == "failed" else None, epochs_run=2)
            made["config"]["objective"], made["metrics"] = "val/auc", {"val/auc": value} if status == "finished" else {}
            (job.directory / "record.json").write_text(json.dumps(made))
            yield job, int(status == "failed")


@pytest.fixture
def pool(monkeypatch):
    monkeypatch.setattr(sweeper, "JobPool", FakePool)
    monkeypatch.setattr(FakePool, "started", [])
    monkeypatch.setattr(FakePool, "ends", {1: "failed"})
    return FakePool


def test_a_search_records_failures_and_repeats_nothing(pool, tmp_path):
    command = ["train", "model=stem", "dataset=tiktok", "sweep=tpe", LR, "seed=7", "sweep.startup_trials=1"]
    done = Workspace(tmp_path).run(*command, "sweep.trials=5", status=2, STEMLAB_SWEEP_ID="s")
    assert [number for number, _ in pool.started] == [0, 1, 2, 3, 4]
    directory = tmp_path / "runs" / "sweeps" / "s"
    first = pool.started[0][1]
    assert f"hydra.run.dir='{directory / '0_stem_seed7'}'" in first
    assert {"hydra.mode=RUN", "resume=auto", "seed=7"} <= set(first)
    assert len({next(word for word in words if word.startswith("optim.lr=")) for _, words in pool.started}) == 5
    assert "2 jobs of the sweep failed; job 1: the loss is nan" in done.stderr
    assert "1 of 5 jobs were pruned: 3 (epoch 2)" in done.stdout
    assert "2 finished jobs, best first" in done.stdout
    again = Workspace(tmp_path).run("train", f"sweep.resume={directory}", "sweep.trials=6", status=2)
    assert [number for number, _ in pool.started] == [0, 1, 2, 3, 4, 5]
    assert "job 5 finished, val/auc 0.55000" in again.stdout


def test_failed_jobs_with_several_ranks_do_not_end_the_others(pool, tmp_path):
    command = ["train", "-m", "model=mmoe,stem", "seed=1,2,3", "dataset=tiktok", "trainer=ddp_cpu", "sweep.jobs=2"]
    done = Workspace(tmp_path).run(*command, status=2, STEMLAB_SWEEP_ID="d")
    assert [number for number, words in pool.started if "trainer=ddp_cpu" in words] == [0, 1, 2, 3, 4, 5]
    assert "4 finished jobs, best first" in done.stdout
    assert "2 of 6 jobs without result" in done.stdout
    assert "2 jobs of the sweep failed; job 1: the loss is nan" in done.stderr


def test_a_grid_with_several_jobs_starts_only_what_is_missing(pool, tmp_path):
    workspace = Workspace(tmp_path)
    typed = ["dataset=tiktok", "tags=[run${seed}]", "hydra.sweep.subdir=${hydra.job.num}_${model.name}_seed${seed}"]
    workspace.run("train", "-m", *typed, "seed=1,2", "sweep.jobs=2", status=2, STEMLAB_SWEEP_ID="g")
    names = sorted(path.name for path in (tmp_path / "runs" / "sweeps" / "g").glob("*/"))
    assert names == ["0_stem_seed1", "1_stem_seed2"]
    pool.started.clear()
    again = workspace.run("train", "sweep.resume=runs/sweeps/g", "sweep.jobs=3", status=2)
    assert [number for number, _ in pool.started] == [1]
    assert "tags=[run$\\{seed\\}]" in pool.started[0][1]  # the seed of the job, not that of the command
    assert "job 0 finished" in again.stdout


def test_a_grid_is_run_by_one_process_at_a_time(pool, tmp_path):
    command = ["train", "-m", "dataset=tiktok", "seed=1,2"]
    with run_lock(tmp_path / "runs" / "sweeps" / "held"):
        for jobs in (1, 2):
            done = Workspace(tmp_path).run(*command, f"sweep.jobs={jobs}", status=2, STEMLAB_SWEEP_ID="held")
            assert "another sweep" in done.stderr
            assert f"process {os.getpid()}" in done.stderr
    assert not pool.started
    assert not (tmp_path / "runs" / "sweeps" / "held" / "sweep.json").exists()


def test_a_sweep_in_a_slurm_job_ends_with_its_interrupted_trial_and_continues_it(pool, tmp_path):
    """SIGUSR1 of SLURM reaches the trials too, which save and requeue the job; the sweep starts no further trial."""
    pool.ends[1] = "interrupted"
    command = ["train", "model=stem", "dataset=tiktok", "sweep=random", LR, "sweep.trials=4"]
    job = {"STEMLAB_SWEEP_ID": "usr1", "SLURM_JOB_ID": "5"}
    done = Workspace(tmp_path).run(*command, status=128 + signal.SIGUSR1, **job)
    assert "job 1 was interrupted by SIGUSR1" in done.stdout
    assert [number for number, _ in pool.started] == [0, 1]
    del pool.ends[1]
    again = Workspace(tmp_path).run(*command, status=2, **job)  # job 2 has no objective
    assert [number for number, _ in pool.started] == [0, 1, 1, 2, 3]
    assert "job 1 finished, val/auc 0.51000" in again.stdout
